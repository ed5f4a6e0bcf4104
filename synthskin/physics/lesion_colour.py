"""Colour of a lesion's column by adding-doubling, tabulated over its melanin and blood.

A column is stratum corneum, living epidermis (+ epidermal melanin), a basal layer that thickens with its junctional
melanin, dermis with a nest of dermal melanin at its depth, hypodermis: the layers of `flat_skin` with the lesion in
them, laid out as `anatomy` lays them out. The table holds log XYZ on nodes that are uniform in log(1 + column / 0.3 um)
and is read by linear interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthskin.physics import absorption, scattering, spectral
from synthskin.physics.adding_doubling import (
    LayerOperators,
    add_on_top,
    layer_operators,
    quadrature,
    reflectance_under_surface,
)
from synthskin.physics.flat_skin import basal_thickness_um, corneum_thickness_um
from synthskin.record import Skin

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]

#: The skin on which masks are defined: the middle of preset fst2, ITA 48 degrees.
REFERENCE_SKIN = Skin(
    melanosome_fraction=0.0108,
    basal_melanin_share=0.6,
    blood_fraction=0.0141,
    oxygenation=0.57,
    epidermis_thickness_um=70.0,
    dermis_thickness_mm=1.8,
    scattering_scale=1.55,
    epidermis_scattering=0.5,
    scattering_power=1.05,
    vessel_radius_um=8.0,
)
SCALE_UM = 0.3
JUNCTION_LIMIT = 0.65  # melanosome fraction at which a junctional layer starts to thicken (anatomy)
NEST_LIMIT = 0.4  # as above, dermal nests
NEST_UM = 50.0
MAX_COLUMN_UM = (60.0, 120.0, 100.0)  # epidermal, junctional, dermal; beyond, a column is as dark as it can be
BLOOD_RANGE = (0.5, 5.0)
DEPTH_NODES_UM = (15.0, 40.0, 80.0, 130.0, 200.0, 320.0, 600.0)


@dataclass(frozen=True, slots=True)
class ColourTable:
    """log_xyz (e, j, d, b, 3) over log(1 + column / SCALE_UM) of the three columns and the log of the blood factor."""

    log_xyz: F32
    max_u: tuple[float, float, float]
    log_blood: tuple[float, float]

    def xyz(self, epidermal_um: F32, junctional_um: F32, dermal_um: F32, blood_factor: F32) -> F32:
        """XYZ (n, 3) of n columns; axes with a single node are not looked at."""
        shape = self.log_xyz.shape
        coordinates = [
            np.log1p(np.maximum(column, 0) * np.float32(1 / SCALE_UM)) * np.float32((size - 1) / top)
            for column, size, top in zip((epidermal_um, junctional_um, dermal_um), shape[:3], self.max_u, strict=True)
        ]
        if shape[3] > 1:
            low, high = self.log_blood
            coordinates.append((np.log(blood_factor) - np.float32(low)) * np.float32((shape[3] - 1) / (high - low)))
        flat = self.log_xyz.reshape(-1, 3)
        stride = int(np.prod(shape[:4]))
        base = np.zeros(epidermal_um.shape, np.int64)
        corners: list[tuple[int, F32 | None]] = [(0, None)]
        for position, size in zip(coordinates, shape, strict=False):
            stride //= size
            if size == 1:
                continue
            clipped = np.clip(position, 0, np.float32(size - 1)).astype(np.float32)
            cell = np.minimum(clipped.astype(np.int64), size - 2)
            base += cell * stride
            part = clipped - cell.astype(np.float32)
            corners = [
                (offset + step, side if weight is None else weight * side)
                for offset, weight in corners
                for step, side in ((0, np.float32(1) - part), (stride, part))
            ]
        result = np.zeros((*epidermal_um.shape, 3), np.float32)
        for offset, weight in corners:
            rows = flat.take(base + offset, axis=0)
            result += rows if weight is None else rows * weight[:, None]
        return np.asarray(np.exp(result), np.float32)


def nodes_um(count: int, top_um: float) -> F64:
    """`count` columns from 0 to top_um, uniform in log(1 + column / SCALE_UM)."""
    return SCALE_UM * np.expm1(np.linspace(0.0, np.log1p(top_um / SCALE_UM), count))


def build_table(
    skin: Skin,
    depth_um: float,
    counts: tuple[int, int, int],
    blood_factors: ArrayLike,
    max_um: tuple[float, float, float] = MAX_COLUMN_UM,
    cosines: int = 8,
) -> ColourTable:
    """Adding-doubling over all combinations of nodes; dermal nests centred `depth_um` under the junction."""
    wavelength = np.array(spectral.BAND_WAVELENGTH_NM)
    quad = quadrature(cosines)
    epidermal, junctional, dermal = (nodes_um(n, top) / 1000.0 for n, top in zip(counts, max_um, strict=True))
    blood = np.atleast_1d(np.asarray(blood_factors, np.float64))
    melanosome = absorption.melanosome_mu_a_per_mm(wavelength, skin.pheomelanin_share)
    baseline = absorption.baseline_mu_a_per_mm(wavelength)
    packed = absorption.packed_blood_mu_a_per_mm(wavelength, skin.oxygenation, skin.vessel_radius_um)
    epidermis_mu_s = scattering.fine_zone_mu_s_per_mm(wavelength, skin.epidermis_scattering)
    papillary_mu_s = epidermis_mu_s * scattering.papillary_scale(
        skin.scattering_scale, skin.scattering_power, skin.epidermis_scattering
    )
    dermis_mu_s = scattering.dermis_mu_s_prime_per_mm(wavelength, skin.scattering_scale, skin.scattering_power)
    g = scattering.FINE_ZONE_G
    corneum, basal = corneum_thickness_um(skin) / 1000.0, basal_thickness_um(skin) / 1000.0
    epidermis = skin.epidermis_thickness_um / 1000.0
    column = skin.melanosome_fraction * epidermis
    share = skin.basal_melanin_share
    living = epidermis - corneum

    def under(operators: LayerOperators, below: F64) -> F64:
        return add_on_top(operators, below)

    # dermis: (dermal, blood, wavelength)
    nest = np.maximum(dermal / NEST_LIMIT, NEST_UM / 1000.0)[:, None, None]
    top = np.maximum(depth_um / 1000.0 - 0.5 * nest, 1e-4)
    dermis_mu_a = baseline + (blood * skin.blood_fraction)[:, None] * (packed - baseline)
    bottom = np.maximum(skin.dermis_thickness_mm - top - nest, 0.05)
    below = layer_operators(
        np.inf,
        absorption.hypodermis_mu_a_per_mm(wavelength),
        scattering.hypodermis_mu_s_prime_per_mm(wavelength),
        0.0,
        quad,
    ).reflection
    below = under(layer_operators(bottom, dermis_mu_a, dermis_mu_s, 0.0, quad), below)
    nest_mu_a = dermis_mu_a + (dermal[:, None, None] / nest) * (melanosome - baseline)
    below = under(layer_operators(nest, nest_mu_a, papillary_mu_s, g, quad), below)
    below = under(layer_operators(top, dermis_mu_a, papillary_mu_s, g, quad), below)
    # epidermis: (epidermal, junctional, dermal, blood, wavelength)
    through = baseline + (column * (1.0 - share) + epidermal[:, None]) / living * (melanosome - baseline)
    thick = np.maximum(junctional / JUNCTION_LIMIT, basal)[:, None]
    basal_mu_a = baseline + (column * share + column * (1.0 - share) * basal / living + junctional[:, None]) / thick * (
        melanosome - baseline
    )
    basal_layer = layer_operators(thick, basal_mu_a, epidermis_mu_s, g, quad)
    below = under(LayerOperators(*(v[:, None, None] for v in basal_layer)), below)
    living_layer = layer_operators(living - basal, through, epidermis_mu_s, g, quad)
    corneum_layer = layer_operators(corneum, baseline, epidermis_mu_s, g, quad)
    log_xyz = []
    for e in range(len(epidermal)):  # one at a time: memory
        total = under(corneum_layer, under(LayerOperators(*(v[e] for v in living_layer)), below))
        log_xyz.append(np.log(spectral.xyz_from_bands(reflectance_under_surface(total, quad))))
    max_u = tuple(float(np.log1p(value / SCALE_UM)) for value in max_um)
    return ColourTable(
        np.stack(log_xyz).astype(np.float32),
        (max_u[0], max_u[1], max_u[2]),
        (float(np.log(blood[0])), float(np.log(blood[-1]))),
    )


@cache
def _reference_tables() -> F32:
    path = resources.files(__package__).joinpath("lesion_colour_reference.npz")
    with path.open("rb") as file:
        return np.asarray(np.load(file)["log_xyz"], np.float32)


def reference_table(depth_um: float) -> ColourTable:
    """The shipped table for REFERENCE_SKIN (benchmarks/make_lesion_colour.py), interpolated to the nests' depth."""
    tables = _reference_tables()
    position = float(np.interp(depth_um, DEPTH_NODES_UM, np.arange(len(DEPTH_NODES_UM))))
    low = min(int(position), len(DEPTH_NODES_UM) - 2)
    part = np.float32(position - low)
    max_u = tuple(float(np.log1p(value / SCALE_UM)) for value in MAX_COLUMN_UM)
    return ColourTable(
        tables[low] * (1 - part) + tables[low + 1] * part,
        (max_u[0], max_u[1], max_u[2]),
        (float(np.log(BLOOD_RANGE[0])), float(np.log(BLOOD_RANGE[1]))),
    )
