"""Scattering: the phase function's laws and the fine-zone convention."""

from __future__ import annotations

import numpy as np
import pytest

from synthskin.physics import scattering


@pytest.mark.parametrize("g", [-0.3, 0.0, 0.5, 0.8, 0.95])
def test_henyey_greenstein_integrates_to_one_and_gives_back_g(g: float) -> None:
    nodes, weights = np.polynomial.legendre.leggauss(400)
    values = 2.0 * np.pi * scattering.henyey_greenstein(nodes, g)
    assert float(weights @ values) == pytest.approx(1.0, abs=1e-6)
    assert float(weights @ (values * nodes)) == pytest.approx(g, abs=1e-6)


def test_fine_zone_keeps_the_reduced_scattering() -> None:
    nm = np.array([430.0, 550.0, 640.0])
    reduced = scattering.fine_zone_mu_s_per_mm(nm, 0.6) * (1.0 - scattering.FINE_ZONE_G)
    assert reduced == pytest.approx(0.6 * scattering.epidermis_mu_s_prime_per_mm(nm))


def test_papillary_scale_is_exact_at_its_reference() -> None:
    nm = scattering.PAPILLARY_REFERENCE_NM
    zone = scattering.fine_zone_mu_s_per_mm(nm, 0.6) * scattering.papillary_scale(1.3, 1.1, 0.6)
    scaled = zone * (1.0 - scattering.FINE_ZONE_G)
    assert float(scaled) == pytest.approx(float(scattering.dermis_mu_s_prime_per_mm(nm, 1.3, 1.1)))


def test_power_turns_about_500_nm() -> None:
    flat, steep = (scattering.dermis_mu_s_prime_per_mm([400.0, 500.0, 700.0], 1.0, power) for power in (0.7, 2.5))
    assert flat[1] == steep[1] and flat[0] < steep[0] and flat[2] > steep[2]
