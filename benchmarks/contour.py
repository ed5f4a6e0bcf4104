"""How much of a lesion's contrast is left at its outline: photographs at the segmenter's, renders at the exact mask.

    python benchmarks/contour.py PHOTOGRAPHS RENDERS [--n 80]

PHOTOGRAPHS: a folder with metadata.jsonl and images; RENDERS: a set with exact masks. Colours are put on the axis from
the median of far skin (0) to that of the lesion's core (1); told is the median over pictures by distance from the
outline, in shares of the picture's side. `otsu` is the outline of a threshold half way. Writes
benchmarks/results/contour.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt

from synthskin.bias import compare_statistics as cs
from synthskin.dataset.encode import read_png
from synthskin.dataset.photo import load_photo
from synthskin.segment import load_segmenter

SIDE_PX = 192
AWAY_PX = np.arange(-24, 25, 3)
LEAST_CHROMATIC_STEP = 12.0  # L*a*b* between core and far skin; fainter lesions have no axis


def profile(image: np.ndarray, mask: np.ndarray) -> list[float] | None:
    """Contrast left at each of AWAY_PX from the outline; None where lesion or skin is too small, or too alike."""
    if not 0.03 < mask.mean() < 0.5:
        return None
    lab = cs.to_lab(image)
    away = np.where(mask, -distance_transform_edt(mask), distance_transform_edt(~mask))
    seen = ~cs.surround(lab)
    core, far = mask & (away < 0.35 * away.min()), (away > 24) & seen
    if core.sum() < 50 or far.sum() < 300:
        return None
    skin = np.median(lab[far], axis=0)
    axis = np.median(lab[core], axis=0) - skin
    if np.linalg.norm(axis) < LEAST_CHROMATIC_STEP:
        return None
    left = (lab - skin) @ axis / (axis @ axis)
    rings = [seen & (np.abs(away - d) < 1.5) for d in AWAY_PX]
    return [float(np.median(left[ring])) if ring.sum() > 20 else float("nan") for ring in rings]


def summary(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, object]:
    found = [own for own in (profile(*pair) for pair in pairs) if own is not None]
    middle = np.nanmedian(np.array(found, float), axis=0)
    return {"pictures": len(found), "left": {f"{d / SIDE_PX:+.3f}": round(float(v), 2)
                                             for d, v in zip(AWAY_PX, middle, strict=True)}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("renders", type=Path)
    parser.add_argument("--n", type=int, default=80)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results") / "contour.json")
    asked = parser.parse_args()
    segmenter = load_segmenter()

    def rows(folder: Path) -> list[dict]:
        return [json.loads(line) for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]

    chosen = rows(asked.photographs)
    picks = np.random.default_rng(7).choice(len(chosen), min(asked.n, len(chosen)), replace=False)
    photographs = [cs.fitted(load_photo(asked.photographs / chosen[k]["file_name"]), SIDE_PX) for k in picks]
    own = [row for row in rows(asked.renders) if row["mask_file_name"]][: asked.n]
    renders = [cs.fitted(read_png(asked.renders / row["file_name"]), SIDE_PX) for row in own]
    exact = [cs.fitted_mask(read_png(asked.renders / row["mask_file_name"]), SIDE_PX) for row in own]

    def otsu(image: np.ndarray) -> np.ndarray:
        return cs.find_lesion(cs.to_lab(image))[0]

    def predicted(image: np.ndarray) -> np.ndarray:
        return np.asarray(segmenter.predict([image])[0].mask) > 0

    told = {
        "photographs, segmenter": summary((image, predicted(image)) for image in photographs),
        "photographs, otsu": summary((image, otsu(image)) for image in photographs),
        "renders, exact": summary(zip(renders, exact, strict=True)),
        "renders, segmenter": summary((image, predicted(image)) for image in renders),
        "renders, otsu": summary((image, otsu(image)) for image in renders),
    }
    asked.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    for name, found in told.items():
        print(name, found)


if __name__ == "__main__":
    main()
