"""From the grid's columns to the picture's pixels: places, areas, sums and slopes are the same at every size."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import center_of_mass

from synthskin.draw import draw
from synthskin.physics import labels
from synthskin.physics.anatomy import build_scene
from synthskin.physics.engine import (
    columns_for,
    depth_maps,
    footprint_to_picture,
    furrow_map,
    pixel_means,
    relief_slope,
)
from synthskin.physics.hair import hair_mask
from synthskin.physics.lesion.field import LesionField
from synthskin.physics.scene import HairStrand
from synthskin.preset import load_preset

SIZES = (64, 80, 96, 128, 160, 256)
FOV = 12.0


def grid(size_px):
    """A bare grid as the engine takes it for pictures of this size, and its axis in pixels of the picture."""
    n = columns_for(size_px)
    column_mm = FOV / (n * 5 / 6)
    tissue = SimpleNamespace(column_mm=column_mm, origin_mm=-n / 12 * column_mm, dej_mm=np.zeros((n, n), np.float32))
    return tissue, (tissue.origin_mm + (np.arange(n) + 0.5) * column_mm) / FOV * size_px


def disc(axis, x, y, radius):
    return (axis - x) ** 2 + (axis[:, None] - y) ** 2 < radius**2


@pytest.mark.parametrize("size", [*SIZES, 512])
def test_a_mask_lies_where_its_structure_lies(size):
    tissue, axis = grid(size)
    rng = np.random.default_rng(0)
    off = []
    for x, y in size * rng.uniform(0.2, 0.8, (60, 2)):
        row, column = center_of_mass(footprint_to_picture(disc(axis, x, y, 0.025 * size), tissue, size))
        off.append((column + 0.5 - x, row + 0.5 - y))
    assert np.abs(np.mean(off, axis=0)).max() < 0.06 and np.abs(off).max() < 0.45


@pytest.mark.parametrize("size", [*SIZES, 512])
@pytest.mark.parametrize("kind", ["dots", "lines", "discs"])
def test_the_area_of_a_mask_is_that_of_its_structure_however_thin(size, kind):
    """What is thinner than a pixel neither vanishes nor swells: dots of 2 x 2 columns, lines of 2, discs of 12."""
    tissue, axis = grid(size)
    n = len(axis)
    rng = np.random.default_rng(1)
    where = np.zeros((n, n), bool)
    for x, y, turn in rng.uniform(0, 1, (1200 if kind == "dots" else 60, 3)):
        row, column = (int(n / 8 + v * n * 0.74) for v in (y, x))
        if kind == "dots":
            where[row : row + 2, column : column + 2] = True
        elif kind == "discs":
            where |= (np.arange(n) - column) ** 2 + (np.arange(n)[:, None] - row) ** 2 < 36
        else:
            t = np.arange(0, n / 12, 0.5)
            rows, columns = (row + t * np.sin(7 * turn)).astype(int), (column + t * np.cos(7 * turn)).astype(int)
            for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
                where[rows + i, columns + j] = True
    seen = footprint_to_picture(where, tissue, size)
    mm2 = where[n // 12 : -n // 12, n // 12 : -n // 12].sum() * tissue.column_mm**2
    assert seen.sum() * (FOV / size) ** 2 == pytest.approx(mm2, rel=0.09)


@pytest.mark.parametrize("size", [*SIZES, 320, 512, 1024])
def test_pixels_hold_what_their_columns_hold(size):
    tissue, axis = grid(size)
    n, m = len(axis), len(axis) // 12
    values = np.random.default_rng(2).random((n, n), dtype=np.float32)
    assert pixel_means(values, tissue, size).mean() == pytest.approx(values[m:-m, m:-m].mean(), rel=1e-4)
    coarse = values.reshape(n // 2, 2, n // 2, 2).mean((1, 3))
    assert pixel_means(coarse, tissue, size).mean() == pytest.approx(values[m:-m, m:-m].mean(), rel=1e-4)
    place = pixel_means(disc(axis, 0.4 * size, 0.3 * size, 0.05 * size).astype(np.float32), tissue, size)
    row, column = center_of_mass(place)
    assert abs(column + 0.5 - 0.4 * size) < 0.03 and abs(row + 0.5 - 0.3 * size) < 0.03


def test_depth_maps_of_a_skin_are_the_same_at_every_size():
    scene = build_scene(draw(load_preset("nv"), 0, 1), 384)
    fine = depth_maps(scene, 320)
    for size in (64, 160):
        found = depth_maps(scene, size)
        blocks = {k: v.reshape(size, 320 // size, size, 320 // size).mean((1, 3)) for k, v in fine.items()}
        for name in ("melanin_column_mm", "blood_column_mm", "height_mm"):
            assert np.allclose(found[name], blocks[name], rtol=1e-3, atol=1e-6), name
        depth, finest = found["lesion_depth_mm"], fine["lesion_depth_mm"]
        assert depth[depth > 0].min() >= finest[finest > 0].min()  # nowhere averaged with what is no lesion
        assert (depth > 0).mean() == pytest.approx((finest > 0).mean(), rel=0.1)
    assert furrow_map(scene, 64).min() == 0 and furrow_map(scene, 64).max() == 1


@pytest.mark.parametrize("size", [*SIZES, 512, 1024])
def test_a_slope_is_the_mean_over_its_pixel(size):
    """A plane has its slope everywhere; of any relief the slopes of a row add up to what its ends differ by."""
    tissue, axis = grid(size)
    mm = (axis / size * FOV).astype(np.float32)
    plane = 30 * mm[None, :] - 70 * mm[:, None]
    dy, dx = relief_slope(plane, tissue, size)
    assert np.allclose(dx, 0.03, rtol=1e-3) and np.allclose(dy, -0.07, rtol=1e-3)
    wave = 5 * np.sin(2 * np.pi * mm / 0.9)[None, :].repeat(len(mm), 0)
    dy, dx = relief_slope(wave.astype(np.float32), tissue, size)
    ends = 5e-3 * (np.sin(2 * np.pi * FOV / 0.9) - 0)
    assert np.allclose(dx.sum(1) * FOV / size, ends, atol=6e-5) and np.abs(dy).max() < 1e-6


@pytest.mark.parametrize("size", [512, 640, 1024])
def test_furrows_are_as_steep_in_pixels_finer_than_columns_and_without_steps(size):
    tissue, axis = grid(size)
    period = 10 * tissue.column_mm
    mm = axis / size * FOV
    height = 20 * np.sin(2 * np.pi * mm / period)[None, :].repeat(len(mm), 0).astype(np.float32)
    dx = relief_slope(height, tissue, size)[1][size // 2]
    pixels = (np.arange(size) + 0.5) / size * FOV
    expected = 20e-3 * 2 * np.pi / period * np.cos(2 * np.pi * pixels / period)
    assert dx.std() == pytest.approx(expected.std(), rel=0.08)
    assert np.abs(dx - expected).max() < 0.08 * expected.max()


def test_relief_finer_than_a_pixel_does_not_alias():
    """Slopes at 64 pixels are the means of those at 320, where a pixel is a column."""
    tissue, axis = grid(64)
    height = (20 * np.random.default_rng(3).standard_normal((len(axis), len(axis)))).astype(np.float32)
    fine = relief_slope(height, tissue, 320)
    found = relief_slope(height, tissue, 64)
    assert np.allclose(found, fine.reshape(2, 64, 5, 64, 5).mean((2, 4)), atol=1e-4)
    assert found.std() < 0.2 * fine.std()


@pytest.mark.parametrize("size", SIZES)
def test_lesion_masks_lie_where_the_lesion_lies(size):
    tissue, axis = grid(size)
    n = len(axis)
    zero = np.zeros((n, n), np.float32)
    off = []
    for x, y in np.random.default_rng(4).uniform(0.3, 0.7, (6, 2)) * size:
        where = disc(axis, x, y, 0.1 * size).astype(np.float32)
        lesion = LesionField(zero, where, where, zero, 3 * where, 3 * where, zero, 100.0, np.ones_like(zero))
        row, column = center_of_mass(labels.lesion_mask(lesion, tissue.column_mm, tissue.origin_mm, FOV, size))
        off.append((column + 0.5 - x, row + 0.5 - y))
    assert np.abs(np.mean(off, axis=0)).max() < 0.06


@pytest.mark.parametrize("size", SIZES)
def test_hair_masks_lie_where_the_hair_lies(size):
    off = []
    for place in np.random.default_rng(5).uniform(0.2, 0.8, 60) * FOV:
        points = np.zeros((32, 4), np.float32)
        points[:, 0], points[:, 1], points[:, 3] = place, np.linspace(1, 11, 32), 0.04
        mask = hair_mask((HairStrand(points),), size, FOV)
        off.append(center_of_mass(mask)[1] + 0.5 - place / FOV * size)
    assert abs(np.mean(off)) < 0.06
