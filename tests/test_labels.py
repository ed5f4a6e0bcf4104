"""Masks: what they depend on, what they do not, and their size."""

from __future__ import annotations

import numpy as np
import pytest

from synthskin.draw import draw
from synthskin.physics import flat_skin, labels, lesion_colour, spectral
from synthskin.physics.lesion.field import LesionField
from synthskin.preset import load_preset

COLUMNS, FIELD_MM = 120, 10.0
COLUMN_MM = FIELD_MM / 100.0
ORIGIN_MM = -1.0


def disc(
    junctional_um: float, radius_mm: float = 2.0, dermal_um: float = 0.0, blood_factor: float = 1.0
) -> LesionField:
    """A sharp disc in the middle of the picture."""
    axis = (np.arange(COLUMNS) + 0.5) * COLUMN_MM + ORIGIN_MM - FIELD_MM / 2
    inside = (np.hypot(axis[:, None], axis[None, :]) <= radius_mm).astype(np.float32)
    zero = np.zeros_like(inside)
    return LesionField(
        arrival=zero,
        presence=inside,
        maturity=inside,
        ridge=zero,
        epidermal_um=zero,
        junctional_um=inside * np.float32(junctional_um),
        dermal_um=inside * np.float32(dermal_um),
        dermal_depth_um=120.0,
        blood_factor=np.asarray(1 + inside * np.float32(blood_factor - 1), np.float32),
        footprints={},
    )


def mask(lesion: LesionField | None, size: int = 128) -> np.ndarray:
    return labels.lesion_mask(lesion, COLUMN_MM, ORIGIN_MM, FIELD_MM, size)


def test_healthy_skin_has_no_mask() -> None:
    assert not mask(None).any()
    assert not mask(disc(0.0)).any()


def test_disc_is_where_it_is() -> None:
    found = mask(disc(3.0), 256)
    area = found.sum() * (FIELD_MM / 256) ** 2
    radius = np.sqrt(area / np.pi)
    assert 2.0 < radius < 2.0 + 2.0 * labels.BLUR_MM
    rows, columns = np.nonzero(found)
    assert (rows.mean(), columns.mean()) == pytest.approx((127.5, 127.5), abs=0.6)
    assert np.array_equal(found, found[::-1]) and np.array_equal(found, found.T)


def test_size_of_the_picture_does_not_move_the_mask() -> None:
    small, large = mask(disc(3.0), 128), mask(disc(3.0), 512)
    assert small.mean() == pytest.approx(large.mean(), rel=0.02)


def test_delta_e_grows_with_melanin() -> None:
    peaks = [labels.delta_e_map(disc(um), COLUMN_MM, ORIGIN_MM, FIELD_MM, 64).max() for um in (0.1, 0.5, 2.0, 8.0)]
    assert np.all(np.diff(peaks) > 0.0)


def test_dermal_melanin_is_bluer_than_junctional() -> None:
    table = lesion_colour.reference_table(150.0)
    none, some = np.zeros(1, np.float32), np.full(1, 3.0, np.float32)
    dermal = spectral.xyz_to_lab(table.xyz(none, none, some, none + 1))[0]
    junctional = spectral.xyz_to_lab(table.xyz(none, some, none, none + 1))[0]
    assert dermal[2] < junctional[2]


def test_table_without_lesion_is_the_flat_skin() -> None:
    none = np.zeros(1, np.float32)
    found = lesion_colour.reference_table(120.0).xyz(none, none, none, none + 1)[0]
    nm = np.array(spectral.BAND_WAVELENGTH_NM)
    exact = spectral.xyz_from_bands(flat_skin.reflectance([lesion_colour.REFERENCE_SKIN], nm))[0]
    assert float(spectral.ciede2000(spectral.xyz_to_lab(found), spectral.xyz_to_lab(exact))) < 0.5
    assert 41.0 < flat_skin.ita_of_skin(lesion_colour.REFERENCE_SKIN) < 55.0


def test_table_against_its_own_adding_doubling() -> None:
    """One column between the nodes, computed on its own."""
    e, j, d, b = 1.3, 4.1, 0.7, 1.4
    exact = np.exp(
        lesion_colour.build_table(lesion_colour.REFERENCE_SKIN, 100.0, (2, 2, 2), [b], (e, j, d)).log_xyz[1, 1, 1, 0]
    )
    found = lesion_colour.reference_table(100.0).xyz(*(np.full(1, v, np.float32) for v in (e, j, d, b)))[0]
    assert float(spectral.ciede2000(spectral.xyz_to_lab(exact), spectral.xyz_to_lab(found))) < 0.6


def test_shows_less_on_dark_skin() -> None:
    lesion = disc(1.5)
    found = mask(lesion)
    light, dark = (
        labels.visible_delta_e(lesion, found, draw(load_preset(name), 0, 0).skin, COLUMN_MM, ORIGIN_MM, FIELD_MM)
        for name in ("fst2", "fst6")
    )
    assert 0.0 <= dark < light <= 1.0
    assert labels.visible_delta_e(None, found, lesion_colour.REFERENCE_SKIN, COLUMN_MM, ORIGIN_MM, FIELD_MM) == 0.0


def test_holes_are_filled_and_specks_removed() -> None:
    picture = np.zeros((100, 100))
    picture[20:60, 20:60] = 10.0
    picture[35:40, 35:40] = 0.0
    picture[90, 90] = 10.0
    found = labels.mask_of_delta_e(picture, 10.0)
    assert found.sum() == 1600
