"""ISIC 2018 task folders (Codella et al. 2019; Tschandl et al. 2018), and what `synthskin export --to isic` writes.

Task 1 masks, Task 2 attribute masks, Task 3 classes, and lesion groupings where that file is there.
"""

from __future__ import annotations

import re
from typing import Any, Final

from synthskin.conventions import DIAGNOSES
from synthskin.dataset.format import DatasetError
from synthskin.dataset.imports.common import ImportOptions, Photo, Plan, Source, age, known, sex
from synthskin.dataset.imports.isic2017 import split_of

_STATUS: Final = {"histopathology": "histopathology", "histo": "histopathology"}
_ATTRIBUTE: Final = re.compile(r"(.+)_attribute_([a-z0-9_]{1,64})\.png")


def plan(source: Source, options: ImportOptions) -> Plan:
    labels: dict[str, str | None] = {}
    groups: dict[str, dict[str, str]] = {}
    people: dict[str, dict[str, str]] = {}
    attributes: dict[str, dict[str, str]] = {}
    for path in source.files:
        name = path.rsplit("/", 1)[-1]
        low = name.lower()
        if re.fullmatch(r"isic2018_task3.*groundtruth\.csv", low):
            labels |= {line["image"]: _one_hot(source, path, line)
                       for line in source.rows(path, ("image", *DIAGNOSES))}
        elif re.fullmatch(r"isic2018_task3.*lesiongroupings\.csv", low):
            groups |= {line["image"]: line
                       for line in source.rows(path, ("image", "lesion_id", "diagnosis_confirm_type"))}
        elif low == "metadata.csv":
            people |= {line["isic_id"]: line for line in source.rows(path, ("isic_id",))}
        elif (found := _ATTRIBUTE.fullmatch(name)) is not None:
            attributes.setdefault(found[1], {})[found[2]] = path
    photos = []
    seen: set[str] = set()
    for image in source.photos_in(lambda path: "_input" in path.lower()):
        name = image.rsplit("/", 1)[-1].rsplit(".", 1)[0]
        if name in seen:
            continue  # the same photograph in the inputs of two tasks
        seen.add(name)
        row: dict[str, Any] = {"modality": "dermoscopic", "split": split_of(image)}
        group = None
        if name in groups:
            group = known(groups[name]["lesion_id"])
            row |= {"lesion_id": group, "diagnosis_status": _STATUS.get(
                groups[name]["diagnosis_confirm_type"].lower(), "clinical")}
        if name in people:
            line = people[name]
            row |= {"age_approx": age(line.get("age_approx", "")), "sex": sex(line.get("sex", "")),
                    "patient_id": known(line.get("patient_id", "")),
                    "lesion_id": row.get("lesion_id") or known(line.get("lesion_id", ""))}
            group = group or row["patient_id"] or row["lesion_id"]
        diagnosis = labels.get(name)
        photos.append(Photo(name, image, diagnosis, diagnosis, row, group, groups.get(name, {}) | people.get(name, {}),
                            source.named(f"{name}_segmentation.png"), attributes.get(name, {})))
    missing = {name: "its picture is missing" for name in labels if name not in seen}
    return Plan("isic2018", "ISIC 2018 challenge: dermoscopic photographs", "ISIC 2018 Task 3", tuple(photos), source,
                ("CC-BY-NC-4.0",),
                ("ISIC 2018: Codella et al., arXiv 1902.03368 (2019)",
                 "HAM10000: Tschandl, Rosendahl, Kittler, Scientific Data 5, 180161 (2018), doi 10.7910/DVN/DBW86T"),
                missing)


def _one_hot(source: Source, path: str, line: dict[str, str]) -> str | None:
    try:
        values = [float(line[name]) for name in DIAGNOSES]
    except ValueError:
        values = []
    if sorted(values) != [0.0] * 6 + [1.0]:
        raise DatasetError(f"{source.shown}/{path}: {line['image']}: one 1 and six 0 are needed")
    return DIAGNOSES[values.index(1.0)]
