"""What a quickstart base has learnt, for docs/diffusion.md: its loss curve and a sheet of its pictures.

    python benchmarks/quickstart_sheet.py BASE SET [--name quickstart_gpu]

BASE: folder of `synthskin diffusion quickstart`; SET: pictures that `synthskin diffusion generate BASE --n 64` wrote.
Writes docs/img/NAME.png (mean of 50 steps: error of the autoencoder in grey levels, then loss of the UNet) and
docs/img/NAME_samples.jpg.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from synthskin.dataset.reader import open_dataset
from synthskin.diffusion.data import square

ROOT = Path(__file__).resolve().parent.parent
WINDOW = 50


def panel(draw: ImageDraw.ImageDraw, left: int, title: str, steps: np.ndarray, values: np.ndarray) -> None:
    low, width, height = 235, 380, 190
    most = 1.1 * float(values.max())
    draw.text((left, 12), title, fill="black")
    draw.line([(left, low - height), (left, low), (left + width, low)], fill="black")
    for k in range(5):
        y = low - height * k / 4
        draw.text((left - 38, y - 6), f"{most * k / 4:.3g}", fill="black")
        step = steps[0] + (steps[-1] - steps[0]) * k / 4
        draw.text((left + width * k / 4 - 10, low + 5), f"{step:.0f}", fill="black")
    share = (steps - steps[0]) / max(float(steps[-1] - steps[0]), 1.0)
    draw.line([(left + width * s, low - height * v / most) for s, v in zip(share, values, strict=True)],
              fill="#1f5fbf", width=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("set", type=Path)
    parser.add_argument("--name", default="quickstart_gpu")
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--side", type=int, default=128)
    asked = parser.parse_args()
    lines = [json.loads(line) for line in (asked.base / "training/losses.jsonl").read_text().splitlines()]
    curve = Image.new("RGB", (900, 270), "white")
    draw = ImageDraw.Draw(curve)
    for left, key, title, scale in ((50, "vae_error", "autoencoder, grey levels", 127.5),
                                    (490, "loss", "UNet, loss", 1.0)):
        own = [(line["step"], scale * line[key]) for line in lines if key in line]
        rows = np.array(own[:len(own) // WINDOW * WINDOW]).reshape(-1, WINDOW, 2).mean(1)
        panel(draw, left, f"{title}: {rows[-1, 1]:.3g} at the end", rows[:, 0], rows[:, 1])
    curve.save(ROOT / f"docs/img/{asked.name}.png")
    data = open_dataset(asked.set)
    pictures = [square(data.load(k).image, asked.side) for k in range(len(data))]
    rows = [np.concatenate(pictures[k:k + asked.columns], 1)
            for k in range(0, len(pictures) - asked.columns + 1, asked.columns)]
    Image.fromarray(np.concatenate(rows)).save(ROOT / f"docs/img/{asked.name}_samples.jpg", quality=88)


if __name__ == "__main__":
    main()
