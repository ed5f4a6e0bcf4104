"""What a killed training goes on from: tensors as safetensors, the rest as JSON, no pickle. Whole or not there.

state.json names the tensor file it belongs to and its SHA-256; it is replaced last, so a kill at any moment leaves the
state before or the state after.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from synthskin.classify.errors import ClassifyError

STATE: Final = "state.json"
FORMAT: Final = 1
MAX_JSON_BYTES: Final = 64_000_000


def write_whole(path: Path, content: bytes) -> None:
    """Write beside, then rename: never half a file under the name."""
    temporary = path.with_name(f".{path.name}.part")
    with open(temporary, "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, path)


def json_bytes(value: Any) -> bytes:
    """Readable JSON of finite numbers."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> dict[str, Any]:
    """An object of at most MAX_JSON_BYTES; raises ClassifyError."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ClassifyError(f"{path}: larger than {MAX_JSON_BYTES} bytes")
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except ClassifyError:
        raise
    except FileNotFoundError:
        raise ClassifyError(f"{path}: is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ClassifyError(f"{path}: is damaged: {str(error)[:120]}") from None
    if not isinstance(value, dict):
        raise ClassifyError(f"{path}: is damaged: not a JSON object")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a finite number")


def tensor_bytes(tensors: dict[str, Tensor]) -> bytes:
    """safetensors file of tensors, wherever they lie."""
    from safetensors.torch import save

    return save({name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()})


def read_tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    """Tensors of a safetensors file with that hash; raises ClassifyError."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ClassifyError(f"{path}: is not the file its JSON names (SHA-256 differs); bring the right one back")
        return load(content)
    except FileNotFoundError:
        raise ClassifyError(f"{path}: is missing") from None
    except (OSError, SafetensorError) as error:
        raise ClassifyError(f"{path}: is damaged: {str(error)[:120]}") from None


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Moments and step counts by `optimiser.<number>.<name>`."""
    return {f"optimiser.{number}.{name}": torch.as_tensor(value)
            for number, own in optimiser.state_dict()["state"].items() for name, value in own.items()}


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Inverse of `optimiser_tensors` for a new optimiser over the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        head, _, rest = key.partition(".")
        if head == "optimiser":
            number, name = rest.split(".")
            state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def save_state(folder: Path, identity: dict[str, Any], step: int, history: list[dict[str, Any]],
               tensors: dict[str, Tensor]) -> None:
    """Replace the state in `folder` by this one."""
    folder.mkdir(parents=True, exist_ok=True)
    content = tensor_bytes(tensors)
    name = f"state-{step:08d}.safetensors"
    write_whole(folder / name, content)
    write_whole(folder / STATE, json_bytes({
        "format": FORMAT, "step": step, "tensors": name, "sha256": hashlib.sha256(content).hexdigest(),
        "identity": identity, "history": history}))
    for old in folder.glob("state-*.safetensors"):
        if old.name != name:
            old.unlink()


def load_state(
    folder: Path, identity: dict[str, Any], where: Path
) -> tuple[int, list[dict[str, Any]], dict[str, Tensor]] | None:
    """(step, history, tensors), or None where there is no state; raises ClassifyError where it is another's."""
    if not (folder / STATE).exists():
        return None
    state = read_json(folder / STATE)
    check_same(state.get("identity"), identity, where)
    step, name = state.get("step"), state.get("tensors")
    if (state.get("format") != FORMAT or not isinstance(step, int) or step < 0
            or name != f"state-{step:08d}.safetensors" or not isinstance(state.get("history"), list)):
        raise ClassifyError(f"{folder / STATE}: is damaged; --overwrite starts anew")
    return step, state["history"], read_tensors(folder / name, str(state.get("sha256")))


def check_same(found: Any, asked: dict[str, Any], where: Path) -> None:
    """Raises ClassifyError saying what differs between the training in a folder and the one asked for."""
    found = found if isinstance(found, dict) else {}
    differ = [f"{key} {found.get(key)!r} there, {value!r} here" for key, value in asked.items()
              if found.get(key) != value]
    if differ:
        raise ClassifyError(f"{where}: holds another training ({'; '.join(differ)[:300]}); choose another --out, "
                            "or --overwrite")
