"""Colour: white, ITA, and the nine bands against 5 nm integration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synthskin.physics import flat_skin, spectral
from synthskin.record import Skin

NIST = Path(__file__).parent / "data" / "nist_skin_reflectance_50.csv"
GRID_NM = np.arange(400.0, 701.0, 5.0)


def test_white_is_white() -> None:
    bands = len(spectral.BAND_WAVELENGTH_NM)
    assert spectral.xyz_from_bands(np.ones(bands)) == pytest.approx(spectral.white_xyz(), abs=2e-6)
    assert spectral.integrate_xyz(GRID_NM, np.ones(61)) == pytest.approx(spectral.white_xyz(), abs=1e-12)
    assert spectral.xyz_to_lab(spectral.white_xyz()) == pytest.approx([100.0, 0.0, 0.0], abs=1e-9)
    assert spectral.xyz_to_linear_srgb(spectral.white_xyz()) == pytest.approx([1.0, 1.0, 1.0], abs=3e-4)


def test_bands_are_in_groups() -> None:
    nm = np.array(spectral.BAND_WAVELENGTH_NM)
    assert sorted(i for group in spectral.BAND_GROUPS for i in group) == list(range(nm.size))
    assert all(nm[list(group)].max() / nm[list(group)].min() < 1.12 for group in spectral.BAND_GROUPS)
    assert np.all(spectral.BAND_WEIGHTS >= 0.0)


def test_bands_on_measured_skin() -> None:
    data = np.genfromtxt(NIST, delimiter=",", skip_header=2)
    spectra = np.stack([np.interp(GRID_NM, data[:, 0], column) for column in data[:, 1:].T])
    _assert_close(spectra, 0.25)


def test_bands_on_dark_and_bloody_skin() -> None:
    skins = [
        Skin(melanosome_fraction=m, blood_fraction=b, oxygenation=o)
        for m in (0.003, 0.05, 0.2, 0.6)
        for b, o in ((0.002, 0.9), (0.02, 0.5), (0.15, 0.7))
    ]
    _assert_close(flat_skin.reflectance(skins, GRID_NM), 0.25)


def _assert_close(spectra: np.ndarray, limit: float) -> None:
    bands = [int((nm - 400.0) // 5) for nm in spectral.BAND_WAVELENGTH_NM]
    exact = spectral.xyz_to_lab(spectral.integrate_xyz(GRID_NM, spectra))
    found = spectral.xyz_to_lab(spectral.xyz_from_bands(spectra[:, bands]))
    assert spectral.ciede2000(exact, found).max() < limit


def test_ita_quadrants() -> None:
    lab = [[60.0, 8.0, 10.0], [40.0, 8.0, 10.0], [60.0, 8.0, -10.0]]
    assert spectral.ita_deg(lab) == pytest.approx([45.0, -45.0, 135.0])


def test_cie_tables_against_colour_science() -> None:
    colour = pytest.importorskip("colour")
    columns = spectral.table("cie_1931_2deg_d65")
    cmfs, d65 = colour.MSDS_CMFS["CIE 1931 2 Degree Standard Observer"], colour.SDS_ILLUMINANTS["D65"]
    for i, nm in enumerate(columns["wavelength_nm"]):
        assert [columns[name][i] for name in ("x_bar", "y_bar", "z_bar")] == pytest.approx(cmfs[float(nm)], abs=1e-7)
        assert columns["d65"][i] == pytest.approx(d65[float(nm)], rel=1e-6)
