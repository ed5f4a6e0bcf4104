"""The exact lesion mask, and how much of it shows on the actual skin.

The mask is what an annotator could see, defined once: each column's adding-doubling colour with the lesion against its
lesion-free twin on REFERENCE_SKIN (fst2), linear colours blurred by a Gaussian of 0.25 mm (standard deviation),
CIEDE2000 >= 3, holes filled, specks removed. It depends on the lesion's maps alone, not on tone, light, hair or noise.
Colours are unpolarised: what depolarises at once (shiny white streaks) is no reason for a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import csr_array

from synthskin.physics import lesion_extra, spectral
from synthskin.physics.lesion.field import LesionField
from synthskin.physics.lesion_colour import REFERENCE_SKIN, ColourTable, build_table, reference_table
from synthskin.record import Skin

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
Mask = NDArray[np.bool_]

BLUR_MM = 0.25  # standard deviation; about the transport length of light in skin
THRESHOLD_DELTA_E = 3.0
SPECK_MM2 = 0.03  # smaller components are not drawn by an annotator
SPECK_SHARE = 0.01  # of the largest component, as above
_GRID_MM = 0.085  # columns are averaged up to this width before the blur, a third of its standard deviation
_ACTUAL_COUNTS = (4, 5, 3)
_ACTUAL_COSINES = 8
SURPLUS_UM = 0.5  # of melanin over the reference's: from here on a skin is darker
_BLEACHED = 0.25  # share of the skin's melanin in the second table of an actual skin


@dataclass(frozen=True, slots=True)
class Colours:
    """How columns look on one skin.

    table     over the lesion's pigment and blood
    bleached  the same with a quarter of the skin's melanin, where the lesion takes some away; None on the reference
              skin, whose network of extras knows that
    surplus   epidermal and basal melanin (um) of the skin over the reference's: it hides what lies below
    """

    table: ColourTable
    bleached: ColourTable | None = None
    surplus: tuple[float, float] | None = None


def lesion_mask(
    lesion: LesionField | None, column_mm: float, origin_mm: float, field_of_view_mm: float, size_px: int
) -> Mask:
    """Mask (size_px, size_px) of a lesion given on (n, n) columns of width column_mm; all False without a lesion.

    origin_mm is the first column's edge relative to the picture's left and top edge (negative: margin).
    """
    if lesion is None:
        return np.zeros((size_px, size_px), np.bool_)
    return mask_of_delta_e(delta_e_map(lesion, column_mm, origin_mm, field_of_view_mm, size_px), field_of_view_mm)


def mask_of_delta_e(delta_e: F64, field_of_view_mm: float) -> Mask:
    """Threshold, fill holes, remove specks of a CIEDE2000 picture (n, n)."""
    mask = ndimage.binary_fill_holes(delta_e >= THRESHOLD_DELTA_E)
    labels, count = ndimage.label(mask)
    if count == 0:
        return np.asarray(mask, np.bool_)
    area_px = np.bincount(labels.ravel())
    area_px[0] = 0
    pixel_mm2 = (field_of_view_mm / delta_e.shape[0]) ** 2
    keep = (area_px * pixel_mm2 >= SPECK_MM2) & (area_px >= SPECK_SHARE * area_px.max())
    return np.asarray(keep[labels], np.bool_)


def delta_e_map(
    lesion: LesionField,
    column_mm: float,
    origin_mm: float,
    field_of_view_mm: float,
    size_px: int,
    skin: Skin | None = None,
) -> F64:
    """CIEDE2000 (size_px, size_px) of the blurred lesion against its twin, on `skin` or on REFERENCE_SKIN."""
    colours = Colours(reference_table(_nest_depth_um(lesion))) if skin is None else colours_on([lesion], skin)
    coarse, cell_mm = _delta_e_of_columns(lesion, colours, column_mm)
    along = _resampling(coarse.shape[0], cell_mm, origin_mm, field_of_view_mm, size_px)
    return np.asarray((along @ (along @ coarse).T).T)


def visible_delta_e(
    lesion: LesionField | None, mask: Mask, skin: Skin, column_mm: float, origin_mm: float, field_of_view_mm: float
) -> float:
    """Share of the mask's pixels in which the lesion differs from its twin by CIEDE2000 >= 3 on the actual `skin`."""
    if lesion is None or not mask.any():
        return 0.0
    seen = delta_e_map(lesion, column_mm, origin_mm, field_of_view_mm, mask.shape[0], skin)[mask]
    return float(np.mean(seen >= THRESHOLD_DELTA_E))


def _nest_depth_um(lesion: LesionField) -> float:
    """Depth of the dermal melanin under the junction, weighted by it: nests lie deeper where the growth is older."""
    total = float(lesion.dermal_um.sum(dtype=np.float64))
    maturity = float((lesion.dermal_um * lesion.maturity).sum(dtype=np.float64)) / total if total > 0.0 else 0.5
    return lesion.dermal_depth_um * (0.55 + 0.9 * maturity)


def _table_for(lesions: Sequence[LesionField], skin: Skin) -> ColourTable:
    """A small table over the range of the lesions on the actual skin."""
    tops = tuple(max(float(getattr(own, name).max()) for own in lesions) for name in
                 ("epidermal_um", "junctional_um", "dermal_um"))
    epidermal, junctional, dermal = (max(top, 0.05) for top in tops)
    low = min(1.0, *(float(own.blood_factor.min()) for own in lesions))
    high = max(1.0, *(float(own.blood_factor.max()) for own in lesions))
    blood = [low, high] if high > low * 1.001 else [1.0]
    return build_table(
        skin, _nest_depth_um(lesions[0]), _ACTUAL_COUNTS, blood, (epidermal, junctional, dermal), _ACTUAL_COSINES
    )


def colours_on(lesions: Sequence[LesionField], skin: Skin) -> Colours:
    """Colours on an actual skin, for lesions that differ in their structures."""
    table = _table_for(lesions, skin)
    bleached = None
    if any(own.skin_melanin is not None for own in lesions):
        bleached = _table_for(lesions, replace(skin, melanosome_fraction=_BLEACHED * skin.melanosome_fraction))

    def column(s: Skin) -> float:
        return s.melanosome_fraction * s.epidermis_thickness_um

    more = max(column(skin) - column(REFERENCE_SKIN), 0.0)
    share = skin.basal_melanin_share
    return Colours(table, bleached, (more * (1 - share), more * share))


def _xyz(lesion: LesionField, colours: Colours, where: Mask, extra: Mask | None) -> F32:
    """XYZ (k, 3) of the picked columns; `extra` is part of `where`."""
    parts = [v[where] for v in (lesion.epidermal_um, lesion.junctional_um, lesion.dermal_um, lesion.blood_factor)]
    found = colours.table.xyz(*parts)
    if extra is None:
        return found
    if colours.bleached is not None and lesion.skin_melanin is not None:
        gone = np.minimum((1 - lesion.skin_melanin[where]) * np.float32(1 / (1 - _BLEACHED)), 1)
        some = gone > 0.01
        other = colours.bleached.xyz(*(part[some] for part in parts))
        found[some] *= (other / found[some]) ** gone[some, None]
    table = lesion_extra.columns_of(lesion, extra)
    table[:, lesion_extra.KNOWN.index("dermal_depth_um")] = _nest_depth_um(lesion)
    if colours.surplus is not None:
        place = len(lesion_extra.KNOWN) + lesion_extra.EXTRA.index("skin_melanin")
        left = table[:, place].copy()  # where the lesion takes the skin's melanin away there is none to spare
        table[:, 0] += np.float32(colours.surplus[0]) * left
        table[:, 1] += np.float32(colours.surplus[1]) * left
        table[:, place] = 1
    darker = colours.surplus is not None and sum(colours.surplus) > SURPLUS_UM
    found[extra[where]] *= np.exp(lesion_extra.delta_log_xyz(table, darker))
    return found


def xyz_map(lesion: LesionField, colours: Colours, where: Mask) -> F32:
    """XYZ (n, n, 3) of the columns in `where`, and of the lesion-free skin elsewhere."""
    zero, one = np.zeros(1, np.float32), np.ones(1, np.float32)
    found = np.empty((*where.shape, 3), np.float32)
    found[:] = colours.table.xyz(zero, zero, zero, one)[0]
    if where.any():
        extra = lesion_extra.has_extra(lesion)
        found[where] = _xyz(lesion, colours, where, None if extra is None else extra & where)
    return found


def _delta_e_of_columns(lesion: LesionField, how: Colours, column_mm: float) -> tuple[F64, float]:
    """CIEDE2000 on averaged columns and their width."""
    n = lesion.epidermal_um.shape[0]
    factor = max(f for f in (1, 2, 3, 4) if n % f == 0 and (f == 1 or f * column_mm <= _GRID_MM))
    result = np.zeros((n // factor, n // factor))
    touched = (lesion.column_um > 1e-4) | (np.abs(lesion.blood_factor - np.float32(1)) > 1e-4)
    extra = lesion_extra.has_extra(lesion)
    if extra is not None:
        touched |= extra
    if not touched.any():
        return result, factor * column_mm
    sigma = BLUR_MM / (factor * column_mm)
    reach = int(np.ceil(4 * sigma))
    rows, columns = (_span(touched.any(axis=axis), factor, reach) for axis in (1, 0))  # beyond, nothing changes
    inside = (slice(rows.start * factor, rows.stop * factor), slice(columns.start * factor, columns.stop * factor))
    pick = touched[inside]
    zero, one = np.zeros(1, np.float32), np.ones(1, np.float32)
    twin = how.table.xyz(zero, zero, zero, one)[0]
    colours = np.empty((*pick.shape, 3), np.float32)
    colours[:] = twin
    colours[pick] = _xyz(lesion, how, touched, extra)
    shape = (pick.shape[0] // factor, factor, pick.shape[1] // factor, factor)
    means = (colours[:, :, c].reshape(shape).mean(axis=(1, 3)) for c in range(3))
    blurred = np.stack([ndimage.gaussian_filter(v, sigma, mode="nearest", truncate=3.5) for v in means], axis=-1)
    differs = np.abs(blurred / twin - 1.0).max(axis=-1) > 0.01  # CIEDE2000 well under 1 elsewhere
    lab = spectral.xyz_to_lab(blurred[differs])
    cropped = np.zeros(differs.shape)
    cropped[differs] = spectral.ciede2000(lab, np.broadcast_to(spectral.xyz_to_lab(twin), lab.shape))
    result[rows, columns] = cropped
    return result, factor * column_mm


def _span(touched: Mask, factor: int, reach: int) -> slice:
    """Averaged cells from the first to the last touched column, `reach` cells more on both sides, inside the grid."""
    where = np.flatnonzero(touched)
    return slice(
        max(0, int(where[0]) // factor - reach), min(touched.size // factor, int(where[-1]) // factor + 1 + reach)
    )


def _resampling(count: int, cell_mm: float, origin_mm: float, field_of_view_mm: float, size_px: int) -> csr_array:
    """Matrix (size_px, count): Catmull-Rom interpolation from cell centres to pixel centres."""
    centre_mm = (np.arange(size_px) + 0.5) * field_of_view_mm / size_px
    position = (centre_mm - origin_mm) / cell_mm - 0.5
    low = np.floor(position).astype(np.int64)
    t = position - low
    weights = (
        0.5 * (-t + 2 * t**2 - t**3),
        0.5 * (2 - 5 * t**2 + 3 * t**3),
        0.5 * (t + 4 * t**2 - 3 * t**3),
        0.5 * (-(t**2) + t**3),
    )
    rows = np.tile(np.arange(size_px), 4)
    cells = np.clip(np.concatenate([low + offset for offset in (-1, 0, 1, 2)]), 0, count - 1)
    return csr_array((np.concatenate(weights), (rows, cells)), shape=(size_px, count))
