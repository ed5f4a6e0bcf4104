"""From few paths to a clean picture: what is known free of noise, a guided filter that it leads, OIDN for detail."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

from synthskin.physics import absorption
from synthskin.physics.scene import SceneSpec, TissueGrid

F32 = NDArray[np.float32]


def auxiliary(scene: SceneSpec, through: F32, size_px: int) -> F32:
    """(size, size, 4) for the denoiser, free of noise: albedo and blood.

    Albedo is the double transmission of melanin, vessels and hair at three wavelengths; blood what light meets of it,
    in um, as sharp as light lets it be seen.
    """
    tissue = scene.tissue
    dz = np.diff(tissue.z_edges_fine_mm).astype(np.float32)
    n = tissue.dej_mm.shape[0]
    margin = round(-tissue.origin_mm / tissue.column_mm)
    at = (np.arange(size_px, dtype=np.float32) + 0.5) / size_px * (n - 2 * margin) + margin - 0.5
    low = np.clip(at.astype(np.int32), 0, n - 2)
    f = (at - low)[:, None]

    def seen(column: F32) -> F32:
        column = column[low] * (1 - f) + column[low + 1] * f
        return np.asarray(column[:, low] * (1 - f.T) + column[:, low + 1] * f.T, np.float32)

    nm = np.array([600.0, 545.0, 460.0])
    depth = seen(tissue.melanin_fine @ dz)[..., None] * absorption.melanosome_mu_a_per_mm(nm).astype(np.float32)
    if scene.lesion is not None:
        for blood in (scene.lesion.vessel_um, scene.lesion.crust_um):
            if blood is not None:
                mu = absorption.packed_blood_mu_a_per_mm(nm, 0.7, 20.0).astype(np.float32)
                # light goes round thin vessels: blurred and weakened until the denoiser neither adds nor takes contrast
                thin = np.minimum(blood, np.float32(60)) * np.float32(0.7e-3)
                depth = depth + seen(gaussian_filter(thin, 0.07 / tissue.column_mm))[..., None] * mu
    albedo = 0.9 * np.exp(-1.5 * depth)
    bright = np.zeros((n, n), np.float32)  # what scatters or depolarises more is brighter: an edge for the denoiser
    horn = None
    if tissue.keratin_to_mm is not None and tissue.keratin_scale is not None:
        horn = tissue.keratin_to_mm > 0
        if scene.loose_horn is not None:
            horn &= scene.loose_horn == 0
        white = np.minimum(np.float32(0.9) * tissue.keratin_to_mm * (tissue.keratin_scale - 1), np.float32(0.6))
        if tissue.birefringence is not None:  # here the share of the polarisation that is kept
            kept = tissue.birefringence
            white = white * (1 - kept if scene.polarised else 1 + 2 * kept)
        bright += np.where(horn, white, np.float32(0))
    if tissue.dermal_scale is not None:
        bright += np.float32(0.12) * (tissue.dermal_scale - 1)
    if tissue.birefringence is not None:
        turned = tissue.birefringence
        if tissue.keratin_to_mm is not None:
            turned = np.where(tissue.keratin_to_mm > 0, np.float32(0), turned)
        bright += np.float32(0.12 if scene.polarised else 0.04) * turned
    if bright.any():
        albedo = albedo * (1 + seen(bright))[..., None] / np.float32(1.35)
    if scene.loose_horn is not None:  # over the pigment: white on top, alike in all colours
        over = LOOSE_HORN_GUIDE * seen(scene.loose_horn)[..., None]
        over = over / (over + 1)
        albedo = over + (1 - over) * albedo
    keep = np.stack([box_means(box_means(one, size_px).T, size_px).T for one in through[..., 0]])
    albedo = albedo * keep[::-1].transpose(1, 2, 0)
    return np.ascontiguousarray(np.concatenate([albedo, seen(_blood_um(tissue))[..., None]], axis=2), np.float32)


def box_means(values: F32, count: int) -> F32:
    """(..., count) means of (..., n) over `count` equal parts of the last axis, where a part may cut an element.

    Hair is finer than a pixel: read at its middle it would come and go along a fibre where `count` does not divide n.
    """
    n = values.shape[-1]
    if n % count == 0:
        return np.asarray(values.reshape(*values.shape[:-1], count, n // count).mean(-1), np.float32)
    total = np.zeros((*values.shape[:-1], n + 1))
    np.cumsum(values, axis=-1, dtype=np.float64, out=total[..., 1:])
    edges = np.arange(count + 1) * (n / count)
    below = np.minimum(edges.astype(np.int64), n - 1)
    at = total[..., below] + (edges - below) * values[..., below]
    return np.asarray(np.diff(at, axis=-1) * (count / n), np.float32)


#: How strongly the guide tells of loose horn: the fit's ridge and OIDN then leave it the contrast that the paths have.
LOOSE_HORN_GUIDE = np.float32(0.6)
BLOOD_DEPTH_MM = 0.5  # blood counts exp(-depth / this)
BLOOD_BLUR_MM = 0.13  # light goes sideways


def _blood_um(tissue: TissueGrid) -> F32:
    """(n, n) blood of each column in um, that of the depth less, blurred by the way of light."""
    n = len(tissue.dej_mm)
    total = np.zeros((n, n), np.float32)
    for blood, edges in ((tissue.blood_fine, tissue.z_edges_fine_mm), (tissue.blood_coarse, tissue.z_edges_coarse_mm)):
        weights = 1e3 * BLOOD_DEPTH_MM * -np.diff(np.exp(-edges / BLOOD_DEPTH_MM))
        own = blood @ weights.astype(np.float32)
        repeat = n // len(own)
        total += own if repeat == 1 else own.repeat(repeat, 0).repeat(repeat, 1)
    return np.asarray(gaussian_filter(total, BLOOD_BLUR_MM / tissue.column_mm), np.float32)


LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
FILTER_RADIUS_MM = 0.8
#: Ridges of the fit: of the albedo over its local mean, squared; of blood over its variance in the picture.
FILTER_EPSILON = 3e-4
BLOOD_EPSILON = 0.05
#: Fits are made on cells of so many pixels that a window is about this many cells wide; they vary slowly.
FIT_CELLS = 20
MOST_DETAIL = np.float32(3)


def denoise(linear: F32, guide: F32, field_of_view_mm: float) -> F32:
    """Colour and breadth by a guided filter, detail by Intel Open Image Denoise 2 (HDR, clean auxiliary buffers).

    Colour varies with the melanin and blood above, which the guide knows, and slowly otherwise: so each channel of the
    unbiased paths is fitted, in windows of FILTER_RADIUS_MM, as a linear function of the albedo's three channels and of
    the blood (guided filter: He, Sun & Tang 2013). What that leaves out, OIDN finds: its luminance over the same filter
    of its luminance. OIDN alone brightens dark skin and hair and pales contrasts where paths are few. For detail alone
    its smallest network does: within 0.03 of CIEDE2000 and 0.6 dB of the next, in half the time. The ridges are small
    because healthy skin varies by a few hundredths only: larger ones take its colour away (benchmarks/denoise.py).

    guide   (h, w, 4) of `auxiliary`
    """
    import pyoidn

    normal = np.zeros_like(linear)
    normal[..., 2] = 1.0
    out = np.asarray(
        pyoidn.denoise(
            np.maximum(linear, 0), albedo=np.ascontiguousarray(guide[..., :3]), normal=normal, hdr=True, clean_aux=True,
            quality="fast"
        ),
        np.float32,
    )
    level = np.maximum(out @ LUMINANCE, 1e-5)[..., None]
    window_px = 2 * max(round(FILTER_RADIUS_MM / field_of_view_mm * linear.shape[0]), 1) + 1
    broad = guided(np.concatenate([linear, level], axis=2), guide, window_px)
    return broad[..., :3] * np.clip(level / broad[..., 3:], 1 / MOST_DETAIL, MOST_DETAIL)


def guided(values: F32, guide: F32, window_px: int) -> F32:
    """values (h, w, k) as locally linear functions of the guide (h, w, 4): a guided filter, nowhere negative."""
    h, w = guide.shape[:2]
    cell = max(window_px // FIT_CELLS, 1)
    while h % cell or w % cell:
        cell -= 1
    window = 2 * max(round((window_px / cell - 1) / 2), 1) + 1

    def cells(plane: F32) -> F32:
        if cell == 1:
            return plane
        return np.asarray(plane.reshape(h // cell, cell, w // cell, cell).mean((1, 3)), np.float32)

    def spread(plane: F32) -> F32:
        return plane if cell == 1 else plane.repeat(cell, 0).repeat(cell, 1)

    def box(plane: NDArray[Any]) -> F32:
        return np.asarray(uniform_filter(plane, window, mode="nearest"), np.float32)

    fine = [np.maximum(guide[..., :3] @ LUMINANCE, 1e-3), guide[..., 0] - guide[..., 1], guide[..., 1] - guide[..., 2],
            guide[..., 3]]
    g = [cells(plane) for plane in fine]
    mean = [box(plane) for plane in g]
    albedo_ridge = FILTER_EPSILON * mean[0] ** 2 + np.float32(1e-7)
    ridges = [albedo_ridge, albedo_ridge, albedo_ridge, np.float32(BLOOD_EPSILON * g[3].var() + 1e-12)]
    n = len(g)
    # symmetric elimination, all windows at once: rows[i] holds what is left of row i from its diagonal on
    rows = [[box(g[i] * g[j]) - mean[i] * mean[j] + (ridges[i] if i == j else 0) for j in range(i, n)]
            for i in range(n)]
    factors: list[tuple[int, int, F32]] = []
    for i in range(n):
        for j in range(i + 1, n):
            factor = rows[i][j - i] / rows[i][0]
            factors.append((i, j, factor))
            for k in range(j, n):
                rows[j][k - j] = rows[j][k - j] - factor * rows[i][k - i]
    out = np.empty_like(values)
    for channel in range(values.shape[2]):
        plane = cells(values[..., channel])
        average = box(plane)
        right = [box(g[i] * plane) - mean[i] * average for i in range(n)]
        for i, j, factor in factors:
            right[j] = right[j] - factor * right[i]
        slopes: list[Any] = [None] * n
        for i in range(n - 1, -1, -1):
            known = sum(rows[i][k - i] * slopes[k] for k in range(i + 1, n))
            slopes[i] = (right[i] - known) / rows[i][0]
        fitted = average - sum(slope * middle for slope, middle in zip(slopes, mean, strict=True))
        total = spread(box(fitted))
        for slope, plane in zip(slopes, fine, strict=True):
            total = total + spread(box(slope)) * plane
        out[..., channel] = np.maximum(total, 1e-5)
    return out
