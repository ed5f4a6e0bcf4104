"""ISIC 2017 task folders (Codella et al. 2018): photographs, masks (part 1), melanoma and keratosis (part 3).

Part 2 (superpixels) has no place in the contract and is left out.
"""

from __future__ import annotations

import re
from typing import Any, Final

from synthskin.dataset.imports.common import ImportOptions, Photo, Plan, Source, age, allowed, sex
from synthskin.dataset.imports.splits import split_of
from synthskin.dataset.photo import ENDINGS

_FLAGS: Final = {"0": False, "0.0": False, "1": True, "1.0": True}


def plan(source: Source, options: ImportOptions) -> Plan:
    labels: dict[str, dict[str, str]] = {}
    people: dict[str, dict[str, str]] = {}
    for path in source.files:
        name = path.rsplit("/", 1)[-1].lower()
        if re.fullmatch(r"isic-2017.*part3_groundtruth\.csv", name):
            labels |= {line["image_id"]: line
                       for line in source.rows(path, ("image_id", "melanoma", "seborrheic_keratosis"))}
        elif re.fullmatch(r"isic-2017.*_metadata\.csv", name):
            people |= {line["image_id"]: line for line in source.rows(path, ("image_id", "age_approximate", "sex"))}
    photos = []
    pictures = source.photos_in(lambda path: "_data" in path.lower() and "groundtruth" not in path.lower()
                                and "_superpixels" not in path.lower())
    seen: set[str] = set()
    for image in pictures:
        name = image.rsplit("/", 1)[-1].rsplit(".", 1)[0]
        seen.add(name)
        row: dict[str, Any] = {"modality": "dermoscopic", "split": split_of(image)}
        label = diagnosis = None
        if name in labels:
            where = f"{source.shown}: part 3, {name}"
            melanoma = allowed(_FLAGS, labels[name]["melanoma"], where)
            keratosis = allowed(_FLAGS, labels[name]["seborrheic_keratosis"], where)
            label, diagnosis = (("melanoma", "MEL") if melanoma else
                                ("seborrheic keratosis", "BKL") if keratosis else ("nevus", "NV"))
        if name in people:
            row |= {"age_approx": age(people[name]["age_approximate"]), "sex": sex(people[name]["sex"])}
        photos.append(Photo(name, image, label, diagnosis, row, mask=source.named(f"{name}_segmentation.png"),
                            source=people.get(name, {}) | labels.get(name, {})))
    missing = {name: f"its picture ({' '.join(ENDINGS)}) is missing" for name in labels if name not in seen}
    return Plan("isic2017", "ISIC 2017 challenge: dermoscopic photographs", "ISIC 2017 part 3", tuple(photos), source,
                ("CC0-1.0",), ("ISIC 2017: Codella et al., arXiv 1710.05006 (2018)",), missing)
