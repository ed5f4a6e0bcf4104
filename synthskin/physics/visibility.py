"""How much each dermoscopic structure shows on the actual skin: the lesion with it against the same lesion without it.

A structure's mask says where it is; on dark skin, under a blotch or in a scar it may lie there unseen. Here the lesion
is grown again without the structure, on columns twice as wide, and both are coloured by adding-doubling on the skin of
the record. What is told is the median CIEDE2000 over the structure's mask, after a blur by the light's way in skin.
These colours are unpolarised: of keratin that keeps the polarisation (milia, plugs that have not oxidised) a share
fitted to renders is told between crossed polarisers. What shows by polarisation alone (shiny white streaks) is light
of its own, as much as is fitted to renders, through the melanin above; what horn shows is made less the more melanin
the skin has.
benchmarks/structures.py compares all of them with renders.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthskin.physics import labels, lesion_extra, spectral
from synthskin.physics.lesion.field import NEUTRAL, LesionField
from synthskin.physics.lesion.keratin import CYST_KEEPS
from synthskin.physics.lesion.structures import grow_together
from synthskin.record import SampleRecord

Mask = NDArray[np.bool_]
F32 = NDArray[np.float32]

BLUR_MM: Final = 0.10  # standard deviation, fitted to renders of each structure on six tones (benchmarks/structures.py)
#: The same where what is seen is narrow and lies above most of what scatters.
SHARP_MM: Final = {"dots": 0.03, "fissures": 0.03, "streaks": 0.045, "pseudopods": 0.045, "milia_like_cyst": 0.06,
                   "parallel_furrow_pattern": 0.06, "dotted_vessels": 0.07, "curved_vessels": 0.09}
#: Polarisers -> light that collagen of shiny white streaks sends back besides, over what the same skin and lesion would
#: return with no more blood than the skin has: it passes all melanin twice and hardly any blood. Fitted to renders of
#: nine lesions on six tones (benchmarks/shine.py).
SHINE: Final = {"contact polarized": 0.083}
SHINE_ELSE: Final = 0.038
#: Of what milia and pale plugs show without polarisers, the share between crossed ones: paths of milia tell 0.19 (0.91
#: of 4.67), pictures 0.11 of milia, 0.09 of plugs.
KEPT_CROSSED: Final = 0.15
KEEPING: Final = ("milia_like_cyst", "comedo_like_opening")
CROSSED: Final = ("contact polarized", "non-contact polarized")
#: Horn -> (factor, um of the skin's melanosomes at which half is left): adding-doubling takes it for a sheet without
#: end, small pieces lose their light sideways, to darker skin more. Fitted to renders on six tones.
HORN: Final = {"milia_like_cyst": (1.15, 5.5), "scale": (1.05, 16.0), "comedo_like_opening": (1.4, 14.0),
               "fissures": (0.67, 40.0)}
COARSER: Final = 2  # columns of the comparison over those of the picture's grid, in width
#: Attribute -> (part of the record, field) whose 0 is the lesion without it.
SWITCHES: Final[dict[str, tuple[str, str]]] = {
    "pigment_network": ("lesion", "network_strength"),
    "atypical_pigment_network": ("lesion", "network_strength"),
    "globules": ("lesion", "globule_density_per_mm2"),
    **{name: ("structures", f"{name}_{number}") for number, names in {
        "strength": ("negative_network", "follicular_pigment", "blotch", "blue_white_veil", "regression", "fissures",
                     "scale", "ulceration", "central_white_patch", "red_pseudonetwork"),
        "density_per_mm2": ("dots", "peppering", "milia_like_cyst", "comedo_like_opening", "shiny_white_streaks",
                            "dotted_vessels", "curved_vessels", "red_lacunae"),
        "density_per_mm": ("streaks", "pseudopods", "arborizing_vessels"),
        "count": ("leaf_like_area", "blue_grey_ovoid_nest"),
    }.items() for name in names},
    "parallel_ridge_pattern": ("structures", "parallel_ridge_strength"),
    "parallel_furrow_pattern": ("structures", "parallel_furrow_strength"),
}


def structure_delta_e(record: SampleRecord, names: Iterable[str], columns: int, column_mm: float) -> dict[str, float]:
    """Median CIEDE2000 of each structure of `names` over its footprint, on the skin of `record`.

    columns, column_mm   of the picture's grid. A structure whose footprint has no column here is told as 0.
    """
    chosen = [name for name in names if name in SWITCHES]
    if not chosen:
        return {}
    count, wide = columns // COARSER, column_mm * COARSER
    axis = ((np.arange(count) - 0.5 * (count - 1)) * wide).astype(np.float32)
    gone = {SWITCHES[name]: None for name in chosen if name != "shiny_white_streaks"}
    full, *others = grow_together([record, *(without(record, switch) for switch in gone)], axis, axis, wide)
    lesions = dict(zip(gone, others, strict=True))
    colours = labels.colours_on([full, *others], record.skin)
    result: dict[str, float] = {}
    for name in chosen:
        where = full.footprints.get(name)
        twin = next((other for other in result if SWITCHES[other] == SWITCHES[name]), None)
        if where is None or not where.any():
            result[name] = 0.0
        elif name == "shiny_white_streaks":
            result[name] = _shine(full, where, colours, record)
        elif twin is not None and np.array_equal(where, full.footprints[twin]):
            result[name] = result[twin]
        else:
            blur_mm = SHARP_MM.get(name, BLUR_MM)
            crossed = name in KEEPING and record.camera.dermoscopic_type in CROSSED
            result[name] = _median(full, lesions[SWITCHES[name]], where, colours, blur_mm / wide, crossed)
            if name in HORN:
                factor, half_um = HORN[name]
                result[name] *= factor / (1 + _melanin_um(record) / half_um)
    return result


def _shine(full: LesionField, where: Mask, colours: labels.Colours, record: SampleRecord) -> float:
    """CIEDE2000 of the light of collagen that turns polarised light back, median over `where`; by the polarisers."""
    pale = replace(full, blood_factor=np.ones_like(full.blood_factor), vessel_um=None)
    seen, more = (labels.xyz_map(lesion, colours, where)[where] for lesion in (full, pale))
    share = np.float32(SHINE.get(record.camera.dermoscopic_type, SHINE_ELSE))
    return float(np.median(spectral.ciede2000(spectral.xyz_to_lab(seen), spectral.xyz_to_lab(seen + share * more))))


def _melanin_um(record: SampleRecord) -> float:
    """Column of melanosomes of the skin."""
    return record.skin.melanosome_fraction * record.skin.epidermis_thickness_um


def without(record: SampleRecord, switch: tuple[str, str]) -> SampleRecord:
    """The record with one field at 0."""
    part, name = switch
    own = getattr(record, part)
    return replace(record, **{part: replace(own, **{name: type(getattr(own, name))(0)})})


def _median(
    full: LesionField, other: LesionField, where: Mask, colours: labels.Colours, sigma: float, crossed: bool = False
) -> float:
    """Median CIEDE2000 of two lesions over `where`; only columns in which they differ are coloured.

    `crossed`: between crossed polarisers keratin that keeps the polarisation shows by KEPT_CROSSED of that.
    """
    differs = _differ(full, other)
    if not differs.any():
        return 0.0
    reach = int(np.ceil(4 * sigma)) + 1
    rows, cols = (_span(np.any(where, axis=axis), reach) for axis in (1, 0))
    seen = where[rows, cols]
    near = ndimage.binary_dilation(where, iterations=reach)  # no other column reaches the mask through the blur
    lab = []
    for lesion in (full, other):
        xyz = labels.xyz_map(lesion, colours, near)[rows, cols]
        blurred = [ndimage.gaussian_filter(xyz[..., c], sigma, mode="nearest")[seen] for c in range(3)]
        lab.append(spectral.xyz_to_lab(np.stack(blurred, axis=-1)))
    shown = np.asarray(spectral.ciede2000(lab[0], lab[1]))
    if crossed and full.birefringence is not None:
        keeps = full.birefringence[rows, cols][seen] >= np.float32(0.5 * CYST_KEEPS)
        shown = np.where(keeps, KEPT_CROSSED * shown, shown)
    return float(np.median(shown))


def _differ(full: LesionField, other: LesionField) -> Mask:
    """Columns in which the two would have other colours."""
    found: Mask = np.zeros(full.presence.shape, np.bool_)
    for name in (*lesion_extra.KNOWN, *lesion_extra.EXTRA):
        a, b = getattr(full, name), getattr(other, name)
        if isinstance(a, float) or (a is None and b is None):
            continue
        neutral = np.float32(NEUTRAL.get(name, 0.0))
        found |= np.abs((neutral if a is None else a) - (neutral if b is None else b)) > 1e-3
    return found


def _span(touched: Mask, reach: int) -> slice:
    where = np.flatnonzero(touched)
    return slice(max(0, int(where[0]) - reach), min(touched.size, int(where[-1]) + 1 + reach))
