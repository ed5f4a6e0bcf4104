"""The segmenter's figures: trained on 400 renders of isic_like, judged on 100 others, timed, shown on photographs.

  python benchmarks/segmenter.py WORK [--photographs DIR] [--n 400] [--held-out 100] [--size 128] [--steps N]

Renders WORK/train (seed 11) and WORK/test (seed 12), trains WORK/model, scores it, times it, and with --photographs
(a folder of real pictures without masks) compares it with an unsupervised judge where the lesion is plainly darker.
Every stage goes on where it was stopped. Results: benchmarks/results/segmenter.json.

Three controls say what the Dice is worth: the middle disc (no look at the picture), Otsu's threshold, and that judge.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from synthskin.dataset.photo import ENDINGS, load_photo
from synthskin.hooks import regions
from synthskin.progress import make_progress
from synthskin.segment import confidence as conf
from synthskin.segment.data import collect, read_item
from synthskin.segment.files import score_sets
from synthskin.segment.predict import Segmenter, load_segmenter
from synthskin.segment.settings import TrainSettings

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "synthskin.cli", *map(str, arguments)], check=True)


def otsu(image: np.ndarray) -> np.ndarray:
    """The hooks' fallback on a picture (h, w, 3)."""
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    return regions.otsu_lesion(x, (regions.dilate(regions.surround(x), 2) < 0.5).to(x))[0, 0].numpy() > 0.5


def clustered(image: np.ndarray) -> tuple[np.ndarray, float]:
    """(mask, distance): an unsupervised judge, 3 clusters of L*a*b* and place (k-means); the darkest that is not at the
    border. `distance` is CIEDE76 between it and the rest: where it is large, the lesion is plain."""
    from skimage.color import rgb2lab
    from skimage.filters import gaussian
    from skimage.measure import label, regionprops
    from skimage.transform import resize
    from sklearn.cluster import KMeans

    h, w = image.shape[:2]
    small = gaussian(resize(image, (96, round(96 * w / h)), anti_aliasing=True), 1.5, channel_axis=2)
    lab = rgb2lab(small)
    y, x = np.mgrid[: small.shape[0], : small.shape[1]]
    radius = np.hypot(x / small.shape[1] - 0.5, y / small.shape[0] - 0.5)
    seen = lab[..., 0] > 8
    values = lab[seen]
    groups = KMeans(3, n_init=4, random_state=0).fit(values)
    order = np.argsort(groups.cluster_centers_[:, 0])
    best, found, apart = -1.0, np.zeros(seen.shape, bool), 0.0
    for count in (1, 2):  # the darkest, or the two darkest clusters
        mask = np.zeros(seen.shape, bool)
        mask[seen] = np.isin(groups.labels_, order[:count])
        pieces = label(mask)
        for piece in regionprops(pieces):
            here = pieces == piece.label
            away = float(np.linalg.norm(lab[here].mean(0) - lab[seen & ~mask].mean(0)))
            worth = piece.area * float(np.exp(-8 * radius[here].mean() ** 2)) * away
            if worth > best and piece.area > 0.005 * seen.size:
                best, found, apart = worth, here, away
    from scipy.ndimage import binary_fill_holes

    return resize(binary_fill_holes(found).astype(float), (h, w), order=1) > 0.5, apart


def controls(directory: Path) -> dict[str, float]:
    """Dice of masks that were not learnt, on the same held-out renders."""
    dice: dict[str, list[float]] = {"middle_disc": [], "otsu": []}
    for item in collect([directory], TrainSettings(), for_test=True).items:
        image, truth, _ = read_item(item)
        h, w = truth.shape
        y, x = np.mgrid[:h, :w]
        disc = (x / w - 0.5) ** 2 + (y / h - 0.5) ** 2 < 0.28**2
        dice["middle_disc"].append(conf.dice_score(disc, truth))
        dice["otsu"].append(conf.dice_score(otsu(image), truth))
    return {name: round(float(np.mean(values)), 4) for name, values in dice.items()}


def time_it(seg: Segmenter, photographs: list[np.ndarray]) -> dict[str, float]:
    """Seconds a picture: one at a time and in batches of 8, wall and CPU."""
    seg.predict(photographs[:2])
    result = {}
    for batch in (1, 8):
        wall, cpu = time.perf_counter(), time.process_time()
        seg.predict(photographs, batch)
        result[f"batch_{batch}_wall_s"] = round((time.perf_counter() - wall) / len(photographs), 4)
        result[f"batch_{batch}_cpu_s"] = round((time.process_time() - cpu) / len(photographs), 4)
    return result


def on_photographs(seg: Segmenter, folder: Path) -> dict[str, object]:
    """Agreement with the unsupervised judge, whole and where the lesion is plainly darker; share with nothing found."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in ENDINGS)
    rows = []
    progress = make_progress(verb="judging")
    progress.start(len(paths), 0)
    for k, path in enumerate(paths):
        image = load_photo(path)
        (found,) = seg.predict([image])
        judge, apart = clustered(image)
        rows.append({"name": path.stem, "dice": round(conf.dice_score(found.mask, judge), 4), "apart": round(apart, 2),
                     "otsu": round(conf.dice_score(otsu(image), judge), 4),
                     "area": round(float(found.mask.mean()), 4), "confidence": round(found.confidence, 4)})
        progress.step(k + 1)
    progress.stop()
    plain = [row for row in rows if row["apart"] >= 25]
    return {"n": len(rows), "nothing_found": sum(row["area"] == 0 for row in rows),
            "mean_confidence": round(float(np.mean([row["confidence"] for row in rows])), 4),
            "dice_with_judge": round(float(np.mean([row["dice"] for row in rows])), 4),
            "plain": {"n": len(plain), "dice": round(float(np.mean([row["dice"] for row in plain])), 4),
                      "median": round(float(np.median([row["dice"] for row in plain])), 4),
                      "otsu": round(float(np.mean([row["otsu"] for row in plain])), 4)},
            "worst": [row["name"] for row in sorted(plain, key=lambda row: row["dice"])[:12]]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--n", type=int, default=400)
    parser.add_argument("--held-out", type=int, default=100)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=TrainSettings().steps)
    parser.add_argument("--working", type=int, default=TrainSettings().size_px)
    parser.add_argument("--shipped", action="store_true", help="judge the shipped model, train none")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/segmenter.json")
    a = parser.parse_args()
    if a.photographs and not any(p.suffix.lower() in ENDINGS for p in a.photographs.iterdir()):
        parser.error(f"--photographs {a.photographs}: no picture lies right in it; allowed are {', '.join(ENDINGS)}")
    for name, count, seed in (("train", a.n, 11), ("test", a.held_out, 12)):
        if name == "test" or not a.shipped:
            run("render", "--preset", "isic_like", "--n", count, "--size", a.size, "--seed", seed, "--workers", 1,
                "--out", a.work / name)
    if not a.shipped:
        run("segmenter", "train", a.work / "train", "--out", a.work / "model", "--steps", a.steps, "--size", a.working)
    seg = load_segmenter(None if a.shipped else a.work / "model")
    _, figures = score_sets(seg, [a.work / "test"], ("exact",), make_progress(verb="scoring"))
    result = {"machine": f"{platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}",
              "card": {key: seg.card[key] for key in ("settings", "samples", "weights_sha256", "data", "metrics")},
              "held_out": figures, "controls": controls(a.work / "test")}
    if a.photographs:
        paths = sorted(p for p in a.photographs.iterdir() if p.suffix.lower() in ENDINGS)
        result["time"] = time_it(seg, [load_photo(p) for p in paths[:32]])
        result["photographs"] = on_photographs(seg, a.photographs)
    a.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
