"""How many pictures of different lesions, and how many altered copies, the grouping of near-duplicates ties.

    python benchmarks/near_duplicates.py DIR [--out benchmarks/results/near_duplicates.json]

DIR: a folder of photographs, each of another lesion (here the 555 of ISIC UDA-1, CC0).
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from synthskin.dataset.near_duplicates import MAX_BITS
from synthskin.dataset.photo import ENDINGS, difference_hash

ROOT = Path(__file__).resolve().parent.parent


def cropped(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.crop((width // 50, height // 50, width - width // 50, height - height // 50))


COPIES = {
    "JPEG quality 40": lambda image: image,
    "half size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "2 % cropped at each side": cropped,
    "15 % brighter": lambda image: image.point(lambda value: min(255, int(1.15 * value))),
}


def bits(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Differing bits of hashes (..., 2)."""
    return np.bitwise_count(first ^ second).astype(int).sum(axis=-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/near_duplicates.json")
    options = parser.parse_args()
    paths = sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in ENDINGS)
    hashes = np.array([difference_hash(path) for path in paths])
    apart = bits(hashes[:, None], hashes[None])[np.triu_indices(len(paths), 1)]
    found = {}
    for name, alter in COPIES.items():
        near = []
        for path, known in zip(paths, hashes, strict=True):
            out = io.BytesIO()
            with Image.open(path) as image:
                alter(image.convert("RGB")).save(out, "JPEG", quality=40)
            with tempfile.NamedTemporaryFile(suffix=".jpg") as copy:
                copy.write(out.getvalue())
                copy.flush()
                near.append(bits(difference_hash(Path(copy.name)), known) <= MAX_BITS)
        found[name] = round(float(np.mean(near)), 3)
    report = {"photographs": len(paths), "pairs": len(apart), "bits allowed of 128": MAX_BITS,
              "pairs tied": int((apart <= MAX_BITS).sum()), "of them equal": int((apart == 0).sum()),
              "bits of the nearest pair not tied": int(apart[apart > MAX_BITS].min()),
              "share of copies found": found}
    text = json.dumps(report, indent=2)
    print(text)
    options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
