"""Absorption coefficients of skin's chromophores, in mm^-1 (published in cm^-1, converted here and nowhere else).

A voxel absorbs mu_a = m * melanosome + b * packing * blood + (1 - m - b) * baseline, which is what
`tissue_mu_a_per_mm` returns; the hypodermis has its own published value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthskin.physics.spectra import lookup

F64 = NDArray[np.float64]

MM_PER_CM = 10.0
HAEMOGLOBIN_G_PER_L = 150.0  # whole blood, Prahl (OMLC 1998)
HAEMOGLOBIN_G_PER_MOL = 64500.0  # Prahl (OMLC 1998)
PHEOMELANIN_SAME_NM = 550.0


def melanosome_mu_a_per_mm(wavelength_nm: ArrayLike, pheomelanin_share: ArrayLike = 0.0) -> F64:
    """Interior of a cutaneous melanosome: 6.6e11 lambda^-3.33 cm^-1, 300-1000 nm (Jacques, OMLC 1998).

    `pheomelanin_share` 0...1 of that at PHEOMELANIN_SAME_NM is pheomelanin's, which falls as lambda^-4.75 (2.9e15 cm^-1
    in Donner & Jensen 2006), so that a skin's lightness stays where it is; the two arguments broadcast.
    """
    wavelength, share = np.asarray(wavelength_nm, np.float64), np.asarray(pheomelanin_share, np.float64)
    eumelanin = 6.6e11 * wavelength**-3.33 / MM_PER_CM
    return np.asarray(eumelanin * (1.0 + share * ((wavelength / PHEOMELANIN_SAME_NM) ** (3.33 - 4.75) - 1.0)))


def baseline_mu_a_per_mm(wavelength_nm: ArrayLike) -> F64:
    """Bloodless, melanin-free skin: 0.244 + 85.3 exp(-(lambda - 154)/66.2) cm^-1 (Saidi 1992; Jacques, OMLC 1998)."""
    wavelength = np.asarray(wavelength_nm, dtype=np.float64)
    return (0.244 + 85.3 * np.exp(-(wavelength - 154.0) / 66.2)) / MM_PER_CM


def hypodermis_mu_a_per_mm(wavelength_nm: ArrayLike) -> F64:
    """Subcutaneous fat: -lambda/600 + 143/60 cm^-1, 400-700 nm (the line used by S-SYNTH 2024)."""
    wavelength = np.asarray(wavelength_nm, dtype=np.float64)
    return (-wavelength / 600.0 + 143.0 / 60.0) / MM_PER_CM


def blood_mu_a_per_mm(wavelength_nm: ArrayLike, oxygenation: ArrayLike) -> F64:
    """Whole blood, 150 g/l haemoglobin: 2.303 eps 150/64500 cm^-1 (Prahl, OMLC 1998), 360-800 nm.

    `oxygenation` 0...1 is the saturation; the two arguments broadcast.
    """
    saturation = np.asarray(oxygenation, dtype=np.float64)
    if saturation.size and (saturation.min() < 0.0 or saturation.max() > 1.0):
        raise ValueError(f"oxygenation {saturation.min():g} to {saturation.max():g}: allowed is 0 to 1")
    oxy = lookup("haemoglobin_prahl", "hbo2_cm-1_per_M", wavelength_nm)
    deoxy = lookup("haemoglobin_prahl", "hb_cm-1_per_M", wavelength_nm)
    molar = HAEMOGLOBIN_G_PER_L / HAEMOGLOBIN_G_PER_MOL
    return 2.303 * molar * (saturation * oxy + (1.0 - saturation) * deoxy) / MM_PER_CM


def bilirubin_mu_a_per_mm(wavelength_nm: ArrayLike, concentration_umol_per_l: ArrayLike) -> F64:
    """Albumin-bound bilirubin: a Gaussian of 48 500 cm^-1 per mol/l at 460 nm (Jacobsen & Brodersen 1983 for the peak).

    The width (sigma 32 nm below, 30 nm above the peak) approximates the published band; not for use past 560 nm.
    """
    wavelength, concentration = np.asarray(wavelength_nm, np.float64), np.asarray(concentration_umol_per_l, np.float64)
    sigma = np.where(wavelength < 460.0, 32.0, 30.0)
    molar = 48500.0 * np.exp(-0.5 * ((wavelength - 460.0) / sigma) ** 2)
    return np.asarray(2.303 * molar * concentration * 1e-6 / MM_PER_CM)


def vessel_packing(mu_a_per_mm: ArrayLike, vessel_radius_um: ArrayLike) -> F64:
    """Factor on blood absorption because blood is packed in vessels: (1 - exp(-2 mu_a r)) / (2 mu_a r).

    Svaasand et al. 1995 (Lasers Med Sci 10:55), van Veen et al. 2002 (Phys Med Biol 47:N33-40). Radius 0 gives 1.
    """
    depth = 2.0 * np.asarray(mu_a_per_mm, dtype=np.float64) * np.asarray(vessel_radius_um, dtype=np.float64) / 1000.0
    safe = np.where(depth > 1e-9, depth, 1.0)
    return np.where(depth > 1e-9, -np.expm1(-safe) / safe, 1.0)


def packed_blood_mu_a_per_mm(wavelength_nm: ArrayLike, oxygenation: ArrayLike, vessel_radius_um: ArrayLike) -> F64:
    """Blood as the tissue sees it: absorption of whole blood times its vessel packing."""
    whole = blood_mu_a_per_mm(wavelength_nm, oxygenation)
    return whole * vessel_packing(whole, vessel_radius_um)


def tissue_mu_a_per_mm(
    melanosome_fraction: ArrayLike,
    blood_fraction: ArrayLike,
    melanosome_per_mm: ArrayLike,
    packed_blood_per_mm: ArrayLike,
    baseline_per_mm: ArrayLike,
) -> F64:
    """Volume-weighted mixture of epidermis or dermis; the five arguments broadcast. Raises if fractions exceed 1."""
    melanin = np.asarray(melanosome_fraction, dtype=np.float64)
    blood = np.asarray(blood_fraction, dtype=np.float64)
    if np.any(melanin < 0.0) or np.any(blood < 0.0) or np.any(melanin + blood > 1.0 + 1e-6):
        raise ValueError("melanosome and blood volume fractions must not be negative and must sum to at most 1")
    rest = 1.0 - melanin - blood
    per_melanosome, per_blood, per_rest = (
        np.asarray(v, np.float64) for v in (melanosome_per_mm, packed_blood_per_mm, baseline_per_mm)
    )
    return np.asarray(melanin * per_melanosome + blood * per_blood + rest * per_rest)
