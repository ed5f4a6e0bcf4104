"""Fit synthskin/physics/lesion_extra.npz to adding-doubling on columns of drawn lesions and random ones.

python benchmarks/make_lesion_extra.py [--columns 16000] [--steps 150000]     (10 minutes on one core; needs torch)
python benchmarks/make_lesion_extra.py --surplus     lesion_extra_surplus.npz, for skin darker than the reference's
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from synthskin.draw import draw
from synthskin.physics import lesion_extra, spectral
from synthskin.physics.lesion.field import NEUTRAL
from synthskin.physics.lesion.structures import grow
from synthskin.physics.lesion_colour import REFERENCE_SKIN
from synthskin.preset import load_preset

OUT = Path(lesion_extra.__file__).with_name("lesion_extra.npz")
HIDDEN = 40
SKIN_MELANIN = len(lesion_extra.KNOWN) + lesion_extra.EXTRA.index("skin_melanin")
#: Ranges of random columns: (low, high, log).
RANGES = {
    "epidermal_um": (0.02, 25.0, True), "junctional_um": (0.02, 25.0, True), "dermal_um": (0.02, 12.0, True),
    "dermal_depth_um": (25.0, 250.0, False), "blood_factor": (0.5, 5.0, True), "corneal_um": (0.02, 14.0, True),
    "deep_um": (0.02, 25.0, True), "deep_depth_um": (15.0, 250.0, False), "vessel_um": (0.5, 500.0, True),
    "vessel_depth_um": (0.0, 220.0, False), "crust_um": (0.5, 60.0, True), "keratin_um": (1.0, 130.0, False),
    "keratin_scale": (1.0, 12.0, False), "thickening_um": (-65.0, 130.0, False), "skin_melanin": (0.0, 1.0, False),
    "dermal_scale": (1.0, 2.5, False),
}


def drawn(count: int, rng: np.random.Generator) -> np.ndarray:
    """Columns of lesions of all diagnoses."""
    preset = load_preset("fst2").with_diagnosis("MEL=2,NV=1,BCC=2,AKIEC=2,BKL=2,DF=1,VASC=2")
    rows: list[np.ndarray] = []
    index = 0
    while sum(map(len, rows)) < count:
        record = draw(preset, 20, index)
        index += 1
        axis = np.linspace(-7, 7, 240, dtype=np.float32)
        lesion = grow(record, axis, axis, float(axis[1] - axis[0]))
        extra = lesion_extra.has_extra(lesion)
        if extra is None or not extra.any():
            continue
        table = lesion_extra.columns_of(lesion, extra)
        maturity = lesion.maturity[extra]
        table[:, 3] *= 0.55 + 0.9 * maturity
        rows.append(table[rng.choice(len(table), min(60, len(table)), replace=False)])
    table = np.concatenate(rows)[:count].astype(np.float64)
    for k, name in enumerate((*lesion_extra.KNOWN, *lesion_extra.EXTRA)):
        if name not in ("keratin_scale", "skin_melanin", "dermal_scale"):
            table[:, k] *= np.exp(0.3 * rng.standard_normal(len(table)))
    return table


def random(count: int, rng: np.random.Generator) -> np.ndarray:
    """Columns with every amount present in a third of them."""
    table = np.zeros((count, 16))
    for k, name in enumerate((*lesion_extra.KNOWN, *lesion_extra.EXTRA)):
        low, high, logarithmic = RANGES[name]
        u = rng.random(count)
        values = low * (high / low) ** u if logarithmic else low + (high - low) * u
        neutral = {**NEUTRAL, "blood_factor": 1.0}.get(name, 0.0)
        here = rng.random(count) < (1.0 if "depth" in name or name == "keratin_scale" else 0.35)
        table[:, k] = np.where(here, values, neutral)
    return table


def with_surplus(table: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The columns on skin of more melanin than the reference's, up to the darkest; what is left of it is its own."""
    count = len(table)
    more = np.where(rng.random(count) < 0.15, 0.0, np.exp(rng.uniform(np.log(0.3), np.log(40.0), count)))
    share = rng.uniform(0.2, 0.9, count)
    left = table[:, SKIN_MELANIN]
    table[:, 0] += more * (1 - share) * left
    table[:, 1] += more * share * left
    table[:, SKIN_MELANIN] = 1.0
    return table


def main() -> None:
    import torch

    parser = argparse.ArgumentParser()
    parser.add_argument("--columns", type=int, default=16000)
    parser.add_argument("--steps", type=int, default=150000)
    parser.add_argument("--surplus", action="store_true")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    table = np.concatenate([drawn(int(0.75 * arguments.columns), rng), random(arguments.columns // 4, rng)])
    out = OUT
    if arguments.surplus:
        table, out = with_surplus(table, rng), OUT.with_name("lesion_extra_surplus.npz")
    bare = table.copy()
    bare[:, 5:] = [NEUTRAL[name] for name in lesion_extra.EXTRA]
    start = time.perf_counter()
    target = np.concatenate([
        lesion_extra.exact_log_xyz(part, REFERENCE_SKIN) - lesion_extra.exact_log_xyz(none, REFERENCE_SKIN)
        for part, none in zip(np.array_split(table, 64), np.array_split(bare, 64), strict=True)
    ])
    print(f"adding-doubling of {len(table)} columns: {time.perf_counter() - start:.0f} s", flush=True)

    torch.manual_seed(0)
    torch.set_num_threads(1)
    x, gate = lesion_extra.inputs(table.astype(np.float32))
    held = rng.random(len(x)) < 0.1
    net = torch.nn.Sequential(torch.nn.Linear(16, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, HIDDEN),
                              torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 3))
    xs, gs, ys = (torch.tensor(v[~held], dtype=torch.float32) for v in (x, gate[:, None], target))
    optimiser = torch.optim.Adam(net.parameters(), lr=4e-3)
    for step in range(arguments.steps):
        for group in optimiser.param_groups:
            group["lr"] = 4e-3 * (1 - step / arguments.steps) + 2e-5
        pick = torch.randint(0, len(xs), (1024,))
        loss = torch.nn.functional.smooth_l1_loss(net(xs[pick]) * gs[pick], ys[pick], beta=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    layers = [net[0], net[2], net[4]]
    arrays = {}
    for number, layer in enumerate(layers, start=1):
        arrays[f"w{number}"] = layer.weight.detach().numpy().T.astype(np.float32)
        arrays[f"b{number}"] = layer.bias.detach().numpy().astype(np.float32)
    np.savez_compressed(out, **arrays)
    lesion_extra._weights.cache_clear()
    delta = lesion_extra.delta_log_xyz(table[held].astype(np.float32), arguments.surplus)
    base = np.concatenate([lesion_extra.exact_log_xyz(p, REFERENCE_SKIN) for p in np.array_split(bare[held], 8)])
    found, exact = (spectral.xyz_to_lab(np.exp(base + d)) for d in (delta, target[held]))
    error = spectral.ciede2000(found, exact)
    size = spectral.ciede2000(spectral.xyz_to_lab(np.exp(base)), exact)
    print(f"{out.name}: {out.stat().st_size / 1e3:.0f} kB, {arguments.steps} steps; {held.sum()} held-out columns: "
          f"CIEDE2000 median {np.median(error):.2f}, 95 % {np.percentile(error, 95):.2f}; "
          f"median effect {np.median(size):.1f}")


if __name__ == "__main__":
    main()
