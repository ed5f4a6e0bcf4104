"""The data set contract: the row of metadata.jsonl, the layout of a folder, and `check_row`, which tells what is wrong.

A row is a flat JSON object in which every key of `ROW_KEYS` is present; null or [] where there is nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthskin.conventions import (
    BENIGN_MALIGNANT,
    DERMOSCOPIC_TYPES,
    DIAGNOSES,
    DIAGNOSIS_STATUS,
    GENERATORS,
    HEALTHY,
    MASK_STATUS,
    MODALITIES,
)
from synthskin.files import parse_json

FORMAT_VERSION: Final = 1
MAX_ROW_BYTES: Final = 1_000_000
MAX_SIDE_PX: Final = 16_384
MAX_SAMPLES: Final = 10_000_000
NAME_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")
STEM_PATTERN: Final = re.compile(r"\d{6,8}")

ISIC_SITES: Final = (
    "anterior torso", "posterior torso", "lateral torso", "head/neck", "upper extremity", "lower extremity",
    "palms/soles", "oral/genital",
)
TONE_SOURCES: Final = ("model", "image", "human")

#: key -> (kind, may be null). Kinds: str, int, float, list of str, list of float, list of boxes, list of parents.
ROW_KEYS: Final[dict[str, tuple[str, bool]]] = {
    "file_name": ("str", False),
    "mask_file_name": ("str", True),
    "hair_file_name": ("str", True),
    "attributes": ("names", False),
    "attributes_delta_e": ("floats", False),
    "artefacts": ("names", False),
    "index": ("int", False),
    "seed": ("int", False),
    "preset": ("str", False),
    "set_hash": ("str", False),
    "generator": ("str", False),
    "mask_status": ("str", False),
    "diagnosis": ("str", True),
    "diagnosis_raw": ("str", True),
    "diagnosis_scheme": ("str", True),
    "diagnosis_status": ("str", False),
    "benign_malignant": ("str", True),
    "ita_deg": ("float", True),
    "ita_image_deg": ("float", True),
    "ita_class": ("int", True),
    "tone_source": ("str", True),
    "fitzpatrick_min": ("int", True),
    "fitzpatrick_max": ("int", True),
    "monk": ("int", True),
    "contrast": ("float", True),
    "visible_delta_e": ("float", True),
    "bbox": ("floats", False),
    "boxes": ("boxes", False),
    "lesions": ("strs", False),
    "modality": ("str", True),
    "dermoscopic_type": ("str", True),
    "anatom_site": ("str", True),
    "age_approx": ("int", True),
    "sex": ("str", True),
    "lesion_id": ("str", True),
    "patient_id": ("str", True),
    "group_id": ("str", True),
    "source_id": ("str", True),
    "split": ("str", True),
    "caption": ("str", False),
    "parents": ("parents", False),
    "checkpoint": ("str", True),
    "params": ("str", False),
}
#: Keys that older rows of this format lack, and what they are read as.
_ADDED: Final[dict[str, Any]] = {"attributes_delta_e": []}
_VOCABULARY: Final[dict[str, tuple[Any, ...]]] = {
    "generator": GENERATORS,
    "mask_status": MASK_STATUS,
    "diagnosis": (*DIAGNOSES, HEALTHY),
    "diagnosis_status": DIAGNOSIS_STATUS,
    "benign_malignant": ("benign", "malignant", "indeterminate"),
    "ita_class": (1, 2, 3, 4, 5, 6),
    "tone_source": TONE_SOURCES,
    "fitzpatrick_min": (1, 2, 3, 4, 5, 6),
    "fitzpatrick_max": (1, 2, 3, 4, 5, 6),
    "monk": tuple(range(1, 11)),
    "modality": MODALITIES,
    "dermoscopic_type": DERMOSCOPIC_TYPES,
    "anatom_site": ISIC_SITES,
    "sex": ("male", "female"),
}


class DatasetError(RuntimeError):
    """A folder cannot be read, written or continued. One line, meant for the user."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample as every generator hands it on.

    row          dict                     the row of metadata.jsonl, complete
    image        (h, w, 3) uint8          sRGB
    mask, hair   (h, w) uint8 or None     0 or 255
    attributes, artefacts   {name: (h, w) uint8 0 or 255}
    instances    (h, w) uint8/uint16 or None   label map, 0 = skin
    maps         {name: (h, w) float32}
    """

    row: dict[str, Any]
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None = None
    hair: NDArray[np.uint8] | None = None
    attributes: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    artefacts: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    instances: NDArray[Any] | None = None
    maps: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


def stem(index: int) -> str:
    """File stem of a sample: six digits, more where they are needed."""
    if not 0 <= index < MAX_SAMPLES:
        raise DatasetError(f"index {index}: allowed is 0 to {MAX_SAMPLES - 1}")
    return f"{index:06d}"


def media_paths(row: Mapping[str, Any], maps: bool = False) -> dict[str, str]:
    """Relative paths of a sample's files by role: image, mask, hair, attributes/<name>, artefacts/<name>, maps."""
    name = stem(row["index"])
    paths = {"image": row["file_name"]}
    for role in ("mask", "hair"):
        if row[f"{role}_file_name"] is not None:
            paths[role] = row[f"{role}_file_name"]
    for kind in ("attributes", "artefacts"):
        for entry in row[kind]:
            paths[f"{kind}/{entry}"] = f"{kind}/{entry}/{name}.png"
    if len(row["lesions"]) > 1:
        paths["instances"] = f"instances/{name}.png"
    if maps:
        paths["maps"] = f"maps/{name}.npz"
    return paths


def empty_row() -> dict[str, Any]:
    """A row with every key, null or [] throughout; the maker fills in what it knows."""
    return {key: [] if kind in ("names", "floats", "boxes", "strs", "parents") else None
            for key, (kind, _) in ROW_KEYS.items()}


def encode_row(row: Mapping[str, Any]) -> str:
    """One line of metadata.jsonl, keys in the contract's order; raises DatasetError if `check_row` finds a fault."""
    faults = check_row(row)
    if faults:
        raise DatasetError(f"row {row.get('index')}: {faults[0]}")
    return json.dumps({key: row[key] for key in ROW_KEYS}, ensure_ascii=False, allow_nan=False) + "\n"


def parse_row(line: str | bytes) -> dict[str, Any]:
    """Inverse of `encode_row`; raises DatasetError saying what is wrong with the line."""
    if len(line) > MAX_ROW_BYTES:
        raise DatasetError(f"longer than {MAX_ROW_BYTES} bytes")
    try:
        row = parse_json(line)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise DatasetError("not a JSON object")
    if b"\\u" in line if isinstance(line, bytes) else "\\u" in line:
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise DatasetError("holds half a character (a lone surrogate)") from None
    for key, nothing in _ADDED.items():
        row.setdefault(key, list(nothing))
    faults = check_row(row)
    if faults:
        raise DatasetError(faults[0])
    return row


def check_row(row: Mapping[str, Any]) -> list[str]:
    """Faults of a row, one line each; [] if it keeps the contract. Looks at no file."""
    faults = [f"the key '{key}' is missing" for key in ROW_KEYS if key not in row]
    faults += [f"unknown key {str(key)!r}" for key in row if key not in ROW_KEYS]
    if faults:
        return faults
    for key, (kind, nullable) in ROW_KEYS.items():
        value = row[key]
        if value is None:
            if not nullable:
                faults.append(f"{key} is null; a value is needed")
            continue
        problem = _KINDS[kind](value)
        if problem:
            faults.append(f"{key}={short(value)}: {problem}")
        elif key in _VOCABULARY and value not in _VOCABULARY[key]:
            faults.append(f"{key}={short(value)}: allowed are {', '.join(map(str, _VOCABULARY[key]))}")
    return faults or _check_consistency(row)


def _check_consistency(row: Mapping[str, Any]) -> list[str]:
    faults = []
    if not 0 <= row["index"] < MAX_SAMPLES or row["seed"] < 0:
        return [f"index={row['index']}, seed={row['seed']}: both start at 0"]
    name = stem(row["index"])
    for key, folder in (("file_name", "images"), ("mask_file_name", "masks"), ("hair_file_name", "hair")):
        if row[key] is not None and row[key] != f"{folder}/{name}.png":
            faults.append(f"{key}={short(row[key])}: {folder}/{name}.png is needed for index {row['index']}")
    if (row["mask_file_name"] is None) != (row["mask_status"] == "none"):
        faults.append(f"mask_status={row['mask_status']} does not fit mask_file_name={short(row['mask_file_name'])}")
    if row["diagnosis"] is not None and row["benign_malignant"] not in (None, BENIGN_MALIGNANT[row["diagnosis"]]):
        faults.append(f"benign_malignant={row['benign_malignant']} does not fit diagnosis={row['diagnosis']}")
    if len(row["bbox"]) not in (0, 4):
        faults.append(f"bbox={short(row['bbox'])}: [x, y, w, h] or [] is needed")
    if len(row["attributes_delta_e"]) not in (0, len(row["attributes"])):
        faults.append("attributes_delta_e: one number a structure is needed, or none")
    if len(row["lesions"]) not in (0, len(row["boxes"])):
        faults.append("lesions: one diagnosis a box is needed")
    if (row["ita_class"] is None) != (row["tone_source"] is None):
        faults.append("tone_source is needed where ita_class is given, and only there")
    if (row["fitzpatrick_min"] is None) != (row["fitzpatrick_max"] is None):
        faults.append("fitzpatrick_min and fitzpatrick_max come together")
    if not row["caption"].strip() or "\n" in row["caption"]:
        faults.append("caption: one sentence on one line is needed")
    try:
        params = parse_json(row["params"])
    except (ValueError, RecursionError):
        params = None
    if not isinstance(params, dict):
        faults.append("params: JSON text of an object is needed")
    return faults


def short(value: Any) -> str:
    """A value as one line of at most 80 characters that no terminal acts upon."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _is_str(value: Any) -> str:
    return "" if isinstance(value, str) else "text is needed"


def _is_int(value: Any) -> str:
    return "" if isinstance(value, int) and not isinstance(value, bool) else "a whole number is needed"


def _is_float(value: Any) -> str:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return "" if good else "a finite number is needed"


def _is_list_of(test: Any, what: str) -> Any:
    def check(value: Any) -> str:
        good = isinstance(value, list) and not any(test(item) for item in value)
        return "" if good else f"a list of {what} is needed"
    return check


def _is_name(value: Any) -> str:
    return "" if isinstance(value, str) and NAME_PATTERN.fullmatch(value) else "a name"


def _is_names(value: Any) -> str:
    if not isinstance(value, list) or any(_is_name(item) for item in value):
        return "a list of names (a-z, 0-9, _) is needed"
    return "" if len(set(value)) == len(value) else "a name comes twice"


def _is_box(value: Any) -> str:
    return "" if isinstance(value, list) and len(value) == 4 and not any(_is_float(x) for x in value) else "a box"


def _is_parent(value: Any) -> str:
    good = (isinstance(value, dict) and set(value) == {"set_hash", "file_name", "sha256"}
            and all(isinstance(item, str) for item in value.values()))
    return "" if good else "a parent"


_KINDS: Final[dict[str, Any]] = {
    "str": _is_str,
    "int": _is_int,
    "float": _is_float,
    "names": _is_names,
    "strs": _is_list_of(_is_str, "texts"),
    "floats": _is_list_of(_is_float, "finite numbers"),
    "boxes": _is_list_of(_is_box, "[x, y, w, h]"),
    "parents": _is_list_of(_is_parent, "{set_hash, file_name, sha256}"),
}
