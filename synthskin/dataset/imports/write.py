"""From a plan to a set: hashes and groups first, then photograph after photograph through the writer."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from synthskin.conventions import BENIGN_MALIGNANT, DIAGNOSES
from synthskin.dataset.card import Card
from synthskin.dataset.encode import EncodedSample, encode_sample
from synthskin.dataset.format import MAX_SAMPLES, DatasetError, Sample, empty_row, short, stem
from synthskin.dataset.imports.common import Imported, ImportOptions, Photo, Plan, Shown
from synthskin.dataset.imports.told import classes_told
from synthskin.dataset.near_duplicates import group
from synthskin.dataset.photo import difference_hash, load_mask, load_photo
from synthskin.dataset.preview import preview_png
from synthskin.dataset.reader import bounding_box, read_card
from synthskin.dataset.writer import DatasetWriter, check_target

IMPORTER_VERSION: Final = 2  # 2: the hash of a set covers its masks and the source's records
_AT_ONCE: Final = 16
_GROUPED: Final = (" The source names no lesion or person for some or all of them: there, group_id ties near-duplicate "
                   "pictures, and no more.")
_WORDS: Final = {
    "MEL": "melanoma", "NV": "nevus", "BCC": "basal cell carcinoma", "AKIEC": "actinic keratosis or Bowen's disease",
    "BKL": "benign keratosis", "DF": "dermatofibroma", "VASC": "vascular lesion", "healthy": "healthy skin",
}
_NOUNS: Final = {"dermoscopic": "Dermoscopic photograph", "clinical": "Clinical photograph", None: "Photograph"}


@dataclass(frozen=True, slots=True)
class _Known:
    """A photograph with what was found out before writing: sha256 of its files, and the group it belongs to.

    masks   {"mask" or the name of an attribute: sha256}
    """

    photo: Photo
    sha256: str
    masks: dict[str, str]
    group: str


def write_plan(plan: Plan, out: Path, options: ImportOptions, progress: Shown | None) -> Imported:
    """Write the set; raises DatasetError where a photograph is missing or damaged, unless `skip_bad`."""
    if not plan.photos and not plan.missing:
        raise DatasetError(f"{plan.source.shown}: no photograph was found; see `synthskin import --help` for what "
                           f"{plan.kind} looks like")
    if len(plan.photos) > MAX_SAMPLES:
        raise DatasetError(f"{plan.source.shown}: more than {MAX_SAMPLES} photographs")
    twice = [name for name, count in Counter(photo.identifier for photo in plan.photos).items() if count > 1]
    if twice:
        raise DatasetError(f"{plan.source.shown}: {short(twice[0])} is listed twice; keep one line a photograph")
    left_out = dict(plan.missing)
    if left_out and not options.skip_bad:
        _refuse(left_out)
    known, bad = _examine(plan, progress)
    left_out |= bad
    if bad and not options.skip_bad:
        _refuse(bad)
    if not known:
        raise DatasetError(f"{plan.source.shown}: none of its {len(left_out)} photographs can be read")
    card = _card(plan, known)
    _check_source(out, card)
    check_target(out, card)
    with DatasetWriter(out, card, _preset_text(plan, card)) as writer:
        before = len(writer.finished)
        todo = [(k, one) for k, one in enumerate(known) if k not in writer.finished]
        shown = None if progress is None else progress("importing")
        done = len(known) - len(todo)
        if shown is not None:
            shown.start(len(known), done)
        try:
            for k, made in _encoded(plan, card, todo):
                if isinstance(made, EncodedSample):
                    writer.write(made)
                elif options.skip_bad:
                    left_out[known[k].photo.identifier] = made
                else:
                    raise DatasetError(f"{plan.source.shown}/{known[k].photo.image}: {made}; mend it, or give "
                                       "--skip-bad to leave out what is bad; finished samples are kept")
                done += 1
                if shown is not None:
                    shown.step(done)
        finally:
            if shown is not None:
                shown.stop()
        writer.finish()
        if writer.finished:
            writer.put_extra("preview.png", preview_png(out))
        told = classes_told(one.photo for one in known if one.photo.identifier not in left_out) \
            if plan.tell_classes else ()
        return Imported(out, len(writer.finished), len(writer.finished) - before, left_out, (*plan.remarks, *told))


def _refuse(bad: dict[str, str]) -> None:
    name, why = next(iter(bad.items()))
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    raise DatasetError(f"{name}: {why}{more}; mend it, or give --skip-bad to leave out what is bad")


def _examine(plan: Plan, progress: Shown | None) -> tuple[list[_Known], dict[str, str]]:
    """Hash every file, masks too; where the source names no lesion or person, group near-duplicates."""
    alone = [photo for photo in plan.photos if photo.group is None]

    def look(photo: Photo) -> tuple[str, dict[str, str], Any, str]:
        root = plan.source.root
        named = ({"mask": photo.mask} if photo.mask is not None else {}) | photo.attributes
        try:
            masks = {name: _sha256(root / path) for name, path in named.items()}
            bits = difference_hash(root / photo.image) if photo.group is None else None
            return _sha256(root / photo.image), masks, bits, ""
        except (DatasetError, OSError) as error:
            return "", {}, None, str(error)

    looked = []
    shown = None if progress is None else progress("examining")
    if shown is not None:
        shown.start(len(plan.photos), 0)
    try:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for k, found in enumerate(pool.map(look, plan.photos), start=1):
                looked.append(found)
                if shown is not None:
                    shown.step(k)
    finally:
        if shown is not None:
            shown.stop()
    bad = {photo.identifier: why for photo, (*_, why) in zip(plan.photos, looked, strict=True) if why}
    good = [(photo, *found) for photo, (*found, why) in zip(plan.photos, looked, strict=True) if not why]
    names: dict[str, str] = {}
    if alone:
        single = [(photo, digest, bits) for photo, digest, _, bits in good if bits is not None]
        for (photo, *_), first in zip(single, group(np.array([own[2] for own in single]).reshape(-1, 2)), strict=True):
            one, digest, _ = single[first]  # the hash too: other hospitals have a 0001.jpg of somebody else
            names[photo.identifier] = f"near-{one.identifier}-{digest[:12]}"
    return [_Known(photo, digest, masks,
                   f"{plan.kind}-{names[photo.identifier] if photo.group is None else photo.group}")
            for photo, digest, masks, _ in good], bad


def _sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _check_source(out: Path, card: Card) -> None:
    """Raise DatasetError where `out` is of the same kind, but not of the same pictures, masks, tables and options."""
    if not (out / "dataset.json").is_file():
        return
    there, _ = read_card(out)
    if (there.generator, there.preset) != (card.generator, card.preset):
        return
    versions = [one.engine.get("importer_version") for one in (there, card)]
    if versions[0] != versions[1]:
        raise DatasetError(f"{out}: was imported by another version of the importer ({short(versions[0])}, this is "
                           f"{versions[1]}), which may read the source otherwise; choose another folder")
    if there.set_hash != card.set_hash:
        raise DatasetError(f"{out}: was imported from a source that had other pictures, masks or labels, or with other "
                           f"options (hash {short(there.set_hash)}, now {card.set_hash}); choose another folder")


def _card(plan: Plan, known: list[_Known]) -> Card:
    told = json.dumps([[one.photo.identifier, one.sha256, one.group, one.photo.label, one.photo.diagnosis,
                        one.photo.row, one.photo.boxes, one.masks, one.photo.source] for one in known], sort_keys=True)
    grouped = any(one.photo.group is None or "near-" in one.photo.group for one in known)
    return Card(
        generator="real", preset=plan.kind, set_hash=hashlib.sha256(told.encode()).hexdigest()[:16], seed=0,
        n=len(known), size_px=0, field_of_view_mm=None, engine={"importer": plan.kind,
                                                                "importer_version": IMPORTER_VERSION, "maps": False},
        licences=list(plan.licences), attribution=list(plan.attribution),
        description=f"{plan.title}." + (_GROUPED if grouped else ""),
    )


def _preset_text(plan: Plan, card: Card) -> str:
    """preset.toml of a real set: what it was taken over from."""
    lines = ["# What this set was taken over from; nothing can be redrawn."]
    told = {"name": plan.kind, "description": plan.title, "generator": "real", "set_hash": card.set_hash,
            "licences": card.licences, "attribution": card.attribution}
    return "\n".join([*lines, *(f"{key} = {json.dumps(value)}" for key, value in told.items())]) + "\n"


def _encoded(
    plan: Plan, card: Card, todo: list[tuple[int, _Known]]
) -> Iterator[tuple[int, EncodedSample | str]]:
    """(index, sample ready to write, or why not), in order; a few at a time in threads."""

    def one(item: tuple[int, _Known]) -> tuple[int, EncodedSample | str]:
        try:
            return item[0], encode_sample(_sample(plan, card, *item))
        except DatasetError as error:
            return item[0], str(error)

    waiting = iter(todo)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        while some := list(itertools.islice(waiting, _AT_ONCE)):
            yield from pool.map(one, some)


def _sample(plan: Plan, card: Card, index: int, known: _Known) -> Sample:
    photo = known.photo
    root = plan.source.root
    image = load_photo(root / photo.image, upright=photo.mask is None and not photo.boxes)
    height, width = image.shape[:2]
    mask = None
    if photo.mask is not None:
        mask = _named(photo.mask, lambda: load_mask(root / str(photo.mask), (height, width)))
    attributes = {name: _named(path, lambda path=path: load_mask(root / path, (height, width)))
                  for name, path in sorted(photo.attributes.items())}
    attributes = {name: array for name, array in attributes.items() if array.any()}
    boxes: list[list[Any]] = [_pixels(box, width, height) for box in photo.boxes]
    box: list[Any] = []
    if mask is not None:
        box = bounding_box(mask)
        boxes = [box] if box else []
    name = stem(index)
    row = empty_row() | {
        "file_name": f"images/{name}.png", "index": index, "seed": 0, "preset": plan.kind, "set_hash": card.set_hash,
        "mask_file_name": None if mask is None else f"masks/{name}.png",
        "attributes": list(attributes), "generator": "real", "mask_status": "none" if mask is None else "human",
        "diagnosis": photo.diagnosis, "diagnosis_raw": photo.label,
        "diagnosis_scheme": None if photo.label is None else plan.scheme, "diagnosis_status": "unknown",
        "benign_malignant": None if photo.diagnosis is None else BENIGN_MALIGNANT[photo.diagnosis],
        "bbox": box, "boxes": boxes,
        "lesions": [photo.diagnosis] if box and photo.diagnosis in DIAGNOSES else [],
        "source_id": photo.identifier, "group_id": known.group,
        "params": json.dumps({"source_file": photo.image, "source_sha256": known.sha256, "source": photo.source},
                             ensure_ascii=False, allow_nan=False),
    } | photo.row
    row["caption"] = _caption(row, photo)
    return Sample(row, image, mask, None, attributes)


def _named(path: str, read: Any) -> Any:
    try:
        return read()
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None


def _pixels(box: tuple[float, float, float, float], width: int, height: int) -> list[float]:
    x, y, w, h = box
    return [round((x - w / 2) * width, 2), round((y - h / 2) * height, 2), round(w * width, 2), round(h * height, 2)]


def _caption(row: dict[str, Any], photo: Photo) -> str:
    """One sentence that says what the source says, and no more."""
    noun = _NOUNS[row["modality"]]
    if photo.diagnosis is not None:
        subject = f" labelled {_WORDS[photo.diagnosis]}"
    elif photo.label is not None:
        clean = " ".join("".join(c if c.isprintable() else " " for c in photo.label).split())
        subject = f" labelled \"{clean[:100]}\""
    elif photo.boxes:
        subject = f" of skin with {len(photo.boxes)} marked lesion{'s' if len(photo.boxes) > 1 else ''}"
    else:
        subject = " of skin"
    return f"{noun}{subject}."
