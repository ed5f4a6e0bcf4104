"""Structures made of keratin and of a thick epidermis: milia-like cysts, comedo-like openings, fissures, scale.

Definitions: Braun et al. 2002 (Arch Dermatol 138:1556) and Kopf et al. 2006 for seborrhoeic keratosis; Zalaudek et al.
2012 (Br J Dermatol 166:763) for scale. Keratin scatters 3-12 times as much as the living epidermis and its oxidised top
is as dark as melanin; doses are by design.

Keratin of cysts and of plugs that have not oxidised keeps most of the polarisation: it shows without polarisers and
hardly between crossed ones. A dark top absorbs in both.
"""

from __future__ import annotations

import numpy as np

from synthskin.physics.lesion.layers import Layers
from synthskin.physics.lesion.shapes import Ground, balls, patch
from synthskin.physics.mesh import line_profile, polygon_mesh
from synthskin.physics.noise import smoothstep

SCALE_UM = 40.0
SCALE_SCATTERING = 8.0
#: Cysts: horn that the light sees, its scattering, and the share of the polarisation that its shells keep. Between
#: crossed polarisers the horn sends back as much as it takes from the light below, so that it hardly shows on light
#: skin; chosen on renders of fst2 with 1,200 paths that were not denoised (`benchmarks/structures.py --paths`).
CYST_UM = 50.0
CYST_SCATTERING = 4.0
CYST_KEEPS = 0.74
#: Plugs: um of melanin that is as dark as an oxidised top (brown to black) and as pale keratin of the others, and the
#: share of the pigment below that each has pushed aside; chosen on renders of fst2 (`benchmarks/structures.py`).
PLUG_UM = 50.0
OXIDISED_SCATTERING = 4.4
PALE_SCATTERING = 3.6
OXIDISED_UM = 24.0
PALE_UM = 0.7
OXIDISED_LOSES = 0.6
PALE_LOSES = 0.1
HORN_SHARE = 0.3


def acanthosis(ground: Ground, layers: Layers) -> None:
    """A thicker epidermis with a thicker cornified layer, both uneven."""
    s = ground.record.structures
    if s.acanthosis_thickness_um == 0 and s.acanthosis_keratin_um == 0:
        return
    lumps = np.exp(np.float32(0.3) * ground.noise.octaves("acanthosis", (0.8, 0.3), (1.0, 0.6)))
    step = smoothstep(ground.presence * 2)
    if s.acanthosis_thickness_um > 0:
        layers.get("thickening_um")[:] += np.float32(s.acanthosis_thickness_um) * step * lumps
    if s.acanthosis_keratin_um > 0:
        layers.get("keratin_um")[:] += np.float32(s.acanthosis_keratin_um) * step * lumps
        scale = layers.get("keratin_scale")
        np.maximum(scale, 1 + np.float32(1.7) * step, out=scale)
        # keratinocytes carry their pigment up into the horn: without it a brown keratosis looks blue
        risen = np.float32(HORN_SHARE) * layers.epidermal_um * step
        layers.get("corneal_um")[:] += risen
        layers.epidermal_um -= risen


def fissures(ground: Ground, layers: Layers) -> None:
    """Clefts filled with pigmented keratin between ridges, as on a brain."""
    s = ground.record.structures
    if s.fissures_strength == 0:
        return
    noise = ground.noise
    spacing = 1e-3 * s.fissures_width_um
    x = noise.x_mm[None, :] + np.float32(0.55 * spacing) * noise("fissure x", 1.6 * spacing)
    y = noise.y_mm[:, None] + np.float32(0.55 * spacing) * noise("fissure y", 1.6 * spacing)
    mesh = polygon_mesh(ground.rng("fissures"), x.astype(np.float32), y.astype(np.float32), spacing)
    open_side = smoothstep((mesh.side - np.float32(0.32)) * 4)  # many are not closed: gyri run on
    line = line_profile(mesh.edge_mm, np.float32(0.13 * spacing), ground.column_mm) * open_side * ground.presence
    amount = np.float32(s.fissures_strength) * line
    layers.get("corneal_um")[:] += np.float32(2.4) * amount
    layers.epidermal_um *= 1 + np.float32(0.8) * amount - np.float32(0.25 * s.fissures_strength) * (1 - line)
    layers.get("keratin_um")[:] += np.float32(20) * amount
    layers.mark("fissures", amount > 0.35)


def milia_like_cysts(ground: Ground, layers: Layers) -> None:
    """Balls of keratin inside the epidermis, over its pigment: white without polarisers, faint between crossed ones."""
    s = ground.record.structures
    if s.milia_like_cyst_density_per_mm2 == 0:
        return
    x, y, draws = ground.scatter_inside("milia", s.milia_like_cyst_density_per_mm2, 2, 0.12)
    radius = (0.5e-3 * s.milia_like_cyst_diameter_um * np.exp(0.7 * (draws[:, 0] - 0.5))).astype(np.float32)
    thickness = balls(ground, x, y, radius)
    body = smoothstep(thickness / np.float32(0.55 * s.milia_like_cyst_diameter_um))
    keratin = layers.get("keratin_um")
    np.maximum(keratin, np.minimum(thickness, np.float32(CYST_UM)) * body, out=keratin)
    thick = layers.get("thickening_um")
    np.maximum(thick, np.minimum(thickness, np.float32(120)) * body, out=thick)
    scale = layers.get("keratin_scale")
    np.maximum(scale, 1 + np.float32(CYST_SCATTERING - 1) * body, out=scale)
    order = layers.get("birefringence")
    np.maximum(order, np.float32(CYST_KEEPS) * body, out=order)
    layers.mark("milia_like_cyst", body > 0.5)


def comedo_like_openings(ground: Ground, layers: Layers) -> None:
    """Dilated follicles plugged with keratin: pale, or with a top that has oxidised to brown or black."""
    s = ground.record.structures
    if s.comedo_like_opening_density_per_mm2 == 0:
        return
    x, y, draws = ground.scatter_inside("comedones", s.comedo_like_opening_density_per_mm2, 6, 0.1)
    radius = 0.5e-3 * s.comedo_like_opening_diameter_um * np.exp(0.8 * (draws[:, 0] - 0.5))
    # no opening is a disc: three balls have run together, the second as large as the first or less
    turn = 2 * np.pi * draws[:, 3:5]
    part = np.stack([np.full(len(x), 0.85), 0.45 + 0.4 * draws[:, 5], np.full(len(x), 0.55)])
    away = np.stack([np.zeros(len(x)), 0.5 * radius, 0.4 * radius])
    angle = np.stack([turn[:, 0], turn[:, 0], turn[:, 1]])
    mm = [(x + away * np.cos(angle)).astype(np.float32), (y + away * np.sin(angle)).astype(np.float32),
          (radius * part).astype(np.float32)]
    dark = draws[:, 1] < s.comedo_like_opening_oxidised
    age = np.exp(0.8 * (draws[:, 2] - 0.5)).astype(np.float32)  # of each top: brown to black
    ragged = np.exp(np.float32(0.4) * ground.noise("plug edge", 0.09))
    half_um = np.float32(0.5 * s.comedo_like_opening_diameter_um)
    body = smoothstep(balls(ground, mm[0].ravel(), mm[1].ravel(), mm[2].ravel()) * ragged / half_um)
    top_x, top_y, top_radius = (own[:, dark].ravel() for own in mm)
    thickness = balls(ground, top_x, top_y, top_radius)
    oxidised = smoothstep(thickness * ragged / half_um)
    aged = balls(ground, top_x, top_y, top_radius, np.tile(age[dark], 3))
    shade = aged / np.maximum(thickness, np.float32(1e-3))
    pale = np.maximum(body - oxidised, 0)
    layers.keep(1 - np.float32(OXIDISED_LOSES) * oxidised - np.float32(PALE_LOSES) * pale)
    layers.get("corneal_um")[:] += np.float32(OXIDISED_UM) * oxidised * shade + np.float32(PALE_UM) * pale
    layers.get("keratin_um")[:] += np.float32(PLUG_UM) * body
    scale = layers.get("keratin_scale")
    more = np.float32(OXIDISED_SCATTERING - 1) * oxidised + np.float32(PALE_SCATTERING - 1) * pale
    np.maximum(scale, 1 + more, out=scale)
    order = layers.get("birefringence")
    np.maximum(order, np.float32(CYST_KEEPS) * pale, out=order)
    layers.mark("comedo_like_opening", body > 0.5)


def scale(ground: Ground, layers: Layers) -> None:
    """Loose flakes of keratin: white to pale where they lift off."""
    s = ground.record.structures
    if s.scale_strength == 0:
        return
    where = patch(ground, "scale", s.scale_share, 0.6 * ground.radius_mm, softness=0.5)
    # thin nearly everywhere, thick where flakes lie on each other
    flake = smoothstep(np.float32(0.42) + np.float32(0.42) * ground.noise.octaves("flakes", (0.4, 0.16), (1.0, 0.9)))
    flake *= np.exp(np.float32(0.3) * ground.noise("flake thickness", 0.09))
    amount = np.float32(s.scale_strength) * where * flake
    layers.get("keratin_um")[:] += np.float32(SCALE_UM) * amount
    scattering = layers.get("keratin_scale")
    np.maximum(scattering, 1 + np.float32(SCALE_SCATTERING - 1) * np.minimum(amount * 2, 1), out=scattering)
    layers.get("corneal_um")[:] += np.float32(0.12) * amount
    layers.mark("scale", amount > 0.35 * s.scale_strength)
