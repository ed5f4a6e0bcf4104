"""How far true mean radiance in the dermis departs from diffusion, skin by skin: the law that the table starts from.

    python benchmarks/ending_law.py --out benchmarks/results/ending_law.txt

Many probe walks in three skins a preset give the factor of each of the nine wavelengths almost free of noise; a law in
`fluence.regressors` is fitted to its logarithm. What it prints goes into FACTOR_LAW, USUAL_FIT and USUAL_SD of
`synthskin/physics/fluence.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from synthskin.draw import draw
from synthskin.physics import fluence, render
from synthskin.physics.engine import Engine, RenderSettings, walk_key
from synthskin.preset import load_preset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", type=int, default=500)
    parser.add_argument("--first-index", type=int, default=20)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    fluence.PROBE_PATHS, fluence.PROBE_SIZE = args.paths, 36
    engine = Engine(RenderSettings(size_px=64, spp=3, denoise=False))
    fits: list[np.ndarray] = []
    rows: list[np.ndarray] = []

    def free(design: Any, ratio: Any, weight: Any, expected: float) -> Any:
        fits.append(np.linalg.lstsq(design * weight[:, None], ratio * weight, rcond=None)[0])
        return fits[-1]

    def watch(*given: Any) -> Any:
        rows.append(fluence.regressors(*given))
        return np.ones(9)

    fluence.fit_factor, fluence.expected_factor = free, watch  # type: ignore[assignment]
    for name in ("fst1", "fst2", "fst3", "fst4", "fst5", "fst6"):
        for index in range(args.first_index, args.first_index + 3):
            record = draw(load_preset(name), 0, index)
            scene = engine.scene(record)
            render.make_job(
                engine.mi, engine.dr, scene, record, walk_key(record), *render.hair_maps(scene, record), True
            )
    fit, x = np.array(fits), np.concatenate(rows)
    law, *_ = np.linalg.lstsq(x, np.log(fit[:, 0]), rcond=None)
    left = (np.log(fit[:, 0]) - x @ law).reshape(6, -1)
    ratio = fit / fit[:, :1]
    lines = [
        f"3 skins a preset from index {args.first_index}, {36 * 36 * args.paths} paths a hero group",
        "FACTOR_LAW = (" + ", ".join(f"{v:.4f}" for v in law) + ")",
        "USUAL_FIT = (1.0, " + ", ".join(f"{v:.3f}" for v in ratio[:, 1:].mean(0)) + ")",
        f"USUAL_SD = ({left.std():.3f}, " + ", ".join(f"{v:.3f}" for v in ratio[:, 1:].std(0)) + ")",
        "left of the logarithm, standard deviation, fst1 ... fst6: " + " ".join(f"{v:.3f}" for v in left.std(1)),
    ]
    print("\n".join(lines))
    if args.out:
        args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
