"""Layered adding-doubling with Henyey-Greenstein scattering, batched over wavelengths and skins (NumPy only).

van de Hulst 1980; Prahl, van Gemert & Welch 1993 (Appl Opt 32:559): diamond initialisation of a thin layer, doubling,
adding, Fresnel boundaries. The forward peak is removed by delta-M (Wiscombe 1977). Light that comes in along the
normal is symmetric in azimuth, so one azimuthal order is exact.

A layer is a pair of (..., q, q) operators on radiances at the q quadrature cosines inside the tissue. All flux is
normalised to incident flux 1. What this does not do: lateral structure, polarisation, an inner step of n.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.polynomial.legendre import leggauss, legvander
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]

N_TISSUE = 1.40  # one index for all tissue: DESIGN, published 1.34-1.44
DEFAULT_QUADRATURE = 12
START_THICKNESS = 0.1  # optical thickness of the thin layer; docs/validation_optics.md has its error


class LayerOperators(NamedTuple):
    """Reflection and transmission of a homogeneous layer, the same from both sides; each (..., q, q)."""

    reflection: F64
    transmission: F64


@dataclass(frozen=True, slots=True)
class Quadrature:
    """Cosines inside the tissue, half below the critical angle and half above, the last one 1 (Radau).

    cosine, weight (q,)   integrate over (0, 1); `flux` = 2 cosine weight
    internal_reflection   (q,) unpolarised Fresnel reflectance of the surface from below
    """

    cosine: F64
    weight: F64
    flux: F64
    internal_reflection: F64
    n_inside: float
    n_outside: float


def fresnel_reflectance(cosine_inside: ArrayLike, n_inside: float, n_outside: float) -> F64:
    """Unpolarised Fresnel reflectance met from inside at `cosine_inside`; 1 beyond the critical angle."""
    cosine = np.asarray(cosine_inside, dtype=np.float64)
    sin2_out = (n_inside / n_outside) ** 2 * (1.0 - cosine**2)
    outside = np.sqrt(np.clip(1.0 - sin2_out, 0.0, 1.0))
    rs = (n_inside * cosine - n_outside * outside) / (n_inside * cosine + n_outside * outside)
    rp = (n_inside * outside - n_outside * cosine) / (n_inside * outside + n_outside * cosine)
    return np.where(sin2_out >= 1.0, 1.0, 0.5 * (rs**2 + rp**2))


def _radau_right(count: int) -> tuple[F64, F64]:
    """Gauss-Radau nodes and weights on (-1, 1) with the node +1 (Golub 1973)."""
    k = np.arange(1, count, dtype=np.float64)
    off = k / np.sqrt(4.0 * k**2 - 1.0)
    jacobi = np.diag(off, 1) + np.diag(off, -1)
    # last diagonal entry so that +1 is an eigenvalue
    delta = np.linalg.solve(jacobi[:-1, :-1] - np.eye(count - 1), np.eye(count - 1)[:, -1] * off[-1] ** 2)
    jacobi[-1, -1] = 1.0 + delta[-1]
    nodes, vectors = np.linalg.eigh(jacobi)
    return nodes, 2.0 * vectors[0] ** 2


@cache
def quadrature(count: int = DEFAULT_QUADRATURE, n_inside: float = N_TISSUE, n_outside: float = 1.0) -> Quadrature:
    """Quadrature of `count` (even, 8 to 32) cosines for tissue of index n_inside under n_outside <= n_inside."""
    if count % 2 or not 8 <= count <= 32:
        raise ValueError(f"quadrature of {count} cosines: an even number from 8 to 32 is needed")
    if n_outside > n_inside:
        raise ValueError(f"n_outside {n_outside} must not exceed n_inside {n_inside}")
    half = count // 2
    critical = float(np.sqrt(1.0 - (n_outside / n_inside) ** 2)) if n_outside < n_inside else 0.5
    gauss, gauss_weight = leggauss(half)
    radau, radau_weight = _radau_right(half)
    cosine = np.concatenate([0.5 * critical * (gauss + 1.0), critical + 0.5 * (1.0 - critical) * (radau + 1.0)])
    cosine[-1] = 1.0
    weight = np.concatenate([0.5 * critical * gauss_weight, 0.5 * (1.0 - critical) * radau_weight])
    arrays = (cosine, weight, 2.0 * cosine * weight, fresnel_reflectance(cosine, n_inside, n_outside))
    for array in arrays:
        array.setflags(write=False)
    return Quadrature(*arrays, n_inside, n_outside)


def _double(layer: LayerOperators) -> LayerOperators:
    reflection, transmission = layer
    size = reflection.shape[-1]
    products = reflection @ np.concatenate([reflection, transmission], axis=-1)
    right = np.concatenate([transmission, products[..., size:]], axis=-1)
    result = transmission @ np.linalg.solve(np.eye(size) - products[..., :size], right)
    return LayerOperators(reflection + result[..., size:], result[..., :size])


def layer_operators(
    thickness_mm: ArrayLike, mu_a_per_mm: ArrayLike, mu_s_per_mm: ArrayLike, g: ArrayLike, quad: Quadrature
) -> LayerOperators:
    """Operators of homogeneous layers; the four arguments broadcast to the batch shape. mu_s is not reduced.

    An infinite thickness stands for a half space (20 effective attenuation lengths; needs mu_a > 0).
    """
    thickness, mu_a, mu_s, mean = np.broadcast_arrays(
        *(np.asarray(v, np.float64) for v in (thickness_mm, mu_a_per_mm, mu_s_per_mm, g))
    )
    size = quad.cosine.size
    orders = size
    peak = mean**orders  # delta-M
    k = np.arange(orders)
    moments = (mean[..., None] ** k - peak[..., None]) / (1.0 - peak[..., None])
    scattering = mu_s * (1.0 - peak)
    extinction = mu_a + scattering
    infinite = np.isinf(thickness)
    if np.any(infinite):
        attenuation = np.sqrt(3.0 * mu_a * (mu_a + mu_s * (1.0 - mean)))
        thickness = np.where(infinite, 20.0 / np.where(infinite, attenuation, 1.0), thickness)
    tau = thickness * extinction
    doublings = int(max(0, np.ceil(np.log2(max(float(tau.max()), 1e-12) / START_THICKNESS))))
    start = (tau / 2.0**doublings)[..., None, None]

    polynomials = legvander(quad.cosine, orders - 1)
    forward = np.einsum("ik,...k,jk->...ij", polynomials, moments * (2 * k + 1), polynomials)
    backward = np.einsum("ik,...k,jk->...ij", polynomials, moments * (2 * k + 1) * (-1.0) ** k, polynomials)
    albedo = (scattering / np.where(extinction > 0.0, extinction, 1.0))[..., None, None]
    identity = np.eye(size)
    per_cosine = start / (2.0 * quad.cosine[:, None])
    a = per_cosine * (identity - 0.5 * albedo * forward * quad.weight)
    b = per_cosine * (0.5 * albedo * backward * quad.weight)
    inner = np.linalg.solve(identity + a, b)
    double_sum = 2.0 * np.linalg.inv(identity + a - b @ inner)
    layer = LayerOperators(inner @ double_sum, double_sum - identity)
    for _ in range(doublings):
        layer = _double(layer)
    return layer


def add_on_top(layer: LayerOperators, below: F64) -> F64:
    """Reflection (..., q, q) of `layer` lying on something that reflects `below`; batch shapes broadcast."""
    identity = np.eye(below.shape[-1])
    return layer.reflection + layer.transmission @ np.linalg.solve(
        identity - below @ layer.reflection, below @ layer.transmission
    )


def _entering(quad: Quadrature, incidence: str) -> F64:
    """Radiance (q,) that passes the surface, for incident flux 1 along the normal or diffuse (Lambertian)."""
    passed = 1.0 - quad.internal_reflection
    if incidence == "normal":
        source = np.zeros_like(quad.cosine)
        source[-1] = passed[-1] / quad.flux[-1]
        return source
    if incidence == "diffuse":
        return np.asarray(passed * (quad.n_inside / quad.n_outside) ** 2)
    raise ValueError(f"incidence '{incidence}': allowed are normal, diffuse")


def surface_reflectance(quad: Quadrature, incidence: str = "normal") -> float:
    """Share of the incident flux that the surface itself reflects (specular)."""
    if incidence == "normal":
        return float(quad.internal_reflection[-1])
    return float(1.0 - quad.flux @ _entering(quad, incidence))


def reflectance_under_surface(reflection: F64, quad: Quadrature, incidence: str = "normal") -> F64:
    """Diffuse reflectance (...) that leaves the surface over `reflection` (..., q, q), all angles collected.

    The light reflected by the surface on its way in is left out; add `surface_reflectance` for the total.
    """
    identity = np.eye(quad.cosine.size)
    source = reflection @ _entering(quad, incidence)
    up = np.linalg.solve(identity - reflection * quad.internal_reflection, source[..., None])[..., 0]
    return np.asarray(up @ (quad.flux * (1.0 - quad.internal_reflection)))


def layered_reflectance(
    thickness_mm: ArrayLike,
    mu_a_per_mm: ArrayLike,
    mu_s_per_mm: ArrayLike,
    g: ArrayLike,
    quad: Quadrature | None = None,
    incidence: str = "normal",
) -> F64:
    """Diffuse reflectance (...) of layers on the last axis, top first, the last one infinite or on black.

    The four arguments broadcast to (..., layers); mu_s is not reduced. The surface's own reflection is left out.
    """
    quad = quad or quadrature()
    thickness, mu_a, mu_s, mean = np.broadcast_arrays(
        *(np.asarray(v, np.float64) for v in (thickness_mm, mu_a_per_mm, mu_s_per_mm, g))
    )

    def layer(i: int) -> LayerOperators:
        return layer_operators(thickness[..., i], mu_a[..., i], mu_s[..., i], mean[..., i], quad)

    below = layer(-1).reflection
    for i in range(thickness.shape[-1] - 2, -1, -1):
        below = add_on_top(layer(i), below)
    return reflectance_under_surface(below, quad, incidence)


def slab(
    thickness_mm: ArrayLike,
    mu_a_per_mm: ArrayLike,
    mu_s_per_mm: ArrayLike,
    g: ArrayLike,
    quad: Quadrature | None = None,
) -> tuple[F64, F64]:
    """Total reflectance and transmittance (specular and unscattered included) of a slab in air, normal incidence."""
    quad = quad or quadrature()
    reflection, transmission = layer_operators(thickness_mm, mu_a_per_mm, mu_s_per_mm, g, quad)
    inner = np.asarray(quad.internal_reflection)
    identity = np.eye(quad.cosine.size)
    source = _entering(quad, "normal")
    # bottom face: R_b = R + T r (I - R r)^-1 T, then the top face
    kernel = np.linalg.solve(identity - reflection * inner, np.broadcast_to(transmission, transmission.shape))
    below = reflection + (transmission * inner) @ kernel
    up = np.linalg.solve(identity - below * inner, (below @ source)[..., None])[..., 0]
    down = (kernel @ (source + inner * up)[..., None])[..., 0]
    leaving = quad.flux * (1.0 - inner)
    return np.asarray(surface_reflectance(quad) + up @ leaving), np.asarray(down @ leaving)
