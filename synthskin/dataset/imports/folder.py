"""A plain folder per class: SRC/<class>/picture.jpg, or SRC/train/<class>/picture.jpg with train, val, test.

A class named as one of ours (MEL ... healthy, or a common name of it) is taken for it; any other stays raw.
"""

from __future__ import annotations

from typing import Final

from synthskin.conventions import DIAGNOSES, HEALTHY
from synthskin.dataset.format import DatasetError
from synthskin.dataset.imports.common import ImportOptions, Photo, Plan, Source

SPLITS: Final = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
                 "test": "test", "testing": "test"}
NAMES: Final = {
    **{name.lower(): name for name in DIAGNOSES}, HEALTHY: HEALTHY, "melanoma": "MEL", "nevus": "NV", "nevi": "NV",
    "naevus": "NV", "melanocytic nevus": "NV", "basal cell carcinoma": "BCC", "actinic keratosis": "AKIEC",
    "benign keratosis": "BKL", "seborrheic keratosis": "BKL", "dermatofibroma": "DF", "vascular lesion": "VASC",
    "healthy skin": HEALTHY,
}


def plan(source: Source, options: ImportOptions) -> Plan:
    photos = []
    for image in source.photos_in(lambda path: True):
        parts = image.split("/")
        split = SPLITS.get(parts[0].lower()) if len(parts) > 2 else None
        folders = parts[1 if split else 0:-1]
        if not folders:
            raise DatasetError(f"{source.shown}/{image}: lies in no folder of a class; SRC/<class>/{image} is needed")
        label = folders[0]
        diagnosis = NAMES.get(label.lower().replace("_", " ").replace("-", " "))
        photos.append(Photo(image.rsplit(".", 1)[0], image, label, diagnosis,
                            {"modality": options.modality, "split": split}))
    return Plan("folder", "Photographs in a folder per class", "folder name", tuple(photos), source,
                (), ())
