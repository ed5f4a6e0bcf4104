"""The shipping kernel against published values and laws."""

from __future__ import annotations

import numpy as np
import pytest

from synthskin.physics import reference, render
from synthskin.record import Skin


@pytest.fixture(scope="module")
def dev():  # type: ignore[no-untyped-def]
    mi, dr, _ = render.backend("llvm")
    return mi, dr


def test_van_de_hulst_slab(dev) -> None:  # type: ignore[no-untyped-def]
    """van de Hulst 1980: mu_a 1, mu_s 9 /mm, g 0.75, 0.2 mm, matched: Rd 0.09739, Tt 0.66096 (all nine lanes agree)."""
    columns, optics = reference.slab(dev[0], dev[1], 1.0, 9.0, 0.75, 0.2, 1.0)
    r, t, _ = reference.walk_flat(*dev, columns, optics, 600, 3, with_transmittance=True)
    assert abs(r.mean() - 0.09739) < 0.0005
    assert abs(t.mean() - 0.66096) < 0.001


def test_giovanelli_half_space(dev) -> None:  # type: ignore[no-untyped-def]
    """Giovanelli 1955: n 1.5, albedo 0.9, isotropic: total 0.2600 with the 4 % that the surface reflects."""
    columns, optics = reference.slab(dev[0], dev[1], 1.0, 9.0, 0.0, np.inf, 1.5)
    r, _, _ = reference.walk_flat(*dev, columns, optics, 500, 3)
    assert abs(0.04 + 0.96 * r.mean() - 0.2600) < 0.0015


def test_energy_is_conserved(dev) -> None:  # type: ignore[no-untyped-def]
    """Without absorption what goes in comes out: thin slab, reflected and transmitted, index 1.40."""
    columns, optics = reference.slab(dev[0], dev[1], 0.0, 20.0, 0.8, 0.3, 1.4)
    r, t, _ = reference.walk_flat(*dev, columns, optics, 300, 3, with_transmittance=True)
    assert abs(r.mean() + t.mean() - 1.0) < 0.005


def test_reflectance_falls_with_absorption(dev) -> None:  # type: ignore[no-untyped-def]
    values = []
    for mu_a in (0.01, 0.1, 1.0, 10.0):
        columns, optics = reference.slab(dev[0], dev[1], mu_a, 9.0, 0.0, np.inf, 1.4)
        values.append(reference.walk_flat(*dev, columns, optics, 60, 3)[0].mean())
    assert values == sorted(values, reverse=True)


def test_same_key_same_bits(dev) -> None:  # type: ignore[no-untyped-def]
    columns, optics = reference.slab(dev[0], dev[1], 1.0, 9.0, 0.75, 0.2, 1.4)
    a, b, other = (reference.walk_flat(*dev, columns, optics, 40, 3, key=k)[0] for k in (7, 7, 8))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, other)


def test_error_falls_as_one_over_root_n(dev) -> None:  # type: ignore[no-untyped-def]
    columns, optics = reference.slab(dev[0], dev[1], 1.0, 9.0, 0.75, 0.2, 1.4)
    few = reference.walk_flat(*dev, columns, optics, 60, 3)[2].mean()
    many = reference.walk_flat(*dev, columns, optics, 240, 3)[2].mean()
    assert 3.4 < few / many < 4.6


def test_a_fine_zone_that_ends_on_a_cell_edge(dev) -> None:  # type: ignore[no-untyped-def]
    """A zone that ends on a cell's edge reflects what one does that ends just below it: nothing is gained there."""
    absorber, blood = np.array([0.3, 0.0]), np.array([0.0, 0.01])
    grid = reference.flat_tissue(np.array([0.115, 5.0]), absorber, blood, 0.115, 2.0)
    optics = render.optics_of(Skin())
    found = []
    for end in (float(grid.z_edges_fine_mm[23]), float(grid.z_edges_fine_mm[23]) + 0.0025):
        columns = render.upload(*dev, grid, end)
        assert np.all(np.diff(np.array(columns.cells).astype(np.int64).reshape(-1, 2) & 0xFFFF, axis=1) >= 0)
        found.append(reference.walk_flat(*dev, columns, optics, 180, 6)[0])
    assert np.allclose(found[0], found[1], rtol=0.02)


def test_a_pixel_converges(dev) -> None:  # type: ignore[no-untyped-def]
    """The noise of a pixel falls as 1 / sqrt(paths); with all its paths on one lattice it hardly fell beyond 200."""
    columns, optics = reference.slab(dev[0], dev[1], 0.05, 9.0, 0.0, np.inf, 1.4)
    few, many = (reference.walk_flat(*dev, columns, optics, 16, paths)[2].mean() for paths in (256, 4096))
    assert 3.2 < few / many < 5.0


def test_other_seeds_are_other_noise_and_not_the_same_some_pixels_further() -> None:
    keys = np.array([render.mixed(seed) for seed in range(2000)], np.uint64)
    assert keys[0] == 0 and len(set(keys.tolist())) == 2000
    # keys that differ in the high half alone are the same noise in other pixels
    assert len(set((keys & np.uint64(0xFFFFFFFF)).tolist())) > 1990
