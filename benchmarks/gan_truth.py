"""How near translators come to the true counterfactual, which only a renderer has; against colour transfer.

    synthskin counterfactual --preset nv --tones fst1,fst5 -n 96 --size 64 --seed 0 --out out/pairs64
    python benchmarks/gan_truth.py out/pairs64 --work out/gan_truth --steps 1200

The first two thirds of the lesions are learnt from (each domain drawn on its own: unpaired), the rest is judged. Every
figure is the mean CIEDE2000 to the picture that the renderer makes of the same lesion on the other skin, over the
lesion and over free skin. An interruption loses at most a twentieth of a training; the same command continues.
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from synthskin.gan import reinhard
from synthskin.gan.domain import U8, Domain, load_domain
from synthskin.gan.method import TrainOptions
from synthskin.gan.model import load_model
from synthskin.gan.train import train
from synthskin.gan.translate import Translator
from synthskin.gan.truth import Truth, against_truth, pairs
from synthskin.gan.where import Where

METHODS = ("cyclegan", "cut", "stargan", "pix2pixhd")


def split_pairs(directory: Path, size_px: int, learn_share: float = 2 / 3) -> tuple[Domain, Domain, Domain, Domain]:
    """(source and target to learn from, source and target to be judged by); the last two are in pairs."""
    everything = load_domain(directory, Where(), size_px)
    found = pairs(everything, ("fst1", "fst5"))
    count = round(learn_share * len(found))
    parts = [everything.subset([pair[side] for pair in some])
             for some in (found[:count], found[count:]) for side in (0, 1)]
    return parts[0], parts[1], parts[2], parts[3]


def pictures(domain: Domain) -> list[Any]:
    return [domain.picture(k) for k in range(len(domain))]


def rivals(learn_a: Domain, learn_b: Domain, test_a: Domain, test_b: Domain) -> dict[str, Truth]:
    """Nothing; Reinhard as published (one target picture, at random), to the domain's mean, by pooled statistics."""
    truth, sources = pictures(test_b), [p.image for p in pictures(test_a)]
    target, source = (np.stack([p.image for p in pictures(d)]) for d in (learn_b, learn_a))
    chosen = np.random.default_rng(0).integers(0, len(target), len(sources))
    one = [reinhard.ColourStatistics.of(target[k:k + 1]) for k in range(len(target))]
    mean = reinhard.ColourStatistics.of(target)
    pooled = reinhard.ColourStatistics.pooled(target), reinhard.ColourStatistics.pooled(source)
    return {
        "no change": against_truth(sources, truth),
        "Reinhard, a random target picture": against_truth(
            [reinhard.transfer(x, one[k]) for x, k in zip(sources, chosen, strict=True)], truth),
        "Reinhard, mean of the target domain": against_truth([reinhard.transfer(x, mean) for x in sources], truth),
        "Reinhard, pooled pixels of both domains": against_truth(
            [reinhard.transfer(x, pooled[0], pooled[1]) for x in sources], truth),
    }


def hooks(test_a: Domain, test_b: Domain) -> dict[str, Truth]:
    """The transforms of synthskin.hooks towards the middle of class 5, with the true lesion mask."""
    from synthskin.hooks import ColourSpaceShift, ToneShift

    made: dict[str, Truth] = {}
    for name, shift in (("ToneShift", ToneShift), ("ColourSpaceShift", ColourSpaceShift)):
        out = []
        for picture in pictures(test_a):
            x = torch.from_numpy(np.array(picture.image)).permute(2, 0, 1).float() / 255
            mask = torch.from_numpy(np.array(picture.mask)).float()[None] / 255
            done = shift(to="fst5")(x, mask)
            image = done.image if hasattr(done, "image") else done[0]
            out.append((image.permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8).numpy())
        made[f"{name} (knows the physics)" if name == "ToneShift" else name] = against_truth(out, pictures(test_b))
    return made


def learnt(
    method: str, options: TrainOptions, parts: tuple[Domain, ...], work: Path
) -> tuple[list[U8], dict[str, Any]]:
    """Train, translate the test sources (hair and artefacts kept). pix2pixhd sees their masks alone."""
    own: dict[str, Any] = {"change": "picture"} if method == "pix2pixhd" else {"skip": method in ("cyclegan", "cut")}
    source = parts[1] if method == "pix2pixhd" else parts[0]
    result = train(source, parts[1], replace(options, method=method, **own), work / method)
    translator = Translator(load_model(work / method, "cpu"))
    made = translator(pictures(parts[2]), 5 if method == "stargan" else None)
    return [one.image for one in made], {
        "steps": result.steps, "ended": result.ended, "weights_of_step": result.card.steps if result.card else None}


def draw_page(rows: list[list[U8]], out: Path, columns: int = 10) -> None:
    """Sources, a row a method, the true renders; twice the size."""
    sheet = Image.fromarray(np.concatenate([np.concatenate(row[:columns], axis=1) for row in rows]))
    sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.NEAREST).save(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gan_truth.json"))
    parser.add_argument("--page", type=Path, help="picture of sources, each method, the true renders")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1e-3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    parts = split_pairs(given.data, given.size)
    found = {name: {"truth": asdict(value)} for name, value in (rivals(*parts) | hooks(*parts[2:])).items()}
    options = TrainOptions("cyclegan", "tone", given.size, given.steps, width=given.width, blocks=given.blocks,
                           rate=given.rate, identity=0.0, augment="none", pool=20, ema=0.98)
    rows = [[p.image for p in pictures(parts[2])]]
    for method in given.methods.split(","):
        made, told = learnt(method, options, parts, given.work)
        found[method] = {"truth": asdict(against_truth(made, pictures(parts[3]))), **told}
        rows.append(made)
    if given.page:
        draw_page([*rows, [p.image for p in pictures(parts[3])]], given.page)
    reference = [found[f"Reinhard, {name}"]["truth"]
                 for name in ("a random target picture", "mean of the target domain")]
    print(f"{'':42} {'lesion':>7} {'skin':>7}   nearer than Reinhard (random target; domain mean)")
    for name, entry in found.items():
        truth = entry["truth"]
        gains = "; ".join(" ".join(f"{100 * (1 - truth[part] / r[part]):+.0f} %" for part in ("lesion", "skin"))
                          for r in reference)
        print(f"{name:42} {truth['lesion']:7.2f} {truth['skin']:7.2f}   {gains}")
    given.out.write_text(json.dumps({"machine": platform.processor() or platform.machine(), "torch": torch.__version__,
                                     "options": options.to_dict(), "learn": len(parts[0]), "judged": len(parts[2]),
                                     "found": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
