"""What a killed training goes on from: tensors as safetensors, the rest as JSON, no pickle. Whole or not there.

state.json names the tensor file it belongs to and its SHA-256, and is replaced last: a kill at any moment leaves the
state before or the state after. losses.jsonl gets a line a step; what is later than the state is cut off again.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from synthskin.diffusion.errors import DiffusionError

STATE: Final = "state.json"
LOSSES: Final = "losses.jsonl"
#: In OUT/training: where the training sets lay, for the near-duplicate gate on this machine; in no card.
FOLDERS: Final = "folders.json"
FORMAT: Final = 1
_MAX_JSON_BYTES: Final = 64_000_000


def write_whole(path: Path, content: bytes) -> None:
    """Write beside, then rename: never half a file under the name. Raises DiffusionError where it cannot."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        with open(temporary, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise DiffusionError(f"{path}: cannot be written: {error.strerror}; free or fix it and give the same command "
                             "again") from None


def json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> dict[str, Any]:
    """An object of bounded size; raises DiffusionError."""
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise DiffusionError(f"{path}: larger than {_MAX_JSON_BYTES} bytes")
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DiffusionError(f"{path}: is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, DiffusionError):
            raise
        raise DiffusionError(f"{path}: is damaged: {str(error)[:120]}") from None
    if not isinstance(value, dict):
        raise DiffusionError(f"{path}: is damaged: not a JSON object")
    return value


def read_tensors(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Tensors of a safetensors file (with that hash); raises DiffusionError."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = path.read_bytes()
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
            raise DiffusionError(f"{path}: is not the file its JSON names (SHA-256 differs); bring the right one back")
        return load(content)
    except FileNotFoundError:
        raise DiffusionError(f"{path}: is missing") from None
    except (OSError, SafetensorError) as error:
        raise DiffusionError(f"{path}: is damaged: {str(error)[:120]}") from None


def tensor_bytes(tensors: dict[str, Tensor]) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()})


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


def optimiser_tensors(optimiser: torch.optim.Optimizer, prefix: str = "optimiser") -> dict[str, Tensor]:
    """Moments and step counts by `<prefix>.<number>.<name>`."""
    return {f"{prefix}.{number}.{name}": torch.as_tensor(value)
            for number, own in optimiser.state_dict()["state"].items() for name, value in own.items()
            if isinstance(value, (int, float, Tensor))}


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor], prefix: str = "optimiser") -> None:
    """Inverse of `optimiser_tensors` for a new optimiser over the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(prefix + "."):
            number, name = key[len(prefix) + 1:].split(".", 1)
            state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def save_state(folder: Path, identity: dict[str, Any], step: int, tensors: dict[str, Tensor]) -> None:
    """Replace the state in `folder` by this one."""
    content = tensor_bytes(tensors)
    name = f"state-{step:08d}.safetensors"
    write_whole(folder / name, content)
    write_whole(folder / STATE, json_bytes({
        "format": FORMAT, "step": step, "tensors": name, "sha256": hashlib.sha256(content).hexdigest(),
        "identity": identity}))
    for old in folder.glob("state-*.safetensors"):
        if old.name != name:
            old.unlink()


def load_state(folder: Path, identity: dict[str, Any], where: Path) -> tuple[int, dict[str, Tensor]] | None:
    """(step, tensors), or None where there is no state; raises DiffusionError where it is another training's."""
    if not (folder / STATE).exists():
        return None
    state = read_json(folder / STATE)
    told = state.get("identity")
    found: dict[str, Any] = told if isinstance(told, dict) else {}
    differ = [f"{key} {found.get(key)!r} there, {value!r} here"
              for key, value in json.loads(json_bytes(identity)).items() if found.get(key) != value]
    if differ:
        raise DiffusionError(f"{where}: holds another training ({'; '.join(differ)[:300]}); choose another --out, or "
                             "--overwrite")
    step, name = state.get("step"), state.get("tensors")
    if state.get("format") != FORMAT or not isinstance(step, int) or name != f"state-{step:08d}.safetensors":
        raise DiffusionError(f"{folder / STATE}: is damaged; --overwrite starts anew")
    return step, read_tensors(folder / name, str(state.get("sha256")))


class LossLog:
    """losses.jsonl: {"step", "loss", ...} a line. Opened at a step, it forgets what came after."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        kept = [line for line in _lines(path) if line["step"] <= step]
        write_whole(path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def add(self, step: int, **values: float) -> None:
        with open(self.path, "a", encoding="utf-8") as handle:
            handle.write(json.dumps({"step": step, **values}) + "\n")

    def read(self) -> list[dict[str, float]]:
        return _lines(self.path)


def _lines(path: Path) -> list[dict[str, float]]:
    found: list[dict[str, float]] = []
    if path.is_file():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
                if isinstance(line["step"], int):
                    found.append(line)
            except (ValueError, KeyError, TypeError):
                break  # a kill cut this line off
    return found


def open_folder(out: Path, overwrite: bool, ours: set[str]) -> Path:
    """OUT and OUT/training, made where they are not; refuses a folder that holds something else."""
    if out.exists() and not out.is_dir():
        raise DiffusionError(f"{out}: is not a folder; choose another --out")
    strangers = sorted(path.name for path in out.iterdir() if path.name not in ours) if out.is_dir() else []
    if strangers and not (out / "training").is_dir():
        raise DiffusionError(f"{out}: holds other files ({strangers[0]}); choose an empty or new --out")
    folder = out / "training"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if overwrite:
            for path in [folder / STATE, folder / LOSSES, *folder.glob("state-*.safetensors")]:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise DiffusionError(f"{out}: cannot be made: {error.strerror}; choose another --out") from None
    return folder
