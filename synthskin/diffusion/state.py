"""OUT and OUT/training of a training. losses.jsonl gets a line a step; what is later than the state is cut off again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from synthskin.diffusion.errors import DiffusionError
from synthskin.files import FolderLock, write_whole
from synthskin.training_state import STATE

LOSSES: Final = "losses.jsonl"
#: In OUT/training: where the training sets lay, for the near-duplicate gate on this machine; in no card.
FOLDERS: Final = "folders.json"


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
