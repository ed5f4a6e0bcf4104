"""Published values first: each test names its table and its tolerance."""

from __future__ import annotations

import numpy as np
import pytest

from synthskin.physics import absorption, adding_doubling, scattering, spectral


def test_van_de_hulst_slab() -> None:
    """van de Hulst 1980, table 35: albedo 0.9, tau 2, g 0.75, matched: R 0.09739, T 0.66096."""
    matched = adding_doubling.quadrature(16, 1.0, 1.0)
    reflectance, transmittance = adding_doubling.slab(0.2, 1.0, 9.0, 0.75, matched)
    assert float(reflectance) == pytest.approx(0.09739, abs=5e-5)
    assert float(transmittance) == pytest.approx(0.66096, abs=5e-5)


@pytest.mark.parametrize("cosines", [12, 16, 24])
def test_giovanelli_half_space(cosines: int) -> None:
    """Giovanelli 1955: n 1.5, albedo 0.9, isotropic, half space: total reflectance 0.2600 (surface included)."""
    quad = adding_doubling.quadrature(cosines, 1.5, 1.0)
    diffuse = adding_doubling.layered_reflectance([np.inf], [1.0], [9.0], [0.0], quad)
    assert float(diffuse) + adding_doubling.surface_reflectance(quad) == pytest.approx(0.2600, abs=4e-4)
    assert adding_doubling.surface_reflectance(quad) == pytest.approx(0.04, abs=1e-12)


def test_diffuse_surface_reflectance() -> None:
    """Duntley 1942: 0.092 of diffuse light is reflected by a surface of n 1.5."""
    assert adding_doubling.surface_reflectance(adding_doubling.quadrature(24, 1.5), "diffuse") == pytest.approx(
        0.0918, abs=4e-4
    )


def test_melanosome_coefficients() -> None:
    """Jacques, OMLC 1998: mu_a = 6.6e11 nm^-3.33 cm^-1, 228 cm^-1 at 694 nm."""
    assert float(absorption.melanosome_mu_a_per_mm(694.0)) == pytest.approx(22.8, abs=0.15)  # 228 cm^-1 at 694 nm
    assert float(absorption.melanosome_mu_a_per_mm(500.0)) == pytest.approx(6.6e11 * 500.0**-3.33 / 10.0)


def test_pheomelanin_is_steeper_and_as_dark_at_550_nm() -> None:
    """Donner & Jensen 2006, mm^-1: eumelanin 6.6e10 nm^-3.33, pheomelanin 2.9e14 nm^-4.75; half and half by volume
    absorbs 0.36 by pheomelanin at 550 nm."""
    nm = np.array([430.0, 500.0, 550.0, 640.0])
    eumelanin, pheomelanin = 6.6e10 * nm**-3.33, 2.9e14 * nm**-4.75
    mixed = 0.5 * eumelanin + 0.5 * pheomelanin
    share = 0.5 * pheomelanin[2] / mixed[2]
    assert share == pytest.approx(0.36, abs=0.005)
    found = absorption.melanosome_mu_a_per_mm(nm, share)
    assert found / found[2] == pytest.approx(mixed / mixed[2], rel=1e-6)
    assert found[2] == pytest.approx(absorption.melanosome_mu_a_per_mm(550.0), rel=1e-12)


def test_haemoglobin_peaks() -> None:
    """Prahl, OMLC 1998, cm^-1/M: HbO2 20 932.8 at 500 nm and 55 540 at 576 nm, Hb 54 520 at 556 nm (table peaks)."""
    molar = 2.303 * 150.0 / 64500.0 / 10.0
    assert float(absorption.blood_mu_a_per_mm(500.0, 1.0)) == pytest.approx(molar * 20932.8, rel=2e-4)
    assert float(absorption.blood_mu_a_per_mm(576.0, 1.0)) == pytest.approx(molar * 55540.0, rel=2e-3)
    assert float(absorption.blood_mu_a_per_mm(556.0, 0.0)) == pytest.approx(molar * 54520.0, rel=5e-3)


def test_scattering_at_500_nm() -> None:
    """The published amplitudes: 68.7, 45.3 and 22 cm^-1 at 500 nm."""
    assert float(scattering.epidermis_mu_s_prime_per_mm(500.0)) == pytest.approx(6.87)
    assert float(scattering.dermis_mu_s_prime_per_mm(500.0)) == pytest.approx(4.53)
    assert float(scattering.blood_mu_s_prime_per_mm(500.0)) == pytest.approx(2.2)


def test_white_point() -> None:
    """CIE 15:2018: D65 under the 2 degree observer is (0.95047, 1, 1.08883)."""
    assert spectral.white_xyz() == pytest.approx([0.95047, 1.0, 1.08883], abs=3e-4)


def test_sharma_ciede2000() -> None:
    """Sharma, Wu & Dalal 2005, pairs 1 and 17: 2.0425 and 27.1492."""
    first = spectral.ciede2000([50.0, 2.6772, -79.7751], [50.0, 0.0, -82.7485])
    second = spectral.ciede2000([50.0, 2.5, 0.0], [73.0, 25.0, -18.0])
    assert float(first) == pytest.approx(2.0425, abs=1e-4)
    assert float(second) == pytest.approx(27.1492, abs=1e-4)
