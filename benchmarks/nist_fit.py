"""Fit the flat skin model to measured skin: 50 people, 420-730 nm (NIST, doi 10.18434/M38597).

    python benchmarks/nist_fit.py [--spectra tests/data/nist_skin_reflectance_50.csv] [--subjects 50]

The set is a reflectance factor under 8 degrees with a sphere, so the surface's own reflection may be in it: it is a
bounded parameter (0 to the Fresnel reflectance of n 1.55, 0.046). Bilirubin is added to the dermis: without it the
fits miss 460-520 nm. Bounds are published ranges; Gaussian priors (one term a parameter, against spectral residuals in
units of 0.01) keep poorly determined parameters inside them. Jacobians are finite differences, in one batched call.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from synthskin.physics import absorption, flat_skin
from synthskin.physics.adding_doubling import quadrature
from synthskin.record import Skin

F64 = NDArray[np.float64]
NIST = Path(__file__).parents[1] / "tests" / "data" / "nist_skin_reflectance_50.csv"


@dataclass(frozen=True, slots=True)
class Parameter:
    """name, bounds, whether fitted as a logarithm, centre and width of the prior (in the fitted variable), source."""

    name: str
    low: float
    high: float
    log: bool
    centre: float
    width: float
    source: str


PARAMETERS = (
    Parameter(
        "melanosome_fraction",
        0.001,
        0.43,
        True,
        0.03,
        3.0,
        "Jacques 1998: 0.013-0.43; lower end: fair skin's epidermis, Saager 2015",
    ),
    Parameter("blood_fraction", 0.001, 0.07, True, 0.008, 1.5, "Jacques 2013: 0.002-0.07, Svaasand 1995"),
    Parameter("oxygenation", 0.0, 1.0, False, 0.65, 0.12, "by definition"),
    Parameter("scattering_scale", 0.35, 2.0, True, 1.3, 0.1, "Jacques 2013: mu_s'(500 nm) 16-90 cm^-1 over 45.3"),
    Parameter("scattering_power", 0.7, 2.5, False, 1.1, 0.09, "Jacques 2013: 0.7-2.5"),
    Parameter("vessel_radius_um", 0.0, 50.0, False, 8.0, 2.0, "van Veen 2002; Braverman 1997: 2.5-50 um"),
    Parameter("dermis_thickness_mm", 0.6, 3.0, True, 1.6, 0.15, "Laurent 2007; Lee & Hwang 2002: 0.6-3 mm"),
)
BILIRUBIN = Parameter(
    "bilirubin_umol_per_l", 0.0, 20.5, False, 8.0, 2.5, "healthy plasma up to 1.2 mg/dl; less in tissue"
)
SURFACE = Parameter("surface_reflectance", 0.0, 0.046, False, 0.028, 0.005, "Fresnel, n 1.0 (excluded) ... 1.55")


def _skin(vector: F64) -> Skin:
    return Skin(
        **{
            p.name: float(np.clip(np.exp(v) if p.log else v, p.low, p.high))
            for p, v in zip(PARAMETERS, vector, strict=True)
        }
    )


def fit(wavelength_nm: F64, measured: F64, cosines: int = 8) -> tuple[Skin, F64, F64, bool]:
    """Skin, (bilirubin, surface reflectance), model spectrum on all wavelengths, whether one is at a bound."""
    everything = (*PARAMETERS, BILIRUBIN, SURFACE)
    low, high = (
        np.array([np.log(v) if p.log else v for p, v in ((p, getattr(p, side)) for p in everything)])
        for side in ("low", "high")
    )
    centre = np.array([np.log(p.centre) if p.log else p.centre for p in everything])
    width = np.array([p.width for p in everything])
    quad = quadrature(cosines)
    step = slice(0, None, 3)
    nm, target = wavelength_nm[step], measured[step]

    def spectra_of(vectors: F64, nm: F64) -> F64:
        extra = absorption.bilirubin_mu_a_per_mm(nm, vectors[:, -2:-1])
        return (
            flat_skin.reflectance([_skin(v[:-2]) for v in vectors], nm, quad, extra_dermis_per_mm=extra)
            + vectors[:, -1:]
        )

    def model(vectors: F64) -> F64:
        return spectra_of(vectors, nm)

    def residuals(vector: F64) -> F64:
        return np.concatenate([(model(vector[None])[0] - target) / 0.01, (vector - centre) / width])

    def jacobian(vector: F64) -> F64:
        delta = np.where(vector + 1e-3 * width < high, 1e-3, -1e-3) * width
        spectra = model(np.vstack([vector, vector + np.diag(delta)]))
        return np.vstack([((spectra[1:] - spectra[0]) / delta[:, None] / 0.01).T, np.diag(1.0 / width)])

    result = least_squares(
        residuals, centre, jacobian, bounds=(low, high), x_scale=width, xtol=1e-4, ftol=1e-4, max_nfev=25
    )
    skin = _skin(result.x[:-2])
    share = (result.x - low) / (high - low)
    at_bound = bool(np.any((share < 0.005) | (share > 0.995)))
    return skin, result.x[-2:], spectra_of(result.x[None], wavelength_nm)[0], at_bound


def load(path: Path) -> tuple[F64, F64]:
    """Wavelengths (k,) in 420-730 nm and reflectance factors (subjects, k)."""
    data = np.genfromtxt(path, delimiter=",", skip_header=2)
    inside = (data[:, 0] >= 420.0) & (data[:, 0] <= 730.0)
    return data[inside, 0], data[inside, 1:].T


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--spectra", type=Path, default=NIST)
    parser.add_argument("--subjects", type=int, default=50)
    arguments = parser.parse_args()
    wavelength, spectra = load(arguments.spectra)
    print("subject  RMSE    bound  ITA   " + " ".join(p.name[:12].rjust(12) for p in (*PARAMETERS, BILIRUBIN, SURFACE)))
    errors, bounds = [], []
    for i, measured in enumerate(spectra[: arguments.subjects]):
        skin, others, modelled, at_bound = fit(wavelength, measured)
        errors.append(float(np.sqrt(np.mean((modelled - measured) ** 2))))
        bounds.append(at_bound)
        values = [getattr(skin, p.name) for p in PARAMETERS] + others.tolist()
        ita = flat_skin.ita_of_skin(skin)
        print(
            f"{i + 1:5d}   {errors[-1]:.4f}  {'yes' if at_bound else ' no'}  {ita:6.1f} "
            + " ".join(f"{v:12.4f}" for v in values),
            flush=True,
        )
    print(
        f"RMSE over {wavelength[0]:.0f}-{wavelength[-1]:.0f} nm: median {np.median(errors):.4f}, "
        f"95 % {np.percentile(errors, 95):.4f}, max {max(errors):.4f}; "
        f"at a bound {100 * np.mean(bounds):.0f} % of {len(errors)} fits"
    )
    for p in (*PARAMETERS, BILIRUBIN, SURFACE):
        print(
            f"  {p.name:20s} {p.low} ... {p.high}  prior {p.centre} ({'log ' if p.log else ''}width {p.width})  "
            f"{p.source}"
        )


if __name__ == "__main__":
    main()
