"""Structures made of melanin above the dermis: dots, streaks, pseudopods, blotch, negative network, acral patterns.

Definitions: Argenziano et al. 2003 (J Am Acad Dermatol 48:679); Kittler et al. 2016 (74:1093). Doses are by design,
chosen so that each structure shows as pictured there.
"""

from __future__ import annotations

import math

import numpy as np

from synthskin.physics.lesion.layers import Layers
from synthskin.physics.lesion.shapes import Ground, balls, border, patch, side, strokes
from synthskin.physics.mesh import line_profile, polygon_mesh
from synthskin.physics.noise import F32, smoothstep
from synthskin.physics.relief import dermatoglyphs, follicle_sites

BLOTCH_UM = 20.0
DOT_FRACTION = 0.35  # melanosome fraction of a dot
STROKE_FRACTION = 0.26  # of streaks and pseudopods


def negative_network(ground: Ground, layers: Layers) -> None:
    """Pale lines of elongated ridges without pigment around brown, drawn-out islands (Pizzichetta 2013)."""
    strength = ground.record.structures.negative_network_strength
    if strength == 0:
        return
    spacing = 1.5e-3 * ground.record.lesion.network_spacing_um
    angle = float(ground.rng("negative network").random()) * math.pi
    noise = ground.noise
    x = noise.x_mm[None, :] + np.float32(0.35 * spacing) * noise("negative warp x", 2 * spacing)
    y = noise.y_mm[:, None] + np.float32(0.35 * spacing) * noise("negative warp y", 2 * spacing)
    u = (x * math.cos(angle) + y * math.sin(angle)) / np.float32(1.5)
    v = -x * math.sin(angle) + y * math.cos(angle)
    mesh = polygon_mesh(ground.rng("negative mesh"), u.astype(np.float32), v.astype(np.float32), spacing)
    line = line_profile(mesh.edge_mm, np.float32(0.17 * spacing), ground.column_mm)
    region = patch(ground, "negative network region", 0.65, 0.9 * ground.radius_mm, softness=0.6)
    # lines come and go: a few wide ones beside many that are hardly there
    drawn = smoothstep(np.float32(0.6) + np.float32(0.45) * noise.octaves("negative lines", (0.9, 0.3), (1.0, 0.8)))
    pale = np.float32(0.95 * strength) * np.minimum(line * np.float32(1.25), 1) * region * drawn
    layers.keep(1 - pale)
    layers.junctional_um *= 1 + np.float32(0.35 * strength) * region * (1 - line)
    layers.get("skin_melanin")[:] *= 1 - np.float32(0.5) * pale
    layers.mark("negative_network", region > 0.3)


def acral(ground: Ground, layers: Layers) -> None:
    """Pigment in the crests (melanoma) or in the furrows (nevus) of glabrous skin (Saida 2004)."""
    s = ground.record.structures
    spacing = ground.record.skin.dermatoglyph_spacing_mm
    if spacing == 0 or s.parallel_ridge_strength + s.parallel_furrow_strength == 0:
        return
    crest, furrow, pore = dermatoglyphs(ground.record, ground.noise)
    wide = np.float32(0.28) + np.float32(0.12) * ground.noise.octaves("crest width", (1.4, 0.4), (1.0, 0.7))
    for name, strength, band, gain in (
        ("parallel_ridge_pattern", s.parallel_ridge_strength, smoothstep((crest - wide) * np.float32(2.2)), 1.75),
        ("parallel_furrow_pattern", s.parallel_furrow_strength, furrow, 3.2),
    ):
        if strength > 0:
            # the pattern gives way to diffuse pigment here and there, and no two ridges hold the same
            local = np.float32(strength) * smoothstep(np.float32(1.15) + np.float32(0.45) * ground.noise(name, 1.3))
            uneven = np.exp(np.float32(0.25) * ground.noise.octaves(f"{name} dose", (0.7, 0.2), (1.0, 0.8)))
            share = 1 - local + local * np.float32(gain) * band * uneven
            layers.keep(share)
            layers.mark(name, (band > 0.5) & (ground.presence > 0.3) & (layers.junctional_um > 0.3))
    layers.keep(1 - np.float32(0.8) * pore)


def follicular_pigment(ground: Ground, layers: Layers) -> None:
    """Asymmetric grey-brown rings around follicles that grow into rhomboids (Schiffner 2000; lentigo maligna)."""
    strength = ground.record.structures.follicular_pigment_strength
    if strength == 0:
        return
    x, y, draws = follicle_sites(ground.record, ground.grid_half_mm)
    inside = ground.look(ground.arrival, x, y, 9.0) < ground.time * 1.02
    lines = 18
    ragged = ground.rng("follicle crescents").random((len(x), lines + 1), dtype=np.float32)[inside]
    x, y, draws = x[inside], y[inside], draws[inside]
    radius = 0.05 + 0.07 * draws[:, 0]
    angle = np.linspace(0, 1, lines, dtype=np.float32)[None, :]
    sweep = 2 * math.pi * (0.25 + 0.6 * draws[:, 2:3])
    turn = 2 * math.pi * draws[:, 3:4] + sweep * angle
    # a crescent: thick on one side, thinning out around the opening
    swell = np.abs(np.sin(np.float32(math.pi) * angle)) ** np.float32(0.7) * (0.6 + 0.8 * ragged[:, 1:])
    ring = radius[:, None] * (1.75 + 0.5 * ragged[:, 1:])
    grey = strokes(ground, (x[:, None] + ring * np.cos(turn)).astype(np.float32),
                   (y[:, None] + ring * np.sin(turn)).astype(np.float32),
                   ((0.04 + 0.05 * draws[:, 1:2]) * swell + 0.008).astype(np.float32),
                   np.broadcast_to(np.float32(0.3) + np.float32(0.9) * ragged[:, :1], turn.shape), 0.9)
    layers.junctional_um += np.float32(0.035 * strength) * grey
    layers.deposit(np.float32(0.014 * strength) * grey, np.float32(40))
    # rhomboids: thick lines of a mesh whose holes are follicles
    noise = ground.noise
    warp = 0.12
    mesh = polygon_mesh(ground.rng("rhomboids"), (noise.x_mm[None, :] + np.float32(warp) * noise("rhomb x", 0.5)),
                        (noise.y_mm[:, None] + np.float32(warp) * noise("rhomb y", 0.5)), 0.42)
    region = patch(ground, "rhomboid region", 0.25 + 0.4 * strength, 0.6 * ground.radius_mm, softness=0.5)
    line = line_profile(mesh.edge_mm, np.float32(0.05), ground.column_mm) * region
    layers.junctional_um += np.float32(5.0 * strength) * line
    layers.deposit(np.float32(1.2 * strength) * line, np.float32(40))
    layers.mark("follicular_pigment", (grey > 30) | (line > 0.4))


def dots(ground: Ground, layers: Layers) -> None:
    """Balls of melanin in the upper epidermis: small, round, nearly black."""
    s = ground.record.structures
    if s.dots_density_per_mm2 == 0:
        return
    x, y, draws = ground.scatter_inside("dots", s.dots_density_per_mm2, 3)
    clump = ground.look(smoothstep(np.float32(0.5) + np.float32(0.7) * ground.noise("dot clumps", 0.9)), x, y, 0.0)
    keep = draws[:, 0] < 0.25 + 0.95 * clump
    radius = 0.5e-3 * s.dots_diameter_um * (0.75 + 0.5 * draws[:, 1])
    thickness = balls(ground, x[keep], y[keep], radius[keep].astype(np.float32))
    layers.get("corneal_um")[:] += np.float32(DOT_FRACTION) * thickness
    layers.mark("dots", thickness > 0.25 * s.dots_diameter_um)


def _radial(ground: Ground, name: str, density: float, length: float, share: float) -> tuple[F32, ...]:
    """Base x, y, direction, length, width (k,) and draws (k, 3) of radial strokes along a stretch of the border."""
    rough = border(ground, np.linspace(0, 2 * math.pi, 8, endpoint=False, dtype=np.float32))
    count = max(3, round(density * rough.length_mm * share))
    rng = ground.rng(name)
    start = float(rng.random()) * 2 * math.pi
    draws = rng.random((count, 4), dtype=np.float32)
    angles = start + 2 * math.pi * share * (np.arange(count) + 0.8 * (draws[:, 0] - 0.5)) / count
    found = border(ground, angles.astype(np.float32))
    near = np.abs(ground.look(ground.arrival, found.x_mm, found.y_mm, 9.0) - ground.time) < 0.15
    turn = (draws[:, 1] - 0.5) * 0.7 * (1.3 - ground.record.lesion.regularity)
    ox = found.out_x * np.cos(turn) - found.out_y * np.sin(turn)
    oy = found.out_x * np.sin(turn) + found.out_y * np.cos(turn)
    spread = 0.25 + 0.9 * (1 - ground.record.lesion.regularity)
    reach = (length * np.exp(spread * (draws[:, 2] - 0.5))).astype(np.float32)
    shape = ground.rng(f"{name} shape").random((count, 3), dtype=np.float32)
    return found.x_mm[near], found.y_mm[near], ox[near], oy[near], reach[near], draws[near, 3], shape[near]


def _radial_strokes(ground: Ground, layers: Layers, name: str, density: float, length: float, share: float,
                    bulb: bool) -> None:
    x, y, ox, oy, reach, width, shape = _radial(ground, name, density, length, share)
    if len(x) == 0:
        return
    t = np.linspace(-0.55, 0.6, 12, dtype=np.float32)
    bend = (shape[:, :1] - 0.5) * 0.3 * (t + 0.55) ** 2 + 0.03 * np.sin(6 * (t + shape[:, 1:2]))
    px = x[:, None] + reach[:, None] * (t * ox[:, None] - bend * oy[:, None])
    py = y[:, None] + reach[:, None] * (t * oy[:, None] + bend * ox[:, None])
    # streaks stand on a broad foot and thin out, in width and in melanin; pseudopods end in a knob
    profile = np.interp(t, [-0.55, 0.0, 0.3, 0.44, 0.6], [1.5, 1.1, 0.75, 1.7, 1.2]) if bulb else np.interp(
        t, [-0.55, -0.1, 0.2, 0.6], [2.0, 1.5, 1.1, 0.5])
    radius = (0.022 + 0.024 * width)[:, None] * profile[None, :].astype(np.float32)
    dose = (0.4 + 0.7 * shape[:, 2:]) * (np.ones_like(t) if bulb else np.interp(t, [-0.1, 0.6], [1.0, 0.4]))
    thickness = strokes(ground, px.astype(np.float32), py.astype(np.float32), radius.astype(np.float32),
                        dose.astype(np.float32), 0.8)
    fade = smoothstep((ground.arrival - np.float32(0.35 * ground.time)) * 4)
    layers.junctional_um += np.float32(0.75 * STROKE_FRACTION) * thickness * fade
    layers.epidermal_um += np.float32(0.25 * STROKE_FRACTION) * thickness * fade
    layers.mark("pseudopods" if bulb else "streaks", thickness * fade > 18)


def streaks(ground: Ground, layers: Layers) -> None:
    """Radial lines at the border."""
    s = ground.record.structures
    if s.streaks_density_per_mm > 0:
        _radial_strokes(
            ground, layers, "streaks", s.streaks_density_per_mm, s.streaks_length_mm, s.streaks_share, False
        )


def pseudopods(ground: Ground, layers: Layers) -> None:
    """Radial fingers with a bulb at the end."""
    s = ground.record.structures
    if s.pseudopods_density_per_mm > 0:
        _radial_strokes(ground, layers, "pseudopods", s.pseudopods_density_per_mm, s.pseudopods_length_mm,
                        s.pseudopods_share, True)


def blotch(ground: Ground, layers: Layers) -> None:
    """A dark area that hides all else: heavy pigment through the epidermis and at the junction."""
    s = ground.record.structures
    if s.blotch_strength == 0:
        return

    def lean(place: Ground) -> F32:
        off = side(place, "blotch side", 1.5 * (1 - place.record.lesion.regularity))
        return off - np.float32(1.3) * (place.arrival / np.float32(place.time)) ** 2

    where = patch(ground, "blotch", s.blotch_share, 0.8 * ground.radius_mm, lean, softness=0.45)
    grain = np.float32(1) + np.float32(0.2) * ground.noise("blotch grain", 0.15)
    dose = np.float32(BLOTCH_UM * s.blotch_strength) * where * grain
    layers.junctional_um += np.float32(0.55) * dose
    layers.epidermal_um += np.float32(0.45) * dose
    layers.mark("blotch", where > 0.5)
