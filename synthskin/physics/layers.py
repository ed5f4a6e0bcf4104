"""Lays columns of melanin and blood out in depth: exact averages of piecewise constant profiles over the grid's cells.

The cumulative content of a column down to depth z is piecewise linear, so a cell's mean is a difference of two values
of it: nothing is sampled, and the sum over the cells is the column.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from synthskin.physics.noise import F32

FINE_STEPS_MM = ((0.005, 0.15), (0.0125, 0.35))  # (step, down to): 46 cells
COARSE_CELLS = 12
COARSE_GROWTH = 1.15
MAX_FRACTION = 0.95
BLOCK_ROWS = 3  # rows at a time: the working arrays stay in the cache


def z_edges(bottom_mm: float) -> tuple[F32, F32]:
    """Edges of the fine and of the coarse cells in mm; their numbers never change."""
    fine = [np.zeros(1)]
    for step, until in FINE_STEPS_MM:
        start = fine[-1][-1]
        count = round((until - start) / step)
        fine.append(start + step * np.arange(1, count + 1))
    edges = np.concatenate(fine)
    growth = COARSE_GROWTH ** np.arange(COARSE_CELLS)
    coarse = edges[-1] + (bottom_mm - edges[-1]) * np.concatenate([[0.0], np.cumsum(growth) / growth.sum()])
    return edges.astype(np.float32), coarse.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Slab:
    """A constant fraction between two depths of each column: `column_mm` = fraction x thickness, all (n, n) in mm."""

    top_mm: F32
    thickness_mm: F32
    column_mm: F32


def cells_from_slabs(slabs: list[Slab], edges_mm: F32) -> F32:
    """Mean fraction (n, n, nz) in each cell. Where it would pass 0.95 the excess moves down to the next cells.

    Content below the last edge belongs to the next zone and is left to it.
    """
    rows, n = slabs[0].top_mm.shape
    nz = len(edges_mm) - 1
    block = math.gcd(rows, BLOCK_ROWS)
    m = block * n
    thickness = np.diff(edges_mm)
    per_cell = (1 / thickness).astype(np.float32)[:, None]
    out = np.empty((rows, n, nz), np.float32)
    cells = np.empty((nz, m), np.float32)
    work = (np.empty((nz + 1, m), np.float32), np.empty((nz, m), np.float32))
    blocks = [_Blocks.of(slab, edges_mm, m) for slab in slabs]
    for number in range(rows // block):
        cells[:] = 0
        bound = 0.0
        for slab in blocks:
            if slab.highest[number] > 0:
                bound += slab.highest[number]
                slab.add(number, cells, edges_mm, per_cell, *work)
        if bound > MAX_FRACTION and float(cells.max()) > MAX_FRACTION:
            _spill_down(cells, thickness)
        out[number * block : (number + 1) * block] = cells.T.reshape(block, n, nz)
    return out


@dataclass(frozen=True, slots=True)
class _Blocks:
    """A slab cut into blocks of m columns, and the runs of cells that each block touches.

    Cells from `full` to `leave_full` lie wholly inside the slab in every column of the block and need no clipping.
    """

    top: F32
    thickness: F32
    fraction: F32
    highest: list[float]
    runs: list[tuple[int, int, int, int]]

    @staticmethod
    def of(slab: Slab, edges: F32, m: int) -> _Blocks:
        top, thick = slab.top_mm.reshape(-1, m), slab.thickness_mm.reshape(-1, m)
        fraction = slab.column_mm.reshape(-1, m) / thick
        bottom = top + thick
        nz = len(edges) - 1
        enter = np.clip(np.searchsorted(edges, top.min(axis=1)) - 1, 0, nz)
        full = np.searchsorted(edges, top.max(axis=1))
        leave = np.minimum(np.searchsorted(edges, bottom.max(axis=1)), nz)
        leave_full = np.maximum(np.searchsorted(edges, bottom.min(axis=1)) - 1, 0)
        full = np.minimum(full, leave)
        runs = list(zip(enter.tolist(), full.tolist(), leave_full.tolist(), leave.tolist(), strict=True))
        return _Blocks(top, thick, fraction, fraction.max(axis=1).tolist(), runs)

    def add(self, number: int, cells: F32, edges: F32, per_cell: F32, work: F32, spare: F32) -> None:
        top, thick, fraction = self.top[number], self.thickness[number], self.fraction[number]
        enter, full, leave_full, leave = self.runs[number]
        parts = [(enter, leave)]
        if full < leave_full:
            parts = [(enter, full), (leave_full, leave)]
            cells[full:leave_full] += fraction
        for low, high in parts:
            if low >= high:
                continue
            content = np.subtract(edges[low : high + 1, None], top, out=work[: high - low + 1])
            np.maximum(content, 0, out=content)
            np.minimum(content, thick, out=content)
            content *= fraction
            share = np.subtract(content[1:], content[:-1], out=spare[: high - low])
            share *= per_cell[low:high]
            cells[low:high] += share


def _spill_down(cells: F32, thickness: F32) -> None:
    """Limit cells (nz, m) to 0.95 in place and carry what is over to the cell below; columns keep their content."""
    carry = np.zeros(cells.shape[1], np.float32)
    for k in range(len(cells)):
        cells[k] += carry / thickness[k]
        over = np.maximum(cells[k] - np.float32(MAX_FRACTION), 0)
        cells[k] -= over
        carry = over * thickness[k]
    if not carry.any():
        return
    for k in range(len(cells) - 1, -1, -1):  # what does not fit above the last edge fills up from below
        room = (np.float32(MAX_FRACTION) - cells[k]) * thickness[k]
        moved = np.minimum(room, carry)
        cells[k] += moved / thickness[k]
        carry -= moved


def coarsen(field: F32, factor: int) -> F32:
    """Mean of factor x factor columns."""
    n = field.shape[0] // factor
    return np.asarray(field.reshape(n, factor, n, factor).mean(axis=(1, 3)), np.float32)
