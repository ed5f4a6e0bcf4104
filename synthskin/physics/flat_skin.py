"""The flat layered model of a Skin record: what the lateral mean of the tissue reflects, by adding-doubling.

Layers from the top: stratum corneum, living epidermis, basal layer, papillary dermis (inside the fine zone), reticular
dermis, hypodermis without end. The basal layer holds `basal_melanin_share` of the melanin, the living epidermis (basal
layer included) the rest, so that column melanin is melanosome_fraction * epidermis_thickness whatever the share.
Rete ridges are replaced by their mean thickness. Blood is uniform in the dermis. Scattering follows the fine-zone
convention of scattering.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthskin.physics import absorption, scattering, spectral
from synthskin.physics.adding_doubling import Quadrature, layered_reflectance, quadrature
from synthskin.record import Skin

F64 = NDArray[np.float64]

BASAL_THICKNESS_UM = 12.0  # one row of cells, 10-15 um (Odland 1991)
BASAL_MELANOSOME_LIMIT = 0.55  # denser than this is not packed; the basal layer then grows (by design, as anatomy)
STRATUM_CORNEUM_UM = 12.0  # 11-18 um, without melanin (Sandby-Moller 2003)
FINE_ZONE_MM = 0.15  # the fine zone ends here or PAPILLARY_MM under the epidermis, whichever is deeper
PAPILLARY_MM = 0.05
QUADRATURE = 10  # within 0.3 degrees of ITA of 16 cosines
ITA_WAVELENGTH_NM = np.arange(400.0, 701.0, 10.0)
LAYERS = ("stratum corneum", "living epidermis", "basal layer", "papillary dermis", "reticular dermis", "hypodermis")


def basal_thickness_um(skin: Skin) -> float:
    """Thickness of the basal layer: 12 um, or what holds its melanin at a fraction of BASAL_MELANOSOME_LIMIT."""
    column_um = skin.melanosome_fraction * skin.epidermis_thickness_um
    living_um = skin.epidermis_thickness_um - corneum_thickness_um(skin)
    through = (1.0 - skin.basal_melanin_share) * column_um / living_um
    density = min(BASAL_MELANOSOME_LIMIT, 0.95 - through)
    return min(max(BASAL_THICKNESS_UM, skin.basal_melanin_share * column_um / density), 0.99 * living_um)


def corneum_thickness_um(skin: Skin) -> float:
    """Stratum corneum: 12 um, at most 0.3 of the epidermis."""
    return min(STRATUM_CORNEUM_UM, 0.3 * skin.epidermis_thickness_um)


def layers(
    skins: Sequence[Skin],
    wavelength_nm: ArrayLike,
    anisotropic_everywhere: bool = False,
    extra_dermis_per_mm: ArrayLike = 0.0,
) -> tuple[F64, F64, F64, F64]:
    """thickness_mm, mu_a_per_mm, mu_s_per_mm and g, each (skins, wavelengths, 6 layers).

    With `anisotropic_everywhere` the dermis and hypodermis scatter with g = 0.8 too (to judge the convention).
    `extra_dermis_per_mm` (broadcasts to (skins, wavelengths)) is absorption by what a Skin does not hold, as bilirubin.
    """
    wavelength = np.asarray(wavelength_nm, dtype=np.float64)

    def column(name: str) -> F64:
        return np.array([getattr(skin, name) for skin in skins], dtype=np.float64)[:, None]

    epidermis = column("epidermis_thickness_um") / 1000.0
    basal = np.array([basal_thickness_um(skin) for skin in skins])[:, None] / 1000.0
    corneum = np.array([corneum_thickness_um(skin) for skin in skins])[:, None] / 1000.0
    living = epidermis - corneum
    fine = np.maximum(FINE_ZONE_MM, epidermis + PAPILLARY_MM)
    column_melanin = column("melanosome_fraction") * epidermis
    share = column("basal_melanin_share")
    melanosome = absorption.melanosome_mu_a_per_mm(wavelength, column("pheomelanin_share"))
    baseline = absorption.baseline_mu_a_per_mm(wavelength)
    blood = absorption.packed_blood_mu_a_per_mm(wavelength, column("oxygenation"), column("vessel_radius_um"))
    scale, power = column("scattering_scale"), column("scattering_power")
    of_epidermis = column("epidermis_scattering")

    def tissue(melanin: ArrayLike, blood_fraction: ArrayLike) -> F64:
        return absorption.tissue_mu_a_per_mm(melanin, blood_fraction, melanosome, blood, baseline)

    through = column_melanin * (1.0 - share) / living
    dermis_mu_a = tissue(0.0, column("blood_fraction")) + np.asarray(extra_dermis_per_mm, np.float64)
    epidermis_mu_s = scattering.fine_zone_mu_s_per_mm(wavelength, of_epidermis)
    dermis_mu_s = scattering.dermis_mu_s_prime_per_mm(wavelength, scale, power)
    hypodermis_mu_s = scattering.hypodermis_mu_s_prime_per_mm(wavelength)
    deep_g = scattering.FINE_ZONE_G if anisotropic_everywhere else 0.0
    shape = (len(skins), wavelength.size)
    per_layer = (
        (corneum, living - basal, basal, fine - epidermis, epidermis + column("dermis_thickness_mm") - fine, np.inf),
        (
            tissue(0.0, 0.0),
            tissue(through, 0.0),
            tissue(through + column_melanin * share / basal, 0.0),
            dermis_mu_a,
            dermis_mu_a,
            absorption.hypodermis_mu_a_per_mm(wavelength),
        ),
        (
            epidermis_mu_s,
            epidermis_mu_s,
            epidermis_mu_s,
            epidermis_mu_s * scattering.papillary_scale(scale, power, of_epidermis),
            dermis_mu_s / (1.0 - deep_g),
            hypodermis_mu_s / (1.0 - deep_g),
        ),
        (*(scattering.FINE_ZONE_G,) * 4, deep_g, deep_g),
    )
    thickness, mu_a, mu_s, g = (
        np.stack([np.broadcast_to(np.asarray(v, np.float64), shape) for v in values], axis=-1) for values in per_layer
    )
    return thickness, mu_a, mu_s, g


def reflectance(
    skins: Sequence[Skin],
    wavelength_nm: ArrayLike,
    quad: Quadrature | None = None,
    incidence: str = "normal",
    extra_dermis_per_mm: ArrayLike = 0.0,
) -> F64:
    """Diffuse reflectance (skins, wavelengths) under n 1.40 / 1.00, all angles, surface reflection left out."""
    quad = quad or quadrature(QUADRATURE)
    thickness, mu_a, mu_s, g = layers(skins, wavelength_nm, extra_dermis_per_mm=extra_dermis_per_mm)
    return layered_reflectance(thickness, mu_a, mu_s, g, quad, incidence)


def ita_of_skins(skins: Sequence[Skin]) -> F64:
    """Individual typology angle (skins,) in degrees: the record's `ita_deg`.

    Normal incidence, hemispherical collection, surface reflection left out, D65, 2 degree observer, n 1.40.
    """
    xyz = spectral.integrate_xyz(ITA_WAVELENGTH_NM, reflectance(skins, ITA_WAVELENGTH_NM))
    return spectral.ita_deg(spectral.xyz_to_lab(xyz))


def ita_of_skin(skin: Skin) -> float:
    """`ita_of_skins` of one skin."""
    return float(ita_of_skins([skin])[0])
