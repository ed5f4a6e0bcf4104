"""Where points of a lesion are placed: as densely as asked however large it is, rings on the very follicles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from synthskin.physics import anatomy, relief
from synthskin.physics.lesion import pigment, vascular
from synthskin.physics.lesion.shapes import Ground
from synthskin.physics.noise import F32, NoiseField
from synthskin.record import Camera, Hair, Lesion, SampleRecord, Skin, Structures, field_specs

AXIS = np.linspace(-1, 1, 21, dtype=np.float32)


def record(density: float, **lesion: Any) -> SampleRecord:
    return SampleRecord("test", "", 0, 0, "NV", Skin(), Hair(count=0), Lesion(**lesion), Camera(),
                        structures=Structures(peppering_density_per_mm2=density))


def scattered(sample: SampleRecord) -> F32:
    """Points (k, 2) and their uniforms (k, 4) in the order in which they are drawn."""
    one = np.ones((21, 21), np.float32)
    ground = Ground(sample, NoiseField(sample, AXIS, AXIS), 0.1, one, one, 1.0)
    x, y, draws = ground.scatter("peppering", sample.structures.peppering_density_per_mm2, 4)
    return np.concatenate([x[:, None], y[:, None], draws], axis=1)


@pytest.mark.parametrize(("diameter_mm", "elongation"), [(5.0, 1.25), (14.0, 1.5), (20.0, 3.0)])
def test_points_are_as_dense_as_asked_up_to_the_bounds(diameter_mm: float, elongation: float) -> None:
    specs = field_specs()
    assert specs["lesion.diameter_mm"]["high"] == 20.0 and specs["lesion.elongation"]["high"] == 3.0
    density = float(specs["structures.peppering_density_per_mm2"]["high"])
    points = scattered(record(density, diameter_mm=diameter_mm, elongation=elongation))
    side = 1.6 * diameter_mm * elongation**0.5  # of a square within reach
    inside = (np.abs(points[:, :2]) < 0.5 * side).all(axis=1).sum()
    assert inside / side**2 == pytest.approx(density, rel=0.05)


def test_points_do_not_depend_on_how_many_there_are() -> None:
    few, many = (scattered(record(density, diameter_mm=10.0)) for density in (5.0, 60.0))
    assert len(many) > 10 * len(few) and np.array_equal(few, many[: len(few)])


@pytest.mark.parametrize("columns", [96, 192])
@pytest.mark.parametrize(
    ("module", "numbers"),
    [(pigment, {"follicular_pigment_strength": 0.8}), (vascular, {"red_pseudonetwork_strength": 0.8})],
)
def test_rings_are_on_the_very_follicles(
    columns: int, module: Any, numbers: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    halves: dict[str, float] = {}
    openings, sites = relief.follicles, relief.follicle_sites

    def of_the_skin(sample: SampleRecord, x: F32, y: F32, column_mm: float, half_mm: float) -> tuple[F32, F32]:
        halves["skin"] = half_mm
        return openings(sample, x, y, column_mm, half_mm)

    def of_the_lesion(sample: SampleRecord, half_mm: float) -> tuple[F32, F32, F32]:
        halves["lesion"] = half_mm
        return sites(sample, half_mm)

    monkeypatch.setattr(anatomy, "follicles", of_the_skin)
    monkeypatch.setattr(module, "follicle_sites", of_the_lesion)
    plain = record(0.0)
    sample = replace(plain, skin=replace(plain.skin, follicle_density_per_cm2=300.0), structures=Structures(**numbers))
    anatomy.build_scene(sample, columns)
    skin, lesion = (sites(sample, halves[who]) for who in ("skin", "lesion"))
    assert len(skin[0]) == len(lesion[0]) > 100
    assert np.abs(skin[0] - lesion[0]).max() < 1e-5 and np.abs(skin[1] - lesion[1]).max() < 1e-5
