"""LesionField: what a lesion adds to the skin, as maps that do not depend on skin tone, thickness or light."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

#: Thickness of living epidermis (um) that turns `lesion.epidermal_melanin` into a column, whatever the skin is:
#: 56-97 um of epidermis less stratum corneum (Sandby-Moller 2003).
LIVING_EPIDERMIS_UM = 50.0
#: Names of the optional maps and what each is where the lesion leaves the skin as it is.
NEUTRAL = {
    "corneal_um": 0.0,
    "deep_um": 0.0,
    "deep_depth_um": 0.0,
    "vessel_um": 0.0,
    "vessel_depth_um": 0.0,
    "crust_um": 0.0,
    "keratin_um": 0.0,
    "keratin_scale": 1.0,
    "thickening_um": 0.0,
    "skin_melanin": 1.0,
    "dermal_scale": 1.0,
    "birefringence": 0.0,
}


@dataclass(frozen=True, slots=True)
class LesionField:
    """2-D maps on the columns of the tissue grid, all (n, n), indexed [y, x].

    A column of melanin is the integral over depth of the melanosome fraction that the lesion adds, in um; a column of
    blood that of the blood fraction.

    name            type    meaning
    arrival         (n, n)  time at which the growth reaches a column (0 at its origin, 1 at the final border)
    presence        (n, n)  0 outside ... 1 inside; fades over the border; never falls with time
    maturity        (n, n)  0 at the front ... 1 where the growth is oldest; nests lie deeper there
    ridge           (n, n)  rete ridges of the lesion: 1 on a ridge (line of the network), 0 over a papilla
    epidermal_um    (n, n)  melanin through the living epidermis
    junctional_um   (n, n)  melanin in the basal layer and in nests at the junction
    dermal_um       (n, n)  melanin in nests of the dermis
    dermal_depth_um float   mean depth of the dermal nests below the junction
    blood_factor    (n, n)  blood fraction over that of the skin, 1 outside
    footprints      dict    name of a structure -> (n, n) bool

    Optional maps, None where the lesion has nothing of the kind (`NEUTRAL`):
    corneal_um      (n, n)  melanin, or oxidised keratin as dark as it, at the surface
    deep_um         (n, n)  melanin of sheets, macrophages and tumour nests under the junction
    deep_depth_um   (n, n)  its mean depth below the junction
    vessel_um       (n, n)  blood of resolved vessels and lacunae
    vessel_depth_um (n, n)  depth of their roof below the junction
    crust_um        (n, n)  blood at the surface
    keratin_um      (n, n)  stratum corneum beyond the skin's, from the surface down
    keratin_scale   (n, n)  its scattering over that of light skin's epidermis, at least 1
    thickening_um   (n, n)  what the epidermis is thicker by (acanthosis), or, negative, thinner (ulceration)
    skin_melanin    (n, n)  share of the skin's own epidermal melanin that is left
    dermal_scale    (n, n)  scattering of the dermis over that of the skin's (fibrosis over 1)
    birefringence   (n, n)  collagen that turns polarised light back, or horn that keeps it (physics.scene)
    """

    arrival: F32
    presence: F32
    maturity: F32
    ridge: F32
    epidermal_um: F32
    junctional_um: F32
    dermal_um: F32
    dermal_depth_um: float
    blood_factor: F32
    footprints: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    corneal_um: F32 | None = None
    deep_um: F32 | None = None
    deep_depth_um: F32 | None = None
    vessel_um: F32 | None = None
    vessel_depth_um: F32 | None = None
    crust_um: F32 | None = None
    keratin_um: F32 | None = None
    keratin_scale: F32 | None = None
    thickening_um: F32 | None = None
    skin_melanin: F32 | None = None
    dermal_scale: F32 | None = None
    birefringence: F32 | None = None

    @property
    def column_um(self) -> F32:
        """All melanin of the lesion in a column, um."""
        total = self.epidermal_um + self.junctional_um + self.dermal_um
        for extra in (self.corneal_um, self.deep_um):
            if extra is not None:
                total = total + extra
        return total
