"""Irregular polygonal mesh (cellular noise after Worley 1996): the lattice of rete ridges seen from above."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthskin.physics.noise import F32

SITES = 256  # sites a side before the pattern repeats
#: mean distance between the lines of the mesh over the site distance
JITTER = 0.72


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
    identity = rng.random(SITES * SITES, dtype=np.float32)
    row_height = np.float32(spacing_mm * 0.9306)  # rows shifted by half a step: hexagonal, area spacing^2 a site
    step = np.float32(spacing_mm * 1.0746)
    v = np.ascontiguousarray(y_mm / row_height).ravel()
    u = np.ascontiguousarray(x_mm / step).ravel()
    row = np.floor(v).astype(np.int32)
    first = np.full(u.shape, np.inf, np.float32)
    second = first.copy()
    first_id = np.zeros(u.shape, np.int32)
    second_id = first_id.copy()
    for dr in (-1, 0, 1):
        r = row + dr
        shift = (r & 1).astype(np.float32) * np.float32(0.5)
        base = np.floor(u - shift).astype(np.int32)
        dv0 = r.astype(np.float32) + np.float32(0.5) - v
        du0 = base.astype(np.float32) + shift + np.float32(0.5) - u
        row_id = (r & (SITES - 1)) * SITES
        for dc in (-1, 0, 1):
            site = row_id + ((base + dc) & (SITES - 1))
            du = du0 + np.float32(dc) + jitter[0].take(site)
            du *= step
            dv = dv0 + jitter[1].take(site)
            dv *= row_height
            du *= du
            dv *= dv
            du += dv
            nearer = du < first
            between = ~nearer & (du < second)
            np.copyto(second, first, where=nearer)
            np.copyto(second_id, first_id, where=nearer)
            np.copyto(first, du, where=nearer)
            np.copyto(first_id, site, where=nearer)
            np.copyto(second, du, where=between)
            np.copyto(second_id, site, where=between)
    shape = x_mm.shape
    edge = np.float32(0.5) * (np.sqrt(second) - np.sqrt(first))
    cell = identity.take(first_id)
    side = cell + identity.take(second_id)
    side = (side * np.float32(7.31)) % np.float32(1)
    return Mesh(edge.reshape(shape), side.reshape(shape), cell.reshape(shape))


def line_profile(edge_mm: F32, half_width_mm: F32 | float, column_mm: float) -> F32:
    """Soft line 0..1 around the sides, averaged over a column so that its area is kept when columns are wide."""
    half = np.asarray(half_width_mm, np.float32)
    wide = np.sqrt(half * half + np.float32((0.42 * column_mm) ** 2))
    ratio = edge_mm / wide
    ratio *= ratio
    return np.asarray(half / wide * np.exp(-ratio), np.float32)


BoolMap = NDArray[np.bool_]
