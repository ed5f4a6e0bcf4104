"""ISIC 2018 task folders (Codella et al. 2019; Tschandl et al. 2018), and what `synthskin export --to isic` writes.

Task 1 masks, Task 2 attribute masks, Task 3 classes, and lesion groupings where that file is there. Pictures that
share a lesion or a patient are one group.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

from synthskin.conventions import DERMOSCOPIC_TYPES, DIAGNOSES
from synthskin.dataset.format import ISIC_SITES, DatasetError
from synthskin.dataset.imports.common import ImportOptions, Photo, Plan, Source, age, known, sex
from synthskin.dataset.imports.splits import split_of
from synthskin.dataset.imports.ties import tied

_STATUS: Final = {"histopathology": "histopathology", "histo": "histopathology"}
#: Words of the Archive's `image_type`; other kinds of picture (confocal microscopy ...) have no modality of ours.
_MODALITY: Final = {"dermoscopic": "dermoscopic", "clinical: close-up": "clinical", "clinical: overview": "clinical",
                    "tbp tile: close-up": "clinical", "tbp tile: overview": "clinical"}
_ROMAN: Final = ("I", "II", "III", "IV", "V", "VI")
_ATTRIBUTE: Final = re.compile(r"(.+)_attribute_([a-z0-9_]{1,64})\.png")


def plan(source: Source, options: ImportOptions) -> Plan:
    labels: dict[str, str | None] = {}
    groups: dict[str, dict[str, str]] = {}
    people: dict[str, dict[str, str]] = {}
    attributes: dict[str, dict[str, str]] = {}
    ours = source.export_of_ours() is not None
    for path in source.files:
        name = path.rsplit("/", 1)[-1]
        low = name.lower()
        if re.fullmatch(r"isic2018_task3.*groundtruth\.csv", low):
            labels |= {line["image"]: _one_hot(source, path, line)
                       for line in source.rows(path, ("image", *DIAGNOSES), may_be_empty=ours)}
        elif re.fullmatch(r"isic2018_task3.*lesiongroupings\.csv", low):
            groups |= {line["image"]: line
                       for line in source.rows(path, ("image", "lesion_id", "diagnosis_confirm_type"))}
        elif low == "metadata.csv":
            people |= {line["isic_id"]: line for line in source.rows(path, ("isic_id",))}
        elif (found := _ATTRIBUTE.fullmatch(name)) is not None:
            attributes.setdefault(found[1], {})[found[2]] = path
    photos: list[Photo] = []
    ids: list[list[tuple[str, str | None]]] = []
    seen: set[str] = set()
    pictures = source.photos_in(lambda path: "_input" in path.lower() and "groundtruth" not in path.lower())
    if ours:  # in the order of the set, whatever the part
        pictures.sort(key=lambda path: (len(path.rsplit("/", 1)[-1]), path.rsplit("/", 1)[-1]))
    for image in pictures:
        name = image.rsplit("/", 1)[-1].rsplit(".", 1)[0]
        if name in seen:
            continue  # the same photograph in the inputs of two tasks
        seen.add(name)
        line = people.get(name, {})
        row: dict[str, Any] = {"modality": "dermoscopic", "split": _split(image, line, ours)}
        ids.append([])
        if name in groups:
            row |= {"lesion_id": known(groups[name]["lesion_id"]), "diagnosis_status": _STATUS.get(
                groups[name]["diagnosis_confirm_type"].lower(), "clinical")}
            ids[-1].append(("lesion", row["lesion_id"]))
        if line:
            if "image_type" in line and (line["image_type"] or ours):
                row["modality"] = _MODALITY.get(line["image_type"].lower())
            row |= {"age_approx": age(line.get("age_approx", "")), "sex": sex(line.get("sex", "")),
                    "patient_id": known(line.get("patient_id", "")),
                    "anatom_site": _one_of(ISIC_SITES, line, "anatom_site_1", "anatom_site_general"),
                    "dermoscopic_type": _one_of(DERMOSCOPIC_TYPES, line, "dermoscopic_type"),
                    **_fitzpatrick(line.get("fitzpatrick_skin_type", "")),
                    "lesion_id": row.get("lesion_id") or known(line.get("lesion_id", ""))}
            ids[-1] += [("patient", row["patient_id"]), ("lesion", known(line.get("lesion_id", ""))),
                        ("group", known(line.get("group_id", "").removeprefix("isic2018-")) if ours else None)]
        diagnosis = labels.get(name)
        photos.append(Photo(name, image, diagnosis, diagnosis, row, None, groups.get(name, {}) | line,
                            source.named(f"{name}_segmentation.png"), attributes.get(name, {})))
    photos = [replace(photo, group=group) for photo, group in zip(photos, tied(ids), strict=True)]
    missing = {name: "its picture is missing" for name in labels if name not in seen}
    return Plan("isic2018", "ISIC 2018 challenge: dermoscopic photographs", "ISIC 2018 Task 3", tuple(photos), source,
                ("CC-BY-NC-4.0",),
                ("ISIC 2018: Codella et al., arXiv 1902.03368 (2019)",
                 "HAM10000: Tschandl, Rosendahl, Kittler, Scientific Data 5, 180161 (2018), doi 10.7910/DVN/DBW86T"),
                missing)


def _split(image: str, line: dict[str, str], ours: bool) -> str | None:
    """The split that an export of ours tells in its metadata.csv, else that of the folder.

    In an export of ours the training part also has the pictures without a split.
    """
    if ours and "split" in line:
        return line["split"] or None
    found = split_of(image)
    return None if ours and found == "train" else found


def _one_of(vocabulary: tuple[str, ...], line: dict[str, str], *columns: str) -> str | None:
    """The first of these cells that is a word of the vocabulary."""
    return next((line[name] for name in columns if line.get(name) in vocabulary), None)


def _fitzpatrick(text: str) -> dict[str, int | None]:
    rated = _ROMAN.index(text) + 1 if text in _ROMAN else None
    return {"fitzpatrick_min": rated, "fitzpatrick_max": rated}


def _one_hot(source: Source, path: str, line: dict[str, str]) -> str | None:
    try:
        values = [float(line[name]) for name in DIAGNOSES]
    except ValueError:
        values = []
    if sorted(values) != [0.0] * 6 + [1.0]:
        raise DatasetError(f"{source.shown}/{path}: {line['image']}: one 1 and six 0 are needed")
    return DIAGNOSES[values.index(1.0)]
