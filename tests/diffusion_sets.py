"""Small sets of the contract for the tests of diffusion: a disc on a ground, colours by class, grain of its own."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from synthskin.conventions import BENIGN_MALIGNANT
from synthskin.dataset.card import Card
from synthskin.dataset.encode import encode_sample
from synthskin.dataset.format import Sample, empty_row, stem
from synthskin.dataset.reader import bounding_box
from synthskin.dataset.writer import DatasetWriter

SIDE = 32
WARM, COLD = (205, 120, 90), (90, 110, 190)


def disc(side, y, x, radius):
    rows, columns = np.mgrid[:side, :side]
    return np.where((rows - y) ** 2 + (columns - x) ** 2 < radius**2, 255, 0).astype(np.uint8)


def picture(rng, side, mask, ground, lesion):
    inside = gaussian_filter((mask > 0).astype(float), 0.7)[..., None]
    image = inside * np.array(lesion, float) + (1 - inside) * np.array(ground, float)
    grain = gaussian_filter(rng.normal(size=(side, side)), 0.8)
    return np.clip(image + 30 * grain[..., None], 0, 255).astype(np.uint8)


def write_set(folder: Path, entries, side=32, key=0, **changes) -> Path:
    """entries: (diagnosis or None, ita_class or None, ground colour or None for a random one). Extra keys go into rows.
    """
    rng = np.random.default_rng(key)
    card = Card("physics", "toy", f"{key:016x}", 0, len(entries), side, 10.0, {"maps": False})
    with DatasetWriter(folder, card, "# toy\n") as writer:
        for index, (diagnosis, tone, ground) in enumerate(entries):
            colour = np.array(rng.uniform(60, 220, 3) if ground is None else ground) + rng.normal(0, 6, 3)
            mask = disc(side, *(side / 2 + rng.uniform(-0.12, 0.12, 2) * side), rng.uniform(0.16, 0.3) * side)
            box = bounding_box(mask)
            name = stem(index)
            row = empty_row() | {
                "file_name": f"images/{name}.png", "mask_file_name": f"masks/{name}.png", "index": index, "seed": 0,
                "preset": "toy", "set_hash": f"{key:016x}", "generator": "physics", "mask_status": "exact",
                "diagnosis": diagnosis, "diagnosis_status": "unknown" if diagnosis is None else "by_construction",
                "benign_malignant": None if diagnosis is None else BENIGN_MALIGNANT[diagnosis],
                "ita_class": tone, "tone_source": None if tone is None else "model", "bbox": box, "boxes": [box],
                "lesions": [] if diagnosis is None else [diagnosis],
                "modality": "dermoscopic", "group_id": f"toy-{key}-{index}",
                "caption": "A disc.", "params": json.dumps({"index": index}),
            } | changes
            writer.write(encode_sample(Sample(row, picture(rng, side, mask, colour, 0.45 * colour), mask)))
    return folder


@cache
def trained_base() -> Path:
    """Stable Diffusion's architecture, tiny, trained on pictures of every colour: their prompts say nothing of it.

    Made once a process and shared by the tests; nothing writes into it.
    """
    from synthskin.diffusion import QuickstartOptions, train_base

    root = Path(tempfile.mkdtemp(prefix="synthskin-base-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    classes = ("BCC", "BKL", "DF", "MEL", "NV")
    write_set(root / "data", [(classes[k % 5], None, None) for k in range(40)], SIDE, 1)
    train_base([root / "data"], root / "base", QuickstartOptions(size_px=SIDE, steps=130, vae_steps=130, batch=8,
                                                                 vae_batch=8, width=16, save_every=1000))
    return root / "base"


@dataclass
class Found:
    mask: np.ndarray
    confidence: float = 0.9


class DarkSegmenter:
    """What is darker than the picture's median by a quarter is lesion."""

    sha256 = "stand-in"

    def predict(self, images):
        made = []
        for image in images:
            grey = gaussian_filter(image.mean(axis=2), 1)
            made.append(Found(np.where(grey < 0.75 * np.median(grey), 255, 0).astype(np.uint8)))
        return made
