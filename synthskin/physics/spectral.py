"""From reflectance to colour: CIE integration, the render's fixed wavelengths, Lab, linear sRGB, ITA, CIEDE2000.

XYZ is under D65 and the 2 degree observer, normalised so that a perfect white diffuser has Y = 1.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthskin.physics.spectra import table

F64 = NDArray[np.float64]

#: The render's wavelengths in three hero groups of three; within a group mu_s differs by at most 12 %.
BAND_WAVELENGTH_NM: Final = (430.0, 445.0, 460.0, 500.0, 525.0, 550.0, 580.0, 600.0, 640.0)
BAND_GROUPS: Final = ((0, 1, 2), (3, 4, 5), (6, 7, 8))
#: Weights (9, 3) from band reflectance to XYZ, from benchmarks/fit_wavelengths.py (figures in benchmarks/results).
BAND_WEIGHTS: Final = np.array(
    [
        [0.028164, 0.000000, 0.284001],
        [0.080599, 0.005288, 0.165293],
        [0.062762, 0.027428, 0.481919],
        [0.000000, 0.077919, 0.157061],
        [0.076508, 0.232862, 0.000000],
        [0.066589, 0.252792, 0.000000],
        [0.197828, 0.179239, 0.000000],
        [0.248085, 0.152092, 0.000650],
        [0.189932, 0.072381, 0.000046],
    ]
)
BAND_WEIGHTS.setflags(write=False)


def xyz_from_bands(reflectance: ArrayLike) -> F64:
    """XYZ (..., 3) of reflectance (..., 9) at BAND_WAVELENGTH_NM; reflectance 1 gives D65 white with Y = 1."""
    return np.asarray(reflectance, dtype=np.float64) @ BAND_WEIGHTS


@cache
def white_xyz() -> F64:
    """XYZ (3,) of a perfect white diffuser under D65 on the 5 nm tables (0.9504, 1, 1.0888)."""
    columns = table("cie_1931_2deg_d65")
    power = columns["d65"]
    white = np.array([power @ columns[name] for name in ("x_bar", "y_bar", "z_bar")]) / (power @ columns["y_bar"])
    white.setflags(write=False)
    return white


def integrate_xyz(wavelength_nm: ArrayLike, reflectance: ArrayLike) -> F64:
    """XYZ (..., 3) of reflectance (..., k) at increasing wavelengths (k,): linear between them, held constant outside.

    Summed on the 5 nm tables of CIE 15; normalised so that reflectance 1 gives `white_xyz`.
    """
    wavelength = np.asarray(wavelength_nm, dtype=np.float64)
    return np.asarray(reflectance, dtype=np.float64) @ _integration_weights(tuple(wavelength))


@cache
def _integration_weights(wavelength_nm: tuple[float, ...]) -> F64:
    columns = table("cie_1931_2deg_d65")
    grid = columns["wavelength_nm"]
    hats = np.stack([np.interp(grid, wavelength_nm, row) for row in np.eye(len(wavelength_nm))])
    response = np.stack([columns[name] * columns["d65"] for name in ("x_bar", "y_bar", "z_bar")], axis=1)
    return np.asarray(hats @ response / response[:, 1].sum())


def xyz_to_lab(xyz: ArrayLike) -> F64:
    """CIE 1976 L*a*b* (..., 3) of XYZ (..., 3), white D65 (CIE 15:2018)."""
    ratio = np.asarray(xyz, dtype=np.float64) / white_xyz()
    delta = 6.0 / 29.0
    f = np.where(ratio > delta**3, np.cbrt(ratio), ratio / (3.0 * delta**2) + 4.0 / 29.0)
    return np.stack(
        [116.0 * f[..., 1] - 16.0, 500.0 * (f[..., 0] - f[..., 1]), 200.0 * (f[..., 1] - f[..., 2])], axis=-1
    )


XYZ_TO_LINEAR_SRGB: Final = np.linalg.inv(
    np.array(
        [  # IEC 61966-2-1
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
)


def xyz_to_linear_srgb(xyz: ArrayLike) -> F64:
    """Linear sRGB (..., 3) of XYZ (..., 3) under D65; not clipped."""
    return np.asarray(xyz, dtype=np.float64) @ XYZ_TO_LINEAR_SRGB.T


def ita_deg(lab: ArrayLike) -> F64:
    """Individual typology angle atan2(L* - 50, b*) in degrees (Chardon 1991), from L*a*b* (..., 3)."""
    values = np.asarray(lab, dtype=np.float64)
    return np.degrees(np.arctan2(values[..., 0] - 50.0, values[..., 2]))


def ciede2000(lab_1: ArrayLike, lab_2: ArrayLike) -> F64:
    """CIEDE2000 colour difference (...) of two L*a*b* arrays (..., 3) (Sharma, Wu & Dalal 2005)."""
    from skimage.color import deltaE_ciede2000  # heavy, only here

    return np.asarray(deltaE_ciede2000(np.asarray(lab_1, np.float64), np.asarray(lab_2, np.float64)))
