"""The tissue as the walk reads it: columns of cumulative melanin and blood, and what each column is made of.

`pack_cells` and `pack_layers` put a `TissueGrid` on the device in the form that `walk.trace` looks up at each step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
FINE_STEP_MM = 0.005
FINE_RUN_MM = 0.15
FINE_RUN_CELLS = 30
COARSE_MIX = 0.25
SECOND_STEP_MM = 0.0125
BIREFRINGENCE_STEPS = 255
LEVEL_STEP = 16.0


@dataclass(frozen=True, slots=True)
class Columns:
    """The tissue on the device: cumulative (melanin, blood) at the cell edges of each column, both zones.

    A node holds both in 16 bits each, blood high, in units of the zone's largest column / 65535: every content between
    two depths is a difference of nodes, so rounding never adds up. A cell holds its upper and its lower node, to be
    read together; only the cells that the fine zone uses are there.
    The fine cells are 5 um to 0.15 mm and 12.5 um below; edge k of the nc coarse cells lies at
    fine_to + (coarse_to - fine_to) (COARSE_MIX u + (1 - COARSE_MIX) u^2), u = k / nc.
    `bottom_mm` is where the last zone ends in a void (transmission); 1e9 for a half space.
    """

    cells: Any  # UInt32: (n, n, cells_fine, 2) then (m, m, cells_coarse, 2), flattened
    unit_mm: Any  # Float (4,): melanin fine, blood fine, melanin coarse, blood coarse
    first_coarse: int  # index of the first coarse cell
    layers: Any  # Float (n n + m m, 4), see `pack_layers`
    n_fine: int
    n_coarse: int
    cells_fine: int
    cells_coarse: int
    column_mm: float
    coarse_column_mm: float
    origin_mm: float
    fine_to_mm: float
    coarse_to_mm: float
    bottom_mm: float


def on_device(mi: Any, values: Any) -> Any:
    """Flat Float of `values`, from a copy at a 64-byte boundary.

    Dr.Jit takes NumPy memory over as it lies and writes other code for memory off such a boundary: without the copy it
    is chance whether a later sample needs new kernels.
    """
    flat = np.ascontiguousarray(values, np.float32).ravel()
    room = np.empty(flat.size + 16, np.float32)
    first = -room.ctypes.data % 64 // 4
    aligned = room[first : first + flat.size]
    aligned[:] = flat
    return mi.Float(aligned)


def pack_cells(mi: Any, dr: Any, parts: list[tuple[F32, F32, F32]]) -> tuple[Any, Any]:
    """(cells, unit_mm) of `Columns` from (melanin, blood, edges_mm) a zone: fractions (n, n, k), edges (k + 1,)."""
    F, U = mi.Float, mi.UInt32
    total = sum(melanin.size for melanin, _, _ in parts)
    cells = dr.empty(U, 2 * total)
    units, start = [], 0
    for melanin, blood, edges in parts:
        k = melanin.shape[2]
        columns = melanin.size // k
        step = on_device(mi, np.diff(edges))
        fractions = [on_device(mi, melanin), on_device(mi, blood)]
        lane = dr.arange(U, columns)
        count = dr.opaque(U, k)
        sums = []
        for values in fractions:
            index, column = dr.zeros(U, columns), dr.zeros(F, columns)

            def add(i: Any, v: Any, values: Any = values, step: Any = step, at: Any = lane * count) -> Any:
                return i + 1, dr.fma(dr.gather(F, values, at + i), dr.gather(F, step, i), v)

            sums.append(dr.while_loop((index, column), lambda i, v, count=count: i < count, add)[1])
        dr.eval(sums)
        unit = [dr.maximum(dr.max(v), 1e-9) * (1 / 65535) for v in sums]
        inverse = [1 / v for v in unit]
        first = dr.opaque(U, start)

        def write(i: Any, m: Any, b: Any, node: Any, fractions: Any = fractions, step: Any = step, lane: Any = lane,
                  count: Any = count, inverse: Any = inverse, first: Any = first) -> Any:  # fmt: skip
            at = lane * count + i
            dz = dr.gather(F, step, i)
            m = dr.fma(dr.gather(F, fractions[0], at), dz, m)
            b = dr.fma(dr.gather(F, fractions[1], at), dz, b)
            pair = (U(mi.Int32(dr.minimum(dr.fma(v, w, 0.5), 65535))) for v, w in zip((m, b), inverse, strict=True))
            below = next(pair) | (next(pair) << 16)
            dr.scatter(cells, mi.Vector2u(node, below), first + at)
            return i + 1, m, b, below

        zero = dr.zeros(F, columns)
        start_at = (dr.zeros(U, columns), zero, zero, dr.zeros(U, columns))
        dr.while_loop(start_at, lambda i, m, b, node, count=count: i < count, write)
        dr.eval(cells)
        units += unit
        start += melanin.size
    return cells, dr.concat(units)


def pack_layers(
    dej_mm: F32,
    coarse: int,
    keratin_to_mm: F32 | None = None,
    keratin_scale: F32 | None = None,
    dermal_scale: F32 | None = None,
    birefringence: F32 | None = None,
) -> F32:
    """(n n + coarse^2, 4): what a column is made of; the coarse columns average the scattering of the dermis.

    depth of the junction | depth to which there is keratin | its scattering over that of the epidermis, plus LEVEL_STEP
    times the birefringence in BIREFRINGENCE_STEPS | scattering of the dermis over that of the skin's.
    """
    n = dej_mm.shape[0]
    out = np.zeros((n * n + coarse * coarse, 4), np.float32)
    out[:, 2:] = 1
    fine = out[: n * n].reshape(n, n, 4)
    fine[..., 0] = dej_mm
    if keratin_to_mm is not None and keratin_scale is not None:
        if keratin_scale.min() < 0 or keratin_scale.max() >= LEVEL_STEP:
            raise ValueError(f"keratin_scale {keratin_scale.min()}-{keratin_scale.max()}: 0 to {LEVEL_STEP} is allowed")
        fine[..., 1] = keratin_to_mm
        fine[..., 2] = np.where(keratin_to_mm > 0, keratin_scale, 1)
    if dermal_scale is not None:
        fine[..., 3] = dermal_scale
        f = n // coarse
        out[n * n :, 3] = dermal_scale.reshape(coarse, f, coarse, f).mean((1, 3)).ravel()
    if birefringence is not None:
        fine[..., 2] += LEVEL_STEP * np.round(np.clip(birefringence, 0, 1) * BIREFRINGENCE_STEPS)
    return out
