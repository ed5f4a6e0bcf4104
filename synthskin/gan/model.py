"""A trained model on disk: MODEL/model.json (its card) and MODEL/generator.safetensors (averaged weights)."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from synthskin import __version__
from synthskin.conventions import DIAGNOSES, HEALTHY
from synthskin.dataset.format import short
from synthskin.files import json_bytes, parse_json, write_whole
from synthskin.gan import GanError
from synthskin.gan.method import TrainOptions, method_class
from synthskin.gan.where import parse_where
from synthskin.training_state import tensor_bytes

CARD: Final = "model.json"
WEIGHTS: Final = "generator.safetensors"
MODEL_VERSION: Final = 1
_MAX_CARD_BYTES: Final = 1_000_000


@dataclass(frozen=True)
class ModelCard:
    """What a model was made from and may change. `options.change` fixes class, tone or picture for good.

    source, target       {directory name, set hash, filter, pictures, fingerprint} of both domains
    diagnosis            class model: what TARGET's pictures all are, and so what is asked for
    source_diagnoses     diagnoses among SOURCE's pictures
    tones                ITA classes learnt (tone models): of TARGET, or all that StarGAN saw
    licences, attribution   of both sets; they bind the model and what it makes
    steps, validation    where training stood when the weights were kept; its distance then, None without validation
    """

    options: TrainOptions
    source: dict[str, Any]
    target: dict[str, Any]
    diagnosis: str | None
    source_diagnoses: list[str]
    tones: list[int]
    licences: list[str]
    attribution: list[str]
    steps: int
    validation: float | None
    sha256: str = ""
    synthskin_version: str = __version__
    model_version: int = MODEL_VERSION
    remarks: list[str] = field(default_factory=list)

    def to_json(self) -> bytes:
        return json_bytes(asdict(self), 2)


@dataclass(frozen=True)
class Model:
    """A translator: `card`, and `net` in evaluation mode on `device`."""

    card: ModelCard
    net: nn.Module
    device: torch.device

    @torch.no_grad()
    def __call__(self, x: Tensor, tones: Tensor | None = None) -> Tensor:
        """Pictures (n, 3, s, s) in [-1, 1] (planes for pix2pixhd), and for stargan the wanted tones (n,), 1 to 6."""
        given = (x.to(self.device),) if tones is None else (x.to(self.device), tones.to(self.device))
        made: Tensor = self.net(*given)
        return made.float().cpu()


def save_model(directory: Path, card: ModelCard, weights: dict[str, Tensor]) -> ModelCard:
    """Write weights, then the card with their hash; each is there whole or not at all."""
    from dataclasses import replace

    data = tensor_bytes({name: value.detach().float() for name, value in weights.items()})
    card = replace(card, sha256=hashlib.sha256(data).hexdigest())
    write_whole(directory / WEIGHTS, data, GanError)
    write_whole(directory / CARD, card.to_json(), GanError)
    return card


def read_model_card(directory: Path) -> ModelCard:
    """Card of a model; raises GanError if there is none or it is none of ours."""
    path = Path(directory) / CARD
    try:
        if path.stat().st_size > _MAX_CARD_BYTES:
            raise GanError(f"{path}: larger than {_MAX_CARD_BYTES} bytes")
        data = parse_json(path.read_text(encoding="utf-8"))
        wanted = {f.name for f in fields(ModelCard)}
        if not isinstance(data, dict) or set(data) != wanted or data["model_version"] != MODEL_VERSION:
            raise ValueError("other keys or another version")
        _check(data, str(path))
        return ModelCard(**{**data, "options": TrainOptions(**data["options"])})
    except GanError:
        raise
    except FileNotFoundError:
        raise GanError(f"{directory}: no {CARD} there; give the folder that `synthskin gan train` has finished or "
                       "stopped in after its first validation") from None
    except NotADirectoryError:
        raise GanError(f"{directory}: is not a folder; give the --out of `synthskin gan train`") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise GanError(f"{path}: is no model card of this version: {str(error)[:120]}") from None


def _check(data: dict[str, Any], name: str) -> None:
    """Raise GanError on what no training has written; the values of `options` are TrainOptions's to refuse."""
    def texts(value: Any, least: int = 0) -> bool:
        return isinstance(value, list) and len(value) >= least and all(
            isinstance(text, str) and text.strip() and text.isprintable() for text in value)

    def whole(value: Any, low: int, high: int) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    def need(key: str, value: Any, good: bool, what: str) -> None:
        if not good:
            raise GanError(f"{name}: {key} = {short(value)}: {what} is needed; take the folder from its maker again, "
                           "or train anew")

    options = data["options"]
    need("options", options, isinstance(options, dict), "an object")
    kinds: dict[str, Any] = {"str": str, "int": int, "float": (int, float), "bool": bool}
    for one in fields(TrainOptions):
        value = options.get(one.name)
        good = isinstance(value, kinds[str(one.type)]) and (one.type == "bool" or not isinstance(value, bool))
        need(f"options.{one.name}", value, one.name not in options or good, f"a value of kind {one.type}")
    for side in ("source", "target"):
        value = data[side]
        need(side, value, isinstance(value, dict), "an object")
        where = value.get("where")
        need(f"{side}.where", where, isinstance(where, str), "the text of a filter")
        parse_where(where, f"{name}: {side}.where")
    known = (*DIAGNOSES, HEALTHY)
    diagnosis = data["diagnosis"]
    need("diagnosis", diagnosis, diagnosis in known if options.get("change", "class") == "class" else diagnosis is None,
         f"one of {', '.join(known)} for a class model, null for another")
    need("source_diagnoses", data["source_diagnoses"], texts(data["source_diagnoses"]), "a list of texts")
    need("tones", data["tones"], isinstance(data["tones"], list) and all(whole(t, 1, 6) for t in data["tones"]),
         "a list of ITA classes, 1 to 6,")
    for key in ("licences", "attribution"):
        need(key, data[key], texts(data[key], 1), "a list of texts, at least one,")
    need("steps", data["steps"], whole(data["steps"], 0, 10**9), "a whole number from 0")
    score = data["validation"]
    need("validation", score, score is None or (isinstance(score, int | float) and not isinstance(score, bool)),
         "a number or null")
    for key in ("sha256", "synthskin_version"):
        need(key, data[key], texts([data[key]]), "text")
    need("remarks", data["remarks"], texts(data["remarks"]), "a list of texts")


def load_model(directory: Path, device: str = "auto") -> Model:
    """Weights checked against the card's hash and the method's network; raises GanError saying what does not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    card = read_model_card(directory)
    path = Path(directory) / WEIGHTS
    try:
        data = path.read_bytes()
        weights = load(data)
    except (OSError, SafetensorError) as error:
        raise GanError(f"{path}: cannot be read: {error}; train again") from None
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise GanError(f"{path}: is not the file of {CARD} (its sha256 differs); copy both again")
    net = method_class(card.options.method).build(card.options)
    try:
        net.load_state_dict(weights)
    except RuntimeError:
        raise GanError(f"{path}: holds no {card.options.method} of width {card.options.width} and "
                       f"{card.options.blocks} blocks; it is the checkpoint of another method") from None
    where = torch.device(device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
    return Model(card, net.eval().to(where), where)
