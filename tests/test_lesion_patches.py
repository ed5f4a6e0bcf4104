"""Patches of a lesion (blotch, veil, scar ...) are the lesion's: no camera and no other structure moves them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from synthskin.physics.lesion.growth import arrival_map, arrival_on_disc
from synthskin.physics.lesion.shapes import Ground, patch, side, whole_lesion
from synthskin.physics.lesion.structures import grow
from synthskin.physics.noise import F32, NoiseField
from synthskin.record import Camera, Hair, Lesion, SampleRecord, Skin, Structures

PATCHES: dict[str, dict[str, Any]] = {
    "blotch": {"blotch_strength": 0.8, "blotch_share": 0.2},
    "blue_white_veil": {"blue_white_veil_strength": 0.8, "blue_white_veil_share": 0.3},
    "regression": {"regression_strength": 0.9, "regression_share": 0.3},
    "scale": {"scale_strength": 0.8, "scale_share": 0.4},
    "ulceration": {"ulceration_strength": 0.9, "ulceration_share": 0.2},
    "negative_network": {"negative_network_strength": 0.9},
}


def record(index: int, numbers: dict[str, Any], **lesion: Any) -> SampleRecord:
    lesion = {"diameter_mm": 8.0, "regularity": 0.5, "centre_x_mm": 1.0} | lesion
    return SampleRecord("test", "", 0, index, "NV", Skin(), Hair(count=0), Lesion(**lesion), Camera(),
                        structures=Structures(**numbers))


def axis(view_mm: float, column_mm: float) -> F32:
    count = 2 * round(0.5 * view_mm / column_mm)
    return ((np.arange(count) - 0.5 * (count - 1)) * column_mm).astype(np.float32)


def footprint(sample: SampleRecord, name: str, view_mm: float, column_mm: float) -> NDArray[np.bool_]:
    at = axis(view_mm, column_mm)
    return grow(sample, at, at, column_mm).footprints[name]


@pytest.mark.parametrize("name", sorted(PATCHES))
@pytest.mark.parametrize("index", range(3))
def test_a_patch_is_the_same_whatever_the_camera_sees(name: str, index: int) -> None:
    sample = record(index, PATCHES[name])
    far, near = (footprint(sample, name, view, 0.05) for view in (15.0, 5.0))
    edge = (len(far) - len(near)) // 2
    seen = far[edge:-edge, edge:-edge]
    assert near.any() and (seen ^ near).mean() < 1e-3


@pytest.mark.parametrize("name", ["blotch", "regression"])
def test_a_patch_is_the_same_on_other_columns(name: str) -> None:
    """Columns three times as wide show it up to their own width."""
    sample = record(1, PATCHES[name])
    fine, wide = footprint(sample, name, 12.0, 0.04), footprint(sample, name, 12.0, 0.12)
    middles = fine[1::3, 1::3]
    pad = np.pad(wide, 1)
    rim = (pad[2:, 1:-1] ^ pad[:-2, 1:-1]) | (pad[1:-1, 2:] ^ pad[1:-1, :-2])
    assert ((middles ^ wide) & ~rim).sum() < 0.01 * wide.sum()


@pytest.mark.parametrize("name", sorted(PATCHES))
def test_pseudopods_leave_a_patch_alone(name: str) -> None:
    """They widen the box in which a lesion grows, nothing else."""
    for index in range(3):
        plain = record(index, PATCHES[name])
        more = replace(plain, structures=replace(plain.structures, pseudopods_density_per_mm=1e-3))
        before, after = (footprint(sample, name, 12.0, 0.05) for sample in (plain, more))
        assert (before ^ after).sum() <= 2


def _share(index: int, asked: float, leaning: str, lesion: dict[str, Any]) -> float:
    """Share of the whole final lesion, on fine columns, that a patch covers where presence takes nothing away."""
    sample = record(index, {}, **lesion)
    at, disc = axis(20.0, 0.04), arrival_on_disc(sample)
    arrival = arrival_map(sample, disc, at, at)
    ground = Ground(sample, NoiseField(sample, at, at), 0.04, arrival, np.ones_like(arrival), 1.0,
                    whole_lesion(sample, disc, None))
    leans = {
        "nowhere": None,
        "inwards": lambda place: -np.float32(1.3) * place.arrival**2,
        "to one side": lambda place: side(place, "tilt", 0.8),
    }
    where = patch(ground, "some", asked, 0.8 * ground.radius_mm, leans[leaning])
    return float((where > 0.5)[arrival <= 1].mean())


@pytest.mark.parametrize("leaning", ["nowhere", "inwards", "to one side"])
@pytest.mark.parametrize("lesion", [{}, {"elongation": 2.5, "orientation_deg": 40.0}, {"regularity": 0.0}])
def test_a_patch_has_the_share_asked_for_of_the_whole_lesion(leaning: str, lesion: dict[str, Any]) -> None:
    for index in range(3):
        for asked in (0.1, 0.2, 0.6):
            assert _share(index, asked, leaning, lesion) == pytest.approx(asked, abs=0.012)


def test_a_patch_needs_the_whole_lesion() -> None:
    sample = record(0, {})
    at = axis(6.0, 0.1)
    arrival = arrival_map(sample, arrival_on_disc(sample), at, at)
    ground = Ground(sample, NoiseField(sample, at, at), 0.1, arrival, np.ones_like(arrival), 1.0)
    with pytest.raises(ValueError, match="whole_lesion"):
        patch(ground, "some", 0.2, 1.0)
