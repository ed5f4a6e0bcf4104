"""A trained model on disk: MODEL/model.json (its card) and MODEL/generator.safetensors (averaged weights)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from synthskin import __version__
from synthskin.files import json_bytes, write_whole
from synthskin.gan import GanError
from synthskin.gan.method import TrainOptions, method_class
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
        data = json.loads(path.read_text(encoding="utf-8"))
        wanted = {f.name for f in fields(ModelCard)}
        if set(data) != wanted or data["model_version"] != MODEL_VERSION:
            raise ValueError("other keys or another version")
        return ModelCard(**{**data, "options": TrainOptions(**data["options"])})
    except FileNotFoundError:
        raise GanError(f"{directory}: no {CARD} there; give the folder that `synthskin gan train` has finished or "
                       "stopped in after its first validation") from None
    except NotADirectoryError:
        raise GanError(f"{directory}: is not a folder; give the --out of `synthskin gan train`") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise GanError(f"{path}: is no model card of this version: {error}") from None


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
