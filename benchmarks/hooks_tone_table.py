"""Writes synthskin/hooks/tone_table.npz: colours of skin and of pigmented lesions on it, by adding-doubling.

    python benchmarks/hooks_tone_table.py

The hooks read the table and need no physics at run time. Its three axes:

  tone      27 skins at every 5 degrees of ITA from 65 to -65. Between the medians of the presets fst1 ... fst6 the
            parameters of the skin are interpolated over the log of its melanosome fraction; beyond them they are held.
  pigment   what a column holds beside the tone's own melanin: first shares of that melanin (RATIOS, under 1), then
            melanin added to it (0 ... 90 um of pure melanosome, uniform in log(1 + um / 0.3)), half of it through the
            living epidermis and half in a junctional layer, laid out as in physics/lesion_colour.py.
  blood     factor on the tone's blood fraction, uniform in its log.

`log_rgb` holds the log of linear sRGB (white 1; values under 0.0005 are held there). `pigment` and `pixel_log_blood`
hold the inverse: for encoded sRGB colours on a cube of INVERSE_NODES nodes a side over 0 ... 1.25 and each tone, the
posterior mean of the position on the pigment axis and of the log blood factor. Measurement error 5 % and 0.012 in
linear sRGB (by design: 8 bits, JPEG, a camera that is not colourimetric); prior of the log blood factor 0 +- 0.35;
none of the pigment.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from synthskin.physics import flat_skin, lesion_colour, spectral
from synthskin.preset import load_preset
from synthskin.record import Skin

OUT = Path(__file__).resolve().parent.parent / "synthskin" / "hooks" / "tone_table.npz"
ITA_DEG = np.arange(65.0, -66.0, -5.0)
RATIOS = (0.1, 0.2, 0.35, 0.5, 0.7, 0.85)
ADDED_NODES = 24
ADDED_TOP_UM = 90.0
BLOOD = np.exp(np.linspace(np.log(0.3), np.log(4.0), 8))
INVERSE_NODES = 17
DOMAIN = 1.25
FLOOR = 5e-4
NOISE_RELATIVE, NOISE_ABSOLUTE, BLOOD_SIGMA = 0.05, 0.012, 0.35
VARYING = (
    "blood_fraction", "epidermis_thickness_um", "scattering_scale", "epidermis_scattering", "dermis_thickness_mm",
)


def median_skin(name: str) -> Skin:
    fields = load_preset(name).fields
    return Skin(**{key.split(".")[1]: law.inverse_cdf(0.5) for key, law in fields.items() if key.startswith("skin.")})


def tone_line() -> tuple[list[Skin], np.ndarray]:
    """Skins at ITA_DEG, and their melanin columns in um."""
    medians = [median_skin(f"fst{n}") for n in range(1, 7)]
    at = np.log([skin.melanosome_fraction for skin in medians])

    def skin(log_fraction: float) -> Skin:
        values = {name: float(np.interp(log_fraction, at, [asdict(s)[name] for s in medians])) for name in VARYING}
        return replace(medians[0], melanosome_fraction=float(np.exp(log_fraction)), **values)

    fine = [skin(x) for x in np.linspace(np.log(0.001), np.log(0.59), 280)]
    ita = flat_skin.ita_of_skins(fine)
    if not (np.diff(ita) < 0).all() or ita[0] < ITA_DEG[0] or ita[-1] > ITA_DEG[-1]:
        raise SystemExit(f"the tone line runs from {ita[0]:.1f} to {ita[-1]:.1f} degrees: widen its melanin range")
    log_fraction = np.interp(-ITA_DEG, -ita, np.log([s.melanosome_fraction for s in fine]))
    skins = [skin(float(x)) for x in log_fraction]
    return skins, np.array([s.melanosome_fraction * s.epidermis_thickness_um for s in skins])


def log_xyz_of(skin: Skin) -> np.ndarray:
    """(pigment, blood, 3) of one tone."""
    rows = []
    for ratio in RATIOS:
        rows.append(one_column(replace(skin, melanosome_fraction=skin.melanosome_fraction * ratio), 0.0))
    half = ADDED_TOP_UM / 2
    added = lesion_colour.nodes_um(ADDED_NODES, ADDED_TOP_UM)
    grid = half * added / ADDED_TOP_UM
    for column in grid:
        rows.append(one_column(skin, float(column)))
    return np.stack(rows).astype(np.float32)


def one_column(skin: Skin, half_um: float) -> np.ndarray:
    """(blood, 3): half_um through the living epidermis and half_um at the junction."""
    top = max(half_um, 1e-6)
    table = lesion_colour.build_table(skin, 120.0, (2, 2, 1), BLOOD, (top, top, 1.0))
    corner = 1 if half_um > 0 else 0
    return table.log_xyz[corner, corner, 0]


def upsample(values: np.ndarray, factor: int, axis: int) -> np.ndarray:
    """Linear interpolation to (n - 1) factor + 1 nodes."""
    n = values.shape[axis]
    at = np.arange((n - 1) * factor + 1) / factor
    low = np.minimum(at.astype(int), n - 2)
    part = np.expand_dims(at - low, tuple(i for i in range(values.ndim) if i != axis))
    return values.take(low, axis) * (1 - part) + values.take(low + 1, axis) * part


def invert(log_rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pigment position and log blood (n, n, n) over encoded red, green, blue, of one tone's (pigment, blood, 3)."""
    fine = upsample(upsample(log_rgb.astype(np.float64), 3, 0), 3, 1)
    pigment = np.arange(fine.shape[0]) / 3
    blood = upsample(np.log(BLOOD)[:, None], 3, 0)[:, 0]
    prior = np.broadcast_to(0.5 * (blood / BLOOD_SIGMA) ** 2, fine.shape[:2]).ravel()
    candidates = fine.reshape(-1, 3)
    axis = np.linspace(0.0, DOMAIN, INVERSE_NODES)
    linear = np.where(axis <= 0.04045, axis / 12.92, ((axis + 0.055) / 1.055) ** 2.4)
    nodes = np.maximum(np.stack(np.meshgrid(linear, linear, linear, indexing="ij"), -1).reshape(-1, 3), FLOOR)
    precision = 1.0 / (NOISE_RELATIVE**2 + (NOISE_ABSOLUTE / nodes) ** 2)
    found = np.empty((len(nodes), 2))
    for start in range(0, len(nodes), 512):
        part = slice(start, start + 512)
        y, w = np.log(nodes[part]), precision[part]
        cost = 0.5 * ((w * y**2).sum(1)[:, None] - 2 * (w * y) @ candidates.T + w @ (candidates**2).T) + prior
        weight = np.exp(cost.min(1, keepdims=True) - cost)
        weight /= weight.sum(1, keepdims=True)
        by_axis = weight.reshape(-1, *fine.shape[:2])
        found[part] = np.stack([by_axis.sum(2) @ pigment, by_axis.sum(1) @ blood], 1)
    shape = (INVERSE_NODES,) * 3
    return found[:, 0].reshape(shape), found[:, 1].reshape(shape)


def main() -> None:
    skins, melanin_um = tone_line()
    table = np.stack([log_xyz_of(skin) for skin in skins])
    bare_node = len(RATIOS)
    middle = np.stack([[np.interp(0.0, np.log(BLOOD), table[t, bare_node, :, c]) for c in range(3)]
                       for t in range(len(skins))])
    ita = spectral.ita_deg(spectral.xyz_to_lab(np.exp(middle)))
    print("ITA of the nodes less what was asked for:", np.round(ita - ITA_DEG, 2))
    log_rgb = np.log(np.maximum(spectral.xyz_to_linear_srgb(np.exp(table.astype(np.float64))), FLOOR))
    inverse = [invert(tone) for tone in log_rgb]
    np.savez_compressed(
        OUT,
        ita_deg=ITA_DEG.astype(np.float32),
        melanin_um=melanin_um.astype(np.float32),
        ratio=np.array(RATIOS, np.float32),
        added_um=lesion_colour.nodes_um(ADDED_NODES, ADDED_TOP_UM).astype(np.float32),
        log_blood=np.log(BLOOD).astype(np.float32),
        log_rgb=log_rgb.astype(np.float16),
        pigment=np.stack([a for a, _ in inverse]).astype(np.float16),
        pixel_log_blood=np.stack([b for _, b in inverse]).astype(np.float16),
    )
    print(f"{OUT.name}: {table.shape}, {OUT.stat().st_size / 1e3:.0f} kB, melanin {melanin_um[0]:.2f} ... "
          f"{melanin_um[-1]:.1f} um")


if __name__ == "__main__":
    main()
