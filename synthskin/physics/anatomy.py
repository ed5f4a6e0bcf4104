"""SampleRecord -> SceneSpec: healthy skin with the lesion in it, as chromophore fraction on the tissue grid, and hair.

Healthy skin: stratum corneum without melanin, living epidermis, a pigmented basal layer that follows an irregular mesh
of rete ridges, a dermis with mottled blood and a superficial plexus of resolved vessels, furrows and follicles.
Means are conserved: the epidermal melanin column averages melanosome_fraction x epidermis_thickness_um, the dermal
blood column blood_fraction x dermis_thickness_mm (both without the lesion).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthskin.conventions import HEALTHY
from synthskin.physics import scattering
from synthskin.physics.hair import grow_hair
from synthskin.physics.layers import Slab, cells_from_slabs, coarsen, z_edges
from synthskin.physics.lesion.field import LesionField
from synthskin.physics.lesion.structures import grow
from synthskin.physics.mesh import line_profile, polygon_mesh
from synthskin.physics.noise import F32, NoiseField, keyed_rng
from synthskin.physics.region import grow_region
from synthskin.physics.relief import dermatoglyphs, dry_horn, follicles, furrows
from synthskin.physics.scene import SceneSpec, TissueGrid
from synthskin.physics.vessels import splat, vessel_points
from synthskin.record import SampleRecord

KERATIN_AT_MOST = 15.0  # times the epidermis; what a column's layers can hold (tissue_columns.LEVEL_STEP)
DRY_SCATTERING = 12.0  # times the epidermis, where the skin's loose horn is 1
DRY_LEAST = 0.03
DRY_KEEPS = 0.5  # of the polarisation: much of it is mirrored by flakes, which show less between crossed polarisers
MARGIN = 1 / 12  # of the columns, on each side of the picture
COARSE_FACTOR = 2
STRATUM_CORNEUM_UM = 12.0  # 11-18 um (Sandby-Moller 2003)
BASAL_LAYER_UM = 12.0  # one cell; melanin-rich cells reach further up in dark skin (Thong 2003)
BASAL_MAX_FRACTION = 0.55
MELANIN_GRAIN = 0.9  # of `melanin_mottle`, over 0.1 mm: light skin's contrast there as in photographs (realism.md)
JUNCTION_MAX_FRACTION = 0.75
VESSEL_BLOOD_SHARE = 0.35  # at most this share of the dermal blood lies in resolved vessels
THICKEST_EPIDERMIS_MM = 0.17  # a deeper junction costs time in every column: 0.2 a fifth of a keratosis
VESSEL_FINE_TO_MM = 0.16
THINNEST_EPIDERMIS_MM = 0.012  # what is left over an ulcer
VESSEL_FRACTION = 0.9  # blood in a resolved vessel of the lesion
CRUST_FRACTION = 0.8
CORNEAL_FRACTION = 0.5  # melanin, or keratin as dark, at the surface
DEEP_FRACTION = 0.4
LESION_RIDGE_FACTOR = 0.4  # rete ridges of a nevus are elongated: relative extra depth


@dataclass(frozen=True, slots=True)
class Columns:
    """Maps of the skin, (n, n). dej_mm is the depth of the junction, bare_dej_mm the same without the lesion."""

    dej_mm: F32
    bare_dej_mm: F32
    melanin_um: F32
    basal_share: F32
    blood: F32
    furrow: F32
    pale: F32
    surface_height_um: F32
    horn: F32 | None = None


def build_scene(record: SampleRecord, columns: int = 384, with_lesion: bool = True) -> SceneSpec:
    """Everything the renderer needs for `record`.

    name         type  meaning
    columns      int   columns of the grid, a multiple of 12; the picture covers the middle 5/6
    with_lesion  bool  False leaves the lesion out and everything else exactly as it is
    """
    if columns < 12 or columns % 12:
        raise ValueError(f"columns={columns}: a positive multiple of 12 is needed")
    column_mm = record.camera.field_of_view_mm / (columns * (1 - 2 * MARGIN))
    axis = ((np.arange(columns) - 0.5 * (columns - 1)) * column_mm).astype(np.float32)
    lesion = None
    if with_lesion and record.diagnosis != HEALTHY:
        in_region = record.camera.view == "region"
        lesion = grow_region(record, axis, column_mm) if in_region else grow(record, axis, axis, column_mm)
    skin = healthy_columns(record, axis, column_mm, lesion)
    bottom_mm = record.skin.epidermis_thickness_um * 1e-3 + record.skin.dermis_thickness_mm
    fine, coarse = z_edges(bottom_mm)
    slabs = melanin_slabs(record, skin, lesion)
    melanin_fine = cells_from_slabs(slabs, fine)
    melanin_coarse = content_below(slabs, coarse, columns)
    blood_fine, blood_coarse = _blood(record, skin, lesion, axis, column_mm, fine, coarse)
    margin_mm = columns * MARGIN * column_mm
    loose = None if skin.horn is None else _loose_horn(skin.horn, lesion)
    tissue = TissueGrid(
        column_mm=column_mm,
        coarse_factor=COARSE_FACTOR,
        origin_mm=-margin_mm,
        z_edges_fine_mm=fine,
        z_edges_coarse_mm=coarse,
        melanin_fine=melanin_fine,
        blood_fine=blood_fine,
        dej_mm=skin.dej_mm,
        melanin_coarse=melanin_coarse,
        blood_coarse=blood_coarse,
        fine_to_mm=_fine_to_mm(skin, lesion),
        **_scatterers(lesion, loose, record.skin.epidermis_scattering),
    )
    footprints = {} if lesion is None else lesion.footprints
    polarised = record.camera.dermoscopic_type in ("contact polarized", "non-contact polarized")
    return SceneSpec(tissue, skin.surface_height_um, grow_hair(record), footprints, lesion, polarised, loose)


def healthy_columns(record: SampleRecord, axis: F32, column_mm: float, lesion: LesionField | None) -> Columns:
    """The skin's columns at centres `axis` (n,) in mm, as the lesion shapes them; its pigment is not in them."""
    skin = record.skin
    noise = NoiseField(record, axis, axis)
    spacing = skin.rete_spacing_um * 1e-3
    warp = np.float32(0.22 * spacing)
    x = axis[None, :] + warp * noise("rete warp x", 0.9 * spacing)
    y = axis[:, None] + warp * noise("rete warp y", 0.9 * spacing)
    mesh = polygon_mesh(keyed_rng(record, "rete mesh"), x, y, spacing)
    grid_x, grid_y = np.broadcast_to(axis, x.shape), np.broadcast_to(axis[:, None], x.shape)
    ridge = line_profile(mesh.edge_mm, np.float32(0.26 * spacing), column_mm) * (
        np.float32(0.6) + np.float32(0.6) * mesh.side
    )
    ridge -= ridge.mean()
    pale, dimple = follicles(record, grid_x, grid_y, column_mm, float(axis[-1]))
    if skin.dermatoglyph_spacing_mm > 0:
        _, furrow, pore = dermatoglyphs(record, noise)
        pale = np.maximum(pale, np.float32(0.6) * pore)
    else:
        furrow = furrows(record, noise, grid_x, grid_y)

    thickness_mm = np.float32(skin.epidermis_thickness_um * 1e-3)
    wave = np.float32(1) - np.float32(0.12) * (furrow - furrow.mean())
    wave += np.float32(0.06) * noise("epidermis", 1.1)
    shallowest = np.float32(0.4)  # ridges never leave less than this share of the mean thickness over a papilla
    most = (0.8 - float(shallowest)) * float(thickness_mm) / max(1e-6, -float(ridge.min()))
    depth = np.float32(min(skin.rete_ridge_depth_um * 1e-3, most))
    least = np.float32(0.35) * thickness_mm
    bare = np.maximum(thickness_mm * wave / wave.mean() + depth * ridge, least)
    dej = bare
    if lesion is not None:
        own = lesion.ridge - np.float32(0.45)
        dej = bare + depth * lesion.presence * (own * np.float32(1 + LESION_RIDGE_FACTOR) - ridge)
        np.maximum(dej, least, out=dej)
        if lesion.thickening_um is not None:
            # a thick epidermis has a flatter junction on a small scale, else its deepest ridges would slow the walk
            dej = dej + lesion.thickening_um * np.float32(1e-3)
            np.clip(dej, np.float32(THINNEST_EPIDERMIS_MM), np.float32(THICKEST_EPIDERMIS_MM), out=dej)

    # Basal cells stand on the sloping junction: seen from above there are more of them on the flanks of ridges.
    gy, gx = np.gradient(bare, np.float32(column_mm))
    slope = np.minimum(np.sqrt(1 + gx**2 + gy**2), np.float32(2.2))
    basal = slope * (np.float32(1) + np.float32(0.8) * ridge)
    mottle = np.exp(
        np.float32(skin.melanin_mottle) * noise.octaves("melanin mottle", (3.6, 1.3, 0.5, 0.22), (0.6, 0.7, 0.9, 0.8))
    )
    grain = np.tanh(noise.octaves("melanin grain", (0.16, 0.08), (1.0, 1.0)))  # no specks
    mottle *= 1 + np.float32(min(MELANIN_GRAIN * skin.melanin_mottle, 0.5)) * grain
    mottle *= (1 - np.float32(0.30) * furrow) * (1 - np.float32(0.45) * pale)
    share = np.float32(skin.basal_melanin_share)
    relative_basal = basal / basal.mean()
    melanin = mottle * (1 - share + share * relative_basal)
    melanin *= np.float32(skin.melanosome_fraction * skin.epidermis_thickness_um) / melanin.mean(dtype=np.float64)
    basal_share = share * relative_basal / (1 - share + share * relative_basal)

    flush = noise.octaves("blood mottle", (4.5, 1.6, 0.6, 0.3), (0.5, 0.8, 1.0, 0.9))
    blood = np.exp(np.float32(1.4 * skin.blood_mottle * 1.5) * np.tanh(flush / np.float32(1.5)))  # no red spots
    blood *= (1 - np.float32(0.35) * ridge) * (1 - np.float32(0.35) * furrow)  # capillary loops fill the papillae
    height = -np.float32(skin.furrow_depth_um) * (furrow + np.float32(0.7) * dimple)
    height += np.float32(3.0) * noise("corneocytes", 0.06)
    return Columns(
        dej,
        bare,
        melanin.astype(np.float32),
        basal_share.astype(np.float32),
        blood.astype(np.float32),
        furrow,
        pale,
        height.astype(np.float32),
        dry_horn(record, noise, grid_x, grid_y, column_mm) if skin.dryness > 0 else None,
    )


def melanin_slabs(record: SampleRecord, skin: Columns, lesion: LesionField | None) -> list[Slab]:
    """Melanin of skin and lesion as slabs from the surface down; the first is the horn's."""
    dej = skin.dej_mm
    corneum = np.minimum(np.float32(STRATUM_CORNEUM_UM * 1e-3), np.float32(0.3) * dej)
    if lesion is not None and lesion.keratin_um is not None:
        corneum = np.minimum(corneum + lesion.keratin_um * np.float32(1e-3), np.float32(0.75) * dej)
    living = dej - corneum
    column = skin.melanin_um * np.float32(1e-3)
    if lesion is not None and lesion.skin_melanin is not None:
        column = column * lesion.skin_melanin
    basal_column = column * skin.basal_share
    upper_column = column - basal_column
    keep = None
    if lesion is not None:
        keep = 1 - np.float32(0.55) * skin.pale
        upper_column = upper_column + lesion.epidermal_um * np.float32(1e-3) * keep
    layer = np.float32(BASAL_LAYER_UM * 1e-3)
    basal = np.minimum(np.maximum(basal_column / np.float32(BASAL_MAX_FRACTION), layer), living)
    slabs = [Slab(corneum, living, upper_column), Slab(dej - basal, basal, basal_column)]
    if lesion is None or keep is None:
        return slabs
    junction_column = lesion.junctional_um * np.float32(1e-3) * keep
    room = np.float32(JUNCTION_MAX_FRACTION) - upper_column / living - basal_column / basal
    junction = np.maximum(junction_column / np.maximum(room, np.float32(0.25)), layer)
    slabs.append(Slab(dej - layer, junction, junction_column))
    dermal_column = lesion.dermal_um * np.float32(1e-3)
    nest = np.maximum(dermal_column / np.float32(0.4), np.float32(0.05))
    middle = np.float32(lesion.dermal_depth_um * 1e-3) * (np.float32(0.55) + np.float32(0.9) * lesion.maturity)
    base = np.float32(record.skin.epidermis_thickness_um * 1e-3)
    slabs.append(Slab(np.maximum(base + middle - 0.5 * nest, dej), nest, dermal_column))
    if lesion.deep_um is not None and lesion.deep_depth_um is not None:
        deep_column = lesion.deep_um * np.float32(1e-3)
        sheet = np.maximum(deep_column / np.float32(DEEP_FRACTION), np.float32(0.03))
        top = dej + np.maximum(lesion.deep_depth_um * np.float32(1e-3) - np.float32(0.5) * sheet, 0)
        slabs.append(Slab(top, sheet, deep_column))
    if lesion.corneal_um is not None:
        corneal_column = lesion.corneal_um * np.float32(1e-3)
        plug = np.maximum(corneal_column / np.float32(CORNEAL_FRACTION), np.float32(0.01))
        slabs.append(Slab(np.full_like(dej, 0.003), plug, corneal_column))
    return slabs


def _blood_slabs(skin: Columns, lesion: LesionField) -> list[Slab]:
    """Resolved vessels and lacunae of the lesion, and blood dried on its surface."""
    slabs = []
    if lesion.vessel_um is not None and lesion.vessel_depth_um is not None:
        column = lesion.vessel_um * np.float32(1e-3)
        thick = np.maximum(column / np.float32(VESSEL_FRACTION), np.float32(0.004))
        top = np.maximum(skin.dej_mm + lesion.vessel_depth_um * np.float32(1e-3), np.float32(0.01))
        slabs.append(Slab(top, thick, column))
    if lesion.crust_um is not None:
        column = lesion.crust_um * np.float32(1e-3)
        thick = np.maximum(column / np.float32(CRUST_FRACTION), np.float32(0.004))
        slabs.append(Slab(np.full_like(thick, 0.002), thick, column))
    return slabs


def _fine_to_mm(skin: Columns, lesion: LesionField | None) -> float:
    """Where resolved blood right under the junction ends; pools go on deeper, in the coarse columns."""
    if lesion is None or lesion.vessel_um is None or lesion.vessel_depth_um is None:
        return 0.0
    bottom = skin.dej_mm + (lesion.vessel_depth_um + lesion.vessel_um / np.float32(VESSEL_FRACTION)) * np.float32(1e-3)
    reach = np.where(lesion.vessel_um > 1.5, bottom, np.float32(0))
    return min(float(reach.max()), VESSEL_FINE_TO_MM)


def _loose_horn(horn: F32, lesion: LesionField | None) -> F32:
    """Loose horn of dry skin where it counts: not where the lesion has keratin or turned collagen of its own."""
    free = horn > DRY_LEAST
    if lesion is not None:
        for own in (lesion.keratin_um, lesion.birefringence):
            if own is not None:
                free &= own == 0
    return np.where(free, horn, np.float32(0))


def _scatterers(lesion: LesionField | None, loose: F32 | None, epidermis_scattering: float) -> dict[str, F32]:
    """Arrays of TissueGrid for what a lesion, or dry skin, does to scattering; nothing where neither does anything.

    Horn scatters alike on all tones, so its scale falls where the skin's own epidermis scatters more.
    """
    arrays: dict[str, F32 | None] = {}
    to_um: F32 | None = None
    scale: F32 | None = None
    if lesion is not None:
        arrays |= {"dermal_scale": lesion.dermal_scale, "birefringence": lesion.birefringence}
        if lesion.keratin_um is not None and lesion.keratin_scale is not None:
            thicker = lesion.keratin_um > 0
            to_um = np.where(thicker, lesion.keratin_um + np.float32(STRATUM_CORNEUM_UM), np.float32(0))
            scale = lesion.keratin_scale
    if loose is not None:
        there, none = loose > 0, np.zeros_like(loose)
        turned = arrays.get("birefringence")
        arrays["birefringence"] = np.where(there, np.float32(DRY_KEEPS), none if turned is None else turned)
        to_um = np.where(there, np.float32(STRATUM_CORNEUM_UM), none if to_um is None else to_um)
        scale = np.where(there, 1 + np.float32(DRY_SCATTERING) * loose, none + 1 if scale is None else scale)
    if to_um is not None and scale is not None:
        arrays["keratin_to_mm"] = to_um.astype(np.float32) * np.float32(1e-3)
        alike = np.float32(scattering.USUAL_EPIDERMIS / epidermis_scattering)
        arrays["keratin_scale"] = np.clip(scale * alike, np.float32(1), np.float32(KERATIN_AT_MOST))
    return {name: array for name, array in arrays.items() if array is not None}


def content_below(slabs: list[Slab], coarse: F32, columns: int) -> F32:
    """What slabs hold in the coarse zone; most lesions have nothing there."""
    m = columns // COARSE_FACTOR
    deepest = max(float(np.where(s.column_mm > 0, s.top_mm + s.thickness_mm, 0).max()) for s in slabs)
    if deepest <= float(coarse[0]):
        return np.zeros((m, m, len(coarse) - 1), np.float32)
    cells = cells_from_slabs(slabs, coarse)
    return np.ascontiguousarray(cells.reshape(m, COARSE_FACTOR, m, COARSE_FACTOR, -1).mean(axis=(1, 3)), np.float32)


def _erythema(record: SampleRecord, axis: F32) -> F32:
    """Factor (n, n) on the dermal blood of irritated skin: most at the lesion, half of it 1.7 radii from its centre.

    It belongs to the skin, so the picture without the lesion has it too, and the mask has not.
    """
    own = record.lesion
    x, y = axis[None, :] - np.float32(own.centre_x_mm), axis[:, None] - np.float32(own.centre_y_mm)
    reach = np.hypot(x, y) / np.float32(0.5 * own.diameter_mm)
    reach = reach * np.exp(np.float32(0.3) * NoiseField(record, axis, axis)("erythema", 0.4 * own.diameter_mm))
    return 1 + np.float32(own.erythema) / (1 + (reach / np.float32(1.7)) ** 4)


def _blood(
    record: SampleRecord, skin: Columns, lesion: LesionField | None, axis: F32, column_mm: float, fine: F32, coarse: F32
) -> tuple[F32, F32]:
    """Blood fraction in the fine and the coarse cells: mottled background below the junction, plus resolved vessels."""
    n = len(axis)
    bottom = coarse[-1]
    total = record.skin.blood_fraction * record.skin.dermis_thickness_mm  # mean column, mm
    half = float(axis[-1]) + 0.5 * column_mm
    points, volume = vessel_points(record, half)
    in_vessels = float(volume.sum()) / (2 * half) ** 2
    filling = min(1.0, VESSEL_BLOOD_SHARE * total / in_vessels) if in_vessels else 0.0
    background = skin.blood * np.float32(
        (total - filling * in_vessels) / float((skin.blood * (bottom - skin.bare_dej_mm)).mean())
    )
    if record.lesion.erythema > 0 and record.diagnosis != HEALTHY and record.camera.view != "region":
        background = background * _erythema(record, axis)
    if lesion is not None:
        background = background * lesion.blood_factor
    dermis = bottom - skin.dej_mm
    blood_fine = cells_from_slabs([Slab(skin.dej_mm, dermis, background * dermis)], fine)
    blood_coarse = np.repeat(coarsen(background, COARSE_FACTOR)[:, :, None], len(coarse) - 1, axis=2)
    if filling:
        edges = ((np.arange(n + 1) - 0.5 * n) * column_mm).astype(np.float32)
        place, deep, share = splat(points, volume, edges, fine)
        below = fine[deep] > skin.dej_mm.ravel()[place]  # none in the epidermis
        np.add.at(
            blood_fine.reshape(-1), place[below] * (len(fine) - 1) + deep[below], share[below] * np.float32(filling)
        )
        place, deep, share = splat(points, volume, edges[::COARSE_FACTOR], coarse)
        np.add.at(blood_coarse.reshape(-1), place * (len(coarse) - 1) + deep, share * np.float32(filling))
    slabs = [] if lesion is None else _blood_slabs(skin, lesion)
    if slabs:
        blood_fine += cells_from_slabs(slabs, fine)
        blood_coarse = blood_coarse + content_below(slabs, coarse, n)
    if filling or slabs:
        np.minimum(blood_fine, np.float32(0.95), out=blood_fine)
        np.minimum(blood_coarse, np.float32(0.95), out=blood_coarse)
    return blood_fine, blood_coarse
