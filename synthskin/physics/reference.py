"""The walk's judges: flat tissue for adding-doubling, and the same SceneSpec through Mitsuba's `volpathmis`.

Slow, generic and independent; used by tests and by `make validate`, never by a render.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthskin.physics import render, walk
from synthskin.physics.scene import TissueGrid

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def fine_edges() -> F32:
    """Cell edges of the fine zone: 5 um to 0.15 mm, 12.5 um to 0.35 mm."""
    run = np.arange(walk.FINE_RUN_CELLS + 1) * walk.FINE_STEP_MM
    return np.concatenate([run, walk.FINE_RUN_MM + np.arange(1, 17) * walk.SECOND_STEP_MM]).astype(np.float32)


def profile_on_cells(thickness_mm: NDArray[Any], value: NDArray[Any], edges_mm: NDArray[Any]) -> F64:
    """Mean over each cell of a profile that is constant in layers; the last value goes on below."""
    ends = np.cumsum(thickness_mm)
    depth = np.concatenate([[0.0], ends, [max(ends[-1], float(edges_mm[-1])) + 1.0]])
    total = np.concatenate([[0.0], np.cumsum(np.append(value, value[-1]) * np.diff(depth))])
    return np.asarray(np.diff(np.interp(edges_mm, depth, total)) / np.diff(edges_mm))


def flat_tissue(thickness_mm: NDArray[Any], melanin: NDArray[Any], blood: NDArray[Any], dej_mm: float, bottom_mm: float,
                columns: int = 12) -> TissueGrid:
    """A grid without lateral structure: layers of (melanin, blood) fractions down to `bottom_mm`."""
    fine = fine_edges()
    coarse = np.linspace(fine[-1], bottom_mm, 13).astype(np.float32)
    shape, half = (columns, columns), (columns // 2, columns // 2)

    def spread(values: NDArray[Any], edges: F32, size: tuple[int, int]) -> F32:
        cells = profile_on_cells(thickness_mm, values, edges.astype(np.float64))
        return np.broadcast_to(cells.astype(np.float32), (*size, cells.size)).copy()

    return TissueGrid(
        column_mm=0.1, coarse_factor=2, origin_mm=-0.1, z_edges_fine_mm=fine, z_edges_coarse_mm=coarse,
        melanin_fine=spread(melanin, fine, shape), blood_fine=spread(blood, fine, shape),
        dej_mm=np.full(shape, dej_mm, np.float32),
        melanin_coarse=spread(melanin, coarse, half), blood_coarse=spread(blood, coarse, half),
    )


def walk_flat(mi: Any, dr: Any, columns: walk.Columns, optics: walk.Optics, size_px: int, paths: int, key: int = 1,
              with_transmittance: bool = False) -> tuple[F64, F64, F64]:
    """(reflectance (9,), transmittance (9,), standard error of the reflectance (9,)) under a constant environment.

    Normal camera rays, no plate, no polarisation; by reciprocity normal incidence and hemispherical collection.
    """
    hair = np.zeros((walk.GROUPS, 1, 1, 2), np.float32)
    hair[..., 0] = 1
    radiance, through, _, _ = walk.trace(
        mi, dr, columns, optics, mi.Float(hair.ravel()), 1, mi.Float(np.ones(1, np.float32)), 1,
        field_of_view_mm=columns.column_mm * (columns.n_fine - 2), size_px=size_px, paths_per_lane=paths, key=key,
        polarised=False, plate_tan_scale_mm=0.0, with_transmittance=with_transmittance,
    )
    dr.eval(radiance, through)

    def mean(values: list[Any]) -> tuple[F64, F64]:
        lanes = np.stack([np.array(v, np.float64) for v in values], -1).reshape(-1, walk.GROUPS, walk.HEROES) / paths
        return lanes.mean(0).ravel(), (lanes.std(0) / np.sqrt(lanes.shape[0])).ravel()

    reflectance, error = mean(radiance)
    transmittance = mean(through)[0] if with_transmittance else np.zeros_like(reflectance)
    return reflectance, transmittance, error


def slab(mi: Any, mu_a_per_mm: float, mu_s_per_mm: float, g: float, thickness_mm: float, eta: float
         ) -> tuple[walk.Columns, walk.Optics]:
    """One homogeneous layer through the shipping kernel; thickness a multiple of 5 um up to 0.15 mm, of 12.5 um up to
    0.35 mm, or inf for a half space.

    A thin slab fills the fine zone alone; a half space all three zones with the same coefficients.
    """
    infinite = not np.isfinite(thickness_mm)
    ones = np.ones((walk.GROUPS, walk.HEROES), np.float32)
    absorber = np.array([1.0, 1.0 if infinite else 0.0])
    grid = flat_tissue(np.array([0.35 if infinite else thickness_mm, 5.0]), absorber, np.zeros(2), 10.0, 2.0)
    columns = render.upload(mi, grid, 0.35 if infinite else thickness_mm)
    if not infinite:
        from dataclasses import replace

        columns = replace(columns, coarse_to_mm=columns.fine_to_mm + 1e-6, bottom_mm=columns.fine_to_mm + 2e-6)
    optics = walk.Optics(
        melanin=ones * np.float32(mu_a_per_mm), blood=ones * 0,
        base=np.stack([ones * 0, ones * 0, ones * np.float32(mu_a_per_mm)]),
        mu_s=np.full((walk.ZONES, walk.GROUPS, walk.HEROES), mu_s_per_mm, np.float32),
        anisotropy=np.full(walk.ZONES, g, np.float32), depolarisation=np.zeros(walk.ZONES, np.float32),
        papillary_ratio=1.0, eta=eta,
    )
    return columns, optics
