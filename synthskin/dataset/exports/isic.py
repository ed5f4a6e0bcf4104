"""Folders and CSV files as the ISIC 2018 challenge and the ISIC Archive have them.

Task 1 (`<id>_segmentation.png`), Task 2 (`<id>_attribute_<name>.png`), Task 3 (one-hot CSV), and metadata.csv with the
Archive's columns and two of ours, `group_id` and `split`. The rows' `split` decides between Training, Validation and
Test folders; rows without one are in Training. Identifiers start with `synthskin_`, never with `ISIC_`, which are the
Archive's to give; pictures stay PNG. Healthy skin and labels outside the seven classes have no place in Task 3 and are
left out of that file alone; folders and files that would be empty are not written.
"""

from __future__ import annotations

import contextlib
import csv
import json
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np

from synthskin.conventions import DIAGNOSES
from synthskin.dataset.encode import png_bytes
from synthskin.dataset.exports.common import ExportOptions, Source
from synthskin.dataset.exports.parts import Parts
from synthskin.dataset.format import Sample, stem
from synthskin.dataset.licences import ISIC_NAMES, joined
from synthskin.dataset.reader import longest_px, safe_path

#: Folders by part: pictures, masks (task 1), structures (task 2), classes (task 3), as the challenge named them.
FOLDERS: Final = {part: {"input": f"ISIC2018_Task1-2_{name}_Input", "1": f"ISIC2018_Task1_{name}_GroundTruth",
                         "2": f"ISIC2018_Task2_{name}_GroundTruth{version}", "3": f"ISIC2018_Task3_{name}_GroundTruth"}
                  for part, name, version in (("train", "Training", "_v3"), ("val", "Validation", ""),
                                              ("test", "Test", ""))}
#: The attributes of Task 2, by our names; a physics set gets a mask of each for every picture, empty ones too.
TASK_2_NAMES: Final = {"network": "pigment_network", "pigment_network": "pigment_network",
                       "negative_network": "negative_network", "streaks": "streaks",
                       "milia_like_cysts": "milia_like_cyst", "milia_like_cyst": "milia_like_cyst",
                       "globules": "globules"}
COLUMNS: Final = (
    "isic_id", "attribution", "copyright_license", "age_approx", "anatom_site_1", "clin_size_long_diam_mm",
    "dermoscopic_type", "diagnosis_1", "diagnosis_2", "diagnosis_3", "fitzpatrick_skin_type", "image_manipulation",
    "image_type", "lesion_id", "patient_id", "sex", "group_id", "split",
)
#: Levels 2 and 3 of the Archive's diagnoses; None where its vocabulary splits our class further.
_LEVELS: Final[dict[str, tuple[str, str, str | None]]] = {
    "MEL": ("Malignant", "Malignant melanocytic proliferations (Melanoma)", None),
    "NV": ("Benign", "Benign melanocytic proliferations", "Nevus"),
    "BCC": ("Malignant", "Malignant adnexal epithelial proliferations - Follicular", "Basal cell carcinoma"),
    "AKIEC": ("Indeterminate", "Indeterminate epidermal proliferations", None),
    "BKL": ("Benign", "Benign epidermal proliferations", None),
    "DF": ("Benign", "Benign soft tissue proliferations - Fibro-histiocytic", "Dermatofibroma"),
    "VASC": ("Benign", "Benign soft tissue proliferations - Vascular", None),
}
_ROMAN: Final = ("I", "II", "III", "IV", "V", "VI")


def write(source: Source, folder: Path, options: ExportOptions) -> list[str]:
    card = source.card
    licence = joined(ISIC_NAMES.get(name, name) for name in card.licences)
    attribution = "; ".join(card.attribution)
    unlabelled = 0
    parts = Parts()
    with contextlib.ExitStack() as stack:
        metadata = csv.DictWriter(stack.enter_context(_table(folder / "metadata.csv")), COLUMNS, lineterminator="\n")
        metadata.writeheader()
        labels: dict[str, Any] = {}
        for row, sample, files in source:
            part = parts.of(row)
            names = FOLDERS[part]
            identifier = f"synthskin_{card.set_hash[:8]}_s{card.seed}_{stem(row['index'])}"
            _put(folder / names["input"] / f"{identifier}.png", files["image"])
            if "mask" in files:
                _put(folder / names["1"] / f"{identifier}_segmentation.png", files["mask"])
            for name, data in _attributes(row, sample, files).items():
                _put(folder / names["2"] / f"{identifier}_attribute_{name}.png", data)
            if row["diagnosis"] in DIAGNOSES:
                if part not in labels:
                    handle = stack.enter_context(_table(folder / names["3"] / f"{names['3']}.csv"))
                    labels[part] = csv.writer(handle, lineterminator="\n")
                    labels[part].writerow(("image", *DIAGNOSES))
                labels[part].writerow((identifier, *(f"{float(name == row['diagnosis']):.1f}" for name in DIAGNOSES)))
            else:
                unlabelled += 1
            metadata.writerow(_record(identifier, row, sample) | {"attribution": attribution,
                                                                  "copyright_license": licence})
    (folder / "dataset.json").write_bytes(safe_path(source.directory, "dataset.json").read_bytes())
    outside = [f"{unlabelled} samples are healthy or outside the seven classes: not in the CSV of Task 3"]
    return (outside if unlabelled else []) + parts.remarks()


def _table(path: Path) -> TextIO:
    path.parent.mkdir(exist_ok=True)
    return open(path, "w", newline="", encoding="utf-8")


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


def _attributes(row: dict[str, Any], sample: Sample, files: dict[str, bytes]) -> dict[str, bytes]:
    found = {}
    if row["generator"] == "physics":
        empty = png_bytes(np.zeros(sample.image.shape[:2], np.uint8))
        found = dict.fromkeys(sorted(set(TASK_2_NAMES.values())), empty)
    for name in row["attributes"]:
        found[TASK_2_NAMES.get(name, name)] = files[f"attributes/{name}"]
    return found


def _record(identifier: str, row: dict[str, Any], sample: Sample) -> dict[str, Any]:
    first, second, third = _LEVELS.get(row["diagnosis"], (None, None, None))
    if first is None and row["benign_malignant"] is not None and row["diagnosis"] != "healthy":
        first = row["benign_malignant"].capitalize()
    rated = None
    if row["fitzpatrick_min"] is not None and row["fitzpatrick_min"] == row["fitzpatrick_max"]:
        rated = _ROMAN[row["fitzpatrick_min"] - 1]
    # A photograph has no one scale, and of several lesions none is the one that is meant.
    one = row["modality"] == "dermoscopic" and len(row["boxes"]) <= 1
    diameter = long_diameter_mm(row, sample) if one else None
    return {
        "isic_id": identifier, "age_approx": row["age_approx"], "anatom_site_1": row["anatom_site"],
        "clin_size_long_diam_mm": None if diameter is None else f"{diameter:.1f}",
        "dermoscopic_type": row["dermoscopic_type"], "diagnosis_1": first, "diagnosis_2": second,
        "diagnosis_3": third, "fitzpatrick_skin_type": rated,
        "image_manipulation": None if row["generator"] == "real" else "synthetic",
        "image_type": _image_type(row),
        "lesion_id": row["lesion_id"], "patient_id": row["patient_id"], "sex": row["sex"], "group_id": row["group_id"],
        "split": row["split"],
    }


def _image_type(row: dict[str, Any]) -> str | None:
    """The Archive's word; a photograph of a region, or with several lesions, is an overview."""
    if row["modality"] != "clinical":
        return row["modality"]
    camera = json.loads(row["params"]).get("camera")
    region = isinstance(camera, dict) and camera.get("view") == "region"
    return "clinical: overview" if region or len(row["boxes"]) > 1 else "clinical: close-up"


def long_diameter_mm(row: dict[str, Any], sample: Sample) -> float | None:
    """Largest distance between two points of the mask; None where the scale is unknown or the picture cuts the lesion.

    The scale is `camera.field_of_view_mm` of `params`, the width of the picture.
    """
    camera = json.loads(row["params"]).get("camera")
    view_mm = camera.get("field_of_view_mm") if isinstance(camera, dict) else None
    if not isinstance(view_mm, (int, float)) or sample.mask is None or not sample.mask.any():
        return None
    mask = sample.mask > 0
    if mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any():
        return None
    return longest_px(mask) * float(view_mm) / mask.shape[1]
