"""Nevi of real photographs translated to melanoma: pictures for the docs, and what the gates say of them.

    python benchmarks/gan_real.py PHOTOGRAPHS --work out/gan_real --steps 2000

Imports the CC0 photographs (ISIC "UDA-1"), predicts lesion masks (the shipped segmenter, or with --otsu the threshold
of synthskin.hooks.regions), trains at 128 pixels, fills the melanomas up to the nevi through the gates. Given again, it
continues. Set and masks stay in WORK/real, which `synthskin study melanet` takes as DATA.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from synthskin.dataset.encode import encode_sample
from synthskin.dataset.format import Sample
from synthskin.dataset.imports import ImportOptions, import_set
from synthskin.dataset.reader import bounding_box, read_rows
from synthskin.dataset.writer import DatasetWriter
from synthskin.gan.balance import balance_set, find_needs, make_panel
from synthskin.gan.composite import CompositeOptions
from synthskin.gan.domain import U8, load_domain
from synthskin.gan.method import TrainOptions
from synthskin.gan.model import load_model
from synthskin.gan.train import train
from synthskin.gan.translate import Translator
from synthskin.gan.where import Where, parse_where


class Otsu:
    """Masks by threshold: enough to see whether a lesion lies where it should; no network."""

    def predict(self, images: Any, **_: Any) -> list[Any]:
        from types import SimpleNamespace

        from synthskin.hooks import regions

        found = []
        for image in images:
            x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
            soft = regions.otsu_lesion(x, 1.0 - regions.surround(x))[0, 0].numpy()
            found.append(SimpleNamespace(mask=soft > 0.5, confidence=float(np.abs(soft - 0.5).mean() * 2)))
        return found


def import_photographs(source: Path, out: Path) -> Path:
    """The photographs as a set of the contract, a folder a class; near-duplicates are grouped by the importer."""
    if not (out / "raw/dataset.json").is_file():
        folders = out / "classes"
        for line in (source / "metadata.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            target = folders / row["diagnosis"] / Path(row["file_name"]).name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / row["file_name"], target)
        import_set("folder", folders, out / "raw", ImportOptions(
            licences=("CC0-1.0",), attribution=("ISIC Archive, UDA-1",), modality="dermoscopic"))
        shutil.rmtree(folders)
    return out / "raw"


def with_masks(raw: Path, out: Path, size_px: int, segmenter: Any) -> Path:
    """The set at the working size with predicted masks."""
    domain = load_domain(raw, Where(), size_px)
    card = replace(domain.card, size_px=size_px, n=len(domain), engine={**domain.card.engine, "masks": "predicted"})
    with DatasetWriter(out, card, "# photographs with predicted masks\n") as writer:
        for k, row in enumerate(domain.rows):
            if row["index"] in writer.finished:
                continue
            image = domain.picture(k).image
            mask: U8 = np.where(np.asarray(segmenter.predict([image])[0].mask) > 0, 255, 0).astype(np.uint8)
            box = bounding_box(mask)
            writer.write(encode_sample(Sample({
                **row, "mask_file_name": f"masks/{row['file_name'].split('/')[1]}", "mask_status": "predicted",
                "bbox": box, "boxes": [box] if box else []}, image, mask)))
    return out


def sheet(rows: list[list[U8]]) -> Image.Image:
    return Image.fromarray(np.concatenate([np.concatenate(row, 1) for row in rows]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--method", default="cyclegan")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--otsu", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gan_real.json"))
    parser.add_argument("--picture", type=Path, default=Path("docs/img/gan_real.png"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    segmenter: Any = Otsu()
    if not given.otsu:
        from synthskin.segment import load_segmenter

        segmenter = load_segmenter()
    data = with_masks(import_photographs(given.photographs, given.work), given.work / "real", given.size, segmenter)
    source, target = (load_domain(data, parse_where(f"diagnosis={d}"), given.size) for d in ("NV", "MEL"))
    options = TrainOptions(given.method, "class", given.size, given.steps, width=given.width, blocks=given.blocks,
                           rate=given.rate, patience=0, ema=0.99)
    result = train(source, target, options, given.work / "model")
    assert result.card is not None
    if result.ended == "stopped":
        raise SystemExit(130)
    translator = Translator(load_model(given.work / "model"), CompositeOptions())
    needs = find_needs(read_rows(data), 1.0, [translator])
    panel = make_panel(("mask", "near-duplicate", "source-leak"), load_domain(data, Where(), given.size), segmenter,
                       None, ["MEL"])
    made = balance_set(data, given.work / "balance", needs, panel)
    told = json.loads(made.report.read_text(encoding="utf-8"))
    shown = [source.picture(k) for k in range(0, len(source), max(1, len(source) // 8))][:8]
    whole = replace(translator, whole=True)
    sheet([[p.image for p in shown], [m.image for m in translator(shown)], [m.image for m in whole(shown)],
           [target.picture(k).image for k in range(0, len(target), max(1, len(target) // 8))][:8]]).save(given.picture)
    found = {"options": options.to_dict(), "steps": result.steps, "pictures": {"NV": len(source), "MEL": len(target)},
             "masks": "otsu" if given.otsu else "segmenter", "balance": told}
    given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({k: told[k] for k in ("before", "after", "judged", "passed", "refused", "missing")}, indent=1))


if __name__ == "__main__":
    main()
