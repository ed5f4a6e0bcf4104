"""LesionField: what a lesion adds to the skin, as maps that do not depend on skin tone, thickness or light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

#: Thickness of living epidermis (um) that turns `lesion.epidermal_melanin` into a column, whatever the skin is:
#: 56-97 um of epidermis less stratum corneum (Sandby-Moller 2003).
LIVING_EPIDERMIS_UM = 50.0


@dataclass(frozen=True, slots=True)
class LesionField:
    """2-D maps on the columns of the tissue grid, all (n, n), indexed [y, x].

    A column of melanin is the integral over depth of the melanosome fraction that the lesion adds, in um.

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
    footprints      dict    'pigment_network', 'globules' -> (n, n) bool
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
    footprints: dict[str, NDArray[np.bool_]]

    @property
    def column_um(self) -> F32:
        """All melanin of the lesion in a column, um."""
        return self.epidermal_um + self.junctional_um + self.dermal_um
