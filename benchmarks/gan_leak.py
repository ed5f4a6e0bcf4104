"""A planted leak with a trained translator: every melanoma of the training domain has a ruler.

    synthskin render --preset fst2 --diagnosis MEL=1,NV=1 -n 800 --size 64 --set hair.count=0 --out out/leak64
    python benchmarks/gan_leak.py out/leak64 --work out/gan_leak --steps 6000

The ruler is the scale etched on one dermatoscope's plate, alike in all its pictures (synthskin.hooks.ArtefactOverlay).
Half of the groups train: nevi clean, melanomas with the ruler; the translator learns NV -> MEL from them. A classifier
(synthskin classifier, small) then learns the clean nevi against their translations, composited or whole, and is tested
on the other half: clean, and with the ruler on the nevi. Three points apart or less is no leak. `truth` is the same
classifier learnt from the clean melanomas themselves, `ruled` from those with the ruler. Given again, it continues.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from synthskin.classify import Classifier, TrainOptions, load_classifier, train_classifier
from synthskin.conventions import BENIGN_MALIGNANT
from synthskin.dataset.encode import encode_sample
from synthskin.dataset.format import Sample
from synthskin.dataset.writer import DatasetWriter
from synthskin.draw import hash_uniform
from synthskin.gan.domain import U8, Domain, load_domain
from synthskin.gan.method import TrainOptions as GanOptions
from synthskin.gan.model import load_model
from synthskin.gan.train import train
from synthskin.gan.translate import Translator
from synthskin.gan.where import parse_where

RULER = 3  # which of the overlay's rulers


def ruled(domain: Domain) -> list[U8]:
    """The pictures with the same ruler over each."""
    from synthskin.hooks import ArtefactOverlay

    overlay = ArtefactOverlay(names=("ruler",), each=1.0, seed=1)
    made = []
    for k in range(len(domain)):
        x = torch.from_numpy(np.array(domain.picture(k).image)).permute(2, 0, 1).float() / 255
        image = overlay(x, key=RULER).image.clamp(0, 1)
        made.append((image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())
    return made


def written(domain: Domain, images: list[U8], out: Path, diagnosis: str | None = None) -> Path:
    """A set of the domain's rows with other pictures and the lesion masks alone."""
    card = replace(domain.card, size_px=domain.size_px, n=len(domain),
                   engine={**domain.card.engine, "ruler": "planted"})
    with DatasetWriter(out, card, "# planted rulers\n", overwrite=True) as writer:
        for k, image in enumerate(images):
            picture = domain.picture(k)
            row = {**picture.row, "hair_file_name": None, "attributes": [], "attributes_delta_e": [], "artefacts": []}
            if diagnosis is not None:
                row.update(diagnosis=diagnosis, benign_malignant=BENIGN_MALIGNANT[diagnosis])
                row["group_id"] = f"{diagnosis}-{row['group_id']}"
            writer.write(encode_sample(Sample(row, image, picture.mask)))
    return out


def learnt(sets: list[Path], work: Path, name: str, size: int, steps: int) -> Classifier:
    options = TrainOptions(size_px=size, steps=steps, classes=("NV", "MEL"), class_weights="balanced", device="cpu")
    train_classifier(sets, work / f"classifier-{name}", options)
    return load_classifier(work / f"classifier-{name}", "cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--classifier-steps", type=int, default=1000)
    parser.add_argument("--picture", type=Path, default=Path("docs/img/gan_leak.png"))
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
    target = load_domain(written(melanomas, ruled(melanomas), given.work / "melanomas"), parse_where(""), given.size)
    options = GanOptions("cyclegan", "class", given.size, given.steps, width=given.width, blocks=given.blocks,
                           rate=given.rate, ema=0.99)
    train(source, target, options, given.work / "model")
    tests = {name: [parts[name][1].picture(k).image for k in range(len(parts[name][1]))] for name in ("NV", "MEL")}
    truth = np.r_[np.zeros(len(tests["NV"])), np.ones(len(tests["MEL"]))]
    clean, swapped = tests["NV"] + tests["MEL"], ruled(parts["NV"][1]) + tests["MEL"]
    translator = Translator(load_model(given.work / "model", "cpu"))
    sources = [source.picture(k) for k in range(len(source))]
    learns = {"composited": written(source, [one.image for one in translator(sources)], given.work / "composited",
                                    "MEL"),
              "whole": written(source, [one.image for one in replace(translator, whole=True)(sources)],
                               given.work / "whole", "MEL"),
              "truth": written(melanomas, [melanomas.picture(k).image for k in range(len(melanomas))],
                               given.work / "truth"),
              "ruled": given.work / "melanomas"}
    found = {}
    for name, folder in learns.items():
        model = learnt([given.work / "nevi", folder], given.work, name, given.size, given.classifier_steps)
        found[name] = {which: float((model.predict(images).argmax(1) == truth).mean())
                       for which, images in (("clean", clean), ("swapped", swapped))}
        print(f"{name:11} clean {found[name]['clean']:.3f}, ruler on the nevi {found[name]['swapped']:.3f}")
    rows = [[p.image for p in sources[:8]], [m.image for m in translator(sources[:8])],
            [m.image for m in replace(translator, whole=True)(sources[:8])],
            [target.picture(k).image for k in range(8)]]
    Image.fromarray(np.concatenate([np.concatenate(row, 1) for row in rows])).resize(
        (8 * given.size * 2, 4 * given.size * 2), Image.Resampling.NEAREST).save(given.picture)
    told = {"options": options.to_dict(), "learn": [len(nevi), len(melanomas)],
            "test": [len(tests["NV"]), len(tests["MEL"])], "classifier_steps": given.classifier_steps,
            "accuracy": found}
    given.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
