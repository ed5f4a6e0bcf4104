"""ITA of the draws of each tone preset against its class: the calibration of presets/fst1.toml ... fst6.toml.

python benchmarks/calibrate_tone.py [--count 256] [--seed 0]
python benchmarks/calibrate_tone.py --curve     # ITA against the melanosome fraction: what to write into a preset
"""

from __future__ import annotations

import argparse

import numpy as np

from synthskin.conventions import ITA_CLASS_LOWER_DEG, ita_class
from synthskin.draw import draw
from synthskin.physics.flat_skin import ita_of_skins
from synthskin.preset import load_preset


def curve(count: int, seed: int) -> None:
    """Percentiles of ITA over all other skin ranges, at fixed melanosome fractions."""
    fractions = [
        0.003,
        0.004,
        0.005,
        0.006,
        0.008,
        0.01,
        0.012,
        0.014,
        0.016,
        0.018,
        0.02,
        0.022,
        0.025,
        0.028,
        0.031,
        0.034,
        0.037,
        0.04,
        0.044,
        0.048,
        0.052,
        0.057,
        0.063,
        0.07,
        0.08,
        0.09,
        0.10,
        0.11,
        0.12,
        0.13,
        0.14,
        0.15,
        0.16,
        0.18,
        0.20,
        0.25,
        0.3,
        0.36,
        0.43,
    ]
    for name in ("fst1", "fst2"):
        preset = load_preset(name)
        print(name, "ranges: melanosome fraction, ITA 2.5 %, median, 97.5 %")
        for fraction in fractions:
            fixed = preset.with_sets([f"skin.melanosome_fraction={fraction}"])
            ita = ita_of_skins([draw(fixed, seed, i).skin for i in range(count)])
            print(f"{fraction:7.3f}" + "".join(f"{v:8.1f}" for v in np.percentile(ita, [2.5, 50.0, 97.5])))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--curve", action="store_true")
    arguments = parser.parse_args()
    if arguments.curve:
        curve(arguments.count, arguments.seed)
        return
    uppers = (float("inf"), *ITA_CLASS_LOWER_DEG)
    lowers = (*ITA_CLASS_LOWER_DEG, float("-inf"))
    print(f"{arguments.count} draws a preset, seed {arguments.seed}: ITA in degrees")
    print("preset  class        inside   min     2.5 %   median  97.5 %  max")
    for number, (lower, upper) in enumerate(zip(lowers, uppers, strict=True), start=1):
        preset = load_preset(f"fst{number}")
        ita = ita_of_skins([draw(preset, arguments.seed, i).skin for i in range(arguments.count)])
        inside = np.mean([ita_class(float(v)) == number for v in ita])
        spread = np.percentile(ita, [0.0, 2.5, 50.0, 97.5, 100.0])
        print(
            f"fst{number}    {lower:4.0f} ..{upper:5.0f} {100 * inside:8.1f} %" + "".join(f"{v:8.1f}" for v in spread)
        )


if __name__ == "__main__":
    main()
