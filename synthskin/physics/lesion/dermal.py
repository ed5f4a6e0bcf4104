"""Structures of the dermis and its scars: veil, regression, peppering, white patch, shiny streaks, nests, leaves.

Definitions: Argenziano et al. 2003; Zalaudek et al. 2004 (J Am Acad Dermatol 50:747) for regression; Menzies et al.
2000 (Arch Dermatol 136:1012) for basal cell carcinoma; Zaballos et al. 2008 (Arch Dermatol 144:75) for the white patch;
Liebman et al. 2012 (Arch Dermatol 148:1041) for shiny streaks. Doses are by design.
"""

from __future__ import annotations

import math

import numpy as np

from synthskin.physics.lesion.layers import Layers
from synthskin.physics.lesion.shapes import Ground, balls, border, patch, side, strokes
from synthskin.physics.noise import F32, smoothstep

VEIL_UM = 12.0
GRAIN_FRACTION = 0.4  # melanosome fraction of a macrophage of peppering
NEST_UM = 7.0
LEAF_UM = 6.0


def veil(ground: Ground, layers: Layers) -> None:
    """Melanin 0.1-0.3 mm deep under a thickened epidermis with a white-scattering cornified layer."""
    s = ground.record.structures
    if s.blue_white_veil_strength == 0:
        return

    def lean(place: Ground) -> F32:
        off = side(place, "veil side", 0.9 * (1 - place.record.lesion.regularity))
        return off - np.float32(0.8) * place.arrival**2

    where = patch(ground, "veil", s.blue_white_veil_share, 0.9 * ground.radius_mm, lean, softness=0.7)
    cloud = np.exp(np.float32(0.35) * ground.noise.octaves("veil cloud", (0.7, 0.25), (1.0, 0.6)))
    layers.keep(1 - np.float32(0.75) * where)
    layers.deposit(np.float32(VEIL_UM * s.blue_white_veil_strength) * where * cloud,
                   np.float32(s.blue_white_veil_depth_um))
    layers.get("thickening_um")[:] += np.float32(45) * where
    layers.get("keratin_um")[:] += np.float32(16) * where * cloud
    scale = layers.get("keratin_scale")
    np.maximum(scale, 1 + np.float32(3.4) * where, out=scale)
    layers.get("skin_melanin")[:] *= 1 - np.float32(0.5) * where
    layers.mark("blue_white_veil", where > 0.5)


def regression(ground: Ground, layers: Layers) -> None:
    """A scar: pigment gone, collagen that scatters more and depolarises, less blood."""
    s = ground.record.structures
    where = np.zeros_like(ground.arrival)
    if s.regression_strength > 0:
        where = patch(ground, "regression", s.regression_share, 0.8 * ground.radius_mm,
                      lambda place: side(place, "regression side", 0.8), softness=0.55)
        amount = np.float32(s.regression_strength) * where
        layers.keep(1 - np.float32(0.93) * amount)
        layers.dermal_um *= 1 - np.float32(0.8) * amount
        layers.get("skin_melanin")[:] *= 1 - np.float32(0.6) * amount
        layers.get("dermal_scale")[:] += np.float32(0.7) * amount
        layers.get("birefringence")[:] += np.float32(0.175) * amount
        layers.blood_factor *= 1 - np.float32(0.35) * amount
        layers.mark("regression", where > 0.5)
    if s.peppering_density_per_mm2 > 0:
        x, y, draws = ground.scatter_inside("peppering", s.peppering_density_per_mm2, 3)
        clump = smoothstep(np.float32(0.5) + np.float32(0.6) * ground.noise("pepper clumps", 1.0))
        likely = ground.look(clump, x, y, 0.0)
        if s.regression_strength > 0:
            likely = likely * (0.15 + 0.85 * ground.look(where, x, y, 0.0))
        keep = draws[:, 0] < likely
        radius = (0.018 + 0.022 * draws[:, 1]).astype(np.float32)
        grains = balls(ground, x[keep], y[keep], radius[keep])
        layers.deposit(np.float32(GRAIN_FRACTION) * grains, np.float32(45))
        cloud = clump * ground.presence
        cloud = cloud * (where if s.regression_strength > 0 else np.float32(1))
        haze = np.float32(0.02 * s.peppering_density_per_mm2) * cloud  # grains too small to be seen one by one
        layers.deposit(np.minimum(haze, np.float32(1.0)), np.float32(70))
        layers.mark("peppering", (grains > 8) | (cloud > 0.6))


def central_white_patch(ground: Ground, layers: Layers) -> None:
    """The scar-like centre of a dermatofibroma, with pale lines that fade into its network."""
    s = ground.record.structures
    if s.central_white_patch_strength == 0:
        return
    reach = math.sqrt(s.central_white_patch_share)
    edge = ground.arrival / np.float32(max(ground.time, 0.05))
    edge = edge + np.float32(0.10) * ground.noise.octaves("white patch", (0.9, 0.35), (1.0, 0.6))
    where = smoothstep((np.float32(reach) - edge) / np.float32(0.28) + np.float32(0.5)) * ground.presence
    amount = np.float32(s.central_white_patch_strength) * where
    layers.keep(1 - np.float32(0.9) * amount)
    layers.get("skin_melanin")[:] *= 1 - np.float32(0.5) * amount
    layers.get("dermal_scale")[:] += np.float32(0.6) * amount
    layers.get("birefringence")[:] += np.float32(0.2) * amount
    layers.blood_factor *= 1 - np.float32(0.2) * amount
    layers.mark("central_white_patch", where > 0.5)


def shiny_white_streaks(ground: Ground, layers: Layers) -> None:
    """Short straight collagen bundles, in two crossing directions, which turn the plane of polarisation by 90 degrees.

    That is a half-wave plate at 45 degrees to the polariser: a bundle of 45 um there and back at a birefringence near
    0.003 (collagen of tendon: de Boer et al. 1997, Opt Lett 22:934). The polariser is taken to be turned to where they
    show best, as its user does.
    """
    s = ground.record.structures
    if s.shiny_white_streaks_density_per_mm2 == 0:
        return
    x, y, draws = ground.scatter_inside("shiny streaks", s.shiny_white_streaks_density_per_mm2, 4)
    main = float(ground.rng("shiny direction").random()) * math.pi
    likely = ground.look(smoothstep(np.float32(0.5) + np.float32(0.5) * ground.noise("shiny region", 1.5)), x, y, 0.0)
    keep = draws[:, 0] < 0.15 + likely
    x, y, draws = x[keep], y[keep], draws[keep]
    angle = main + np.where(draws[:, 1] < 0.65, 0.0, 0.5 * math.pi) + (draws[:, 2] - 0.5) * 0.35
    half = 0.5 * s.shiny_white_streaks_length_mm * (0.6 + 0.8 * draws[:, 3])
    t = np.linspace(-1, 1, 9, dtype=np.float32)
    px = x[:, None] + (half * np.cos(angle))[:, None] * t
    py = y[:, None] + (half * np.sin(angle))[:, None] * t
    radius = np.broadcast_to(0.05 * np.sqrt(np.clip(1.05 - t**2, 0, 1)), px.shape).astype(np.float32)
    thickness = strokes(ground, px.astype(np.float32), py.astype(np.float32), radius)
    where = np.minimum(thickness / np.float32(35), 1)
    shine = layers.get("birefringence")
    np.maximum(shine, where, out=shine)
    layers.mark("shiny_white_streaks", where > 0.5)


def leaf_like_areas(ground: Ground, layers: Layers) -> None:
    """Bulbous extensions from a common base at the border: nests of pigmented basaloid cells under the junction."""
    s = ground.record.structures
    if s.leaf_like_area_count == 0:
        return
    rng = ground.rng("leaves")
    base = rng.random((s.leaf_like_area_count, 3), dtype=np.float32)
    fingers_of = ground.rng("leaf fingers").random((s.leaf_like_area_count, 8, 3))
    found = border(ground, (2 * math.pi * base[:, 0]).astype(np.float32))
    near = np.abs(ground.look(ground.arrival, found.x_mm, found.y_mm, 9.0) - ground.time) < 0.15
    xs, ys, radii = [], [], []
    for k in np.flatnonzero(near):
        size = s.leaf_like_area_length_mm * (0.7 + 0.6 * float(base[k, 1]))
        out = math.atan2(float(found.out_y[k]), float(found.out_x[k]))
        inner = np.array([found.x_mm[k] - 0.35 * size * math.cos(out), found.y_mm[k] - 0.35 * size * math.sin(out)])
        fingers = 2 + int(3 * float(base[k, 2]))
        draws = fingers_of[k]
        for j in range(fingers):
            angle = out + (j - 0.5 * (fingers - 1)) * 0.5 + 0.7 * (draws[j, 0] - 0.5)
            t = np.linspace(0.0, 1.0, 14)
            reach = size * (0.45 + 0.8 * draws[j, 1])
            xs.append(inner[0] + reach * t * math.cos(angle))
            ys.append(inner[1] + reach * t * math.sin(angle))
            wide = 0.6 + 0.8 * draws[j, 2]
            radii.append(size * wide * np.interp(t, [0, 0.4, 0.8, 1.0], [0.09, 0.08, 0.14, 0.10]))
    if not xs:
        return
    px, py, pr = (np.array(v, np.float32) for v in (xs, ys, radii))
    thickness = strokes(ground, px, py, pr)
    ragged = np.exp(np.float32(0.4) * ground.noise.octaves("leaf edge", (0.25, 0.1), (1.0, 0.7)))
    body = smoothstep(thickness * ragged / np.float32(160))
    mottle = np.exp(np.float32(0.3) * ground.noise("leaf mottle", 0.2))
    brown = np.float32(LEAF_UM) * body * mottle
    layers.junctional_um += np.float32(0.45) * brown
    layers.deposit(np.float32(0.55) * brown, np.float32(50))
    layers.mark("leaf_like_area", body > 0.4)


def ovoid_nests(ground: Ground, layers: Layers) -> None:
    """Large, well-outlined pigmented nests deep in the dermis: blue-grey."""
    s = ground.record.structures
    if s.blue_grey_ovoid_nest_count == 0:
        return
    rng = ground.rng("ovoid nests")
    middle_x, middle_y = ground.middle_mm
    total = np.zeros_like(ground.arrival)
    where = np.zeros(ground.arrival.shape, np.bool_)
    warp = ground.noise.octaves("nest edge", (0.35, 0.15), (1.0, 0.5))
    x, y = ground.noise.x_mm[None, :], ground.noise.y_mm[:, None]
    for angle, far, size, turn, long, dose in rng.random((s.blue_grey_ovoid_nest_count, 6)).tolist():
        reach = ground.radius_mm * ground.time * 0.85 * math.sqrt(far)
        cx = middle_x + reach * math.cos(2 * math.pi * angle)
        cy = middle_y + reach * math.sin(2 * math.pi * angle)
        radius = 0.5 * s.blue_grey_ovoid_nest_diameter_mm * math.exp(0.9 * (size - 0.5))
        stretch = 1.0 + 0.35 * long
        c, d = math.cos(math.pi * turn), math.sin(math.pi * turn)
        u = ((x - cx) * c + (y - cy) * d) / np.float32(radius * stretch)
        v = (-(x - cx) * d + (y - cy) * c) / np.float32(radius / stretch)
        body = smoothstep((1 - np.sqrt(u * u + v * v) + np.float32(0.12) * warp) / np.float32(0.4) + np.float32(0.3))
        body = body * (ground.presence > 0.2)
        np.maximum(total, np.float32(NEST_UM * (0.45 + 0.75 * dose)) * body, out=total)
        where |= body > 0.45
    layers.deposit(total, np.float32(75))
    layers.mark("blue_grey_ovoid_nest", where)
