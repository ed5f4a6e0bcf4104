"""Structures made of blood: arborizing, dotted and curved vessels, lacunae, the red pseudonetwork, ulcers.

Definitions: Argenziano et al. 2004 (Arch Dermatol 140:1485); Wolf 1998 and Zaballos et al. 2007 (Arch Dermatol
143:318) for lacunae; Zalaudek et al. 2006 (Br J Dermatol 155:951) for the pseudonetwork. Sizes are theirs, densities
and depths by design.
"""

from __future__ import annotations

import math

import numpy as np

from synthskin.physics.lesion.layers import Layers
from synthskin.physics.lesion.shapes import Ground, balls, patch, strokes
from synthskin.physics.noise import F32, smoothstep
from synthskin.physics.relief import follicle_sites

VESSEL_FRACTION = 0.9
FLAT_UM = 55.0  # vessels of a tumour lie flat: their depth is at most this
PRESSED_UM = 45.0
POOL_FLATNESS = 0.8  # thickness over width of a lacuna
PATH_POINTS = 26
MAX_BRANCHES = 400
LAST_BRANCHING = 0.22  # radius over that of a stem below which no vessel branches


def arborizing_vessels(ground: Ground, layers: Layers) -> None:
    """Thick stems from the rim that branch again and again into fine ends, in focus right under the junction."""
    s = ground.record.structures
    if s.arborizing_vessels_density_per_mm == 0:
        return
    area = math.pi * (ground.radius_mm * ground.time) ** 2
    wanted = s.arborizing_vessels_density_per_mm * area
    size = ground.radius_mm * ground.time
    middle_x, middle_y = ground.middle_mm
    queue: list[tuple[float, float, float, float, float, str]] = []
    thinnest = LAST_BRANCHING * 0.5e-3 * s.arborizing_vessels_width_um
    paths: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    length = 0.0
    stems = 0
    while length < wanted and len(paths) < MAX_BRANCHES:
        if not queue:
            angle, tilt, wide, far = ground.rng(f"arborizing stem {stems}").random(4)
            stems += 1
            where = 2 * math.pi * (angle if stems == 1 else stems * 0.618 + 0.25 * angle)
            reach = size * (0.75 + 0.3 * far)
            queue.append((middle_x + reach * math.cos(where), middle_y + reach * math.sin(where),
                          where + math.pi + 1.3 * (tilt - 0.5),
                          0.5e-3 * s.arborizing_vessels_width_um * (0.7 + 0.6 * wide), size * (0.7 + 0.7 * far),
                          f"{stems}"))
        x0, y0, heading, radius, reach, name = queue.pop(0)
        rng = ground.rng(f"arborizing {name}")  # its own, so that no branch changes another
        step = reach / PATH_POINTS
        bends = np.cumsum(rng.standard_normal(PATH_POINTS) * 0.17)
        bends += 0.35 * np.sin(np.linspace(0, 2 * math.pi * (0.6 + rng.random()), PATH_POINTS) + 6.28 * rng.random())
        x = x0 + np.cumsum(np.cos(heading + bends)) * step
        y = y0 + np.cumsum(np.sin(heading + bends)) * step
        width = radius * np.linspace(1.0, 0.45, PATH_POINTS)
        paths.append((x, y, width))
        length += reach
        if len(name.split(".")) <= 4 and radius > thinnest:
            for child, at in enumerate((0.3 + 0.2 * rng.random(), 0.6 + 0.2 * rng.random(), 0.95)):
                k = int(at * (PATH_POINTS - 1))
                turn = (0.5 + 0.5 * rng.random()) * (1 if rng.random() < 0.5 else -1)
                queue.append((float(x[k]), float(y[k]), heading + float(bends[k]) + turn,
                              float(width[k]) * 0.68, reach * (0.4 + 0.25 * rng.random()), f"{name}.{child}"))
    xs, ys, rs = (np.array([p[i] for p in paths], np.float32) for i in range(3))
    visible = smoothstep((np.float32(1.12 * ground.time) - ground.look(ground.arrival, xs, ys, 9.0)) * 6)
    thickness = strokes(ground, xs, ys, np.maximum(rs, np.float32(0.007)) * visible)
    layers.bleed(np.float32(VESSEL_FRACTION) * np.minimum(thickness, np.float32(FLAT_UM)), np.float32(0))
    layers.mark("arborizing_vessels", thickness > 14)


def dotted_vessels(ground: Ground, layers: Layers) -> None:
    """Loops of capillaries that stand on end in the papillae: short columns of blood."""
    s = ground.record.structures
    if s.dotted_vessels_density_per_mm2 == 0:
        return
    x, y, draws = ground.scatter_inside("dotted vessels", 2.2 * s.dotted_vessels_density_per_mm2, 3)
    clump = ground.look(smoothstep(np.float32(0.5) + np.float32(0.9) * ground.noise("vessel clumps", 0.8)), x, y, 0.0)
    even = 1 / 2.2
    keep = draws[:, 0] < (1 - s.dotted_vessels_clump) * even + s.dotted_vessels_clump * np.minimum(2 * even * clump, 1)
    radius = (0.5e-3 * s.dotted_vessels_diameter_um * (0.7 + 0.6 * draws[:, 1])).astype(np.float32)
    thickness = balls(ground, x[keep], y[keep], radius[keep])
    tall = np.minimum(np.float32(1.6) * thickness, np.float32(FLAT_UM))
    layers.bleed(np.float32(VESSEL_FRACTION) * tall, np.float32(-15))  # the loops stand up into the ridges
    layers.mark("dotted_vessels", thickness > 0.3 * s.dotted_vessels_diameter_um)


def curved_vessels(ground: Ground, layers: Layers) -> None:
    """Commas of dermal nevi, hairpins of keratinising tumours: short arcs, thicker at one end."""
    s = ground.record.structures
    if s.curved_vessels_density_per_mm2 == 0:
        return
    x, y, draws = ground.scatter_inside("curved vessels", s.curved_vessels_density_per_mm2, 4)
    t = np.linspace(0, 1, 12, dtype=np.float32)
    turn = 2 * math.pi * draws[:, 0:1] + (1.5 + 1.8 * draws[:, 1:2]) * (t - 0.5)
    size = (0.18 + 0.25 * draws[:, 2:3]) / 12
    px = x[:, None] + np.cumsum(np.cos(turn), axis=1) * size
    py = y[:, None] + np.cumsum(np.sin(turn), axis=1) * size
    radius = 0.5e-3 * s.curved_vessels_width_um * (0.7 + 0.6 * draws[:, 3:4]) * (1.25 - 0.7 * t)
    thickness = strokes(ground, px.astype(np.float32), py.astype(np.float32), radius.astype(np.float32))
    layers.bleed(np.float32(VESSEL_FRACTION) * thickness, np.float32(0))
    layers.mark("curved_vessels", thickness > 14)


def red_lacunae(ground: Ground, layers: Layers) -> None:
    """Dilated vessels side by side: sharply outlined pools of blood; a thrombosed one is black."""
    s = ground.record.structures
    if s.red_lacunae_density_per_mm2 == 0:
        return
    # sites on a jittered hexagonal lattice; as many of them are filled as the density asks for
    size = 1e-3 * s.red_lacunae_diameter_um
    step = 0.93 * size
    half = ground.radius_mm * 1.6 * math.sqrt(ground.record.lesion.elongation)
    count = int(half / step) + 1
    i, j = np.meshgrid(np.arange(-count, count + 1), np.arange(-count, count + 1))
    draws = ground.rng("lacunae").random((i.size, 5), dtype=np.float32)
    along = i.ravel() + 0.5 * (j.ravel() & 1) + 0.5 * (draws[:, 0] - 0.5)
    x = (ground.record.lesion.centre_x_mm + step * along).astype(np.float32)
    across = j.ravel() + 0.5 * (draws[:, 1] - 0.5)
    y = (ground.record.lesion.centre_y_mm + 0.87 * step * across).astype(np.float32)
    filled = draws[:, 2] < s.red_lacunae_density_per_mm2 * 0.87 * step**2
    filled &= ground.look(ground.arrival, x, y, 9.0) < 0.97 * ground.time
    radius = (0.5 * size * (0.6 + 0.6 * draws[:, 3])).astype(np.float32)
    # neighbours press on each other: no pool is round
    pressed_by = np.exp(np.float32(0.3) * ground.noise.octaves("lacuna outline", (0.8 * size, 0.35 * size), (1.0, 0.6)))
    thickness = balls(ground, x[filled], y[filled], radius[filled]) * pressed_by
    black = filled & (draws[:, 4] < s.red_lacunae_thrombosis)
    pool = np.float32(0.75 * POOL_FLATNESS) * np.minimum(thickness, np.float32(700))
    depth = np.float32(s.red_lacunae_depth_um)
    edge = smoothstep(thickness / np.float32(260 * size))
    layers.bleed(np.float32(VESSEL_FRACTION) * pool, depth)
    pressed = np.float32(max(0.0, PRESSED_UM - 0.8 * float(depth)))  # the epidermis over a pool is thin
    layers.get("thickening_um")[:] -= pressed * edge
    if s.red_lacunae_thrombosis > 0:
        clot = balls(ground, x[black], y[black], radius[black])
        layers.deposit(np.float32(14.0) * smoothstep(clot / np.float32(400 * size)), depth + np.float32(10))
    layers.mark("red_lacunae", edge > 0.5)


def red_pseudonetwork(ground: Ground, layers: Layers) -> None:
    """Redness between pale, keratin-filled follicular openings: the strawberry of a facial actinic keratosis."""
    strength = ground.record.structures.red_pseudonetwork_strength
    if strength == 0:
        return
    x, y, draws = follicle_sites(ground.record, ground.grid_half_mm)
    radius = (0.10 + 0.08 * draws[:, 0]).astype(np.float32)
    inside = ground.look(ground.arrival, x, y, 9.0) < ground.time
    hole = np.minimum(balls(ground, x[inside], y[inside], radius[inside]) / np.float32(90), 1)
    mottle = np.exp(np.float32(0.5) * ground.noise.octaves("strawberry", (0.5, 0.2), (1.0, 0.8)))
    red = np.float32(2.2 * strength) * ground.presence * (1 - hole) * mottle
    layers.blood_factor += red
    # what shows the openings is the blood of the papillae, right under the epidermis
    layers.bleed(np.float32(3.5 * strength) * ground.presence * (1 - hole) * mottle, np.float32(0))
    plug = smoothstep((hole - np.float32(0.55)) * 3) * ground.presence
    plug *= smoothstep(np.float32(0.6) + np.float32(0.5) * ground.noise("plugs", 0.6))  # many openings are empty
    layers.get("keratin_um")[:] += np.float32(40 * strength) * plug
    scale = layers.get("keratin_scale")
    np.maximum(scale, 1 + np.float32(5.0 * strength) * plug, out=scale)
    layers.get("corneal_um")[:] += np.float32(0.25 * strength) * plug
    layers.mark("red_pseudonetwork", (ground.presence > 0.3) & (hole < 0.5))


def ulceration(ground: Ground, layers: Layers) -> None:
    """The epidermis is gone: a film of serum and blood dries on the dermis."""
    s = ground.record.structures
    if s.ulceration_strength == 0:
        return
    where = patch(ground, "ulcer", s.ulceration_share, 0.6 * ground.radius_mm,
                  lambda place: -np.float32(0.7) * place.arrival**2, softness=0.22)
    amount = np.float32(s.ulceration_strength) * where
    crust: F32 = smoothstep(np.float32(0.45) + np.float32(0.7) * ground.noise.octaves("crust", (0.5, 0.18), (1.0, 0.7)))
    layers.keep(1 - np.float32(0.95) * amount)
    layers.get("skin_melanin")[:] *= 1 - amount
    layers.get("thickening_um")[:] -= np.float32(70) * amount
    # serum dries to a yellow film that scatters, blood to brown clots: methaemoglobin is given as melanin's absorption
    layers.get("crust_um")[:] += amount * (np.float32(13) + np.float32(28) * crust)
    layers.get("corneal_um")[:] += amount * (np.float32(2) + np.float32(12) * crust**2)
    layers.get("keratin_um")[:] += np.float32(20) * amount * (1 - np.float32(0.6) * crust)
    scattering = layers.get("keratin_scale")
    np.maximum(scattering, 1 + np.float32(3) * amount, out=scattering)
    layers.blood_factor *= 1 + np.float32(0.6) * amount
    layers.mark("ulceration", where > 0.5)
