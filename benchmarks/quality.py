"""Is the default quality good enough? Luminance PSNR and mean CIEDE2000 of few paths against many.

    python benchmarks/quality.py --reference-spp 4098 --size 256 --spp 6 9 12 18

The reference is averaged over independent runs of the same engine without denoising, then denoised once;
`_of_paths` tells the same against the paths as they are, which keep some noise (0.4 of CIEDE2000 at 4098), so that what
the denoiser takes away from both counts too. With
--full-walk its paths walk to the end, so that the bias of the tabulated ending counts as error too.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np

from synthskin.draw import draw
from synthskin.physics import camera, denoise, spectral
from synthskin.physics.engine import Engine, RenderSettings
from synthskin.preset import load_preset

XYZ = np.linalg.inv(spectral.XYZ_TO_LINEAR_SRGB)


def lab(linear: np.ndarray) -> np.ndarray:
    return spectral.xyz_to_lab(np.clip(linear, 0, 1) @ XYZ.T)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--reference-spp", type=int, default=4098)
    parser.add_argument("--spp", type=int, nargs="+", default=[6, 9, 12, 18])
    parser.add_argument("--cases", nargs="+", default=["fst2:2", "fst4:1", "fst6:0"])
    parser.add_argument("--full-walk", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    engine = Engine(RenderSettings(size_px=args.size, spp=18))
    rows = []
    for case in args.cases:
        name, index = case.split(":")
        record = draw(load_preset(name), 0, int(index))
        scene = engine.scene(record)
        chunk, total, done = 129, 0.0, 0
        while done < args.reference_spp:
            total = (
                total
                + engine.linear(record, scene, spp=chunk, seed=1000 + done, ending=not args.full_walk).noisy * chunk
            )
            done += chunk
        noisy = (total / done).astype(np.float32)
        reference = denoise.denoise(noisy, engine.linear(record, scene, spp=3).guide, record.camera.field_of_view_mm)
        y_ref = camera.encode(reference).astype(np.float64) @ [0.2126, 0.7152, 0.0722] / 255
        for spp in args.spp:
            start = time.perf_counter()
            picture = engine.linear(record, scene, spp=spp).clean
            seconds = time.perf_counter() - start
            y = camera.encode(picture).astype(np.float64) @ [0.2126, 0.7152, 0.0722] / 255
            delta_e = spectral.ciede2000(lab(picture), lab(reference))
            y_paths = camera.encode(noisy).astype(np.float64) @ [0.2126, 0.7152, 0.0722] / 255
            from_paths = spectral.ciede2000(lab(picture), lab(noisy))
            rows.append(
                {
                    "case": case,
                    "spp": spp,
                    "psnr_db": round(float(-10 * np.log10(np.mean((y - y_ref) ** 2))), 2),
                    "mean_ciede2000": round(float(delta_e.mean()), 3),
                    "p95_ciede2000": round(float(np.quantile(delta_e, 0.95)), 3),
                    "psnr_db_of_paths": round(float(-10 * np.log10(np.mean((y - y_paths) ** 2))), 2),
                    "mean_ciede2000_of_paths": round(float(from_paths.mean()), 3),
                    "seconds": round(seconds, 2),
                }
            )
            print(rows[-1], flush=True)
    if args.out:
        args.out.write_text(
            json.dumps(
                {
                    "reference_spp": args.reference_spp,
                    "full_walk": args.full_walk,
                    "size": args.size,
                    "machine": f"{platform.processor() or platform.machine()}, 2 cores",
                    "rows": rows,
                },
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
