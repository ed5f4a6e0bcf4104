"""Scattering coefficients and the phase function, in mm^-1 (published in cm^-1, converted here and nowhere else).

The shipping convention, shared by the walk and the flat model: in the fine zone (epidermis and the papillary dermis
beside it) light is scattered by Henyey-Greenstein with g = FINE_ZONE_G and mu_s = mu_s'/(1 - g); below it
isotropically with mu_s = mu_s'. Inside the fine zone mu_s(x, lambda) = fine_zone_mu_s(lambda) * s(x), with s = 1 in
the epidermis and s = `papillary_scale(...)` in dermis: one spectrum, so that a path's majorant needs no lookup.

Living epidermis scatters `skin.epidermis_scattering` times as much as excised epidermis was measured to (0.5 by
default; docs/physics.md says what that rests on); `skin.scattering_scale` is the dermis'.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]

MM_PER_CM = 10.0
FINE_ZONE_G = 0.8  # agrees with HG everywhere within 2 % (docs/physics.md); epidermis 0.7-0.9 (van Gemert 1989)
DERMIS_POWER = 1.292  # Jacques 2013, table of skin
PAPILLARY_REFERENCE_NM = 550.0
USUAL_EPIDERMIS = 0.5  # `skin.epidermis_scattering` that a lesion's keratin_scale is relative to


def epidermis_mu_s_prime_per_mm(wavelength_nm: ArrayLike) -> F64:
    """68.7 (lambda/500)^-1.161 cm^-1: excised epidermis (Salomatina 2006 in Jacques 2013), 400-1300 nm."""
    ratio = np.asarray(wavelength_nm, dtype=np.float64) / 500.0
    return np.asarray(68.7 * ratio**-1.161 / MM_PER_CM)


def dermis_mu_s_prime_per_mm(wavelength_nm: ArrayLike, scale: ArrayLike = 1.0, power: ArrayLike = DERMIS_POWER) -> F64:
    """45.3 (lambda/500)^-power cm^-1 times `scale` (Salomatina 2006 in Jacques 2013), 400-1300 nm."""
    ratio = np.asarray(wavelength_nm, dtype=np.float64) / 500.0
    return np.asarray(scale, dtype=np.float64) * 45.3 * ratio ** -np.asarray(power, dtype=np.float64) / MM_PER_CM


def blood_mu_s_prime_per_mm(wavelength_nm: ArrayLike) -> F64:
    """22 (lambda/500)^-0.66 cm^-1 (Jacques 2013; whole blood)."""
    return 22.0 * (np.asarray(wavelength_nm, dtype=np.float64) / 500.0) ** -0.66 / MM_PER_CM


def hypodermis_mu_s_prime_per_mm(wavelength_nm: ArrayLike) -> F64:
    """Subcutaneous fat: -11/600 lambda + 1687/60 cm^-1, 400-700 nm (the line used by S-SYNTH 2024)."""
    return (-11.0 / 600.0 * np.asarray(wavelength_nm, dtype=np.float64) + 1687.0 / 60.0) / MM_PER_CM


def fine_zone_mu_s_per_mm(wavelength_nm: ArrayLike, epidermis: ArrayLike) -> F64:
    """Scattering coefficient (not reduced) of an epidermis that scatters `epidermis` times as much as the excised."""
    scale = np.asarray(epidermis, dtype=np.float64)
    return scale * epidermis_mu_s_prime_per_mm(wavelength_nm) / (1.0 - FINE_ZONE_G)


def papillary_scale(scale: ArrayLike, power: ArrayLike, epidermis: ArrayLike) -> F64:
    """s(x) of dermis that lies in the fine zone: mu_s' of dermis over mu_s' of epidermis at 550 nm (no unit)."""
    dermis = dermis_mu_s_prime_per_mm(PAPILLARY_REFERENCE_NM, scale, power)
    scattering = np.asarray(epidermis, dtype=np.float64) * epidermis_mu_s_prime_per_mm(PAPILLARY_REFERENCE_NM)
    return np.asarray(dermis / scattering)


def henyey_greenstein(cos_theta: ArrayLike, g: ArrayLike) -> F64:
    """Phase function per steradian, integral 1 over the sphere, mean cosine g (Henyey & Greenstein 1941)."""
    cosine, mean = np.asarray(cos_theta, dtype=np.float64), np.asarray(g, dtype=np.float64)
    return (1.0 - mean**2) / (4.0 * np.pi * (1.0 + mean**2 - 2.0 * mean * cosine) ** 1.5)
