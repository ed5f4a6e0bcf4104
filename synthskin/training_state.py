"""What a killed training goes on from: tensors as safetensors, the rest as JSON, no pickle. Whole or not there.

state.json names the tensor file it belongs to and its SHA-256, and is replaced last: a kill at any moment leaves the
state before or the state after. Equal tensors are equal bytes, in every process.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from synthskin.files import json_bytes, read_json, write_whole

STATE: Final = "state.json"
FORMAT: Final = 1


def tensor_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """safetensors file of tensors, wherever they lie."""
    from safetensors.torch import save

    plain = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    return save(plain) if metadata is None else ordered_header(save(plain, dict(metadata)))


def ordered_header(content: bytes) -> bytes:
    """The same safetensors file with the keys of its metadata sorted.

    The safetensors library writes two or more of them in an order that changes from process to process, so equal
    weights would be unequal files.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8:8 + length])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    told = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    told += b" " * (-len(told) % 8)
    return len(told).to_bytes(8, "little") + told + content[8 + length:]


def read_tensors(path: Path, error: type[Exception], sha256: str | None = None) -> dict[str, Tensor]:
    """Tensors of a safetensors file (with that hash); raises `error`."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = path.read_bytes()
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
            raise error(f"{path}: is not the file its JSON names (SHA-256 differs); bring the right one back")
        return load(content)
    except FileNotFoundError:
        raise error(f"{path}: is missing") from None
    except (OSError, SafetensorError) as why:
        raise error(f"{path}: is damaged: {str(why)[:120]}") from None


def optimiser_tensors(optimiser: torch.optim.Optimizer, prefix: str = "optimiser") -> dict[str, Tensor]:
    """Moments and step counts by `<prefix>.<number>.<name>`."""
    return {f"{prefix}.{number}.{name}": torch.as_tensor(value)
            for number, own in optimiser.state_dict()["state"].items() for name, value in own.items()
            if isinstance(value, (int, float, Tensor))}


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor], prefix: str = "optimiser") -> None:
    """Inverse of `optimiser_tensors` for a new optimiser over the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(prefix + "."):
            number, name = key[len(prefix) + 1:].split(".", 1)
            state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def save_state(folder: Path, identity: Mapping[str, Any], step: int, tensors: Mapping[str, Tensor],
               error: type[Exception], more: Mapping[str, Any] | None = None) -> None:
    """Replace the state in `folder` by this one; `more` goes into state.json. Raises `error` where it cannot."""
    content = tensor_bytes(tensors)
    name = f"state-{step:08d}.safetensors"
    write_whole(folder / name, content, error)
    write_whole(folder / STATE, json_bytes({
        "format": FORMAT, "step": step, "tensors": name, "sha256": hashlib.sha256(content).hexdigest(),
        "identity": identity, **(more or {})}), error)
    for old in folder.glob("state-*.safetensors"):
        if old.name != name:
            old.unlink()


def load_state(folder: Path, identity: Mapping[str, Any], where: Path, error: type[Exception]
               ) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """(state.json, tensors), None where there is no state; raises `error` where it is damaged or another training's."""
    if not (folder / STATE).exists():
        return None
    state = read_json(folder / STATE, error)
    check_same(state.get("identity"), identity, where, error)
    step, name = state.get("step"), state.get("tensors")
    if (state.get("format") != FORMAT or not isinstance(step, int) or step < 0
            or name != f"state-{step:08d}.safetensors"):
        raise error(f"{folder / STATE}: is damaged; --overwrite starts anew")
    return state, read_tensors(folder / name, error, str(state.get("sha256")))


def check_same(found: Any, asked: Mapping[str, Any], where: Path, error: type[Exception]) -> None:
    """Raises `error` saying what differs between the training in a folder and the one asked for."""
    there: dict[str, Any] = found if isinstance(found, dict) else {}
    differ = [f"{key} {there.get(key)!r} there, {value!r} here" for key, value in json.loads(json_bytes(asked)).items()
              if there.get(key) != value]
    if differ:
        raise error(f"{where}: holds another training ({'; '.join(differ)[:300]}); choose another --out, or "
                    "--overwrite")
