"""Adding-doubling against iadpython on single layers, and the laws it must hold."""

from __future__ import annotations

import numpy as np
import pytest

from synthskin.physics import adding_doubling as ad


@pytest.mark.parametrize(
    "thickness, mu_a, mu_s, g",
    [
        (0.06, 20.0, 40.0, 0.8),
        (0.06, 2.0, 40.0, 0.8),
        (1.0, 0.1, 5.0, 0.0),
        (0.1, 0.5, 30.0, 0.8),
        (1.0, 0.05, 20.0, 0.8),
    ],
)
def test_single_layer_against_iadpython(thickness: float, mu_a: float, mu_s: float, g: float) -> None:
    iadpython = pytest.importorskip("iadpython")
    sample = iadpython.Sample(a=mu_s / (mu_s + mu_a), b=(mu_s + mu_a) * thickness, g=g, n=1.4, quad_pts=24)
    expected = sample.rt()[:2]
    found = ad.slab(thickness, mu_a, mu_s, g, ad.quadrature(16))
    assert float(found[0]) == pytest.approx(expected[0], rel=3e-3)
    assert float(found[1]) == pytest.approx(expected[1], rel=3e-3)


@pytest.mark.parametrize("g", [0.0, 0.8])
def test_no_absorption_conserves_energy(g: float) -> None:
    reflectance, transmittance = ad.slab(2.0, 0.0, 10.0, g)
    assert float(reflectance + transmittance) == pytest.approx(1.0, abs=5e-3)


@pytest.mark.parametrize("n_inside", [1.0, 1.4])
def test_reciprocity(n_inside: float) -> None:
    """mu R(mu', mu) is symmetric: the same light from either end of a path (Chandrasekhar 1960)."""
    quad = ad.quadrature(12, n_inside)
    layer = ad.layer_operators(0.3, 0.5, 12.0, 0.8, quad)
    for operator in layer:
        kernel = operator / quad.flux[None, :]
        assert np.allclose(kernel, kernel.T, rtol=1e-6, atol=1e-9)


def test_two_halves_are_the_whole() -> None:
    quad = ad.quadrature()
    whole = ad.layered_reflectance([0.4, 1.0], [0.3, 0.1], [20.0, 5.0], [0.8, 0.0], quad)
    parts = ad.layered_reflectance([0.15, 0.25, 1.0], [0.3, 0.3, 0.1], [20.0, 20.0, 5.0], [0.8, 0.8, 0.0], quad)
    assert float(parts) == pytest.approx(float(whole), rel=1e-5)


def test_thin_start_converges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Diamond initialisation is second order: the shipped start is within 2e-4 of a start ten times thinner."""
    shipped = ad.layered_reflectance([0.06, 2.0], [20.0, 0.1], [40.0, 5.0], [0.8, 0.0])
    monkeypatch.setattr(ad, "START_THICKNESS", ad.START_THICKNESS / 10.0)
    assert float(ad.layered_reflectance([0.06, 2.0], [20.0, 0.1], [40.0, 5.0], [0.8, 0.0])) == pytest.approx(
        float(shipped), rel=2e-4
    )


def test_more_cosines_agree() -> None:
    found = [
        float(ad.layered_reflectance([0.07, 1.5], [8.0, 0.3], [40.0, 4.5], [0.8, 0.0], ad.quadrature(q)))
        for q in (8, 12, 16, 24)
    ]
    assert found[0] == pytest.approx(found[-1], rel=1e-2)
    assert found[1] == pytest.approx(found[-1], rel=3e-3)
    assert found[2] == pytest.approx(found[-1], rel=2e-3)


def test_batch_equals_one_by_one() -> None:
    mu_a = np.array([0.1, 1.0, 5.0])
    together = ad.layered_reflectance(np.array([0.2, np.inf]), np.stack([mu_a, mu_a], -1), [30.0, 5.0], [0.8, 0.0])
    for value, batch in zip(mu_a, together, strict=True):
        alone = ad.layered_reflectance([0.2, np.inf], [value, value], [30.0, 5.0], [0.8, 0.0])
        assert float(alone) == pytest.approx(float(batch), rel=2e-5)


def test_fresnel() -> None:
    assert float(ad.fresnel_reflectance(1.0, 1.4, 1.0)) == pytest.approx((0.4 / 2.4) ** 2)
    assert float(ad.fresnel_reflectance(0.5, 1.4, 1.0)) == 1.0


def test_refuses() -> None:
    with pytest.raises(ValueError, match="even number"):
        ad.quadrature(7)
    with pytest.raises(ValueError, match="must not exceed"):
        ad.quadrature(12, 1.0, 1.4)
    with pytest.raises(ValueError, match="normal, diffuse"):
        ad.layered_reflectance([np.inf], [1.0], [9.0], [0.0], incidence="sideways")
