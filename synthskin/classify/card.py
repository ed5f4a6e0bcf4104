"""classifier.json: the model card, and its reading from a folder that may come from anywhere."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from synthskin.classify.errors import ClassifyError
from synthskin.classify.options import LABELS, NETWORKS
from synthskin.files import read_json

CARD: Final = "classifier.json"
WEIGHTS: Final = "weights.safetensors"
FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a classifier is.

    classes            in the order of the columns of `predict`
    mean, std          of the training pictures, by channel, in [0, 1]
    temperature        logits are divided by it: fitted on the validation pictures (Guo 2017)
    threshold          of the second class where there are two; None otherwise
    weights_sha256     of weights.safetensors
    data               hash, counts a class and split, sets with their licences
    metrics            on the validation pictures
    options            TrainOptions
    """

    network: str
    classes: tuple[str, ...]
    label: str
    size_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    temperature: float
    threshold: float | None
    weights_sha256: str
    steps: int
    licences: tuple[str, ...]
    attribution: tuple[str, ...]
    data: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    history: tuple[dict[str, Any], ...] = ()
    synthskin_version: str = ""
    intended_use: str = "Training and testing software, such as measuring synthetic pictures. Not for diagnosis."
    format: int = FORMAT

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self) | {name: list(getattr(self, name)) for name in
                               ("classes", "mean", "std", "licences", "attribution", "history")}


def read_card(folder: str | Path) -> ModelCard:
    """The card in a model's folder; raises ClassifyError on anything that is not one."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ClassifyError(f"{folder}: is not a folder; give one written by `synthskin classifier train`")
    if not (folder / CARD).exists():
        hint = "its training is not finished; give the same train command again" if (folder / "training").is_dir() \
            else "give a folder written by `synthskin classifier train`"
        raise ClassifyError(f"{folder}: no {CARD} there; {hint}")
    return parse_card(read_json(folder / CARD, ClassifyError), str(folder / CARD))


def parse_card(data: dict[str, Any], name: str = CARD) -> ModelCard:
    """Check every field; raises ClassifyError with the name and the field."""
    def bad(key: str, what: str) -> ClassifyError:
        return ClassifyError(f"{name}: {key}={str(data.get(key))[:60]!r}: {what} is needed")

    known = set(ModelCard.__dataclass_fields__)
    for key in sorted(set(data) ^ known):
        raise ClassifyError(f"{name}: {'unknown key' if key in data else 'no key'} {key[:60]!r}")
    if data["format"] != FORMAT:
        raise bad("format", f"{FORMAT}, the one this synthskin reads,")
    if data["network"] not in NETWORKS:
        raise bad("network", " or ".join(NETWORKS))
    if data["label"] not in LABELS:
        raise bad("label", " or ".join(LABELS))
    classes = data["classes"]
    if (not isinstance(classes, list) or not 2 <= len(classes) <= 100 or len(set(map(str, classes))) != len(classes)
            or not all(isinstance(c, str) and c and c.isprintable() and len(c) <= 64 for c in classes)):
        raise bad("classes", "a list of 2 to 100 different names")
    if not _whole(data["size_px"], 32, 1024):
        raise bad("size_px", "a whole number from 32 to 1024")
    if not _whole(data["steps"], 0, 10**9):
        raise bad("steps", "a whole number")
    for key, low, high in (("mean", -1e-9, 1.0), ("std", 1e-6, 1.0)):
        value = data[key]
        if not isinstance(value, list) or len(value) != 3 or not all(_number(v, low, high) for v in value):
            raise bad(key, "three numbers in [0, 1]")
    if not _number(data["temperature"], 1e-3, 1e3):
        raise bad("temperature", "a number from 0.001 to 1000")
    threshold = data["threshold"]
    if not (threshold is None if len(classes) > 2 else _number(threshold, 0, 1)):
        raise bad("threshold", "a number from 0 to 1 for two classes, null for more,")
    if not isinstance(data["weights_sha256"], str) or len(data["weights_sha256"]) != 64:
        raise bad("weights_sha256", "64 hexadecimal digits")
    for key in ("licences", "attribution"):
        value = data[key]
        if not isinstance(value, list) or not value or not all(isinstance(v, str) and v.strip() for v in value):
            raise bad(key, "a list of texts")
    for key in ("data", "metrics", "options"):
        if not isinstance(data[key], dict):
            raise bad(key, "an object")
    if not isinstance(data["history"], list) or not all(isinstance(v, dict) for v in data["history"]):
        raise bad("history", "a list of objects")
    for key in ("data", "metrics", "options", "history"):
        try:
            json.dumps(data[key], allow_nan=False)
        except (ValueError, TypeError, RecursionError):
            raise bad(key, "JSON without NaN or infinity") from None
    for key in ("synthskin_version", "intended_use"):
        if not isinstance(data[key], str):
            raise bad(key, "a text")
    return ModelCard(**(data | {key: tuple(data[key]) for key in
                                ("classes", "mean", "std", "licences", "attribution", "history")}))


def _whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _number(value: Any, low: float, high: float) -> bool:
    return (isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            and low <= value <= high)
