"""The growing lesion: monotone in time, sized as asked, independent of skin, with the mesh that was asked for."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import label

from synthskin.physics.lesion import structures
from synthskin.physics.lesion.field import LesionField
from synthskin.physics.lesion.structures import grow
from synthskin.physics.mesh import polygon_mesh
from synthskin.physics.noise import NoiseField
from synthskin.record import Camera, Hair, Lesion, SampleRecord, Skin

N, COLUMN_MM = 160, 0.075
AXIS = ((np.arange(N) - 0.5 * (N - 1)) * COLUMN_MM).astype(np.float32)


def record(index: int = 0, skin: dict[str, Any] | None = None, **lesion: Any) -> SampleRecord:
    return SampleRecord("test", "", 0, index, "NV", Skin(**(skin or {})), Hair(), Lesion(**lesion), Camera())


def field(sample: SampleRecord) -> LesionField:
    return grow(sample, AXIS, AXIS, COLUMN_MM)


@pytest.mark.parametrize("regularity", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_later_lesion_contains_the_earlier_one(regularity: float, index: int) -> None:
    options = {"regularity": regularity, "dermal_melanin": 0.2, "globule_density_per_mm2": 5.0}
    before = field(record(index, growth_time=0.2, **options))
    for time in (0.45, 0.7, 1.0):
        now = field(record(index, growth_time=time, **options))
        for name in ("presence", "maturity", "epidermal_um", "junctional_um", "dermal_um", "blood_factor"):
            assert (getattr(now, name) >= getattr(before, name) - 1e-6).all(), name
        assert now.column_um.sum() > 1.2 * before.column_um.sum()
        before = now


@pytest.mark.parametrize("regularity", [1.0, 0.8, 0.4, 0.0])
@pytest.mark.parametrize("diameter", [3.0, 6.0])
def test_equivalent_diameter(regularity: float, diameter: float) -> None:
    found = []
    for index in range(4):
        arrival = field(record(index, regularity=regularity, diameter_mm=diameter)).arrival
        found.append(2 * np.sqrt((arrival <= 1).sum() * COLUMN_MM**2 / np.pi))
    assert np.abs(np.array(found) / diameter - 1).max() < 0.10


def test_regularity_is_compactness() -> None:
    def roundness(regularity: float) -> float:
        values = []
        for index in range(6):
            inside = field(record(index, regularity=regularity, elongation=1.0)).arrival <= 1
            y, x = np.nonzero(inside)
            reach = np.hypot(x - x.mean(), y - y.mean()).max() * COLUMN_MM
            values.append(inside.sum() * COLUMN_MM**2 / (np.pi * reach**2))
        return float(np.mean(values))

    assert roundness(1.0) > 0.7 > roundness(0.5) > roundness(0.0)


def test_elongation_and_orientation() -> None:
    inside = field(record(elongation=2.0, orientation_deg=90.0, regularity=1.0)).arrival <= 1
    y, x = np.nonzero(inside)
    assert 1.6 < y.std() / x.std() < 2.5


def test_maps_do_not_depend_on_the_skin() -> None:
    pale = field(record(skin={"melanosome_fraction": 0.02, "epidermis_thickness_um": 60.0}))
    dark = field(record(skin={"melanosome_fraction": 0.35, "epidermis_thickness_um": 90.0, "rete_spacing_um": 300.0}))
    for spec in dataclasses.fields(LesionField):
        a, b = getattr(pale, spec.name), getattr(dark, spec.name)
        if spec.name == "footprints":
            assert all((a[k] == b[k]).all() for k in a)
        else:
            assert np.array_equal(a, b), spec.name


def test_nothing_outside_and_finite() -> None:
    lesion = field(record(diameter_mm=3.0, border_width_mm=0.3))
    far = np.hypot(AXIS[:, None], AXIS[None, :]) > 3.5
    assert lesion.column_um[far].max() == 0
    assert (lesion.blood_factor[far] == 1).all()
    for name in ("arrival", "presence", "maturity", "ridge", "epidermal_um", "junctional_um", "dermal_um"):
        values = getattr(lesion, name)
        assert values.dtype == np.float32 and np.isfinite(values).all() and values.min() >= 0, name


def test_small_lesion_outside_the_picture_is_not_seen() -> None:
    assert field(record(centre_x_mm=10.0, centre_y_mm=10.0, diameter_mm=1.0)).column_um.max() == 0


@pytest.mark.parametrize("spacing_mm", [0.15, 0.25, 0.4])
def test_mesh_spacing(spacing_mm: float) -> None:
    """One polygon for each spacing^2 of area."""
    axis = np.arange(400, dtype=np.float32) * np.float32(0.02)
    x, y = np.broadcast_to(axis, (400, 400)), np.broadcast_to(axis[:, None], (400, 400))
    mesh = polygon_mesh(
        np.random.Generator(np.random.Philox(key=1)), np.ascontiguousarray(x), np.ascontiguousarray(y), spacing_mm
    )
    polygons = label(mesh.edge_mm > 0.09 * spacing_mm)[1]
    spacing = np.sqrt(8.0**2 / polygons)
    assert spacing == pytest.approx(spacing_mm, rel=0.15)
    assert mesh.edge_mm.min() >= 0 and mesh.edge_mm.max() < 1.2 * spacing_mm


def test_network_lines_follow_ridges() -> None:
    lesion = field(
        record(network_strength=1.0, heterogeneity=0.0, globule_density_per_mm2=0.0, network_spacing_um=400.0)
    )
    inside = lesion.presence > 0.95
    on, off = inside & (lesion.ridge > 0.8), inside & (lesion.ridge < 0.25)
    assert lesion.junctional_um[on].mean() > 4 * lesion.junctional_um[off].mean()


def test_noise_does_not_depend_on_the_grid() -> None:
    a = NoiseField(record(), AXIS, AXIS)("some", 0.4)
    part = AXIS[40:60]
    b = NoiseField(record(), part, AXIS[100:110])("some", 0.4)
    assert np.allclose(a[100:110, 40:60], b, atol=1e-4)
    many = np.concatenate([NoiseField(record(i), AXIS, AXIS)("some", 0.2).ravel() for i in range(8)])
    assert abs(many.mean()) < 0.1 and many.std() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("index", range(3))
def test_nothing_is_cut_off(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Growing only where the lesion can reach gives what growing everywhere does."""
    options = {"border_width_mm": 0.8, "dermal_melanin": 0.1, "globule_density_per_mm2": 6.0, "centre_x_mm": 2.0}
    sample = record(index, regularity=0.4, diameter_mm=4.0, **options)
    part = field(sample)
    monkeypatch.setattr(structures, "_reach", lambda *_: (slice(0, N), slice(0, N)))
    whole = field(sample)
    for name in ("presence", "epidermal_um", "junctional_um", "dermal_um", "blood_factor"):
        difference = np.abs(getattr(part, name) - getattr(whole, name))
        assert difference.max() < 0.05 and difference.mean() < 1e-5, name
