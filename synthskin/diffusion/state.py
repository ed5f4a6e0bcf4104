"""OUT and OUT/training of a training. losses.jsonl gets a line a step; what is later than the state is cut off again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from synthskin.diffusion.errors import DiffusionError
from synthskin.files import FolderLock, json_bytes, read_json, write_whole
from synthskin.training_state import STATE, load_state

if TYPE_CHECKING:
    from torch import Tensor

    from synthskin.diffusion.data import TrainingSet

LOSSES: Final = "losses.jsonl"
#: In OUT/training: where the training sets lay, for the near-duplicate gate on this machine; in no card.
FOLDERS: Final = "folders.json"
_FILES: Final = "pictures and masks"  # what a training's identity calls their content


class LossLog:
    """losses.jsonl: {"step", "loss", ...} a line. Opened at a step, it forgets what came after."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        kept = [line for line in _lines(path) if line["step"] <= step]
        write_whole(path, "".join(json.dumps(line) + "\n" for line in kept).encode(), DiffusionError)

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


def told_of_data(data: TrainingSet) -> dict[str, str]:
    """What must be the same of the data for a training to be continued."""
    return {"data": data.hash(), _FILES: data.content()}


def load_training(folder: Path, identity: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """`load_state` of OUT/training; a training that began before files were hashed goes on without."""
    asked = dict(identity)
    if (folder / STATE).is_file():
        there = read_json(folder / STATE, DiffusionError).get("identity")
        if isinstance(there, dict) and _FILES not in there:
            del asked[_FILES]
    return load_state(folder, asked, folder.parent, DiffusionError)


def remember(folder: Path, folders: Sequence[Path], data: TrainingSet) -> None:
    """Write where the training sets lay."""
    write_whole(folder / FOLDERS, json_bytes({"folders": [str(one.absolute()) for one in folders],
                                              "data_hash": data.hash()}), DiffusionError)


@contextmanager
def open_folder(out: Path, overwrite: bool, ours: set[str]) -> Iterator[Path]:
    """OUT and OUT/training, made where they are not, held until the end; refuses a folder that holds something else.

    Of several processes that train together only the first (RANK 0) holds it.
    """
    if out.exists() and not out.is_dir():
        raise DiffusionError(f"{out}: is not a folder; choose another --out")
    strangers = sorted(path.name for path in out.iterdir() if path.name not in ours) if out.is_dir() else []
    if strangers and not (out / "training").is_dir():
        raise DiffusionError(f"{out}: holds other files ({strangers[0]}); choose an empty or new --out")
    folder = out / "training"
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if os.environ.get("RANK", "0") == "0":
                held.enter_context(FolderLock(folder, DiffusionError, f"{out}: another training writes there; wait for "
                                                                      "it, or choose another --out"))
            if overwrite:
                for path in [folder / STATE, folder / LOSSES, *folder.glob("state-*.safetensors")]:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise DiffusionError(f"{out}: cannot be made: {error.strerror}; choose another --out") from None
        yield folder
