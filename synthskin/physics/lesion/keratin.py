"""Structures made of keratin and of a thick epidermis: milia-like cysts, comedo-like openings, fissures, scale.

Definitions: Braun et al. 2002 (Arch Dermatol 138:1556) and Kopf et al. 2006 for seborrhoeic keratosis; Zalaudek et al.
2012 (Br J Dermatol 166:763) for scale. Keratin scatters 3-12 times as much as the living epidermis and its oxidised top
is as dark as melanin; doses are by design.
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
    """Dilated follicles plugged with keratin whose top has oxidised to brown or black."""
    s = ground.record.structures
    if s.comedo_like_opening_density_per_mm2 == 0:
        return
    x, y, draws = ground.scatter_inside("comedones", s.comedo_like_opening_density_per_mm2, 3, 0.1)
    radius = (0.5e-3 * s.comedo_like_opening_diameter_um * np.exp(0.8 * (draws[:, 0] - 0.5))).astype(np.float32)
    ragged = np.exp(np.float32(0.3) * ground.noise("plug edge", 0.12))
    thickness = balls(ground, x, y, radius) * ragged
    body = smoothstep(thickness / np.float32(0.5 * s.comedo_like_opening_diameter_um))
    shade = np.exp(np.float32(0.5) * ground.noise("plug shade", 0.3))
    layers.keep(1 - np.float32(0.6) * body)
    layers.get("corneal_um")[:] += np.float32(9.0) * body * shade
    layers.get("keratin_um")[:] += np.float32(50) * body
    scale = layers.get("keratin_scale")
    np.maximum(scale, 1 + np.float32(3.4) * body, out=scale)
    layers.mark("comedo_like_opening", body > 0.5)


def scale(ground: Ground, layers: Layers) -> None:
    """Loose flakes of keratin: white to yellow where they lift off."""
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
