"""SampleRecord: every parameter of one picture, each with its unit, its bounds and its source.

A record is flat groups of numbers: `record.skin.melanosome_fraction`. Its keys are what `--set`, presets and
`params` in metadata.jsonl use: `skin.melanosome_fraction`. It is frozen; assignment raises. Values outside the
bounds raise `RecordError` (they are never clamped).
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from dataclasses import dataclass, field
from typing import Any, cast

from synthskin.conventions import DEVICE_PROFILES


class RecordError(ValueError):
    """A field is unknown, has the wrong type or lies outside its bounds. One line, meant for the user."""


def _number(low: float, high: float, default: float, doc: str, source: str) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "doc": doc, "source": source})


def _integer(low: int, high: int, default: int, doc: str, source: str) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "doc": doc, "source": source, "integer": True})


def _choice(options: tuple[str, ...], default: str, doc: str, source: str) -> Any:
    return field(default=default, metadata={"options": options, "doc": doc, "source": source})


@dataclass(frozen=True, slots=True)
class Skin:
    """Healthy skin around and under the lesion."""

    melanosome_fraction: float = _number(0.001, 0.60, 0.03, "mean volume fraction of melanosomes in the epidermis", "Jacques 1998 (OMLC): 0.013-0.43")
    basal_melanin_share: float = _number(0.0, 0.95, 0.6, "share of the melanin that sits in the basal layer, the rest through the living epidermis", "Thong 2003; Alaluf 2002")
    pheomelanin_share: float = _number(0.0, 1.0, 0.0, "share of the melanin's absorption at 550 nm that is pheomelanin's, in skin and lesion: 0.17 is a quarter of it by mass", "Donner & Jensen 2006; Del Bino 2015: a quarter by mass in skin of every tone")
    blood_fraction: float = _number(0.0005, 0.15, 0.005, "mean blood volume fraction of the dermis", "Jacques 2013: 0.002-0.07")
    oxygenation: float = _number(0.0, 1.0, 0.75, "oxygen saturation of the blood", "Jacques 2013")
    epidermis_thickness_um: float = _number(30.0, 200.0, 70.0, "mean thickness of the epidermis with its ridges", "Sandby-Moller 2003: 56-97 um")
    dermis_thickness_mm: float = _number(0.5, 4.0, 1.5, "depth of the dermis-hypodermis boundary under the epidermis", "Laurent 2007")
    scattering_scale: float = _number(0.3, 3.0, 1.0, "factor on the reduced scattering of the dermis", "Jacques 2013")
    epidermis_scattering: float = _number(0.1, 3.0, 0.5, "reduced scattering of the living epidermis over that of excised epidermis", "Salomatina 2006 in Jacques 2013 is 1; 0.5 fits measured forearms")
    scattering_power: float = _number(0.5, 2.5, 1.292, "exponent b of the dermis: mu_s' = a (lambda/500 nm)^-b", "Jacques 2013: 0.7-2.5")
    vessel_radius_um: float = _number(0.0, 60.0, 8.0, "mean vessel radius for the packing (sieve) correction of blood absorption; 0 = dilute blood", "van Veen 2002")
    rete_ridge_depth_um: float = _number(0.0, 150.0, 40.0, "how much deeper ridges reach than the roof of the papillae", "Timar 2000")
    rete_spacing_um: float = _number(80.0, 500.0, 200.0, "mean distance between neighbouring ridges", "Argenziano 2003: network mesh")
    blood_mottle: float = _number(0.0, 1.0, 0.3, "relative lateral variation of the blood fraction", "synthskin, by design")
    melanin_mottle: float = _number(0.0, 1.0, 0.15, "relative lateral variation of the epidermal melanin", "synthskin, by design")
    plexus_vessel_density: float = _number(0.0, 10.0, 1.0, "visible superficial vessels, mm of length per mm^2", "synthskin, by design")
    furrow_spacing_mm: float = _number(0.1, 2.0, 0.5, "distance between primary furrows of the skin relief", "Hashimoto 1974")
    furrow_depth_um: float = _number(0.0, 150.0, 40.0, "depth of the primary furrows", "Hashimoto 1974: 20-100 um")
    dryness: float = _number(0.0, 1.0, 0.0, "loose horn that the immersion does not wet: fine white lines along the furrows, flakes", "synthskin, by design")
    follicle_density_per_cm2: float = _number(0.0, 400.0, 20.0, "follicular openings per cm^2", "Otberg 2004: 14-292")
    dermatoglyph_spacing_mm: float = _number(0.0, 1.5, 0.0, "distance between the parallel furrows of glabrous skin (palm, sole); 0 = hairy skin", "Saida 2004; Cummins 1943: 0.4-0.6 mm")


@dataclass(frozen=True, slots=True)
class Hair:
    """Terminal hair as curves on the skin, and vellus hair."""

    count: int = _integer(0, 400, 8, "terminal hairs in the picture", "synthskin, by design")
    length_mm: float = _number(0.5, 40.0, 9.0, "mean length", "Otberg 2004")
    thickness_um: float = _number(10.0, 150.0, 70.0, "mean diameter", "Otberg 2004; Franbourg 2003: 50-120 um")
    eumelanin: float = _number(0.0, 10.0, 1.3, "eumelanin concentration of the fibre (0.3 blond, 1.3 brown, 8 black)", "d'Eon 2011; Chiang 2016")
    pheomelanin: float = _number(0.0, 10.0, 0.2, "pheomelanin concentration of the fibre", "d'Eon 2011; Chiang 2016")
    curl: float = _number(0.0, 1.0, 0.2, "0 straight ... 1 tightly curled", "synthskin, by design")
    direction_deg: float = _number(0.0, 360.0, 0.0, "mean direction of growth in the picture plane, from +x towards +y", "synthskin, by design")
    direction_spread_deg: float = _number(0.0, 180.0, 25.0, "standard deviation of the directions", "synthskin, by design")
    vellus_count: int = _integer(0, 400, 0, "fine pale vellus hairs in the picture (not counted in `count`)", "Otberg 2004")


@dataclass(frozen=True, slots=True)
class Lesion:
    """A melanocytic growth; ignored where diagnosis is healthy."""

    diameter_mm: float = _number(0.5, 20.0, 5.0, "equivalent diameter at growth_time 1", "ISIC; Bauer 2004")
    centre_x_mm: float = _number(-10.0, 10.0, 0.0, "centre from the middle of the picture, to the right", "synthskin, by design")
    centre_y_mm: float = _number(-10.0, 10.0, 0.0, "centre from the middle of the picture, downwards", "synthskin, by design")
    elongation: float = _number(1.0, 3.0, 1.25, "long over short diameter", "Claridge 1992")
    orientation_deg: float = _number(0.0, 180.0, 0.0, "direction of the long axis", "synthskin, by design")
    regularity: float = _number(0.0, 1.0, 0.8, "1 round and even ... 0 lobed, notched and uneven", "synthskin, by design")
    growth_time: float = _number(0.05, 1.0, 1.0, "time axis of the growth; the same seed at later times contains the earlier lesion", "synthskin, by design")
    border_width_mm: float = _number(0.05, 2.0, 0.4, "distance over which pigment fades at the border", "synthskin, by design")
    epidermal_melanin: float = _number(0.0, 0.6, 0.05, "melanosome fraction added through the living epidermis", "Jacques 1998")
    junctional_melanin: float = _number(0.0, 0.9, 0.35, "melanosome fraction added in the basal layer of ridges", "synthskin, by design")
    dermal_melanin: float = _number(0.0, 0.5, 0.0, "melanosome fraction added in nests of the upper dermis", "synthskin, by design")
    dermal_depth_um: float = _number(30.0, 600.0, 120.0, "mean depth of the dermal nests below the junction", "synthskin, by design")
    network_strength: float = _number(0.0, 1.0, 0.8, "share of the junctional melanin that is bound to the ridges", "Argenziano 2003")
    network_spacing_um: float = _number(100.0, 500.0, 200.0, "mesh of the pigment network", "Argenziano 2003")
    heterogeneity: float = _number(0.0, 1.0, 0.3, "relative lateral variation of the lesion's melanin", "synthskin, by design")
    globule_density_per_mm2: float = _number(0.0, 30.0, 2.0, "nests (globules) per mm^2 of lesion", "Argenziano 2003")
    globule_diameter_um: float = _number(40.0, 400.0, 130.0, "mean diameter of a globule", "Argenziano 2003")
    blood_factor: float = _number(0.5, 5.0, 1.3, "blood fraction under the lesion over that of the skin", "synthskin, by design")
    erythema: float = _number(0.0, 3.0, 0.0, "excess of blood in the skin under and around it, over that of the skin; no part of the mask", "synthskin, by design")


@dataclass(frozen=True, slots=True)
class Structures:
    """Dermoscopic structures of the lesion. The first number of each is 0 where it is absent; all are absent by default.

    The numbers of the pigment network and of globules that are not here stand in `Lesion`.
    """

    pigment_network_atypia: float = _number(0.0, 1.0, 0.0, "uneven width, mesh and darkness of the network's lines; from 0.5 the network counts as atypical", "Argenziano 2003")
    globules_rim: float = _number(0.0, 1.0, 0.0, "share of the globules that stand in a ring at the border", "Kittler 2000: growing nevi")
    negative_network_strength: float = _number(0.0, 1.0, 0.0, "pale lines between elongated pigmented islands", "Pizzichetta 2013")
    parallel_ridge_strength: float = _number(0.0, 1.0, 0.0, "melanin in the crests of glabrous skin, of the lesion's junctional melanin", "Saida 2004")
    parallel_furrow_strength: float = _number(0.0, 1.0, 0.0, "melanin in the furrows of glabrous skin, of the lesion's junctional melanin", "Saida 2004")
    follicular_pigment_strength: float = _number(0.0, 1.0, 0.0, "grey-brown rings and rhomboids around follicles", "Schiffner 2000")
    dots_density_per_mm2: float = _number(0.0, 30.0, 0.0, "small round clumps of melanin high in the epidermis", "Argenziano 2003")
    dots_diameter_um: float = _number(20.0, 120.0, 70.0, "mean diameter of a dot", "Argenziano 2003: under 0.1 mm")
    streaks_density_per_mm: float = _number(0.0, 5.0, 0.0, "radial lines at the border per mm of it", "Argenziano 2003")
    streaks_length_mm: float = _number(0.1, 2.0, 0.6, "mean length of a streak", "Argenziano 2003; length by design")
    streaks_share: float = _number(0.05, 1.0, 1.0, "share of the border that has them", "Argenziano 2003")
    pseudopods_density_per_mm: float = _number(0.0, 4.0, 0.0, "finger-like ends with a bulb at the border per mm of it", "Argenziano 2003")
    pseudopods_length_mm: float = _number(0.1, 2.0, 0.5, "mean length of a pseudopod", "Argenziano 2003; length by design")
    pseudopods_share: float = _number(0.05, 1.0, 0.5, "share of the border that has them", "Argenziano 2003")
    blotch_strength: float = _number(0.0, 1.0, 0.0, "dark brown to black area without structure: 1 adds 20 um of melanin", "Argenziano 2003")
    blotch_share: float = _number(0.02, 0.9, 0.25, "share of the lesion's area", "Argenziano 2003")
    blue_white_veil_strength: float = _number(0.0, 1.0, 0.0, "melanin sheet under a thick pale epidermis: 1 is a column of 12 um", "Argenziano 2003; Massi 2001")
    blue_white_veil_share: float = _number(0.02, 0.95, 0.3, "share of the lesion's area", "Argenziano 2003")
    blue_white_veil_depth_um: float = _number(20.0, 300.0, 90.0, "depth of the sheet below the junction", "Massi 2001; depth by design")
    regression_strength: float = _number(0.0, 1.0, 0.0, "scar: share of the pigment that is lost, with fibrosis of the upper dermis", "Zalaudek 2004")
    regression_share: float = _number(0.02, 0.95, 0.3, "share of the lesion's area", "Zalaudek 2004: 10-50 % and over")
    peppering_density_per_mm2: float = _number(0.0, 60.0, 0.0, "grey specks of melanin in macrophages of the upper dermis", "Zalaudek 2004; density by design")
    milia_like_cyst_density_per_mm2: float = _number(0.0, 4.0, 0.0, "intraepidermal keratin balls", "Braun 2002")
    milia_like_cyst_diameter_um: float = _number(80.0, 600.0, 220.0, "mean diameter", "Braun 2002: 0.1-1 mm")
    comedo_like_opening_density_per_mm2: float = _number(0.0, 4.0, 0.0, "keratin plugs in dilated follicles", "Braun 2002")
    comedo_like_opening_diameter_um: float = _number(100.0, 900.0, 280.0, "mean diameter", "Braun 2002: up to 1 mm")
    comedo_like_opening_oxidised: float = _number(0.0, 1.0, 0.7, "share of the plugs whose top is brown to black; the others are pale and show without polarisers alone", "Braun 2002: yellow-brown or brown-black; share by design")
    fissures_strength: float = _number(0.0, 1.0, 0.0, "brain-like ridges and pigmented fissures", "Braun 2002")
    fissures_width_um: float = _number(100.0, 900.0, 380.0, "distance from fissure to fissure", "Kopf 2006; by design")
    scale_strength: float = _number(0.0, 1.0, 0.0, "loose keratin on the surface: 1 is 40 um that scatter 4 times as much", "Zalaudek 2012")
    scale_share: float = _number(0.02, 1.0, 0.4, "share of the lesion's area", "Zalaudek 2012; by design")
    ulceration_strength: float = _number(0.0, 1.0, 0.0, "loss of the epidermis, with blood at the surface", "Menzies 2000")
    ulceration_share: float = _number(0.01, 0.8, 0.12, "share of the lesion's area", "Menzies 2000; by design")
    central_white_patch_strength: float = _number(0.0, 1.0, 0.0, "scar-like centre: fibrosis and loss of pigment", "Zaballos 2008")
    central_white_patch_share: float = _number(0.02, 0.8, 0.25, "share of the lesion's area", "Zaballos 2008")
    shiny_white_streaks_density_per_mm2: float = _number(0.0, 6.0, 0.0, "short straight bundles of collagen that depolarise at once", "Marghoob 2009; Liebman 2012")
    shiny_white_streaks_length_mm: float = _number(0.1, 3.0, 0.7, "mean length", "Liebman 2012; length by design")
    leaf_like_area_count: int = _integer(0, 12, 0, "brown to grey-blue bulbous extensions at the border", "Menzies 2000")
    leaf_like_area_length_mm: float = _number(0.2, 3.0, 1.0, "mean length", "Menzies 2000; length by design")
    blue_grey_ovoid_nest_count: int = _integer(0, 20, 0, "large dermal nests of pigmented basaloid cells", "Menzies 2000")
    blue_grey_ovoid_nest_diameter_mm: float = _number(0.15, 3.0, 0.7, "mean diameter", "Menzies 2000; size by design")
    arborizing_vessels_density_per_mm: float = _number(0.0, 4.0, 0.0, "mm of branching vessels per mm^2 of lesion", "Menzies 2000; Argenziano 2004")
    arborizing_vessels_width_um: float = _number(40.0, 300.0, 110.0, "diameter of a stem", "Argenziano 2004: stems 0.2 mm, ends 0.01 mm")
    dotted_vessels_density_per_mm2: float = _number(0.0, 20.0, 0.0, "capillary tips seen end on", "Argenziano 2004")
    dotted_vessels_diameter_um: float = _number(20.0, 150.0, 50.0, "mean diameter", "Argenziano 2004: 0.01-0.02 mm; glomerular 0.05-0.15 mm")
    dotted_vessels_clump: float = _number(0.0, 1.0, 0.2, "0 evenly spread ... 1 in clusters", "Zalaudek 2004")
    curved_vessels_density_per_mm2: float = _number(0.0, 10.0, 0.0, "comma- and hairpin-shaped vessels", "Argenziano 2004")
    curved_vessels_width_um: float = _number(20.0, 150.0, 45.0, "mean width", "Argenziano 2004: 0.03-0.05 mm")
    red_lacunae_density_per_mm2: float = _number(0.0, 20.0, 0.0, "dilated vessels full of blood, as closely as they fit", "Wolf 1998; Zaballos 2007")
    red_lacunae_diameter_um: float = _number(100.0, 1500.0, 450.0, "mean diameter", "Wolf 1998; Zaballos 2007")
    red_lacunae_depth_um: float = _number(0.0, 400.0, 20.0, "depth of their roof under the junction", "Zaballos 2007; by design")
    red_lacunae_thrombosis: float = _number(0.0, 1.0, 0.0, "share that is thrombosed and black", "Zaballos 2007: dark lacunae of angiokeratoma")
    red_pseudonetwork_strength: float = _number(0.0, 1.0, 0.0, "redness between pale follicular openings (strawberry)", "Zalaudek 2006")
    acanthosis_thickness_um: float = _number(0.0, 160.0, 0.0, "how much thicker the epidermis is in the lesion", "Ackerman 2002; by design")
    acanthosis_keratin_um: float = _number(0.0, 120.0, 0.0, "stratum corneum in the lesion beyond the skin's", "Ackerman 2002; by design")


@dataclass(frozen=True, slots=True)
class Camera:
    """Contact dermoscope: orthographic, ring light, glass plate on gel; or a photograph of bare skin (`clinical`)."""

    view: str = _choice(("dermoscopic", "clinical", "region"), "dermoscopic", "through a contact dermoscope, a photograph of bare skin, or one of a region with many lesions", "ISIC vocabulary")
    dermoscopic_type: str = _choice(("contact polarized", "contact non-polarized"), "contact polarized", "polarisation of light and camera", "ISIC vocabulary")
    field_of_view_mm: float = _number(2.0, 120.0, 12.0, "width and height of the picture on the skin", "dermatoscopes: 10-20 mm; a region 70-90 mm")
    plate_thickness_mm: float = _number(0.0, 5.0, 1.0, "glass plate; internal reflections come back displaced by 2 t tan(theta)", "synthskin, by design")
    ring_elevation_deg: float = _number(20.0, 85.0, 50.0, "elevation of the ring light over the skin", "synthskin, by design")
    light_falloff: float = _number(0.0, 1.0, 0.1, "relative loss of illumination from the centre to the corner", "synthskin, by design")
    vignette: float = _number(0.0, 1.0, 0.1, "relative loss of the lens from the centre to the corner", "cos^4 law")
    glare: float = _number(0.0, 0.1, 0.01, "share of the light returned by gel and glass when not polarised", "Fresnel, n 1.40 / 1.50")


@dataclass(frozen=True, slots=True)
class Artefacts:
    """What lies between the lesion and a clean picture. Each is absent (0) by default; see docs/artefacts.md."""

    ruler: int = _integer(0, 1, 0, "a scale on the plate: 0 absent, 1 present", "synthskin, by design")
    ruler_style: str = _choice(("scale", "ticks", "paper"), "scale", "etched scale with digits, bars at the rim, or a paper strip", "ISIC archive: the three kinds seen")
    ruler_angle_deg: float = _number(0.0, 360.0, 0.0, "direction from the middle of the picture to the ruler", "synthskin, by design")
    ruler_offset: float = _number(0.2, 1.2, 0.75, "distance of the ruler from the middle over half the field of view", "synthskin, by design")
    ink: int = _integer(0, 1, 0, "surgical marker on the skin: 0 absent, 1 present", "synthskin, by design")
    ink_colour: str = _choice(("gentian violet", "methylene blue", "black"), "gentian violet", "dye of the marker", "surgical skin markers are mostly gentian violet")
    ink_pattern: str = _choice(("dots", "line", "ring", "stamp"), "dots", "what was drawn beside or around the lesion", "synthskin, by design")
    ink_density: float = _number(0.05, 3.0, 0.6, "decadic absorbance of the ink film at its peak, one pass", "synthskin, by design")
    gel_bubble: int = _integer(0, 1, 0, "air bubbles in the contact gel: 0 absent, 1 present", "synthskin, by design")
    gel_bubble_count: int = _integer(1, 80, 8, "bubbles over the picture", "synthskin, by design")
    gel_bubble_diameter_mm: float = _number(0.05, 5.0, 0.6, "median diameter of a bubble", "synthskin, by design")
    dark_corner: int = _integer(0, 1, 0, "black surround of the dermatoscope's aperture: 0 absent (full frame), 1 present", "synthskin, by design")
    dark_corner_radius: float = _number(0.4, 1.45, 1.1, "radius of the view over half the width; under 1 a whole circle, over 1 corners only", "synthskin, by design")
    dark_corner_edge: float = _number(0.002, 0.4, 0.04, "width of the aperture's fade over half the width", "synthskin, by design")
    colour_patch: int = _integer(0, 1, 0, "a coloured sticker beside the lesion: 0 absent, 1 present", "synthskin, by design")
    colour_patch_hue: str = _choice(("blue", "green", "yellow", "orange", "pink", "white"), "blue", "colour of the sticker", "Rieger 2020: patches of ISIC's SONIC pictures")
    colour_patch_diameter_mm: float = _number(1.0, 30.0, 8.0, "diameter of the sticker", "synthskin, by design")
    colour_patch_angle_deg: float = _number(0.0, 360.0, 45.0, "direction from the middle of the picture to the sticker", "synthskin, by design")
    glare: int = _integer(0, 1, 0, "reflected lamps and windows: 0 absent, 1 present", "synthskin, by design")
    glare_strength: float = _number(0.02, 3.0, 0.4, "radiance of the reflection over that of the white tile", "synthskin, by design")
    blur: int = _integer(0, 1, 0, "lens out of focus: 0 absent, 1 present", "synthskin, by design")
    blur_um: float = _number(5.0, 600.0, 80.0, "standard deviation of the blur on the skin, in the middle", "synthskin, by design")
    blur_tilt: float = _number(0.0, 1.5, 0.3, "relative change of the blur from the middle to the edge, for a tilted plate", "synthskin, by design")
    thick_hair: int = _integer(0, 1, 0, "coarse hairs over those of `hair.count`: 0 absent, 1 present", "synthskin, by design")
    thick_hair_count: int = _integer(1, 80, 14, "coarse hairs, 90-150 um", "Franbourg 2003: up to 120 um; beard hair thicker")
    thin_hair: int = _integer(0, 1, 0, "fine dark hairs over those of `hair.count`: 0 absent, 1 present", "synthskin, by design")
    thin_hair_count: int = _integer(1, 200, 40, "fine pigmented hairs, 20-45 um", "Otberg 2004: 17-55 um on the body")


@dataclass(frozen=True, slots=True)
class Device:
    """Camera and its processing, after the light: colourimetric by default; see docs/cameras.md."""

    profile: str = _choice(DEVICE_PROFILES, "colourimetric", "named device profile", "synthskin/physics/devices")
    exposure_ev: float = _number(-2.0, 2.0, 0.0, "exposure over that of the white tile, in stops", "synthskin, by design")
    white_balance_mired: float = _number(-110.0, 150.0, 0.0, "shift of the light's reciprocal colour temperature that was not balanced; positive is warmer", "CIE 15: daylight locus")
    tint: float = _number(-0.3, 0.3, 0.0, "magenta (positive) or green (negative) cast, in log2 of the green gain", "synthskin, by design")
    auto_white_balance: float = _number(-1.0, 1.25, 0.0, "share of light skin's colour that the camera takes for the light's and removes; negative: it adds to it", "grey world: Buchsbaum 1980")
    noise_scale: float = _number(0.0, 8.0, 1.0, "factor on the profile's sensor noise", "synthskin, by design")


@dataclass(frozen=True, slots=True)
class Clinical:
    """Light and camera of a photograph without contact; of no effect where camera.view is dermoscopic."""

    light: str = _choice(("window", "ceiling", "flash", "environment"), "window", "what lights the skin; environment is the panorama of --environment", "synthskin, by design")
    light_azimuth_deg: float = _number(0.0, 360.0, 225.0, "direction of the light in the picture, from +x towards +y (270 is above); turns a panorama", "synthskin, by design")
    light_elevation_deg: float = _number(5.0, 88.0, 45.0, "elevation of the light over the skin", "synthskin, by design")
    fill: float = _number(0.02, 0.98, 0.35, "share of the light that comes back from the walls", "synthskin, by design")
    distance_mm: float = _number(40.0, 2000.0, 250.0, "from the lens to the skin", "synthskin, by design")
    tilt_deg: float = _number(0.0, 60.0, 8.0, "angle between the line of sight and the skin's normal", "synthskin, by design")
    tilt_azimuth_deg: float = _number(0.0, 360.0, 90.0, "direction in which the camera stands off the normal", "synthskin, by design")
    aperture_mm: float = _number(0.1, 30.0, 2.5, "diameter of the lens's pupil: phone 2, reflex camera 5-20", "synthskin, by design")
    focus_mm: float = _number(-60.0, 60.0, 0.0, "how far behind the skin the lens is focused", "synthskin, by design")
    relief: float = _number(0.0, 3.0, 1.0, "factor on the height of furrows and cells: no plate flattens them", "synthskin, by design")
    curvature_mm: float = _number(20.0, 5000.0, 120.0, "radius of the body part: finger 8-10, arm 40, trunk over 120", "synthskin, by design")
    roughness: float = _number(0.1, 0.8, 0.35, "GGX alpha of the skin's surface below the relief", "Weyrich 2006: 0.2-0.4")
    shine: float = _number(0.0, 3.0, 1.0, "factor on the surface's reflection: dry under 1, sebum over 1", "Weyrich 2006: oiliness 0.1-0.4")


@dataclass(frozen=True, slots=True)
class Region:
    """The other lesions of a region of skin; of no effect unless camera.view is region. `lesion` is the ugly duckling."""

    lesion_count: int = _integer(2, 40, 14, "lesions in the region, the ugly duckling among them", "Grob 1998; Bauer 2004: 15-50 nevi on a person")
    nevus_diameter_mm: float = _number(0.8, 6.0, 2.4, "median diameter of the common nevi", "Bauer 2004: mostly 2-5 mm")
    nevus_melanin: float = _number(0.05, 0.8, 0.3, "junctional melanin of the common nevi", "synthskin, by design")
    similarity: float = _number(0.0, 1.0, 0.75, "0 every nevus its own ... 1 all of the person's signature", "Grob 1998: a person's nevi resemble each other")


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """One picture: identity and groups of parameters. (preset, seed, index) decide all of it.

    `variant` names the form of the diagnosis whose laws were drawn from; it is "" where there is none.
    """

    preset: str
    set_hash: str
    seed: int
    index: int
    diagnosis: str
    skin: Skin
    hair: Hair
    lesion: Lesion
    camera: Camera
    artefacts: Artefacts = field(default_factory=Artefacts)
    device: Device = field(default_factory=Device)
    clinical: Clinical = field(default_factory=Clinical)
    region: Region = field(default_factory=Region)
    structures: Structures = field(default_factory=Structures)
    variant: str = ""

    def __post_init__(self) -> None:
        for group in GROUPS:
            values = getattr(self, group)
            for spec in dataclasses.fields(values):
                check_value(f"{group}.{spec.name}", getattr(values, spec.name))

    def to_dict(self) -> dict[str, Any]:
        """Nested plain dict, ready for JSON."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> SampleRecord:
        """Inverse of `to_dict`; raises RecordError on unknown or missing keys."""
        data = dict(data)
        for name, cls in GROUPS.items():
            if name in ("artefacts", "device", "clinical", "region", "structures") and name not in data:
                continue  # rows written before these groups: none of it was there
            known = {f.name for f in dataclasses.fields(cls)}
            unknown = set(data[name]) - known
            if unknown:
                raise RecordError(f"unknown field '{name}.{sorted(unknown)[0]}'")
            data[name] = cls(**data[name])
        return SampleRecord(**data)


GROUPS: dict[str, type] = {
    "skin": Skin, "hair": Hair, "lesion": Lesion, "camera": Camera, "artefacts": Artefacts, "device": Device,
    "clinical": Clinical, "region": Region,
    "structures": Structures,
}


def field_specs() -> dict[str, dict[str, Any]]:
    """All settable keys with their metadata: {'skin.blood_fraction': {'low':, 'high':, 'default':, 'doc':, 'source':}}."""
    return {
        f"{group}.{f.name}": {**f.metadata, "default": f.default}
        for group, cls in GROUPS.items()
        for f in dataclasses.fields(cast(Any, cls))
    }


@functools.cache
def _specs() -> dict[str, dict[str, Any]]:
    return field_specs()


def check_value(key: str, value: Any) -> Any:
    """Return `value` if it is allowed for `key`; raise RecordError naming what came and what is allowed."""
    specs = _specs()
    if key not in specs:
        raise RecordError(f"unknown field '{key}'; see `synthskin presets fields`")
    spec = specs[key]
    if "options" in spec:
        if value not in spec["options"]:
            raise RecordError(f"{key}={value!r}: allowed are {', '.join(spec['options'])}")
        return value
    # whole numbers of TOML and JSON have no end: no float() of them, and no text of those that are none
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        told = "a huge number" if isinstance(value, int) and not isinstance(value, bool) else repr(value)
        raise RecordError(f"{key}={told}: a number from {spec['low']} to {spec['high']} is needed")
    if spec.get("integer") and value != int(value):
        raise RecordError(f"{key}={value!r}: a whole number from {spec['low']} to {spec['high']} is needed")
    if not spec["low"] <= value <= spec["high"]:
        raise RecordError(f"{key}={value}: allowed is {spec['low']} to {spec['high']}")
    return int(value) if spec.get("integer") else float(value)
