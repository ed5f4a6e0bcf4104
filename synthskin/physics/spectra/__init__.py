"""Published spectra, one table a file, each with its citation in the first lines of the file.

haemoglobin_prahl.csv    molar extinction of HbO2 and Hb, 360-800 nm, cm^-1 per mol/l (Prahl, OMLC 1998)
cie_1931_2deg_d65.csv    colour-matching functions and illuminant D65, 360-780 nm (CIE 15:2018)
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]


class SpectrumRangeError(ValueError):
    """A wavelength lies outside the published table; spectra are never extrapolated."""


@cache
def table(name: str) -> dict[str, F64]:
    """Columns of the shipped table `name`, read-only float64 arrays by column name."""
    lines = resources.files(__name__).joinpath(f"{name}.csv").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line and not line.startswith("#")]
    values = np.array([[float(v) for v in row.split(",")] for row in rows[1:]], dtype=np.float64)
    values.setflags(write=False)
    return {column: values[:, i] for i, column in enumerate(rows[0].split(","))}


def lookup(name: str, column: str, wavelength_nm: ArrayLike) -> F64:
    """Linear interpolation of a table at `wavelength_nm` (any shape); raises SpectrumRangeError outside it."""
    wavelength = np.asarray(wavelength_nm, dtype=np.float64)
    columns = table(name)
    grid = columns["wavelength_nm"]
    if wavelength.size and (wavelength.min() < grid[0] or wavelength.max() > grid[-1]):
        raise SpectrumRangeError(
            f"wavelength {wavelength.min():g} to {wavelength.max():g} nm: {name} holds {grid[0]:g} to {grid[-1]:g} nm"
        )
    return np.interp(wavelength, grid, columns[column])
