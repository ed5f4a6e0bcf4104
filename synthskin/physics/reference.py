"""The walk's judges: flat tissue for adding-doubling, and the same SceneSpec through Mitsuba's `volpathmis`.

Slow, generic and independent; used by tests and by `make validate`, never by a render.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthskin.physics import fluence, render, walk
from synthskin.physics.scene import TissueGrid
from synthskin.physics.tissue_columns import FINE_RUN_CELLS, FINE_RUN_MM, FINE_STEP_MM, SECOND_STEP_MM, Columns

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def fine_edges() -> F32:
    """Cell edges of the fine zone: 5 um to 0.15 mm, 12.5 um to 0.35 mm."""
    run = np.arange(FINE_RUN_CELLS + 1) * FINE_STEP_MM
    return np.concatenate([run, FINE_RUN_MM + np.arange(1, 17) * SECOND_STEP_MM]).astype(np.float32)


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


def walk_flat(mi: Any, dr: Any, columns: Columns, optics: walk.Optics, size_px: int, paths: int, key: int = 1,
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


def slab(mi: Any, dr: Any, mu_a_per_mm: float, mu_s_per_mm: float, g: float, thickness_mm: float, eta: float
         ) -> tuple[Columns, walk.Optics]:
    """One homogeneous layer through the shipping kernel; thickness a multiple of 5 um up to 0.15 mm, of 12.5 um up to
    0.35 mm, or inf for a half space.

    A thin slab fills the fine zone alone; a half space all three zones with the same coefficients.
    """
    infinite = not np.isfinite(thickness_mm)
    ones = np.ones((walk.GROUPS, walk.HEROES), np.float32)
    absorber = np.array([1.0, 1.0 if infinite else 0.0])
    grid = flat_tissue(np.array([0.35 if infinite else thickness_mm, 5.0]), absorber, np.zeros(2), 10.0, 2.0)
    columns = render.upload(mi, dr, grid, 0.35 if infinite else thickness_mm)
    if not infinite:
        columns = replace(columns, coarse_to_mm=columns.fine_to_mm + 1e-6, bottom_mm=columns.fine_to_mm + 2e-6)
    optics = walk.Optics(
        melanin=ones * np.float32(mu_a_per_mm), blood=ones * 0,
        base=np.stack([ones * 0, ones * 0, ones * np.float32(mu_a_per_mm)]),
        mu_s=np.full((walk.ZONES, walk.GROUPS, walk.HEROES), mu_s_per_mm, np.float32),
        anisotropy=np.full(walk.ZONES, g, np.float32), depolarisation=np.zeros(walk.ZONES, np.float32),
        papillary_ratio=1.0, eta=eta,
    )
    return columns, optics


VOXEL_MM = 0.0025  # divides the 5 and 12.5 um cells of the fine zone
PAD_MM = 2.5  # edge columns go on this far beyond the grid, then come mirrors
HYPODERMIS_MM = 15.0  # then a mirror: the walk's has no end
BLOCKER_MM = 1000.0  # a black square so far above hides the mirror image of the sky and nothing else
SPECULAR = ((render.ETA_TISSUE - 1) / (render.ETA_TISSUE + 1)) ** 2  # 0.0278 at normal incidence


def on_voxels(tissue: TissueGrid) -> tuple[TissueGrid, float]:
    """The tissue with its junction rounded to VOXEL_MM, and where its fine zone ends.

    That lies inside a cell, as it nearly always does in a render: on a cell's edge `render.upload` leaves zeros past
    it, which a path that flies level along the face would read as negative absorption.
    """
    dej = (np.round(tissue.dej_mm / VOXEL_MM) * VOXEL_MM).astype(np.float32)
    top = round((float(dej.max()) + render.FINE_ZONE_MARGIN_MM) / VOXEL_MM)
    if np.abs(tissue.z_edges_fine_mm - top * VOXEL_MM).min() < VOXEL_MM / 2:
        top += 1
    return replace(tissue, dej_mm=dej), top * VOXEL_MM


def voxels(tissue: TissueGrid, top_mm: float, optics: walk.Optics, bands: tuple[int, int, int]
           ) -> list[tuple[F32, F32, float, float]]:
    """(sigma_t, albedo, from_mm, to_mm) of the three zones, (z, y, x, 3) on even voxels, with padding.

    Coarse edges lie at k (k + 4) / 192 of the zone, so that 192 even voxels hold the twelve cells exactly.
    """
    if any(m is not None for m in (tissue.keratin_scale, tissue.dermal_scale, tissue.birefringence)):
        raise ValueError("voxels: keratin, fibrosis, birefringence are not carried over; give a tissue without")

    def pick(values: F32) -> F32:
        return np.asarray(values.reshape(*values.shape[:-2], -1)[..., list(bands)], np.float32)

    def grids(melanin: F32, blood: F32, scatter: F32, zone: int, pad: int) -> tuple[F32, F32]:
        absorb = melanin[..., None] * pick(optics.melanin) + blood[..., None] * pick(optics.blood)
        absorb = absorb + pick(optics.base)[zone]
        mu_s = scatter[..., None] * pick(optics.mu_s)[zone]
        out = [np.pad(v, ((pad, pad), (pad, pad), (0, 0), (0, 0)), mode="edge").transpose(2, 0, 1, 3)
               for v in (absorb + mu_s, mu_s / (absorb + mu_s))]
        return np.ascontiguousarray(out[0], np.float32), np.ascontiguousarray(out[1], np.float32)

    middle = (np.arange(round(top_mm / VOXEL_MM)) + 0.5) * VOXEL_MM
    cell = np.searchsorted(tissue.z_edges_fine_mm, middle) - 1
    scatter = np.where(middle < tissue.dej_mm[..., None], 1.0, optics.papillary_ratio).astype(np.float32)
    pad = -(-round(PAD_MM / tissue.column_mm) // render.COARSE_FACTOR)
    fine = grids(tissue.melanin_fine[..., cell], tissue.blood_fine[..., cell], scatter, 0, pad * render.COARSE_FACTOR)
    bottom = float(tissue.z_edges_coarse_mm[-1])
    below, m = render.coarse_edges(top_mm, bottom), tissue.dej_mm.shape[0] // render.COARSE_FACTOR
    melanin, blood = fluence.resample(tissue, below, m)
    k = np.arange(render.COARSE_CELLS + 1)
    repeats = np.diff(k * (k + 4))
    coarse = grids(melanin.repeat(repeats, 2), blood.repeat(repeats, 2), np.ones((1, 1, 1), np.float32), 1, pad)
    nothing = np.zeros((1, 1, 1), np.float32)
    fat = grids(nothing, nothing, nothing + 1, 2, 0)
    return [(*fine, 0.0, top_mm), (*coarse, top_mm, bottom), (*fat, bottom, bottom + HYPODERMIS_MM)]


def volpath_scene(mi: Any, tissue: TissueGrid, top_mm: float, optics: walk.Optics, bands: tuple[int, int, int],
                  field_of_view_mm: float, size_px: int, rr_depth: int = 100) -> Any:
    """The tissue as stacked media under a smooth dielectric, a constant sky of radiance 1, a camera straight above.

    Depth is +z; the middle of the picture is the origin. `bands` of the nine are the colour channels.
    """
    zones = voxels(tissue, top_mm, optics, bands)
    half = zones[0][0].shape[1] * tissue.column_mm / 2
    transform = mi.ScalarTransform4f
    media = []
    for number, (sigma_t, albedo, low, high) in enumerate(zones):
        place = transform().translate([-half, -half, low]).scale([2 * half, 2 * half, high - low])

        def volume(values: F32, place: Any = place) -> dict[str, Any]:
            return {"type": "gridvolume", "grid": mi.VolumeGrid(values), "raw": True, "filter_type": "nearest",
                    "wrap_mode": "clamp", "to_world": place}

        g = float(optics.anisotropy[number])
        phase = {"type": "hg", "g": g} if g else {"type": "isotropic"}
        media.append(mi.load_dict({"type": "heterogeneous", "sigma_t": volume(sigma_t), "albedo": volume(albedo),
                                   "phase": phase, "sample_emitters": False}))  # no lamp is seen through a dielectric
    end = zones[-1][3]
    up, wide, zoom = transform().rotate([1, 0, 0], 180), 1.02 * half, field_of_view_mm / 2
    mirror = {"type": "twosided", "bsdf": {"type": "conductor", "material": "none"}}
    scene: dict[str, Any] = {
        "type": "scene",
        "integrator": {"type": "volpathmis", "max_depth": -1, "rr_depth": rr_depth},
        "sky": {"type": "constant", "radiance": {"type": "rgb", "value": 1.0}},
        "blocker": {"type": "rectangle", "bsdf": {"type": "diffuse", "reflectance": {"type": "rgb", "value": 0.0}},
                    "to_world": transform().translate([0, 0, -BLOCKER_MM]).scale([half, half, 1])},
        "top": {"type": "rectangle", "bsdf": {"type": "dielectric", "int_ior": float(optics.eta), "ext_ior": 1.0},
                "interior": media[0], "to_world": up.scale([wide, wide, 1])},
        "floor": {"type": "rectangle", "bsdf": mirror,
                  "to_world": transform().translate([0, 0, end]) @ up.scale([wide, wide, 1])},
        "sensor": {
            "type": "orthographic", "near_clip": 0.01, "far_clip": 100.0,
            "to_world": transform().look_at([0, 0, -5], [0, 0, 0], [0, 1, 0]).scale([zoom, zoom, 1]),
            "film": {"type": "hdrfilm", "width": size_px, "height": size_px, "rfilter": {"type": "box"},
                     "component_format": "float32", "pixel_format": "rgb"},
            "sampler": {"type": "independent"},
        },
    }
    for i in range(2):
        scene[f"face{i}"] = {"type": "rectangle", "bsdf": {"type": "null"},
                             "exterior": media[i], "interior": media[i + 1],
                             "to_world": transform().translate([0, 0, zones[i][3]]) @ up.scale([wide, wide, 1])}
    for i in range(4):
        turn = transform().rotate([0, 0, 1], 90 * i).translate([half, 0, end / 2]).rotate([0, 1, 0], -90)
        scene[f"wall{i}"] = {"type": "rectangle", "bsdf": mirror, "to_world": turn.scale([end / 2, wide, 1])}
    return mi.load_dict(scene)


def volpath_passes(mi: Any, scene: Any, spp: int, passes: int, first_seed: int = 0) -> tuple[F64, list[float]]:
    """(passes, pixels, 3) light of what entered, comparable to `walk_passes`, and the seconds of each pass."""
    out, seconds = [], []
    for number in range(passes):
        start = time.perf_counter()
        image = np.array(mi.render(scene, spp=spp, seed=first_seed + number), np.float64)
        seconds.append(time.perf_counter() - start)
        out.append(image.reshape(-1, 3) / (1 - SPECULAR))
    return np.stack(out), seconds


def walk_passes(mi: Any, dr: Any, columns: Columns, optics: walk.Optics, field_of_view_mm: float, size_px: int,
                paths: int, passes: int, first_key: int = 1, ending: walk.Ending | None = None
                ) -> tuple[F64, list[float]]:
    """(passes, pixels, 9) of the walk under a constant sky, no hair, no plate, and the seconds of each pass."""
    hair = np.zeros((walk.GROUPS, 1, 1, 2), np.float32)
    hair[..., 0] = 1
    bare, light = mi.Float(hair.ravel()), mi.Float(np.ones(1, np.float32))
    out, seconds = [], []
    for number in range(passes):
        start = time.perf_counter()
        radiance, _, _, _ = walk.trace(mi, dr, columns, optics, bare, 1, light, 1, field_of_view_mm, size_px, paths,
                                       first_key + number, False, 0.0, ending=ending)
        dr.eval(radiance)
        lanes = np.stack([np.array(v, np.float64) for v in radiance], -1)
        seconds.append(time.perf_counter() - start)
        out.append(lanes.reshape(-1, walk.GROUPS * walk.HEROES) / paths)
    return np.stack(out), seconds


def uniform_ending(mi: Any, dr: Any, tissue: TissueGrid, columns: Columns, optics: walk.Optics,
                   field_of_view_mm: float, key: int = 1) -> walk.Ending:
    """The tabulated ending under the light of `walk_passes`."""
    bare = np.zeros((walk.GROUPS, 1, 1, 2), np.float32)
    bare[..., 0] = 1
    one = np.ones((1, 1), np.float32)
    return fluence.tabulate(mi, dr, tissue, columns, optics, np.ones((fluence.CELLS, fluence.CELLS), np.float32), one,
                            mi.Float(bare.ravel()), 1, mi.Float(one.ravel()), 1, field_of_view_mm, key, 0.0)


def mean_and_error(passes: F64) -> tuple[F64, F64]:
    """Mean of (passes, pixels, channels) over the first two, and its standard error from the spread between passes."""
    count, pixels = passes.shape[:2]
    return passes.mean((0, 1)), np.sqrt(passes.var(0, ddof=1).mean(0) / (count * pixels))
