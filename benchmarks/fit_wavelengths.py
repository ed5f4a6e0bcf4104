"""Choose the render's fixed wavelengths and fit their weights to CIE XYZ under D65.

Training: adding-doubling spectra of random skins of every tone, of dark, dermal (blue) and bloody lesions, and measured
spectra (NIST). Weights are non-negative least squares in a linearised Lab, with white as an equality. Prints the table
for synthskin/physics/spectral.py and CIEDE2000 against 5 nm integration on spectra that were not fitted.

    python benchmarks/fit_wavelengths.py [--spectra tests/data/nist_skin_reflectance_50.csv] [--search]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from synthskin.physics import absorption, flat_skin, spectral
from synthskin.physics.adding_doubling import layered_reflectance, quadrature
from synthskin.record import Skin

F64 = NDArray[np.float64]
GRID_NM = np.arange(400.0, 701.0, 5.0)
NIST = Path(__file__).parents[1] / "tests" / "data" / "nist_skin_reflectance_50.csv"


def model_spectra(count: int, rng: np.random.Generator) -> F64:
    """Reflectance (count, 61): skins of all tones; every third with dermal melanin, every fifth very bloody."""

    def log_uniform(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    skins = [
        Skin(
            melanosome_fraction=log_uniform(0.002, 0.6),
            basal_melanin_share=rng.uniform(0.2, 0.8),
            blood_fraction=log_uniform(0.02, 0.15) if i % 5 == 0 else log_uniform(0.002, 0.03),
            oxygenation=rng.uniform(0.4, 0.95),
            epidermis_thickness_um=rng.uniform(50.0, 120.0),
            dermis_thickness_mm=rng.uniform(0.8, 2.5),
            scattering_scale=rng.uniform(0.6, 1.6),
            scattering_power=rng.uniform(0.9, 1.7),
            vessel_radius_um=rng.uniform(0.0, 25.0),
        )
        for i in range(count)
    ]
    thickness, mu_a, mu_s, g = flat_skin.layers(skins, GRID_NM)
    dermal = np.array([log_uniform(0.005, 0.3) if i % 3 == 0 else 0.0 for i in range(count)])
    deep = np.array([i % 6 == 0 for i in range(count)])
    added = dermal[:, None] * absorption.melanosome_mu_a_per_mm(GRID_NM)
    mu_a[..., 3] += np.where(deep[:, None], 0.0, added)
    mu_a[..., 4] += np.where(deep[:, None], added / 10.0, 0.0)
    return layered_reflectance(thickness, mu_a, mu_s, g, quadrature(8))


def measured_spectra(path: Path) -> F64:
    data = np.genfromtxt(path, delimiter=",", skip_header=2)
    return np.stack([np.interp(GRID_NM, data[:, 0], column) for column in data[:, 1:].T])


def fit(spectra: F64, indices: tuple[int, ...]) -> tuple[F64, float]:
    """Weights (k, 3) and the root mean square error in linearised Lab units."""
    truth = spectral.integrate_xyz(GRID_NM, spectra)
    white = spectral.white_xyz()
    ratio = truth / white
    # dLab per unit of each channel, near the spectrum's own colour; z weighs less in CIEDE2000 (chroma)
    slope = np.maximum(ratio, 0.01) ** (-2.0 / 3.0) / 3.0 / white * np.array([250.0, 300.0, 120.0])
    weights = np.empty((len(indices), 3))
    error = 0.0
    for c in range(3):
        design = spectra[:, indices] * slope[:, c, None]
        target = truth[:, c] * slope[:, c]
        heavy = 1e3 * slope[:, c].max() * np.sqrt(len(spectra))
        weights[:, c], _ = nnls(
            np.vstack([design, np.full((1, len(indices)), heavy)]), np.append(target, heavy * white[c])
        )
        error += float(np.mean((design @ weights[:, c] - target) ** 2))
    return weights, float(np.sqrt(error))


def group_spread(indices: tuple[int, ...]) -> float:
    """Largest ratio of wavelengths within a group of three."""
    nm = GRID_NM[list(indices)].reshape(-1, 3)
    return float((nm[:, 2] / nm[:, 0]).max())


def search(spectra: F64, start: tuple[int, ...], spread_weight: float = 2.0) -> tuple[int, ...]:
    """Coordinate descent over the 5 nm grid from `start`: error + spread_weight * (spread - 1)."""

    def cost(candidate: tuple[int, ...]) -> float:
        return fit(spectra, candidate)[1] + spread_weight * (group_spread(candidate) - 1.0)

    best, best_cost = start, cost(start)
    moved = True
    while moved:
        moved = False
        for position in range(len(best)):
            for step in (-4, -3, -2, -1, 1, 2, 3, 4):
                trial = list(best)
                trial[position] += step
                if trial != sorted(set(trial)) or trial[0] < 0 or trial[-1] >= GRID_NM.size:
                    continue
                value = cost(tuple(trial))
                if value < best_cost - 1e-9:
                    best, best_cost, moved = tuple(trial), value, True
    return best


def report(name: str, spectra: F64, indices: tuple[int, ...], weights: F64) -> str:
    exact = spectral.xyz_to_lab(spectral.integrate_xyz(GRID_NM, spectra))
    delta = spectral.ciede2000(exact, spectral.xyz_to_lab(spectra[:, indices] @ weights))
    high = np.percentile(delta, 95)
    return f"{name:28s} n={len(spectra):5d} CIEDE2000 mean {delta.mean():.3f}  95 % {high:.3f}  max {delta.max():.3f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--spectra", type=Path, default=NIST)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument(
        "--search", action="store_true", help="search the wavelengths again instead of using the table's"
    )
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    training, unseen = model_spectra(arguments.count, rng), model_spectra(arguments.count, rng)
    measured = measured_spectra(arguments.spectra)
    fitted = np.vstack([training, np.repeat(measured, 4, axis=0)])
    if arguments.search:
        starts = (
            [430, 450, 470, 515, 540, 565, 590, 615, 640],
            [440, 460, 480, 520, 545, 570, 595, 620, 650],
            [425, 445, 465, 490, 525, 550, 575, 600, 640],
        )
        found = {search(fitted, tuple(int((nm - 400) // 5) for nm in start)) for start in starts}
        indices = min(found, key=lambda c: fit(fitted, c)[1])
    else:
        indices = tuple(int((nm - 400) // 5) for nm in spectral.BAND_WAVELENGTH_NM)
    weights, error = fit(fitted, indices)
    print(
        "BAND_WAVELENGTH_NM =",
        tuple(float(v) for v in GRID_NM[list(indices)]),
        " error",
        round(error, 4),
        " spread",
        round(group_spread(indices), 3),
    )
    for row in weights:
        print("    [" + ", ".join(f"{v:.6f}" for v in row) + "],")
    print(report("model, fitted", training, indices, weights))
    print(report("model, not fitted", unseen, indices, weights))
    print(report("measured (NIST)", measured, indices, weights))


if __name__ == "__main__":
    main()
