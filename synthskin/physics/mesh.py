"""Irregular polygonal mesh (cellular noise after Worley 1996): the lattice of rete ridges seen from above."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthskin.physics.noise import F32

SITES = 256  # sites a side before the pattern repeats
JITTER = 0.72  # displacement of the sites, in site distances
BLOCK_ROWS = 32


@dataclass(frozen=True, slots=True)
class Mesh:
    """Polygons around jittered sites.

    name        type    meaning
    edge_mm     (n, n)  distance to the nearest side of the polygon, 0 on the side
    side        (n, n)  uniform 0..1, the same all along one side (seen from both polygons)
    cell        (n, n)  uniform 0..1, the same all over one polygon
    """

    edge_mm: F32
    side: F32
    cell: F32


def polygon_mesh(rng: np.random.Generator, x_mm: F32, y_mm: F32, spacing_mm: float) -> Mesh:
    """Mesh of mean spacing `spacing_mm` at the points (x_mm, y_mm), two (n, n) arrays (possibly warped)."""
    jitter = ((rng.random((2, SITES * SITES), dtype=np.float32) - 0.5) * JITTER).astype(np.float32)
    identity = rng.integers(0, 256, SITES * SITES, dtype=np.int32)
    out = np.empty((2, *x_mm.shape), np.int32)
    for first in range(0, x_mm.shape[0], BLOCK_ROWS):
        rows = slice(first, first + BLOCK_ROWS)
        out[:, rows] = _two_nearest(x_mm[rows], y_mm[rows], spacing_mm, jitter, identity)
    names = out & 255
    out &= ~255
    squared = out.view(np.float32)
    edge = np.float32(0.5) * (np.sqrt(squared[1]) - np.sqrt(squared[0]))
    side = (names.sum(axis=0).astype(np.float32) * np.float32(0.6180340)) % np.float32(1)
    return Mesh(edge, side, names[0].astype(np.float32) * np.float32(1 / 255))


def _two_nearest(
    x_mm: F32, y_mm: F32, spacing_mm: float, jitter: F32, identity: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Squared distances (2, rows, n) to the nearest and second site as float bits, their low byte the site's identity.

    Positive floats sort like their bits, so minimum and maximum carry the identity along.
    """
    row_height = np.float32(spacing_mm * 0.9306)  # rows shifted by half a step: hexagonal, area spacing^2 a site
    step = np.float32(spacing_mm * 1.0746)
    v = y_mm / row_height
    u = x_mm / step
    row = np.floor(v).astype(np.intp)
    first = np.full(u.shape, np.iinfo(np.int32).max, np.int32)
    second = first.copy()
    for dr in (-1, 0, 1):
        r = row + dr
        shift = (r & 1).astype(np.float32) * np.float32(0.5)
        base = np.floor(u - shift).astype(np.intp)
        dv0 = r.astype(np.float32) + np.float32(0.5) - v
        du0 = base.astype(np.float32) + shift + np.float32(0.5) - u
        row_id = (r & (SITES - 1)) * SITES
        for dc in (-1, 0, 1):
            site = row_id + ((base + dc) & (SITES - 1))
            du = jitter[0].take(site, mode="clip")
            du += du0
            du += np.float32(dc)
            du *= step
            du *= du
            dv = jitter[1].take(site, mode="clip")
            dv += dv0
            dv *= row_height
            dv *= dv
            du += dv
            key = du.view(np.int32)
            key &= ~255
            key |= identity.take(site, mode="clip")
            np.minimum(second, np.maximum(first, key), out=second)
            np.minimum(first, key, out=first)
    return np.stack([first, second])


def line_profile(edge_mm: F32, half_width_mm: F32 | np.float32 | float, column_mm: float) -> F32:
    """Soft line 0..1 around the sides, averaged over a column so that its area is kept when columns are wide."""
    half = np.asarray(half_width_mm, np.float32)
    wide = np.sqrt(half * half + np.float32((0.42 * column_mm) ** 2))
    ratio = edge_mm / wide
    ratio *= ratio
    return np.asarray(half / wide * np.exp(-ratio), np.float32)
