"""What keratin, vessels, deep pigment and scars do to a column's colour: a network fitted to adding-doubling.

`lesion_colour` tabulates four dimensions; keratin, vessels, deep melanin, fibrosis, thickness and crust make eleven
more, too many for a table. Here log XYZ of a column over that of the same column without them is a network of two
hidden layers on REFERENCE_SKIN, fitted by benchmarks/make_lesion_extra.py to `exact_log_xyz`; it prints the error.
A second one is fitted to columns of skin with more melanin, which shows less of what lies below and more of what lies
above; masks never ask it, labels of dark skin do.
It is 0 by construction where there is nothing of the kind.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from synthskin.physics import absorption, scattering, spectral
from synthskin.physics.adding_doubling import layered_reflectance, quadrature
from synthskin.physics.flat_skin import basal_thickness_um
from synthskin.physics.lesion.field import NEUTRAL, LesionField
from synthskin.record import Skin

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]

#: Columns of a feature table: what the lesion table knows, then what it does not.
KNOWN = ("epidermal_um", "junctional_um", "dermal_um", "dermal_depth_um", "blood_factor")
EXTRA = (
    "corneal_um", "deep_um", "deep_depth_um", "vessel_um", "vessel_depth_um", "crust_um", "keratin_um", "keratin_scale",
    "thickening_um", "skin_melanin", "dermal_scale",
)
_EDGES_UM = np.array([0.0, 12.0, 28.0, 50.0, 75.0, 110.0, 150.0, 210.0, 300.0, 450.0])  # below the junction
_PAPILLARY_TO = 4  # of these sub-layers scatter as in the fine zone
CORNEUM_UM = 12.0
_AMOUNT = {"corneal_um": 0.3, "deep_um": 0.3, "crust_um": 2.0, "vessel_um": 2.0}  # scale of log(1 + x / scale)


def columns_of(lesion: LesionField, where: NDArray[np.bool_]) -> F32:
    """Features (k, 16) of the picked columns, in the order of KNOWN and EXTRA."""
    count = int(where.sum())
    parts = [
        lesion.epidermal_um[where],
        lesion.junctional_um[where],
        lesion.dermal_um[where],
        np.full(count, lesion.dermal_depth_um, np.float32),
        lesion.blood_factor[where],
    ]
    for name in EXTRA:
        values = getattr(lesion, name)
        parts.append(np.full(count, NEUTRAL[name], np.float32) if values is None else values[where])
    return np.stack(parts, axis=1).astype(np.float32)


def has_extra(lesion: LesionField) -> NDArray[np.bool_] | None:
    """Columns in which one of the EXTRA maps is not neutral; None where the lesion has none of them."""
    found: NDArray[np.bool_] | None = None
    for name in EXTRA:
        values = getattr(lesion, name)
        if values is None or name in ("deep_depth_um", "vessel_depth_um", "keratin_scale"):
            continue
        scale = 1.0 if name in ("skin_melanin", "dermal_scale") else 10.0
        differs = np.abs(values - np.float32(NEUTRAL[name])) > np.float32(0.004 * scale)
        found = differs if found is None else found | differs
    return found


def inputs(table: F32) -> tuple[F32, F32]:
    """Network inputs (k, 16), about unit size, and the gate (k,) that is 0 without extras."""
    x = np.empty(table.shape, np.float32)
    x[:, :3] = np.log1p(table[:, :3] * np.float32(1 / 0.3)) * np.float32(0.25)
    x[:, 3] = table[:, 3] * np.float32(0.01)
    x[:, 4] = np.log(np.maximum(table[:, 4], np.float32(0.1)))
    gate = np.zeros(len(table), np.float32)
    for k, name in enumerate(EXTRA, start=len(KNOWN)):
        values = table[:, k]
        if name in _AMOUNT:
            x[:, k] = np.log1p(values * np.float32(1 / _AMOUNT[name])) * np.float32(0.3)
        elif name == "thickening_um":
            x[:, k] = values * np.float32(1 / 50)
        elif name == "keratin_um":
            x[:, k] = values * np.float32(1 / 40)
        elif name == "keratin_scale":
            x[:, k] = (values - 1) * np.float32(0.3) * np.minimum(table[:, k - 1] * np.float32(0.1), 1)
        elif name == "skin_melanin":
            x[:, k] = 1 - values
        elif name == "dermal_scale":
            x[:, k] = values - 1
        else:
            amount = np.minimum(table[:, k - 1] * np.float32(2.0), 1)
            x[:, k] = values * np.float32(0.01) * amount
        if not name.endswith("depth_um"):
            gate += np.abs(x[:, k])
    return x, 1 - np.exp(np.float32(-6) * gate)


@cache
def _weights(name: str) -> tuple[F32, ...]:
    with resources.files(__package__).joinpath(name).open("rb") as file:
        data = np.load(file)
        return tuple(np.asarray(data[name], np.float32) for name in ("w1", "b1", "w2", "b2", "w3", "b3"))


def delta_log_xyz(table: F32, surplus: bool = False) -> F32:
    """log XYZ (k, 3) of columns (k, 16) over those without their EXTRA.

    surplus   KNOWN holds the melanin that darker skin has over the reference's: up to that of the darkest
    """
    x, gate = inputs(table)
    w1, b1, w2, b2, w3, b3 = _weights("lesion_extra_surplus.npz" if surplus else "lesion_extra.npz")
    h = x @ w1
    h += b1
    np.maximum(h, 0, out=h)
    h = h @ w2
    h += b2
    np.maximum(h, 0, out=h)
    return np.asarray((h @ w3 + b3) * gate[:, None], np.float32)


def exact_log_xyz(table: F64, skin: Skin, cosines: int = 8) -> F64:
    """log XYZ (k, 3) of columns (k, 16) by adding-doubling: the layers of `anatomy` over ten of the dermis."""
    nm = np.array(spectral.BAND_WAVELENGTH_NM)
    value = dict(zip((*KNOWN, *EXTRA), np.asarray(table, np.float64).T[:, :, None], strict=True))
    melanosome = absorption.melanosome_mu_a_per_mm(nm, skin.pheomelanin_share)
    baseline = absorption.baseline_mu_a_per_mm(nm)
    packed = absorption.packed_blood_mu_a_per_mm(nm, skin.oxygenation, skin.vessel_radius_um)
    epidermis_mu_s = scattering.fine_zone_mu_s_per_mm(nm, skin.epidermis_scattering)
    papillary_mu_s = epidermis_mu_s * scattering.papillary_scale(
        skin.scattering_scale, skin.scattering_power, skin.epidermis_scattering
    )
    dermis_mu_s = scattering.dermis_mu_s_prime_per_mm(nm, skin.scattering_scale, skin.scattering_power)
    g = scattering.FINE_ZONE_G

    junction = np.clip(skin.epidermis_thickness_um + value["thickening_um"], 12.0, 200.0)
    bare = skin.epidermis_thickness_um
    corneum = np.minimum(np.minimum(CORNEUM_UM, 0.3 * junction) + value["keratin_um"], 0.75 * junction)
    top = np.minimum(
        np.maximum.reduce([value["corneal_um"] / 0.5, value["crust_um"] / 0.8, np.full_like(corneum, 5.0)]),
        np.maximum(corneum, 0.9 * junction),
    )
    horn = np.maximum(corneum - top, 0.5)
    own = skin.melanosome_fraction * bare * value["skin_melanin"]
    share = skin.basal_melanin_share
    rest = np.maximum(junction - top - horn, 2.0)
    basal = np.minimum(np.maximum(value["junctional_um"] / 0.65, basal_thickness_um(skin)), 0.7 * rest)
    living = rest - basal
    white = np.where(value["keratin_um"] > 0, value["keratin_scale"], 1.0)

    def mu_a(melanin: F64 | float, blood: F64 | float) -> F64:
        """Fractions to absorption, at most 0.95 in sum."""
        melanin, blood = np.minimum(melanin, 0.95), np.minimum(blood, 0.95)
        return np.asarray(baseline + melanin * (melanosome - baseline) + blood * (packed - baseline))

    upper = (own * (1 - share) + value["epidermal_um"]) / (living + basal)
    layers = [
        (top, mu_a(value["corneal_um"] / top, value["crust_um"] / top), epidermis_mu_s * white, g),
        (horn, mu_a(0.0, 0.0), epidermis_mu_s * white, g),
        (living, mu_a(upper, 0.0), epidermis_mu_s, g),
        (basal, mu_a(upper + (own * share + value["junctional_um"]) / basal, 0.0), epidermis_mu_s, g),
    ]

    def overlap(start: F64, thick: F64) -> list[F64]:
        return [
            np.maximum(np.minimum(start + thick, high) - np.maximum(start, low), 0.0) / thick
            for low, high in pairwise(_EDGES_UM)
        ]

    vessel_thick = np.maximum(value["vessel_um"] / 0.9, 4.0)
    deep_thick = np.maximum(value["deep_um"] / 0.4, 30.0)
    nest_thick = np.maximum(value["dermal_um"] / 0.4, 50.0)
    vessel = overlap(np.maximum(value["vessel_depth_um"], 0.0), vessel_thick)
    deep = overlap(np.maximum(value["deep_depth_um"] - 0.5 * deep_thick, 0.0), deep_thick)
    nest = overlap(np.maximum(value["dermal_depth_um"] - 0.5 * nest_thick, 0.0), nest_thick)
    blood = value["blood_factor"] * skin.blood_fraction
    for k, thick in enumerate(np.diff(_EDGES_UM)):
        melanin = (value["deep_um"] * deep[k] + value["dermal_um"] * nest[k]) / thick
        fraction = blood + value["vessel_um"] * vessel[k] / thick
        fine = k < _PAPILLARY_TO
        mu_s = (papillary_mu_s if fine else dermis_mu_s) * value["dermal_scale"]
        layers.append((np.full_like(junction, thick), mu_a(melanin, fraction), mu_s, g if fine else 0.0))
    left = np.full_like(junction, max(1000.0 * skin.dermis_thickness_mm - _EDGES_UM[-1], 50.0))
    layers.append((left, mu_a(0.0, blood), dermis_mu_s * value["dermal_scale"], 0.0))
    layers.append((
        np.full_like(junction, np.inf),
        np.asarray(absorption.hypodermis_mu_a_per_mm(nm)),
        np.asarray(scattering.hypodermis_mu_s_prime_per_mm(nm)),
        0.0,
    ))
    shape = (len(table), len(nm))
    thickness, absorb, scatter, cosine = (
        np.stack([np.broadcast_to(np.asarray(layer[i], np.float64), shape) for layer in layers], axis=-1)
        for i in range(4)
    )
    reflected = layered_reflectance(thickness / 1000.0, absorb, scatter, cosine, quadrature(cosines))
    return np.asarray(np.log(spectral.xyz_from_bands(reflected)))
