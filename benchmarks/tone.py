"""Tone of the presets: share of samples inside their class, and what the finished pictures measure.

`ita_deg` is that of the record's flat skin; `ita_image_deg` that of the visible skin in the finished picture, with
hair, lesion, light and the contact plate.

python benchmarks/tone.py [--n 64] [--out benchmarks/results/tone.txt]
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np

from synthskin.draw import draw
from synthskin.physics.engine import Engine, RenderSettings
from synthskin.preset import load_preset

#: Lower and upper bound of ITA (degrees) of the classes (Chardon 1991; Del Bino 2013).
CLASSES = {
    "fst1": (55.0, 90.0),
    "fst2": (41.0, 55.0),
    "fst3": (28.0, 41.0),
    "fst4": (10.0, 28.0),
    "fst5": (-30.0, 10.0),
    "fst6": (-90.0, -30.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=64, help="samples a preset")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--spp", type=int, default=6)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    start = time.perf_counter()
    engine = Engine(RenderSettings(size_px=args.size, spp=args.spp))
    lines = [
        f"{args.n} samples a preset, seed 0, {args.size} px, {args.spp} paths a pixel; ITA in degrees",
        "preset  class        inside  ita_deg: median  least   most  ita_image_deg: median  difference  no skin",
    ]
    for name, (low, high) in CLASSES.items():
        preset = load_preset(name)
        rendered = [engine.render(draw(preset, 0, index)) for index in range(args.n)]
        ita = np.array([sample.ita_deg for sample in rendered])
        seen = np.array([sample.ita_image_deg for sample in rendered if sample.ita_image_deg is not None])
        inside = np.mean((ita > low) & (ita <= high))
        lines.append(
            f"{name:6s} {low:5.0f} to {high:4.0f} {100 * inside:6.1f} %{np.median(ita):17.1f}{ita.min():7.1f}"
            f"{ita.max():7.1f}{np.median(seen):23.1f}{np.median(seen) - np.median(ita):12.1f}{args.n - len(seen):9d}"
        )
        print(lines[-1], flush=True)
    lines.append(f"{time.perf_counter() - start:.0f} s on {os.cpu_count()} CPU cores, device {engine.device_name}")
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
