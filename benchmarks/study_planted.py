"""A trained study that must find a gap that was planted, of known size, and none where there is none.

    python benchmarks/study_planted.py --out benchmarks/results/study_planted.json      (a few minutes, 1 core)

Pictures are drawn: a disc on light or on dark skin. In the set `planted` whoever outlined the lesions on dark skin drew
them at 0.75 of their radius; in `sound` all outlines are right, as they are in the test set. A network that learns what
it is shown then loses 1 - 2 q^2 / (1 + q^2) = 0.28 of Dice on dark skin (q = 0.75). Both arms are tested on the same
cases; the declared primary endpoint is the change of the gap.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

from synthskin.bias.study import run_study
from synthskin.bias.study_file import parse_study
from synthskin.dataset.card import Card
from synthskin.dataset.encode import encode_sample
from synthskin.dataset.format import Sample, empty_row
from synthskin.dataset.reader import bounding_box
from synthskin.dataset.writer import DatasetWriter

Q = 0.75
PLANTED = 2 * Q**2 / (1 + Q**2) - 1
STUDY = """
name = "planted"
task = "segmentation"
size_px = {size}
seeds = {seeds}
validation = "sound"
[data.planted]
folder = "planted"
[data.sound]
folder = "sound"
[data.test]
folder = "test"
[split]
validation = 0.1
test = 0.05
[arms.planted]
use = [{{ data = "planted" }}]
[arms.sound]
use = [{{ data = "sound" }}]
[tests.test]
data = "test"
part = "all"
[groups.tone]
by = "tone"
pair = ["dark", "light"]
[groups.size]
by = "size"
[training]
steps = {steps}
batch = 8
learning_rate = 4e-3
[primary]
metric = "dice"
test = "test"
arms = ["planted", "sound"]
of = "tone"
groups = ["dark", "light"]
"""


def make_set(folder: Path, n: int, seed: int, side: int = 64, q: float = 1.0, split=None, generator="physics",
             classes=("NV", "MEL")) -> Path:
    """Discs on light (even) and dark (odd) skin, outlined at `q` of their radius on dark; MEL is the bluish one."""
    card = Card(generator, "discs", f"{seed:015x}{int(q < 1)}", seed, n, side, 10.0, {"spp": 1}, ["CC0-1.0"])
    rng = np.random.Generator(np.random.Philox(key=seed))
    y, x = np.mgrid[:side, :side] / side
    with DatasetWriter(folder, card, 'name = "discs"\n') as writer:
        for index in range(n):
            dark, diagnosis = index % 2 == 1, classes[(index // 2) % len(classes)]
            skin = np.array([110, 75, 55] if dark else [220, 180, 160]) + rng.integers(-15, 16, 3)
            radius, cx, cy = rng.uniform(0.15, 0.3), *rng.uniform(0.35, 0.65, 2)
            away = np.hypot(x - cx, y - cy)
            lesion = skin * 0.45 + ([0, 10, 45] if diagnosis == "MEL" else [15, 0, 0])
            image = np.where((away < radius)[..., None], lesion, skin) + rng.normal(0, 10, (side, side, 3))
            mask = np.where(away < radius * (q if dark else 1.0), 255, 0).astype(np.uint8)
            hair = np.zeros((side, side), np.uint8)
            if index % 3 == 0:
                hair[:, :: max(side // 4, 1)] = 255
                image[hair > 0] = 30
            name = f"{index:06d}.png"
            box = bounding_box(mask)
            row = empty_row() | {
                "file_name": f"images/{name}", "mask_file_name": f"masks/{name}", "hair_file_name": f"hair/{name}",
                "index": index, "seed": seed, "preset": "discs", "set_hash": card.set_hash, "generator": generator,
                "mask_status": "exact", "diagnosis": diagnosis, "diagnosis_status": "by_construction",
                "ita_class": 5 if dark else 2, "tone_source": "model", "contrast": float(round(rng.uniform(5, 20), 3)),
                "bbox": box, "boxes": [box], "group_id": f"discs-{seed}-{index}", "caption": "A disc on skin.",
                "split": None if split is None else split(index), "params": "{}",
                "sex": ("female", "male")[index % 2],
            }
            writer.write(encode_sample(Sample(row, np.clip(image, 0, 255).astype(np.uint8), mask, hair)))
    return folder


def run(folder: Path, n_train: int, n_test: int, steps: int, seeds: list[int], side: int = 64):
    """Draw, train, report; the results of the study."""
    sets = {name: make_set(folder / name, n, seed, side, q) for name, n, seed, q in (
        ("planted", n_train, 1, Q), ("sound", n_train, 2, 1.0), ("test", n_test, 3, 1.0))}
    spec = parse_study(STUDY.format(size=side, seeds=seeds, steps=steps), "planted.toml")
    return run_study(spec, sets, folder / "study").results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    started, cpu = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        results = run(Path(folder), 120, 100, args.steps, [0, 1, 2])
    keys = ("estimate", "low", "high", "p", "p_holm", "detectable")
    gaps = {c["what"]: {k: round(v, 4) for k, v in c.items() if k in keys and v == v} for c in results["comparisons"]
            if c["of"] == "tone"}
    found = {"planted gap": round(PLANTED, 4),
             "primary": {k: round(v, 4) for k, v in results["primary"].items() if k in keys and v == v},
             "tone": gaps, "cpu_seconds": round(time.process_time() - cpu, 1),
             "seconds": round(time.monotonic() - started, 1), "python": platform.python_version()}
    print(json.dumps(found, indent=1))
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
