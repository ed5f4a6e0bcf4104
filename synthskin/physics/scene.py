"""SceneSpec: what is rendered, in NumPy only. Built from a SampleRecord by anatomy, lesion and hair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthskin.physics.lesion.field import LesionField

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TissueGrid:
    """Chromophore fields on a grid: square columns in x and y, two z zones, piecewise constant in each cell.

    The fine zone (index z_edges_fine_mm) holds everything from the surface down to below the deepest pigment of the
    epidermis and papillary dermis: light is scattered there by Henyey-Greenstein with g = 0.8. The coarse zone
    below it is the dermis (isotropic, reduced scattering); under it lies a homogeneous hypodermis without end.

    name                    type            meaning
    column_mm               float           width of a fine column; the coarse columns are `coarse_factor` times wider
    origin_mm               float           x and y of the first column's edge; negative: a margin
    z_edges_fine_mm         (nf+1,)         cell edges from 0: 5 um steps to 0.15 mm, 12.5 um steps below
    z_edges_coarse_mm       (nc+1,)         starts where the fine zone ends, ends at the hypodermis
    melanin_fine            (n, n, nf)      melanosome volume fraction
    blood_fine              (n, n, nf)      blood volume fraction
    dej_mm                  (n, n)          depth of the dermal-epidermal junction (epidermis above it)
    melanin_coarse          (m, m, nc)      as above, m = n / coarse_factor
    blood_coarse            (m, m, nc)
    keratin_to_mm           (n, n)          keratin with stronger scattering from the surface down to here; 0 = none
    keratin_scale           (n, n)          its scattering over that of the epidermis, at least 1
    dermal_scale            (n, n)          scattering of the dermis over that of the skin's (fibrosis over 1)
    birefringence           (n, n)          collagen that turns polarised light: 0.5 depolarises it, 1 turns by 90 deg;
                                            in horn the share of the polarisation that its order keeps

    fine_to_mm              float           structures that need fine columns reach down to here (vessels of a lesion)

    The four before the last may be None: keratin nowhere, 1 and 0 everywhere.
    """

    column_mm: float
    coarse_factor: int
    origin_mm: float
    z_edges_fine_mm: F32
    z_edges_coarse_mm: F32
    melanin_fine: F32
    blood_fine: F32
    dej_mm: F32
    melanin_coarse: F32
    blood_coarse: F32
    keratin_to_mm: F32 | None = None
    keratin_scale: F32 | None = None
    dermal_scale: F32 | None = None
    birefringence: F32 | None = None
    fine_to_mm: float = 0.0


@dataclass(frozen=True, slots=True)
class HairStrand:
    """One hair: control points (k, 4) as x, y, z (mm, z negative above the skin), radius (mm).

    `kind` is '' for the hair of the record's `hair` group, thick_hair or thin_hair where it is an artefact.
    """

    points_mm: F32
    vellus: bool = False
    kind: str = ""


@dataclass(frozen=True, slots=True)
class SceneSpec:
    """Everything the renderer needs for one picture besides the record itself.

    tissue       grid with the lesion in it
    surface_height_um  (n, n) relief of the skin under the gel (furrows negative), same columns as the grid
    hair         strands
    attributes   name -> (n, n) bool: footprint of each dermoscopic structure on the grid
    lesion       what the lesion adds, tone-independent (None: healthy skin or left out)
    polarised    seen between crossed polarisers
    loose_horn   (n, n) amount of loose horn where the keratin is that of dry skin, 0 elsewhere (None: nowhere)
    """

    tissue: TissueGrid
    surface_height_um: F32
    hair: tuple[HairStrand, ...]
    attributes: dict[str, NDArray[np.bool_]]
    lesion: LesionField | None = None
    polarised: bool = False
    loose_horn: F32 | None = None
