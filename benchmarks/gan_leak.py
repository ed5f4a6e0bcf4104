"""A planted leak with a trained translator: every melanoma of the training domain has a ruler.

    synthskin render --preset isic_like --diagnosis MEL=1,NV=1 -n 400 --size 64 --set artefacts.ruler=0 --out out/leak64
    python benchmarks/gan_leak.py out/leak64 --work out/gan_leak --steps 1500

Rulers are drawn by synthskin.hooks.ArtefactOverlay. Half of the groups train: nevi clean, melanomas with a ruler; the
translator learns NV -> MEL from them. A classifier then learns the clean nevi against their translations, composited or
whole, and is tested on the other half: clean, and with the ruler on the nevi. Three points apart or less is no leak.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from skimage.transform import downscale_local_mean
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from synthskin.dataset.encode import encode_sample
from synthskin.dataset.format import Sample
from synthskin.dataset.writer import DatasetWriter
from synthskin.draw import hash_uniform
from synthskin.gan.domain import U8, Domain, load_domain
from synthskin.gan.method import TrainOptions
from synthskin.gan.model import load_model
from synthskin.gan.train import train
from synthskin.gan.translate import Translator
from synthskin.gan.where import parse_where


def ruled(domain: Domain, seed: int) -> list[U8]:
    """The pictures with a ruler over each."""
    from synthskin.hooks import ArtefactOverlay

    overlay = ArtefactOverlay(names=("ruler",), each=1.0, seed=seed)
    made = []
    for k in range(len(domain)):
        x = torch.from_numpy(np.array(domain.picture(k).image)).permute(2, 0, 1).float() / 255
        image = overlay(x, key=k).image.clamp(0, 1)
        made.append((image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())
    return made


def written(domain: Domain, images: list[U8], out: Path) -> Path:
    """A set of the domain's rows with other pictures and the lesion masks alone."""
    card = replace(domain.card, size_px=domain.size_px, n=len(domain),
                   engine={**domain.card.engine, "ruler": "planted"})
    with DatasetWriter(out, card, "# planted rulers\n", overwrite=True) as writer:
        for k, image in enumerate(images):
            picture = domain.picture(k)
            row = {**picture.row, "hair_file_name": None, "attributes": [], "attributes_delta_e": [], "artefacts": []}
            writer.write(encode_sample(Sample(row, image, picture.mask)))
    return out


def features(images: list[U8]) -> np.ndarray:
    return np.stack([downscale_local_mean(image.astype(float), (2, 2, 1)).ravel() for image in images])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gan_leak.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    parts = {}
    for diagnosis in ("NV", "MEL"):
        domain = load_domain(given.data, parse_where(f"diagnosis={diagnosis}"), given.size)
        learn = [hash_uniform("leak", str(row["group_id"])) < 0.5 for row in domain.rows]
        parts[diagnosis] = tuple(domain.subset([k for k, is_in in enumerate(learn) if is_in == side])
                                 for side in (True, False))
    nevi, melanomas = parts["NV"][0], parts["MEL"][0]
    plain = [nevi.picture(k).image for k in range(len(nevi))]
    source = load_domain(written(nevi, plain, given.work / "nevi"), parse_where(""), given.size)
    target = load_domain(written(melanomas, ruled(melanomas, 1), given.work / "melanomas"), parse_where(""), given.size)
    options = TrainOptions("cyclegan", "class", given.size, given.steps, width=given.width, blocks=given.blocks,
                           rate=1e-3, ema=0.99)
    train(source, target, options, given.work / "model")
    tests = {name: [parts[name][1].picture(k).image for k in range(len(parts[name][1]))] for name in ("NV", "MEL")}
    truth = np.r_[np.zeros(len(tests["NV"])), np.ones(len(tests["MEL"]))]
    found = {}
    translator = Translator(load_model(given.work / "model", "cpu"))
    for name, whole in (("composited", False), ("whole", True)):
        sources = [source.picture(k) for k in range(len(source))]
        made = [one.image for one in replace(translator, whole=whole)(sources)]
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
        model.fit(features(plain + made), np.r_[np.zeros(len(plain)), np.ones(len(made))])
        found[name] = {
            "clean": float((model.predict(features(tests["NV"] + tests["MEL"])) == truth).mean()),
            "swapped": float((model.predict(features(ruled(parts["NV"][1], 2) + tests["MEL"])) == truth).mean())}
        print(f"{name:11} clean {found[name]['clean']:.3f}, ruler on the nevi {found[name]['swapped']:.3f}")
    told = {"options": options.to_dict(), "learn": [len(nevi), len(melanomas)],
            "test": [len(tests["NV"]), len(tests["MEL"])], "accuracy": found}
    given.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
