"""Superficial vascular plexus: thin branching vessels as soft capsules, rasterised with exact volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synthskin.physics.noise import F32, keyed_rng
from synthskin.record import SampleRecord

POINTS = 96  # points of one vessel
MEAN_LENGTH_MM = 1.8
RADIUS_MM = (0.007, 0.024)  # superficial plexus: arterioles and venules 10-50 um (Braverman 2000)
DEPTH_MM = (0.12, 0.45)  # below the surface (Braverman 2000)


def vessel_points(record: SampleRecord, half_mm: float) -> tuple[F32, F32]:
    """Points (k, 4) x, y, z, radius in mm of all vessels and the volume (k,) in mm^3 that each stands for.

    Vessel j is the same whatever the density. Every second vessel branches off the one before it.
    """
    count = round(record.skin.plexus_vessel_density * (2 * half_mm) ** 2 / MEAN_LENGTH_MM)
    if count == 0:
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    rng = keyed_rng(record, "vessels")
    draws = rng.random((count, 8), dtype=np.float32)
    wander = keyed_rng(record, "vessel paths").standard_normal((count, POINTS), dtype=np.float32)
    length = MEAN_LENGTH_MM * (0.35 + 1.3 * draws[:, 0])
    step = (length / POINTS)[:, None]
    radius = RADIUS_MM[0] + (RADIUS_MM[1] - RADIUS_MM[0]) * draws[:, 1] ** 2
    depth = DEPTH_MM[0] + (DEPTH_MM[1] - DEPTH_MM[0]) * draws[:, 2]
    heading = 2 * np.pi * draws[:, 3]
    curve = np.cumsum(wander, axis=1) * np.float32(0.17) + np.cumsum(wander[:, ::-1], axis=1) * np.float32(0.05)
    start = (draws[:, 4:6] * 2 - 1) * np.float32(half_mm)
    odd = np.arange(1, count, 2)
    stem = odd - 1
    joint = (0.2 * POINTS + 0.6 * POINTS * draws[odd, 6]).astype(int)
    heading[odd] = heading[stem] + curve[stem, joint] + np.where(draws[odd, 7] < 0.5, -0.8, 0.8)
    radius[odd] = radius[stem] * 0.7
    angle = heading[:, None] + curve
    x = np.cumsum(np.cos(angle) * step, axis=1)
    y = np.cumsum(np.sin(angle) * step, axis=1)
    x += start[:, :1]
    y += start[:, 1:]
    x[odd] += (x[stem, joint] - start[odd, 0])[:, None]
    y[odd] += (y[stem, joint] - start[odd, 1])[:, None]
    z = depth[:, None] + np.float32(0.03) * np.sin(curve)
    z[odd] += (z[stem, joint] - depth[odd])[:, None]
    taper = 0.55 + 0.45 * np.sin(np.linspace(0.25, np.pi - 0.25, POINTS, dtype=np.float32))
    r = radius[:, None] * taper
    volume = np.pi * r**2 * step
    points = np.stack([x, y, z, r], axis=-1).reshape(-1, 4).astype(np.float32)
    return points, volume.ravel().astype(np.float32)


def _overlap(centre: F32, radius: F32, edges: F32, taps: int) -> tuple[NDArray[np.intp], F32]:
    """Share of centre +- radius in each of `taps` cells from the first it touches: indices and (k, taps)."""
    low, high = (centre - radius)[:, None], (centre + radius)[:, None]
    first = np.searchsorted(edges, low[:, 0], side="right") - 1
    index = first[:, None] + np.arange(taps)
    inside = np.clip(index, 0, len(edges) - 2)
    share = np.minimum(high, edges[inside + 1]) - np.maximum(low, edges[inside])
    share = np.where((index == inside) & (share > 0), share, 0) / (high - low)
    return inside, share.astype(np.float32)


def splat(points: F32, volume: F32, x_edges: F32, z_edges: F32) -> tuple[NDArray[np.intp], NDArray[np.intp], F32]:
    """Volume fraction of the vessels in the cells of a grid: (column index y*n+x, cell index z, fraction), to be added.

    Each point spreads its volume over the box it fills, so the sum over the grid is the volume inside the grid.
    """
    n = len(x_edges) - 1
    column = float(x_edges[1] - x_edges[0])
    r_max = float(points[:, 3].max())
    taps = int(2 * r_max / column) + 2
    reach = (points[:, 0] > x_edges[0]) & (points[:, 0] < x_edges[-1]) & (points[:, 1] > x_edges[0])
    reach &= (points[:, 1] < x_edges[-1]) & (points[:, 2] + r_max > z_edges[0]) & (points[:, 2] - r_max < z_edges[-1])
    points, volume = points[reach], volume[reach]
    wide = np.maximum(points[:, 3], np.float32(0.5 * column))  # at least a column wide: no aliasing along a path
    ix, wx = _overlap(points[:, 0], wide, x_edges, taps)
    iy, wy = _overlap(points[:, 1], wide, x_edges, taps)
    iz, wz = _overlap(points[:, 2], points[:, 3], z_edges, int(2 * r_max / np.diff(z_edges).min()) + 2)
    wz *= (volume[:, None] / (column**2)).astype(np.float32)
    wz /= np.diff(z_edges)[iz]
    weight = wy[:, :, None, None] * wx[:, None, :, None] * wz[:, None, None, :]
    place = np.broadcast_to((iy[:, :, None] * n + ix[:, None, :])[..., None], weight.shape)
    deep = np.broadcast_to(iz[:, None, None, :], weight.shape)
    keep = weight > 0
    return place[keep], deep[keep], weight[keep]
