"""A set translated by a model: the contract, with lineage to each parent and to the weights."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from synthskin.captions import caption
from synthskin.conventions import BENIGN_MALIGNANT, handed_on, ita_class
from synthskin.dataset.card import Card
from synthskin.dataset.encode import encode_sample
from synthskin.dataset.format import DatasetError, Sample, empty_row, stem
from synthskin.dataset.preview import preview_png
from synthskin.dataset.reader import Progress, bounding_box, iter_rows, safe_path
from synthskin.dataset.writer import DatasetWriter
from synthskin.facts import Facts
from synthskin.gan import GanError
from synthskin.gan.composite import CompositeOptions, composite, in_its_light, may_change, measured, under_hair
from synthskin.gan.domain import U8, Domain, Picture, from_unit, load_domain
from synthskin.gan.lesions import SEVERAL, several
from synthskin.gan.model import Model
from synthskin.gan.where import Where, parse_where

BATCH: Final = 8
#: What a row keeps of its parent whatever is changed.
_KEPT: Final = ("modality", "dermoscopic_type", "anatom_site", "age_approx", "sex", "patient_id", "source_id", "split")


@dataclass(frozen=True, slots=True)
class Made:
    """A translated picture before it is written; `tone` is the ITA class asked for, where one was."""

    source: Picture
    image: U8
    tone: int | None


@dataclass(frozen=True, slots=True)
class Translated:
    """Folder, samples in it, made in this call, and sources left out with the reason."""

    directory: Path
    samples: int
    made: int
    left_out: dict[str, int]
    seconds: float
    interrupted: bool = False


@dataclass(frozen=True)
class Translator:
    """A model with how it is applied.

    whole       no compositing: the generator's whole picture
    tones       tones asked for, one output each (stargan); () for the others
    """

    model: Model
    options: CompositeOptions = field(default_factory=CompositeOptions)
    whole: bool = False
    tones: tuple[int, ...] = ()

    @property
    def change(self) -> str:
        return self.model.card.options.change

    @property
    def outputs(self) -> int:
        """Pictures made of a source."""
        return max(1, len(self.tones))

    def settings(self) -> dict[str, Any]:
        """What decides the pixels besides the sources: for card and hash."""
        return {"method": self.model.card.options.method, "change": self.change,
                "checkpoint": self.model.card.sha256, "whole": self.whole, "tones": list(self.tones),
                "composite": None if self.whole or self.change == "picture" else self.options.to_dict()}

    def __call__(self, sources: Sequence[Picture], tone: int | None = None) -> list[Made]:
        """A picture of each source; `tone` as in `tones`."""
        if self.change == "picture":
            from synthskin.gan.pix2pixhd import planes

            raw = from_unit(self.model(torch.stack([planes(p) for p in sources])))
            return [Made(p, image, None) for p, image in zip(sources, raw, strict=True)]
        from synthskin.gan.domain import to_unit

        x = to_unit(np.stack([p.image for p in sources]))
        wanted = None if tone is None else torch.full((len(sources),), tone)
        raw = from_unit(self.model(x, wanted))
        if not self.whole:
            if self.change == "tone":
                raw = np.stack([under_hair(p, image) for p, image in zip(sources, raw, strict=True)])
            raw = np.stack([self._composited(p, image) for p, image in zip(sources, raw, strict=True)])
        return [Made(p, image, tone) for p, image in zip(sources, raw, strict=True)]

    def _composited(self, picture: Picture, translated: U8) -> U8:
        weight = may_change(picture, self.change, self.options)
        if self.change == "class":
            translated = in_its_light(picture, translated, weight)
        return composite(picture.image, translated, weight)


def sources_of(translator: Translator, directory: Path, where: Where | None) -> tuple[Domain, dict[str, int]]:
    """Samples that can be translated, and how many were left out and why. Raises GanError where none can be, or where
    masks are missing that compositing needs. Only tones are changed where there are several lesions."""
    card = translator.model.card
    chosen = parse_where(card.source["where"]) if where is None else where
    domain = load_domain(directory, chosen, card.options.size_px, "DATA")
    left_out: dict[str, int] = {}
    keep = list(range(len(domain)))
    if translator.change != "tone":
        keep = [k for k in keep if not several(domain.rows[k])]
        _note(left_out, SEVERAL, len(domain) - len(keep))
    needs = translator.change == "picture" or (translator.change == "class" and not translator.whole)
    missing = sum(domain.rows[k]["mask_file_name"] is None for k in keep)
    if needs and missing:
        what = "pix2pixhd makes pictures from them" if translator.change == "picture" else \
            "without one nothing says where the lesion ends; or give --whole, which lets everything change"
        raise GanError(f"DATA {directory}: {missing} of {len(domain)} samples have no mask: {what}; predict them first "
                       "with `synthskin segmenter predict`")
    if translator.change == "class":
        with_lesion = [k for k in keep if domain.rows[k]["bbox"] or domain.rows[k]["mask_file_name"] is None]
        _note(left_out, "no lesion in the picture", len(keep) - len(with_lesion))
        keep = [k for k in with_lesion if domain.rows[k]["diagnosis"] != card.diagnosis]
        _note(left_out, f"is {card.diagnosis} already", len(with_lesion) - len(keep))
    if not keep:
        raise GanError(f"DATA {directory}: nothing to translate among {len(domain)} samples of '{chosen}' "
                       f"({', '.join(left_out) or 'none'}); choose others by --where")
    return domain.subset(keep), left_out


def _note(left_out: dict[str, int], why: str, number: int) -> None:
    if number:
        left_out[why] = left_out.get(why, 0) + number


def translate_set(
    translator: Translator, directory: Path, out: Path, where: Where | None = None, n: int | None = None, seed: int = 0,
    progress: Progress | None = None, overwrite: bool = False,
) -> Translated:
    """Translate the samples of a set into the set `out`; the same call again continues.

    n   only the first n sources. Raises GanError and DatasetError before anything is written.
    """
    domain, left_out = sources_of(translator, directory, where)
    if n is not None:
        if n < 1:
            raise GanError(f"--n {n}: 1 or more is needed")
        domain = domain.subset(range(min(n, len(domain))))
    card, preset = set_card(translator, domain, seed, len(domain) * translator.outputs)
    refuse_inside(out, directory)
    started, made, interrupted = time.monotonic(), 0, False
    with DatasetWriter(out, card, preset, overwrite) as writer:
        done = len(writer.finished)
        if done:
            _check_sources(out, domain, translator.outputs)
        if progress is not None:
            progress.start(len(domain) * translator.outputs, done)
        try:
            for index, one in _each(translator, domain, writer.finished):
                writer.write(encode_sample(make_sample(one, index, translator, card, domain)))
                made += 1
                if progress is not None:
                    progress.step(done + made)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            if progress is not None:
                progress.stop()
        close(writer, time.monotonic() - started)
        samples = len(writer.finished)
    return Translated(out, samples, made, left_out, time.monotonic() - started, interrupted)


def _check_sources(out: Path, domain: Domain, outputs: int) -> None:
    """Raise GanError where a picture that has been translated was replaced since."""
    for row in iter_rows(out):
        k = row["index"] // outputs
        if k < len(domain):
            refuse_replaced(out, row, domain, domain.rows[k]["file_name"])


def refuse_replaced(out: Path, row: dict[str, Any], domain: Domain, name: str | None) -> None:
    """Raise GanError where a row of `out` was not made from the picture `name` that the domain's folder holds now."""
    if not row["parents"] or name is None:
        return
    path = safe_path(domain.directory, name)
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    if (row["parents"][0]["file_name"], row["parents"][0]["sha256"]) != (name, digest):
        raise GanError(f"{out}: {row['file_name']} was made from another {name} than {domain.directory} holds now; "
                       "choose another --out, or --overwrite")


def close(writer: DatasetWriter, seconds: float) -> None:
    """Card and contact sheet at the end of a run."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    writer.run = {"created": writer.run.get("created", now), "updated": now, "seconds": round(seconds, 3)}
    writer.finish()
    with suppress(DatasetError):
        writer.put_extra("preview.png", preview_png(writer.directory))


def refuse_inside(out: Path, directory: Path) -> None:
    if out.resolve() == directory.resolve() or directory.resolve() in out.resolve().parents:
        raise GanError(f"--out {out}: lies inside DATA {directory}; choose a folder elsewhere")


def _each(translator: Translator, domain: Domain, finished: frozenset[int]) -> Iterator[tuple[int, Made]]:
    """(index, picture) of what is not there yet; index = position of the source * outputs + number of the tone."""
    count = translator.outputs
    for number in range(count):
        tone = translator.tones[number] if translator.tones else None
        open_ = [k for k in range(len(domain)) if k * count + number not in finished]
        for start in range(0, len(open_), BATCH):
            some = open_[start:start + BATCH]
            for k, one in zip(some, translator([domain.picture(k) for k in some], tone), strict=True):
                yield k * count + number, one


def set_card(translator: Translator, domain: Domain, seed: int, n: int) -> tuple[Card, str]:
    """Card and preset.toml of the set to write; the hash covers weights, sources, filter and settings."""
    settings = translator.settings()
    parent = {"set_hash": domain.card.set_hash, "seed": domain.card.seed, "where": str(domain.where)}
    digest = hashlib.sha256(json.dumps([settings, parent, domain.size_px], sort_keys=True).encode()).hexdigest()[:16]
    made_by = translator.model.card
    name = f"gan_{settings['change']}"
    licences = list(dict.fromkeys([*domain.card.licences, *made_by.licences]))
    names = list(dict.fromkeys([*domain.card.attribution, *made_by.attribution]))
    whole = bool(domain.card.size_px)
    real = domain.card.generator == "real" or "photographs" in domain.card.description
    description = {"class": f"Lesions translated to {made_by.diagnosis} by {settings['method']}; the diagnosis is "
                            "asked for, not known.",
                   "tone": f"The same lesions on other skin, translated by {settings['method']}.",
                   "picture": f"Pictures made from masks by {settings['method']}."}[settings["change"]]
    if real:
        description += " Made from patients' photographs: not anonymous."
    card = Card("gan", name, digest, seed, n, domain.size_px, domain.card.field_of_view_mm if whole else None,
                {key: value for key, value in settings.items() if key != "composite"}
                | {f"composite {k}": v for k, v in (settings["composite"] or {}).items()}
                | {"parent": f"{parent['set_hash']} seed {parent['seed']}", "where": str(domain.where) or "all"},
                licences, names, description)
    lines = [f"name = {json.dumps(name)}", "generator = \"gan\""]
    lines += [f"{key} = {json.dumps(value)}" for key, value in settings.items() if not isinstance(value, dict | None)]
    lines += ["[parent]", *(f"{key} = {json.dumps(value)}" for key, value in parent.items())]
    if settings["composite"]:
        lines += ["[composite]", *(f"{key} = {value}" for key, value in settings["composite"].items())]
    return card, "\n".join(lines) + "\n"


def make_sample(
    made: Made, index: int, translator: Translator, card: Card, domain: Domain, extra: dict[str, Any] | None = None
) -> Sample:
    """The sample of a translated picture. `extra` goes into params (scores of gates).

    Masks, and each of several lesions, are inherited; a predicted mask stays so unless the picture is made from it, as
    does a diagnosis that was but asked for. Structures are dropped where the lesion changed, hair and artefacts where
    nothing kept them.
    """
    source, change = made.source, translator.change
    parent = source.row
    kept_media = not (translator.whole and change != "picture")
    row = empty_row()
    row |= {key: parent[key] for key in _KEPT}
    asked = change in ("class", "picture")
    diagnosis = translator.model.card.diagnosis if change == "class" else parent["diagnosis"]
    mask = source.mask
    hair = source.hair if kept_media else None
    artefacts = source.artefacts if kept_media else {}
    attributes = source.attributes if change == "tone" else {}
    attributes = {name: array for name, array in attributes.items() if array.any()}
    lesions = source.lesions if change == "tone" else None
    box: list[Any] = [] if mask is None else bounding_box(mask)
    boxes, diagnoses = [box] if box else [], [diagnosis] if box and diagnosis is not None else []
    if lesions is not None:
        diagnoses = list(lesions.diagnoses)
        boxes = list(lesions.boxes) if mask is None or len(lesions.boxes) > 1 else boxes
    group = parent["group_id"] or parent["lesion_id"] or parent["patient_id"]
    row |= {
        "file_name": f"images/{stem(index)}.png",
        "mask_file_name": None if mask is None else f"masks/{stem(index)}.png",
        "hair_file_name": None if hair is None else f"hair/{stem(index)}.png",
        "attributes": sorted(attributes), "artefacts": sorted(artefacts),
        "index": index, "seed": card.seed, "preset": card.preset, "set_hash": card.set_hash, "generator": "gan",
        "mask_status": "none" if mask is None else "inherited" if change == "picture"
        else handed_on(parent["mask_status"]),
        "diagnosis": diagnosis,
        "diagnosis_raw": diagnosis if change == "class" else parent["diagnosis_raw"],
        "diagnosis_scheme": "ISIC 2018 Task 3 and healthy" if change == "class" else parent["diagnosis_scheme"],
        "diagnosis_status": "requested" if asked else handed_on(parent["diagnosis_status"]),
        "benign_malignant": parent["benign_malignant"] if diagnosis is None else BENIGN_MALIGNANT[diagnosis],
        "bbox": box, "boxes": boxes, "lesions": diagnoses,
        "lesion_id": parent["lesion_id"] if change == "tone" else None,
        "group_id": group or f"{parent['set_hash']}/{parent['file_name']}",
        "parents": [{"set_hash": parent["set_hash"], "file_name": parent["file_name"], "sha256": source.sha256}],
        "checkpoint": translator.model.card.sha256,
        "params": json.dumps({**translator.settings(), "size_px": card.size_px, "tone_asked": made.tone,
                              **(extra or {})}, ensure_ascii=False, allow_nan=False),
    }
    row |= measured(made.image, source)
    ita = row["ita_image_deg"]
    row |= {"ita_class": None if ita is None else ita_class(ita), "tone_source": None if ita is None else "image"}
    known = row["diagnosis_status"] not in ("requested", "predicted")
    told = row if known else {**row, "diagnosis": None, "benign_malignant": None}
    if several(row):  # pixels of a region are larger than structures: nothing is said of them
        told = {**told, "attributes": []}
    sample = Sample(row, made.image, mask, hair, attributes, artefacts, None if lesions is None else lesions.labels)
    row["caption"] = caption(Facts.of(replace(sample, row=told)))
    return sample
