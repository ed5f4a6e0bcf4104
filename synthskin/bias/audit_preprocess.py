"""The preprocess file of a model that is audited: how a picture becomes its input, and its output a probability.

JSON or TOML, the form that `synthskin classifier export` writes. An unknown key is an error, and so is a value outside
its bounds: a model that is fed wrongly would be audited for nothing.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from synthskin.bias.errors import BiasError
from synthskin.conventions import BENIGN_MALIGNANT, DIAGNOSES, HEALTHY

MAX_FILE_BYTES: Final = 1_000_000
#: What `classifier export` writes for `resize = "crop"`.
CROP_IN_WORDS: Final = "shorter side, bilinear with antialiasing, then the middle square"
_FILTERS: Final = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC,
                   "nearest": Image.Resampling.NEAREST}

Side = Annotated[int, Field(ge=8, le=4096)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Preprocess(BaseModel):
    """Everything between a picture and a probability.

    size            side of the model's square input in pixels, or [height, width]
    resize          crop (shorter side scaled, middle cut out) or stretch (both sides scaled)
    interpolation   bilinear (antialiased), bicubic (antialiased) or nearest
    scale           factor on the 8-bit values: 1/255 by default, 1 for a model that takes 0 to 255
    mean, std       of the scaled values, by channel; 0 and 1 by default
    layout          NCHW or NHWC; channels RGB or BGR; dtype float32, float16 or uint8
    input, output   names in the graph; the only input and the first output by default
    activation      softmax or sigmoid if the model returns logits, none if it returns probabilities
    classes         names in the order of the output; a model of one output names two, of which it gives the second
    positive        class (or classes, whose probabilities add up) that the audit follows; the last of two by default
    positive_diagnoses   diagnoses that are truly positive, where the class names do not tell
    threshold       of the probability of `positive`; 0.5 by default
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal[1] = 1
    size: Side | tuple[Side, Side]
    resize: Literal["crop", "stretch"] = "crop"
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
    scale: Finite = 1 / 255
    mean: tuple[Finite, ...] = (0.0, 0.0, 0.0)
    std: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = (1.0, 1.0, 1.0)
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    channels: Literal["RGB", "BGR"] = "RGB"
    dtype: Literal["float32", "float16", "uint8"] = "float32"
    input: str | None = None
    output: str | None = None
    activation: Literal["softmax", "sigmoid", "none"]
    classes: Annotated[tuple[str, ...], Field(min_length=2, max_length=10_000)]
    positive: tuple[str, ...] = ()
    positive_diagnoses: tuple[str, ...] = ()
    label: str | None = None
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    weights_sha256: str | None = None

    @field_validator("resize", mode="before")
    @classmethod
    def _resize_in_words(cls, value: Any) -> Any:
        return "crop" if value == CROP_IN_WORDS else value

    @field_validator("positive", mode="before")
    @classmethod
    def _one_positive(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits(self) -> Preprocess:
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, 3):
                raise ValueError(f"{name}: 1 or 3 numbers are needed, {len(getattr(self, name))} came")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes: a name comes twice")
        for name in self.positive:
            if name not in self.classes:
                raise ValueError(f"positive: '{name}' is none of the classes {', '.join(self.classes[:12])}")
        if not self.positive and len(self.classes) > 2:
            raise ValueError("positive: say which of the classes the audit follows, such as positive = \"MEL\"")
        if self.label not in (None, "diagnosis", "benign_malignant"):
            raise ValueError(f"label: a model of {self.label} cannot be audited; allowed are diagnosis and "
                             "benign_malignant")
        for name in self.positive_diagnoses:
            if name not in (*DIAGNOSES, HEALTHY):
                raise ValueError(f"positive_diagnoses: '{name}': allowed are {', '.join((*DIAGNOSES, HEALTHY))}")
        self.truth()
        return self

    @property
    def sides(self) -> tuple[int, int]:
        """(height, width) of the input in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def followed(self) -> tuple[str, ...]:
        """The positive classes."""
        return self.positive or self.classes[-1:]

    @property
    def decides_at(self) -> float:
        return 0.5 if self.threshold is None else self.threshold

    def truth(self) -> dict[str, bool]:
        """{diagnosis: is it positive?} for the diagnoses that the classes cover; ValueError if they tell none."""
        every = (*DIAGNOSES, HEALTHY)
        if self.positive_diagnoses:
            return {name: name in self.positive_diagnoses for name in every}
        by_name = {name.casefold(): name for name in every}
        found = {own.casefold(): by_name.get(own.casefold()) for own in self.classes}
        positive = {name.casefold() for name in self.followed}
        if all(found.values()):
            return {str(name): own in positive for own, name in found.items()}
        kinds = {"benign", "malignant", "indeterminate"}
        if all(own in kinds for own in found):
            return {name: BENIGN_MALIGNANT[name] in positive for name in every if BENIGN_MALIGNANT[name] in found}
        raise ValueError("classes: are neither diagnoses nor benign and malignant; say which diagnoses are positive, "
                         f"positive_diagnoses = [\"MEL\"] (of {', '.join(every)})")

    def with_positive(self, name: str) -> Preprocess:
        """The same with another positive class; of two classes threshold and positive diagnoses turn with it.

        Raises BiasError.
        """
        if name not in self.classes:
            raise BiasError(f"--positive {name[:60]}: the model's classes are {', '.join(self.classes[:12])}")
        if (name,) == self.followed:
            return self
        two, diagnoses = len(self.classes) == 2, self.positive_diagnoses
        if diagnoses and not two:
            raise BiasError(f"--positive {name[:60]}: the preprocess file says which diagnoses are positive "
                            f"({', '.join(diagnoses)}); change positive and positive_diagnoses there")
        changed = {"positive": (name,), "threshold": None if self.threshold is None or not two else 1 - self.threshold,
                   "positive_diagnoses": [own for own in (*DIAGNOSES, HEALTHY) if diagnoses and own not in diagnoses]}
        return _checked(self.model_dump() | changed, f"--positive {name}")

    def prepared(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """The model's input of one (h, w, 3) uint8 sRGB picture, without the axis of the batch."""
        fitted = self._fitted(image)
        if self.channels == "BGR":
            fitted = fitted[..., ::-1]
        values: NDArray[Any] = fitted
        if self.dtype != "uint8":
            mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
            values = (fitted.astype(np.float32) * np.float32(self.scale) - mean) / std
        return np.ascontiguousarray(np.moveaxis(values, -1, 0) if self.layout == "NCHW" else values, self.dtype)

    def _fitted(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = self.sides
        h, w = image.shape[:2]
        if (h, w) == (height, width):
            return image
        scale = max(height / h, width / w)
        shape = (height, width) if self.resize == "stretch" else (
            max(round(h * scale), height), max(round(w * scale), width))
        scaled = np.asarray(Image.fromarray(image).resize(shape[::-1], _FILTERS[self.interpolation]))
        top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
        return scaled[top:top + height, left:left + width]

    def looks_done(self, raw: NDArray[Any]) -> bool:
        """Could the output be probabilities already, though an activation is still to come?"""
        values = np.asarray(raw, np.float64).reshape(len(raw), -1)
        inside = bool(values.size) and bool((values >= 0).all() and (values <= 1).all())
        sums = values.sum(1) if self.activation == "softmax" else np.ones(1)
        return self.activation != "none" and inside and bool(np.allclose(sums, 1, atol=1e-3))

    def probabilities(self, raw: NDArray[Any], where: str) -> NDArray[np.float64]:
        """(n,) probability of the positive class from the model's output; raises BiasError if it does not fit."""
        values = np.asarray(raw, np.float64)
        values = values.reshape(len(values), -1) if values.ndim != 2 else values
        width = values.shape[1]
        allowed = (1, 2) if len(self.classes) == 2 else (len(self.classes),)
        if width not in allowed or (width == 1 and self.activation == "softmax"):
            raise BiasError(f"{where}: returns {width} numbers a picture, the preprocess file names "
                            f"{len(self.classes)} classes with activation {self.activation}; "
                            "give as many classes as outputs (a single output: two classes and sigmoid or none)")
        if not np.isfinite(values).all():
            raise BiasError(f"{where}: returns numbers that are not finite; check mean, std and dtype of the "
                            "preprocess file")
        if self.activation == "softmax":
            values = np.exp(values - values.max(1, keepdims=True))
            values /= values.sum(1, keepdims=True)
        elif self.activation == "sigmoid":
            values = 1 / (1 + np.exp(-np.clip(values, -700, 700)))
        elif values.min() < -1e-4 or values.max() > 1 + 1e-4:
            raise BiasError(f"{where}: returns numbers from {values.min():.3g} to {values.max():.3g}, activation none "
                            "needs probabilities; give softmax or sigmoid")
        if width == 1:
            second = values[:, 0]
            return second if self.followed == self.classes[1:] else 1 - second
        followed = [self.classes.index(name) for name in self.followed]
        return np.clip(values[:, followed].sum(1), 0.0, 1.0)


def load_preprocess(path: str | Path) -> Preprocess:
    """Read the file; raises BiasError naming file, key and what is allowed."""
    path = Path(path)
    if path.suffix not in (".json", ".toml"):
        raise BiasError(f"{path}: a preprocess file ends in .json or .toml")
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BiasError(f"{path}: larger than {MAX_FILE_BYTES} bytes; this is no preprocess file")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BiasError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'is not UTF-8 text'}") from None
    return parse_preprocess(text, str(path), path.suffix == ".json")


def parse_preprocess(text: str, where: str, is_json: bool) -> Preprocess:
    """Check the text of a preprocess file; raises BiasError."""
    try:
        data = json.loads(text) if is_json else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise BiasError(f"{where}: is not valid {'JSON' if is_json else 'TOML'}: {_line(str(error))}") from None
    if not isinstance(data, dict):
        raise BiasError(f"{where}: an object of keys is needed: {', '.join(Preprocess.model_fields)}")
    return _checked(data, where)


def _checked(data: dict[str, Any], where: str) -> Preprocess:
    known = list(Preprocess.model_fields)
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            raise BiasError(f"{where}: unknown key '{_line(str(key))[:60]}'"
                            f"{f' (did you mean {near[0]!r}?)' if near else ''}; allowed are {', '.join(known)}")
    try:
        return Preprocess.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = str(first["loc"][0]) if first["loc"] else ""
        came = "" if first["type"] in ("value_error", "missing") else f" ({_line(repr(first.get('input')))[:60]} came)"
        message = _line(str(first["msg"]).removeprefix("Value error, "))[:300]
        raise BiasError(f"{where}: {f'{place}: ' if place else ''}{message}{came}") from None


def _line(text: str) -> str:
    return " ".join(text.split())
