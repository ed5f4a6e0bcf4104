"""How many planted copies the near-duplicate gate catches, and how many fresh pictures it refuses.

    python benchmarks/gates_copies.py DIR [--n 200] [--out benchmarks/results/gates_copies_NAME.json]

DIR: a folder of photographs or a data set's `images`. Half of the pictures are the training set: the index is
calibrated on them (with near-duplicate groups, as the command does). The other half, which it has not seen, are the
fresh pictures. Copies of the training half are altered, each once: cropped to 80 % of the side at a random place,
mirrored, saved as JPEG 50, shifted in hue by up to 5 CIEDE2000 (4 in a*b*), turned by 5 degrees.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.color import deltaE_ciede2000, lab2rgb, rgb2lab

from synthskin.dataset.near_duplicates import CopyIndex, group, hash_of
from synthskin.dataset.photo import ENDINGS

ROOT = Path(__file__).resolve().parent.parent


def crop(image, rng):
    h, w = image.shape[:2]
    ch, cw = round(0.8 * h), round(0.8 * w)
    y, x = rng.integers(0, h - ch + 1), rng.integers(0, w - cw + 1)
    return image[y:y + ch, x:x + cw]


def flip(image, rng):
    return image[:, ::-1].copy() if rng.random() < 0.5 else image[::-1].copy()


def jpeg(image, rng):
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=50)
    return np.asarray(Image.open(out).convert("RGB"))


def hue(image, rng):
    lab = rgb2lab(image)
    angle = rng.uniform(0, 2 * np.pi)
    moved = lab.copy()
    moved[..., 1] += 4 * np.cos(angle)
    moved[..., 2] += 4 * np.sin(angle)
    made = (np.clip(lab2rgb(moved), 0, 1) * 255).round().astype(np.uint8)
    assert deltaE_ciede2000(lab, rgb2lab(made)).mean() <= 5
    return made


def turn(image, rng):
    fill = tuple(int(v) for v in np.median(image.reshape(-1, 3), axis=0))
    return np.asarray(Image.fromarray(image).rotate(5 if rng.random() < 0.5 else -5, Image.Resampling.BICUBIC,
                                                    fillcolor=fill))


COPIES = {"80 % crop": crop, "flip": flip, "JPEG 50": jpeg, "hue shift": hue, "5 degree turn": turn}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=200, help="pictures, spread evenly over the folder")
    parser.add_argument("--copies", type=int, default=60, help="training pictures that are copied in each way")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    paths = sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in ENDINGS)
    paths = [paths[int(k)] for k in np.linspace(0, len(paths) - 1, min(options.n, len(paths)))]
    images = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    groups = [str(k) for k in group(np.stack([hash_of(image) for image in images]))]
    known = list(range(0, len(images), 2))
    taken = {groups[k] for k in known}
    fresh = [k for k in range(1, len(images), 2) if groups[k] not in taken]
    index = CopyIndex()
    start = time.perf_counter()
    for k in known:
        index.add(str(k), images[k])
    built = time.perf_counter() - start
    calibration = index.calibrate([groups[k] for k in known])
    start = time.perf_counter()
    refused = [index.nearest(images[k]) for k in fresh]
    asked = time.perf_counter() - start
    rng = np.random.default_rng(0)
    report = {
        "folder": options.folder.name if options.folder.name != "images" else options.folder.parent.name,
        "training pictures": len(known), "fresh pictures": len(fresh), "calibration": calibration,
        "ms to add a picture": round(1000 * built / len(known), 1),
        "ms to ask for a picture": round(1000 * asked / max(1, len(fresh)), 1),
        "fresh refused": round(float(np.mean([match.copy for match in refused])), 4),
        "fresh refused by the hash": round(float(np.mean([match.bits <= index.max_bits for match in refused])), 4),
        "fresh similarity quantiles": {q: round(float(np.quantile([m.similarity for m in refused], q)), 3)
                                       for q in (0.5, 0.9, 0.98, 1.0)},
        "caught": {}, "similarity of copies, quantiles 0.01 0.05 0.5": {},
    }
    some = [known[int(k)] for k in np.linspace(0, len(known) - 1, min(options.copies, len(known)))]
    for name, alter in COPIES.items():
        found = [(index.nearest(alter(images[k], rng)), k) for k in some]
        report["caught"][name] = round(float(np.mean([match.copy for match, _ in found])), 4)
        report["similarity of copies, quantiles 0.01 0.05 0.5"][name] = [
            round(float(q), 3) for q in np.quantile([match.similarity for match, _ in found], (0.01, 0.05, 0.5))]
    report["caught, all"] = round(float(np.mean(list(report["caught"].values()))), 4)
    text = json.dumps(report, indent=2)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
