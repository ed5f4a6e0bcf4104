"""What the learning test asserts, as figures: a LoRA on two classes of different colour, on a tiny trained base.

    python benchmarks/diffusion_learning.py [--out benchmarks/results/diffusion_learning.json]

Losses are means over 24 pictures at fixed noise and times, with 95 % intervals of paired differences (bootstrap over
pictures); colours are means of L*, a*, b* over 32 seeds a prompt.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from diffusion_sets import COLD, SIDE, WARM, trained_base, write_set  # noqa: E402
from skimage.color import rgb2lab  # noqa: E402

from synthskin.diffusion import TrainOptions, train_lora  # noqa: E402
from synthskin.diffusion.base import load_base  # noqa: E402
from synthskin.diffusion.data import Latents, load_training_set  # noqa: E402
from synthskin.diffusion.lora import load_lora  # noqa: E402
from synthskin.diffusion.metrics import fixed_losses  # noqa: E402
from synthskin.diffusion.pipeline import make_pictures, text_pipeline  # noqa: E402
from synthskin.diffusion.prompts import prompt  # noqa: E402


def interval(differences):
    rng = np.random.default_rng(0)
    means = differences[rng.integers(0, len(differences), (2000, len(differences)))].mean(axis=1)
    return [round(float(q), 4) for q in np.quantile(means, [0.025, 0.975])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/diffusion_learning.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        start = time.process_time()
        base = trained_base()
        base_s = time.process_time() - start
        data_folder = write_set(root / "data", [("MEL", None, COLD) if k % 2 else ("NV", None, WARM)
                                                for k in range(24)], SIDE, 2)
        start = time.process_time()
        train_lora([data_folder], str(base), root / "lora", TrainOptions(
            steps=80, batch=8, rank=8, learning_rate=1e-2, schedule="cosine", warmup=5, snr_gamma=0,
            targets=("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"), save_every=1000))
        lora_s = time.process_time() - start
        data = load_training_set([data_folder], SIDE)
        pictures, right = list(range(len(data))), list(data.prompts)
        swapped = [right[1] if text == right[0] else right[0] for text in right]
        network = load_base(str(base))
        latents = Latents(network.vae, data.images)
        before = fixed_losses(network, latents, pictures, right, SIDE, 5)
        load_lora(network, root / "lora")
        own = fixed_losses(network, latents, pictures, right, SIDE, 5)
        other = fixed_losses(network, latents, pictures, swapped, SIDE, 5)
        means = {name: rgb2lab(make_pictures(text_pipeline(network), [prompt(name, None, "dermoscopic")] * 32,
                                             list(range(32)), SIDE, steps=10, guidance=3.0)
                               ).reshape(32, -1, 3).mean(axis=1) for name in ("MEL", "NV")}
    apart = means["NV"] - means["MEL"]
    report = {
        "loss, right captions": round(float(own.mean()), 4), "loss, captions swapped": round(float(other.mean()), 4),
        "loss, base": round(float(before.mean()), 4), "swapped - right, 95 %": interval(other - own),
        "base - right, 95 %": interval(before - own),
        "NV - MEL in L*, a*, b*": [round(float(v), 1) for v in apart.mean(axis=0)],
        "the same, 95 %": [interval(apart[:, k]) for k in range(3)],
        "of the training colours": [round(float(v), 1) for v in (
            rgb2lab(np.array([[WARM]], np.uint8)) - rgb2lab(np.array([[COLD]], np.uint8)))[0, 0]],
        "seconds of one core": {"base": round(base_s, 1), "LoRA": round(lora_s, 1)},
    }
    text = json.dumps(report, indent=1)
    print(text)
    options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
