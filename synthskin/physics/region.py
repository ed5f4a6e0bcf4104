"""A region of one person's skin: many common nevi that resemble each other, and one lesion that does not.

The lesion of the record (its diagnosis, variant and structures) is the ugly duckling (Grob & Bonerandi 1998). The other
lesions are common nevi of the person: a signature (size, colour, pattern) drawn once, and each nevus near it. All are
grown by the same code on the same grid; they do not touch. Everything is keyed by (preset, seed, index).
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthskin.physics.lesion.field import NEUTRAL, LesionField
from synthskin.physics.lesion.growth import HALF_WIDTH
from synthskin.physics.lesion.structures import _overhang_mm, grow
from synthskin.physics.noise import keyed_rng
from synthskin.record import Lesion, SampleRecord, Structures

F32 = NDArray[np.float32]
TRIES: Final = 300
GAP_MM: Final = 1.2  # of healthy skin between lesions; by design
SPECK_MM2: Final = 0.1  # smaller spots of a mask are not drawn by an annotator at this scale
AROUND_MM: Final = 1.0  # for the fade and the nests beyond the growth
#: The maps of a LesionField that are never None and what each is on skin without a lesion.
_ALWAYS: Final = {"arrival": 10.0, "blood_factor": 1.0, "presence": 0.0, "maturity": 0.0, "ridge": 0.0,
                  "epidermal_um": 0.0, "junctional_um": 0.0, "dermal_um": 0.0}
_GROUND: Final = ("arrival", "maturity", "ridge")  # of the lesion's surroundings too: no change of the skin


@dataclass(frozen=True, slots=True)
class Site:
    """One lesion of a region: its own record, centre and radius in mm from the middle of the picture."""

    record: SampleRecord
    x_mm: float
    y_mm: float
    radius_mm: float


def sites(record: SampleRecord) -> tuple[Site, ...]:
    """The lesions of a region, the ugly duckling first. Fewer than asked for where no room is left.

    Each has its own places to try, and the duckling is kept the room it takes once it is grown: siblings of a follow-up
    or a sweep have each nevus at the same place, but for those that come too near an earlier one.
    """
    half = 0.5 * record.camera.field_of_view_mm
    x, y = 0.62 * half * (2 * keyed_rng(record, "region places").random(2) - 1)
    room = _grown_mm(record.lesion)
    made = [Site(record, float(x), float(y), room * record.lesion.growth_time)]
    taken = [(float(x), float(y), room)]
    for number in range(1, record.region.lesion_count):
        own = nevus(record, number)
        radius = _grown_mm(own.lesion)
        rng = keyed_rng(record, f"region place {number}")
        for _ in range(TRIES):
            x, y = 0.94 * half * (2 * rng.random(2) - 1)
            if all(np.hypot(x - there_x, y - there_y) > radius + other + GAP_MM for there_x, there_y, other in taken):
                made.append(Site(own, float(x), float(y), radius))
                taken.append((float(x), float(y), radius))
                break
    return tuple(made)


def _grown_mm(lesion: Lesion) -> float:
    """Longest radius of a lesion at growth_time 1."""
    return float(0.5 * lesion.diameter_mm * np.sqrt(lesion.elongation))


def nevus(record: SampleRecord, number: int) -> SampleRecord:
    """Record of the person's common nevus `number`: near the signature, `similarity` says how near."""
    r = record.region
    signature = keyed_rng(record, "region signature").random(8)
    own = keyed_rng(record, f"region nevus {number}")
    near, normal, free = own.random(8), own.standard_normal(3), own.random(4)
    mixed = r.similarity * signature + (1 - r.similarity) * near
    diameter = float(np.clip(r.nevus_diameter_mm * np.exp(0.38 * normal[0]), 0.8, 6.0))
    lesion = Lesion(
        diameter_mm=diameter,
        centre_x_mm=0.0,
        centre_y_mm=0.0,
        elongation=1.0 + 0.45 * float(free[0]),
        orientation_deg=180.0 * float(free[1]),
        regularity=0.65 + 0.35 * float(free[2]),
        growth_time=1.0,
        border_width_mm=float(min(0.15 + 0.5 * mixed[0], 0.3 * diameter)),
        epidermal_melanin=float(r.nevus_melanin * (0.15 + 0.25 * mixed[1])),
        junctional_melanin=float(np.clip(r.nevus_melanin * np.exp(0.18 * normal[1]), 0.05, 0.85)),
        dermal_melanin=float(0.03 * mixed[2] if signature[2] > 0.5 else 0.0),
        network_strength=float(0.25 + 0.7 * mixed[3]),
        network_spacing_um=float(170 + 120 * mixed[4]),
        heterogeneity=float(0.1 + 0.3 * mixed[5]),
        globule_density_per_mm2=float(6 * mixed[6] if signature[6] > 0.6 else 0.0),
        blood_factor=1.0 + 0.6 * float(mixed[7]),
    )
    return replace(record, preset=f"{record.preset}/nevus {number}", diagnosis="NV", variant="", lesion=lesion,
                   structures=Structures())


def placed(record: SampleRecord, x_mm: float, y_mm: float) -> SampleRecord:
    """`record` with its lesion's centre at a place of the region.

    A region is wider than the bounds of `lesion.centre_x_mm`, which are those of a single lesion's picture: this copy
    is not checked against them, and is for growing alone.
    """
    moved = copy(record)
    object.__setattr__(moved, "lesion", replace(record.lesion, centre_x_mm=x_mm, centre_y_mm=y_mm))
    return moved


def changed(field: LesionField) -> NDArray[np.bool_]:
    """Columns (n, n) in which a lesion leaves the skin other than it was, its structures included."""
    found = np.zeros(field.presence.shape, np.bool_)
    for name, neutral in (_ALWAYS | NEUTRAL).items():
        values = None if name in _GROUND else getattr(field, name)
        if values is not None:
            found |= values != np.float32(neutral)
    return found


def grow_region(record: SampleRecord, axis_mm: F32, column_mm: float) -> LesionField:
    """All lesions of a region in one field on columns with centres `axis_mm` in x and y.

    Each grows at its place on the skin of the record, so that what a lesion has of the skin (ridges of palms and soles,
    follicles) is the skin's. Where two meet, the earlier one stays.
    """
    n = len(axis_mm)
    whole: dict[str, F32] = {name: np.full((n, n), neutral, np.float32) for name, neutral in _ALWAYS.items()}
    footprints: dict[str, NDArray[np.bool_]] = {}
    free = np.ones((n, n), np.bool_)
    depth, mass = 0.0, 0.0
    for site in sites(record):
        final = _grown_mm(site.record.lesion)
        reach = HALF_WIDTH * final + AROUND_MM + _overhang_mm(site.record)  # all that the growth can reach
        rows, columns = (slice(*np.searchsorted(axis_mm, (c - reach, c + reach))) for c in (site.y_mm, site.x_mm))
        if rows.stop - rows.start < 8 or columns.stop - columns.start < 8:
            continue
        part = grow(placed(site.record, site.x_mm, site.y_mm), axis_mm[columns], axis_mm[rows], column_mm)
        new = changed(part) & free[rows, columns]
        free[rows, columns] &= ~new
        for name, neutral in (_ALWAYS | NEUTRAL).items():
            values = getattr(part, name)
            if values is not None:
                full = whole.setdefault(name, np.full((n, n), neutral, np.float32))
                full[rows, columns][new] = values[new]
        for name, where in part.footprints.items():
            footprints.setdefault(name, np.zeros((n, n), np.bool_))[rows, columns] |= where & new
        weight = float(part.dermal_um.sum()) + 1e-6
        depth, mass = depth + weight * part.dermal_depth_um, mass + weight
    maps: dict[str, Any] = whole
    return LesionField(dermal_depth_um=depth / max(mass, 1e-9), footprints=footprints, **maps)


def instances(record: SampleRecord, mask: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """(label map (size, size), diagnosis of each label from 1): pixels of the mask go to the nearest lesion.

    Nearest is by distance over radius. Lesions that show nowhere are left out, so that labels have no gaps; the ugly
    duckling is label 1 if it shows.
    """
    size = mask.shape[0]
    half = 0.5 * record.camera.field_of_view_mm
    axis = (np.arange(size) + 0.5) / size * 2 * half - half
    best = np.full((size, size), np.inf)
    owner = np.zeros((size, size), np.int64)
    places = sites(record)
    for number, site in enumerate(places):
        distance = np.hypot(axis - site.x_mm, (axis - site.y_mm)[:, None]) / site.radius_mm
        nearer = distance < best
        best[nearer], owner[nearer] = distance[nearer], number
    seen = [k for k in range(len(places)) if (mask & (owner == k)).any()]
    table = np.zeros(len(places), np.uint8)
    for label, number in enumerate(seen, start=1):
        table[number] = label
    return np.where(mask, table[owner], 0).astype(np.uint8), tuple(places[k].record.diagnosis for k in seen)


def mask_of_delta_e(delta_e: NDArray[np.float64], threshold: float, field_of_view_mm: float) -> NDArray[np.bool_]:
    """Threshold, fill holes, drop specks; unlike a single lesion's mask small lesions stay beside a large one."""
    mask = ndimage.binary_fill_holes(delta_e >= threshold)
    found, count = ndimage.label(mask)
    if count == 0:
        return np.asarray(mask, np.bool_)
    area = np.bincount(found.ravel()) * (field_of_view_mm / delta_e.shape[0]) ** 2
    area[0] = 0
    return np.asarray((area >= SPECK_MM2)[found], np.bool_)
