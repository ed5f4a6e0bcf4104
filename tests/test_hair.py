"""Hair: strand k is strand k, lies between skin and plate, and covers the pixels it crosses."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import maximum_filter

from synthskin.physics import strands
from synthskin.physics.hair import grow_hair, hair_mask
from synthskin.physics.scene import HairStrand
from synthskin.record import Camera, Hair, Lesion, SampleRecord, Skin


def record(**hair: Any) -> SampleRecord:
    return SampleRecord("test", "", 0, 0, "healthy", Skin(), Hair(**hair), Lesion(), Camera())


def straight(x0: float, y0: float, x1: float, y1: float, radius_mm: float) -> HairStrand:
    s = np.linspace(0, 1, 20)
    points = np.stack([x0 + (x1 - x0) * s, y0 + (y1 - y0) * s, np.full(20, -0.1), np.full(20, radius_mm)], axis=1)
    return HairStrand(points.astype(np.float32))


def test_counts_and_prefix() -> None:
    few, many = grow_hair(record(count=3, vellus_count=2)), grow_hair(record(count=9, vellus_count=5))
    assert len(few) == 5 and len(many) == 14
    assert [s.vellus for s in few] == [False] * 3 + [True] * 2
    for k in range(3):
        assert np.array_equal(few[k].points_mm, many[k].points_mm)
    for k in range(2):
        assert np.array_equal(few[3 + k].points_mm, many[9 + k].points_mm)
    assert grow_hair(record(count=0)) == ()


@pytest.mark.parametrize("curl", [0.0, 0.4, 1.0])
def test_between_skin_and_plate(curl: float) -> None:
    for strand in grow_hair(record(count=30, curl=curl, vellus_count=30)):
        z, r = strand.points_mm[:, 2], strand.points_mm[:, 3]
        assert np.isfinite(strand.points_mm).all()
        assert (z <= -r + 1e-6).all() and z.min() > -0.3  # the fibre never enters the skin
        assert (r > 0).all() and r[-1] < 0.5 * r.max()  # tapered tip


def test_length_thickness_and_curl() -> None:
    strands = grow_hair(record(count=200, length_mm=9.0, thickness_um=70.0))
    lengths = [np.linalg.norm(np.diff(s.points_mm[:, :2], axis=0), axis=1).sum() for s in strands]
    assert np.mean(lengths) == pytest.approx(9.0, rel=0.15)
    assert np.mean([2000 * s.points_mm[:, 3].max() for s in strands]) == pytest.approx(70.0, rel=0.1)

    def straightness(curl: float) -> float:
        ends = [
            np.linalg.norm(s.points_mm[-1, :2] - s.points_mm[0, :2]) for s in grow_hair(record(count=60, curl=curl))
        ]
        return float(np.mean(ends)) / float(np.mean(lengths))

    assert straightness(0.0) > 0.85 > straightness(0.6) > straightness(1.0)


def test_frozen() -> None:
    strand = grow_hair(record(count=1))[0]
    with pytest.raises(ValueError):
        strand.points_mm[0, 0] = 1.0


def test_mask_of_a_thick_hair_is_its_area() -> None:
    mask = hair_mask((straight(2, 3, 10, 9, 0.2),), 256, 12.0)
    area = mask.sum() * (12 / 256) ** 2
    assert mask.dtype == np.bool_ and mask.shape == (256, 256)
    assert area == pytest.approx(10 * 0.4, rel=0.03)


def test_mask_of_a_thin_hair_has_no_gaps() -> None:
    mask = hair_mask((straight(1, 2.3, 11, 8.7, 0.004),), 256, 12.0)
    columns = mask[:, 24:232].any(axis=0)
    assert columns.all() and mask.sum() < 256 * 1.6


def test_mask_outside_and_empty() -> None:
    assert not hair_mask((), 64, 12.0).any()
    assert not hair_mask((straight(14, 14, 20, 20, 0.1),), 64, 12.0).any()


def test_mask_is_quick() -> None:
    strands = grow_hair(record(count=12, vellus_count=25))
    spent = []
    for _ in range(3):
        start = time.process_time()
        hair_mask(strands, 256, 12.0)
        spent.append(time.process_time() - start)
    assert min(spent) < 0.15


@pytest.mark.parametrize("curl", [0.1, 0.5, 0.9])
def test_mask_and_picture_show_the_same_curve(curl: float) -> None:
    """At the raster of the light every texel well inside the mask has a fibre, and every fibre lies in the mask."""
    raster, fov = 512, 10.0
    hair = tuple(s for s in grow_hair(record(count=8, curl=curl, length_mm=12.0, thickness_um=90.0)) if not s.vellus)
    drawn = strands.rasterise(hair, raster, fov)[2] >= 0
    mask = hair_mask(hair, raster, fov)
    assert (drawn & mask).sum() / (drawn | mask).sum() > 0.9
    assert (mask & ~maximum_filter(drawn, 3)).mean() < 0.002 * mask.mean() + 1e-6
    for strand in hair:
        points = strands.along(strand)[:, :2]
        heading = np.unwrap(np.arctan2(*np.diff(points, axis=0).T[::-1]))
        assert np.rad2deg(np.abs(np.diff(heading)).max()) < 16
