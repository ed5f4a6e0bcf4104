"""What renders teach a network that brings no augmentation of its own: the variety of a set, not of a training recipe.

    synthskin render --preset isic_like --n 400 --seed 11 --size 128 --out RENDERS
    python benchmarks/plain_unet.py RENDERS [RENDERS ...] [--photographs DIR] [--steps 2000] [--seeds 2] [--first 400]
        [--out benchmarks/results/plain_unet.json] [--sheet FILE.png]

A residual U-Net of MONAI sees the pictures in 128 pixels, turned, mirrored and a fifth brighter or darker, and nothing
else. It is judged on the real photographs, which have no human masks here: by the unsupervised judge of segmenter.py
(k-means), by the segmenter that ships, and by the latter where the two agree (Dice over 0.85), which is the nearest to
a truth. Several sets are compared in one run. --sheet draws the 48 photographs on which the last network is furthest
from the segmenter that ships (green; red: the network, blue: the judge): what a set lacks is seen there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from numpy.typing import NDArray
from PIL import Image
from segmenter import clustered
from skimage.segmentation import find_boundaries

from synthskin.dataset.encode import read_png
from synthskin.dataset.photo import ENDINGS, load_photo
from synthskin.progress import make_progress
from synthskin.segment.predict import load_segmenter

ROOT = Path(__file__).resolve().parent.parent
SIZE = 128
Bool = NDArray[np.bool_]


def small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def small_mask(mask: Bool) -> Bool:
    return small((mask * 255).astype(np.uint8)) > 127


def read_set(folder: Path, first: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(pictures (n, 3, s, s) in 0..1, masks (n, 1, s, s)) of the first rows of a set."""
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()][:first]
    images = np.stack([small(read_png(folder / row["file_name"])) for row in rows])
    masks = [small_mask(read_png(folder / row["mask_file_name"]) > 0) if row["mask_file_name"]
             else np.zeros((SIZE, SIZE), bool) for row in rows]
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255,
            torch.from_numpy(np.stack(masks))[:, None].float())


def network() -> UNet:
    return UNet(2, 3, 1, (16, 32, 64, 128, 192), (2, 2, 2, 2), num_res_units=2, norm="batch")


def learn(images: torch.Tensor, masks: torch.Tensor, steps: int, seed: int) -> UNet:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net, loss_of = network(), DiceCELoss(sigmoid=True)
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps)
    progress = make_progress(verb="learning")
    progress.start(steps, 0)
    for step in range(steps):
        chosen = torch.from_numpy(rng.integers(0, len(images), 8))
        x, y = images[chosen], masks[chosen]
        if rng.random() < 0.5:
            x, y = x.flip(3), y.flip(3)
        turns = int(rng.integers(4))
        x, y = torch.rot90(x, turns, (2, 3)), torch.rot90(y, turns, (2, 3))
        x = (x * torch.from_numpy(rng.uniform(0.8, 1.2, (8, 1, 1, 1))).float()).clamp(0, 1)
        optimiser.zero_grad()
        loss_of(net(x), y).backward()
        optimiser.step()
        schedule.step()
        progress.step(step + 1)
    progress.stop()
    return net.eval()


def dice(a: Bool, b: Bool) -> float:
    return 2 * float((a & b).sum()) / max(1, int(a.sum() + b.sum()))


def judges(photographs: list[NDArray[np.uint8]]) -> tuple[list[Bool], list[Bool]]:
    """Masks in 128 pixels of the segmenter that ships, and of the unsupervised judge."""
    seg = load_segmenter()
    return ([small_mask(seg.predict([image])[0].mask > 0) for image in photographs],
            [small_mask(clustered(image)[0]) for image in photographs])


def sheet(path: Path, photographs: list[NDArray[np.uint8]], masks: tuple[list[Bool], ...], order: NDArray[np.intp],
          tile: int = 220) -> None:
    made = np.zeros((-(-len(order) // 8) * tile, 8 * tile, 3), np.uint8)
    for k, i in enumerate(order):
        picture = np.array(Image.fromarray(photographs[i]).resize((tile, tile)))
        for which, colour in zip(masks, ((0, 255, 0), (255, 0, 0), (0, 128, 255)), strict=True):
            large = np.asarray(Image.fromarray((which[i] * 255).astype(np.uint8)).resize((tile, tile))) > 127
            picture[find_boundaries(large, mode="inner")] = colour
        y, x = divmod(k, 8)
        made[y * tile : (y + 1) * tile, x * tile : (x + 1) * tile] = picture
    Image.fromarray(made).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path, nargs="+")
    parser.add_argument("--photographs", type=Path, default=Path("photographs/images"))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first", type=int, default=400)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/plain_unet.json")
    parser.add_argument("--sheet", type=Path)
    a = parser.parse_args()
    if not a.photographs.is_dir():
        parser.error(f"--photographs {a.photographs}: is no folder; docs/formats.md says how to get them")
    paths = sorted(p for p in a.photographs.iterdir() if p.suffix.lower() in ENDINGS)
    photographs = [load_photo(path) for path in paths]
    pictures = torch.from_numpy(np.stack([small(image) for image in photographs])).permute(0, 3, 1, 2).float() / 255
    shipped, judge = judges(photographs)
    agree = np.array([dice(x, y) > 0.85 for x, y in zip(shipped, judge, strict=True)])
    result: dict[str, object] = {
        "photographs": len(paths), "agreed": int(agree.sum()), "steps": a.steps, "first": a.first,
        "shipped_with_judge": round(float(np.mean([dice(x, y) for x, y in zip(shipped, judge, strict=True)])), 4)}
    for folder in a.sets:
        images, masks = read_set(folder, a.first)
        figures = []
        for seed in range(a.seeds):
            net = learn(images, masks, a.steps, seed)
            with torch.no_grad():
                found = list(torch.cat([net(x).sigmoid()[:, 0] > 0.5 for x in pictures.split(32)]).numpy())
            with_shipped = np.array([dice(x, y) for x, y in zip(found, shipped, strict=True)])
            with_judge = np.array([dice(x, y) for x, y in zip(found, judge, strict=True)])
            figures.append({"judge": round(float(with_judge.mean()), 4),
                            "shipped": round(float(with_shipped.mean()), 4),
                            "agreed": round(float(with_shipped[agree].mean()), 4),
                            "agreed_under_0.6": int((with_shipped[agree] < 0.6).sum())})
            print(folder, seed, figures[-1], flush=True)
        result[f"{folder.resolve().parent.name}/{folder.name}"] = figures  # two sets may bear one name
    if a.sheet:
        sheet(a.sheet, photographs, (shipped, found, judge), np.argsort(with_shipped)[:48])
    a.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
