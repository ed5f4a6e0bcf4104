"""The flat skin model: layers, control directions, the anisotropy convention and measured skin."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synthskin.conventions import ita_class
from synthskin.draw import draw
from synthskin.physics import absorption, flat_skin, spectral
from synthskin.physics.adding_doubling import layered_reflectance, quadrature
from synthskin.preset import load_preset
from synthskin.record import Skin

NIST_FIT = Path(__file__).parents[1] / "benchmarks" / "nist_fit.py"


@pytest.mark.parametrize("preset", ["fst2", "fst4", "fst6"])
def test_pheomelanin_makes_skin_yellower_not_lighter(preset: str) -> None:
    skin = draw(load_preset(preset), 0, 0).skin
    xyz = spectral.integrate_xyz(
        flat_skin.ITA_WAVELENGTH_NM,
        flat_skin.reflectance([replace(skin, pheomelanin_share=v) for v in (0.0, 0.3, 0.7)],
                              flat_skin.ITA_WAVELENGTH_NM),
    )
    lab = spectral.xyz_to_lab(xyz)
    assert np.all(np.diff(lab[:, 2]) > 0.2)
    assert np.ptp(lab[:, 0]) < 1.5, lab


def test_column_melanin_does_not_depend_on_its_share() -> None:
    """All melanin of the record is in the layers: melanosome_fraction * epidermis_thickness."""
    for share in (0.0, 0.6, 0.95):
        skin = Skin(melanosome_fraction=0.2, basal_melanin_share=share)
        thickness, mu_a, _, _ = flat_skin.layers([skin], [550.0])
        excess = mu_a[0, 0, :3] - absorption.baseline_mu_a_per_mm(550.0)
        per_volume = absorption.melanosome_mu_a_per_mm(550.0) - absorption.baseline_mu_a_per_mm(550.0)
        assert float(thickness[0, 0, :3].sum()) == pytest.approx(0.070)
        assert float(excess @ thickness[0, 0, :3] / per_volume) == pytest.approx(0.2 * 0.070)


def test_melanin_lowers_ita_at_every_step() -> None:
    ita = flat_skin.ita_of_skins([Skin(melanosome_fraction=m) for m in np.geomspace(0.002, 0.6, 12)])
    assert np.all(np.diff(ita) < 0.0)


def test_blood_raises_a_at_every_step() -> None:
    skins = [Skin(blood_fraction=b) for b in np.geomspace(0.002, 0.05, 8)]
    lab = spectral.xyz_to_lab(
        spectral.integrate_xyz(flat_skin.ITA_WAVELENGTH_NM, flat_skin.reflectance(skins, flat_skin.ITA_WAVELENGTH_NM))
    )
    assert np.all(np.diff(lab[:, 1]) > 0.0)


@pytest.mark.parametrize("number", range(1, 7))
def test_isotropic_below_the_fine_zone(number: int) -> None:
    """HG in the fine zone and isotropic below, against HG everywhere: within 3 % at 450, 550 and 650 nm."""
    preset = load_preset(f"fst{number}")
    skins = [draw(preset, 0, i).skin for i in range(3)]
    quad = quadrature(12)
    shipped, everywhere = (
        layered_reflectance(*flat_skin.layers(skins, [450.0, 550.0, 650.0], flag), quad) for flag in (False, True)
    )
    assert np.abs(shipped / everywhere - 1.0).max() < 0.03


@pytest.mark.parametrize("number", range(1, 7))
def test_presets_are_in_their_class(number: int) -> None:
    preset = load_preset(f"fst{number}")
    ita = flat_skin.ita_of_skins([draw(preset, 0, i).skin for i in range(64)])
    assert np.mean([ita_class(float(v)) == number for v in ita]) >= 0.95


def test_ten_cosines_are_enough_for_ita() -> None:
    nm = flat_skin.ITA_WAVELENGTH_NM
    skins = [Skin(melanosome_fraction=m) for m in (0.004, 0.015, 0.05, 0.1, 0.25)]
    fine = spectral.ita_deg(
        spectral.xyz_to_lab(spectral.integrate_xyz(nm, flat_skin.reflectance(skins, nm, quadrature(20))))
    )
    assert np.abs(fine - flat_skin.ita_of_skins(skins)).max() < 0.3


def test_thickness_does_not_reach_the_hypodermis_early() -> None:
    skin = Skin(dermis_thickness_mm=0.5, epidermis_thickness_um=200.0)
    thickness = flat_skin.layers([skin], [550.0])[0][0, 0]
    assert np.all(thickness > 0.0) and float(thickness[:-1].sum()) == pytest.approx(0.7)
    thin = replace(skin, epidermis_thickness_um=30.0)
    assert np.all(flat_skin.layers([thin], [550.0])[0] > 0.0)


def test_every_allowed_skin_has_a_colour() -> None:
    """Corners of the record's bounds: fractions stay under 1, reflectance inside (0, 1)."""
    corners = itertools.product((0.001, 0.6), (0.0, 0.3, 0.95), (30.0, 200.0), (0.0005, 0.15), (0.5, 4.0))
    skins = [
        Skin(
            melanosome_fraction=m,
            basal_melanin_share=s,
            epidermis_thickness_um=e,
            blood_fraction=b,
            dermis_thickness_mm=d,
        )
        for m, s, e, b, d in corners
    ]
    found = flat_skin.reflectance(skins, [450.0, 650.0])
    assert np.all(found > 0.0) and np.all(found < 1.0)


def test_measured_skin() -> None:
    """Three people of the NIST set; all fifty in benchmarks/nist_fit.py."""
    spec = importlib.util.spec_from_file_location("nist_fit", NIST_FIT)
    assert spec is not None and spec.loader is not None
    nist_fit = importlib.util.module_from_spec(spec)
    sys.modules["nist_fit"] = nist_fit
    spec.loader.exec_module(nist_fit)
    wavelength, spectra = nist_fit.load(nist_fit.NIST)
    for subject in (0, 9, 13):
        _, _, modelled, at_bound = nist_fit.fit(wavelength, spectra[subject])
        assert float(np.sqrt(np.mean((modelled - spectra[subject]) ** 2))) < 0.010
        assert not at_bound
