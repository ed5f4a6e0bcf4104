"""Blur gate: detail and spread of sharp pictures, and what is caught of pictures blurred and blanked.

    python benchmarks/gates_quality.py DIR [DIR ...] [--out benchmarks/results/gates_quality.json]

DIR: folders of pictures. Per folder: quantiles of `blur` and `spread`; share refused of the pictures as they are
(default gate, and one calibrated on every second picture and asked about the others) and of the same with a Gaussian
blur of 1.5 % and 3 % of the side.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from synthskin.dataset.photo import ENDINGS
from synthskin.gates import BlurGate, Candidate
from synthskin.gates.quality import blur, spread

ROOT = Path(__file__).resolve().parent.parent


def refused(gate, images):
    return round(float(np.mean([not verdict.passed for verdict in gate.judge([Candidate("", i) for i in images])])), 4)


def blurred(image, share):
    sigma = share * min(image.shape[:2])
    return np.stack([gaussian_filter(image[..., c], sigma) for c in range(3)], axis=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--n", type=int, default=120)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/gates_quality.json")
    options = parser.parse_args()
    report = {}
    for folder in options.folders:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
        paths = [paths[int(k)] for k in np.linspace(0, len(paths) - 1, min(options.n, len(paths)))]
        images = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
        name = folder.parent.name if folder.name == "images" else folder.name
        own = BlurGate.calibrated(images[::2])
        asked = images[1::2]
        report[name] = {
            "pictures": len(images),
            "blur, quantiles 0 0.5 0.99 1": [round(float(q), 3) for q in np.quantile(
                [blur(image) for image in images], (0, 0.5, 0.99, 1))],
            "spread, quantiles 0 0.01 0.5": [round(float(q), 2) for q in np.quantile(
                [spread(image) for image in images], (0, 0.01, 0.5))],
            "calibrated threshold": own.max_blur,
            **{f"refused, {kind}": {"as they are": refused(gate, asked),
                                    "blur 1.5 % of the side": refused(gate, [blurred(i, 0.015) for i in asked]),
                                    "blur 3 % of the side": refused(gate, [blurred(i, 0.03) for i in asked])}
               for kind, gate in (("default gate", BlurGate()), ("calibrated", own))},
        }
    text = json.dumps(report, indent=2)
    print(text)
    options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
