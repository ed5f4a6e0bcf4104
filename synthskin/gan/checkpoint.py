"""All that a training needs to go on exactly where it stopped, in one safetensors file: tensors and JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

from synthskin.files import parse_json, write_whole
from synthskin.gan import GanError
from synthskin.gan.method import Method
from synthskin.training_state import tensor_bytes

STATE: Final = "state.safetensors"
_KEY: Final = "synthskin"


def save_state(
    directory: Path, method: Method, averaged: nn.Module, best: dict[str, Tensor], told: dict[str, Any]
) -> None:
    """Networks, optimisers, averaged and best weights, the method's own state, and `told` (JSON); whole or not."""
    tensors: dict[str, Tensor] = {f"extra/{name}": value for name, value in method.extra().items()}
    told = {**told, "optimisers": {}}
    for name, net in method.nets.items():
        tensors |= {f"net/{name}/{key}": value for key, value in net.state_dict().items()}
    for name, (optimiser, _) in method.optimisers.items():
        state = optimiser.state_dict()
        told["optimisers"][name] = state["param_groups"]
        for number, values in state["state"].items():
            tensors |= {f"adam/{name}/{number}/{key}": value for key, value in values.items()}
    tensors |= {f"averaged/{key}": value for key, value in averaged.state_dict().items()}
    tensors |= {f"best/{key}": value for key, value in best.items()}
    scaler = method.accelerator.scaler
    told["scaler"] = None if scaler is None else scaler.state_dict()
    write_whole(directory / STATE, tensor_bytes(tensors, {_KEY: json.dumps(told)}), GanError)


def read_told(directory: Path) -> dict[str, Any] | None:
    """The JSON of a checkpoint; None where there is none. Raises GanError on a damaged file."""
    from safetensors import SafetensorError, safe_open

    path = directory / STATE
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as opened:
            told = parse_json((opened.metadata() or {})[_KEY])
        if not isinstance(told, dict) or not isinstance(told.get("identity"), dict):
            raise ValueError("tells no settings")
        return told
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise GanError(f"{path}: is no checkpoint of `synthskin gan train`, or damaged: {str(error)[:120]}; "
                       "delete it to start anew, or choose another --out") from None


def load_state(directory: Path, method: Method, averaged: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Fill method and averaged weights; gives (best weights, JSON). Raises GanError if it is another method's."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    told = read_told(directory)
    assert told is not None
    path = directory / STATE
    try:
        tensors = load_file(path, device=str(method.device))
        for name, net in method.nets.items():
            net.load_state_dict(_under(tensors, f"net/{name}/"))
        averaged.load_state_dict(_under(tensors, "averaged/"))
        for name, (optimiser, _) in method.optimisers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in _under(tensors, f"adam/{name}/").items():
                number, _, what = key.partition("/")
                state.setdefault(int(number), {})[what] = value
            optimiser.load_state_dict({"state": state, "param_groups": told["optimisers"][name]})
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError):
        raise GanError(f"{path}: does not fit {method.options.method}: it is the checkpoint of another method or of "
                       "other settings; choose another --out") from None
    method.load_extra(_under(tensors, "extra/"))
    if told["scaler"] is not None and method.accelerator.scaler is not None:
        method.accelerator.scaler.load_state_dict(told["scaler"])
    return _under(tensors, "best/"), told


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
