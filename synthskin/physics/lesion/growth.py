"""Growth of a lesion in the plane: a seeded front whose arrival time at each column is the lesion's time axis.

A front starts at one cell and moves outwards, faster along the long axis and where a multi-scale noise lets it;
its arrival time T is the cheapest path from the origin (Dijkstra on a coarse grid).
The lesion at time t is {T <= t}: a later lesion contains every earlier one by construction. T is 0 at the origin and
scaled so that the area of {T <= 1} is that of a disc of `lesion.diameter_mm`; the radius grows in proportion to t.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from synthskin.physics.noise import F32, NoiseField, keyed_rng
from synthskin.record import SampleRecord

NODES = 80  # nodes a side of the growth grid
#: Steps of a path: 32 directions, so that the metric is round within 1.4 % (8 directions: 8 %)
STEPS = tuple((i, j) for i in range(-3, 4) for j in range(-3, 4) if math.gcd(i, j) == 1)
SMOOTHING_NODES = 1.8  # rounds the creases where two branches of the front meet
HALF_WIDTH = 2.4  # its half width in lesion radii


@lru_cache(maxsize=1)
def _edges() -> tuple[NDArray[np.int32], NDArray[np.int32], F32]:
    """Edges of the growth grid: from node, to node, length in nodes."""
    index = np.arange(NODES * NODES, dtype=np.int32).reshape(NODES, NODES)
    begin, end, length = [], [], []
    for i, j in STEPS:
        a = index[max(-i, 0) : NODES - max(i, 0), max(-j, 0) : NODES - max(j, 0)]
        begin.append(a.ravel())
        end.append(a.ravel() + i * NODES + j)
        length.append(np.full(a.size, math.hypot(i, j), np.float32))
    return np.concatenate(begin), np.concatenate(end), np.concatenate(length)


def _front(cost: F32, origin: tuple[int, int]) -> F32:
    """Cost of the cheapest path from `origin` to each node, in nodes (Dijkstra)."""
    begin, end, length = _edges()
    flat = cost.ravel()
    weight = 0.5 * (flat[begin] + flat[end]) * length
    graph = coo_array((weight, (begin, end)), shape=(flat.size, flat.size)).tocsr()
    times = dijkstra(graph, indices=origin[0] * NODES + origin[1])
    return np.asarray(times.reshape(cost.shape), np.float32)


def arrival_on_disc(record: SampleRecord) -> tuple[F32, F32]:
    """Arrival time on the growth grid and the node coordinates, in units of the lesion's radius, along its own axes."""
    lesion = record.lesion
    irregular = 1.0 - lesion.regularity
    axis = np.linspace(-HALF_WIDTH, HALF_WIDTH, NODES, dtype=np.float32)
    noise = NoiseField(record, axis, axis)
    rough = noise.octaves("growth speed", (0.5, 0.26, 0.14), (0.5, 0.9, 0.9))
    wedge = noise("growth wedge", 0.9)
    speed = np.exp(
        np.float32(0.07 + 0.42 * irregular**1.3) * rough - np.float32(0.5 * irregular) * np.maximum(wedge - 0.7, 0)
    )
    rng = keyed_rng(record, "growth origin")
    offset = (rng.random(2) - 0.5) * 0.9 * irregular
    node = [round((o + HALF_WIDTH) / (2 * HALF_WIDTH) * (NODES - 1)) for o in offset.tolist()]
    origin = (node[0], node[1])
    front = _front(1 / speed, origin) * np.float32(2 * HALF_WIDTH / (NODES - 1))
    lobes = noise.octaves("growth lobes", (0.6, 0.32, 0.17), (0.6, 1.0, 0.8))
    arrival = front * (1 + np.float32(0.04 + 0.11 * irregular) * lobes)
    for _ in range(3):  # satellites: later, smaller colonies beside an irregular lesion
        angle, reach, late, present = rng.random(4)
        where = (0.95 + 0.35 * reach) * np.array([np.sin(2 * np.pi * angle), np.cos(2 * np.pi * angle)])
        colony = (
            0.72 + 0.25 * late + 2.4 * np.hypot(axis[:, None] - where[0], axis[None, :] - where[1]) / np.sqrt(speed)
        )
        if present < 0.7 * irregular:
            arrival = np.minimum(arrival, colony)
    arrival = gaussian_filter(arrival, SMOOTHING_NODES, mode="nearest")
    inside = float(np.pi) * (NODES - 1) ** 2 / (2 * HALF_WIDTH) ** 2  # nodes of a disc of radius 1
    first, last = arrival.min(), np.sort(arrival, axis=None)[int(inside)]
    # smoothing makes the cone at the origin a bowl, near to a hyperboloid: first^2 off the square gives the cone back
    # (at the origin itself rounding may take it below 0)
    return np.sqrt(np.maximum(arrival**2 - first**2, 0) / (last**2 - first**2)).astype(np.float32), axis


def arrival_map(record: SampleRecord, disc: tuple[F32, F32], x_mm: F32, y_mm: F32) -> F32:
    """Arrival time at columns given by 1-D centres from the middle of the picture, (n, n); grows outwards without end.

    disc is what `arrival_on_disc` gives. Raises nothing; a lesion outside the picture is simply not seen.
    """
    lesion = record.lesion
    arrival, axis = disc
    radius = 0.5 * lesion.diameter_mm
    angle = np.deg2rad(lesion.orientation_deg)
    stretch = np.sqrt(lesion.elongation)
    dx = (x_mm - lesion.centre_x_mm).astype(np.float32)[None, :]
    dy = (y_mm - lesion.centre_y_mm).astype(np.float32)[:, None]
    u = (dx * np.cos(angle) + dy * np.sin(angle)) / np.float32(radius * stretch)
    v = (-dx * np.sin(angle) + dy * np.cos(angle)) / np.float32(radius / stretch)
    return look_up(arrival, axis, v.astype(np.float32), u.astype(np.float32))


def extent_mm(record: SampleRecord, disc: tuple[F32, F32]) -> tuple[float, float, float]:
    """Middle x, y and half the width of the square that holds the final lesion, from the middle of the picture."""
    lesion = record.lesion
    arrival, axis = disc
    row, column = np.nonzero(arrival <= 1)
    angle, stretch = math.radians(lesion.orientation_deg), math.sqrt(lesion.elongation)
    u, v = axis[column] * (0.5 * lesion.diameter_mm * stretch), axis[row] * (0.5 * lesion.diameter_mm / stretch)
    x, y = u * math.cos(angle) - v * math.sin(angle), u * math.sin(angle) + v * math.cos(angle)
    node_mm = 0.5 * lesion.diameter_mm * stretch * float(axis[1] - axis[0])
    half = 0.5 * max(float(np.ptp(x)), float(np.ptp(y))) + node_mm
    middle_x, middle_y = 0.5 * float(x.min() + x.max()), 0.5 * float(y.min() + y.max())
    return lesion.centre_x_mm + middle_x, lesion.centre_y_mm + middle_y, half


def look_up(table: F32, axis: F32, y: F32, x: F32) -> F32:
    """Linear look-up of `table` [y, x] at (y, x); beyond the table the distance outside is added."""
    step = float(axis[1] - axis[0])
    low, high = float(axis[0]), float(axis[-1])
    yc, xc = np.clip(y, low, high), np.clip(x, low, high)
    outside = np.hypot(y - yc, x - xc)
    fy, fx = (yc - low) / step, (xc - low) / step
    iy = np.minimum(fy.astype(np.int32), len(axis) - 2)
    ix = np.minimum(fx.astype(np.int32), len(axis) - 2)
    fy -= iy
    fx -= ix
    flat = table.ravel()
    place = iy * len(axis) + ix
    top = flat.take(place) * (1 - fx) + flat.take(place + 1) * fx
    bottom = flat.take(place + len(axis)) * (1 - fx) + flat.take(place + len(axis) + 1) * fx
    return np.asarray(top * (1 - fy) + bottom * fy + outside, np.float32)
