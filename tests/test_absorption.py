"""Absorption: limits, mixtures and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from synthskin.physics import absorption, spectra


def test_packing_limits() -> None:
    assert float(absorption.vessel_packing(30.0, 0.0)) == 1.0
    assert float(absorption.vessel_packing(30.0, 1e-4)) == pytest.approx(1.0, abs=1e-5)
    thick = float(absorption.vessel_packing(30.0, 50.0))  # 2 mu_a r = 3
    assert thick == pytest.approx((1.0 - np.exp(-3.0)) / 3.0)


def test_blood_is_linear_in_oxygenation() -> None:
    ends = absorption.blood_mu_a_per_mm(600.0, [0.0, 1.0])
    assert float(absorption.blood_mu_a_per_mm(600.0, 0.25)) == pytest.approx(0.75 * ends[0] + 0.25 * ends[1])


def test_mixture_is_volume_weighted_and_refuses_too_much() -> None:
    assert float(absorption.tissue_mu_a_per_mm(0.1, 0.2, 50.0, 20.0, 0.05)) == pytest.approx(5.0 + 4.0 + 0.035)
    with pytest.raises(ValueError, match="sum to at most 1"):
        absorption.tissue_mu_a_per_mm(0.8, 0.3, 50.0, 20.0, 0.05)


def test_no_extrapolation() -> None:
    with pytest.raises(spectra.SpectrumRangeError, match="360 to 800 nm"):
        absorption.blood_mu_a_per_mm(900.0, 0.5)
    with pytest.raises(ValueError, match="0 to 1"):
        absorption.blood_mu_a_per_mm(500.0, 1.5)


def test_tables_are_read_only() -> None:
    with pytest.raises(ValueError):
        spectra.table("haemoglobin_prahl")["wavelength_nm"][0] = 1.0


def test_baseline_and_hypodermis_fall_with_wavelength() -> None:
    nm = np.arange(400.0, 701.0, 10.0)
    for function in (
        absorption.baseline_mu_a_per_mm,
        absorption.hypodermis_mu_a_per_mm,
        absorption.melanosome_mu_a_per_mm,
    ):
        values = function(nm)
        assert np.all(values > 0.0) and np.all(np.diff(values) < 0.0)
