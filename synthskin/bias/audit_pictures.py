"""Pictures of sets as a model judged them; predictions are kept, so that an interrupted audit goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthskin.bias.audit_causes import Cause, of_settings
from synthskin.bias.audit_model import Model
from synthskin.bias.errors import BiasError
from synthskin.dataset.encode import read_png
from synthskin.dataset.format import DatasetError
from synthskin.dataset.reader import Dataset, Progress, open_dataset, safe_path

KEPT: Final = "predictions.jsonl"
MAX_KEPT_BYTES: Final = 2_000_000_000
BATCH: Final = 16
SAME_P: Final = 0.01  # less than this is another GPU, or other pictures in the batch


@dataclass(frozen=True, slots=True)
class Judged:
    """Rows of a set with the probability of the positive class and the hash of each picture, in one order."""

    directory: Path
    rows: tuple[dict[str, Any], ...]
    probabilities: NDArray[np.float64]
    hashes: tuple[str, ...]

    @property
    def groups(self) -> list[str]:
        """The lesion of each row."""
        return [row["group_id"] or row["file_name"] for row in self.rows]

    def only(self, places: Sequence[int]) -> Judged:
        return Judged(self.directory, tuple(self.rows[k] for k in places), self.probabilities[list(places)],
                      tuple(self.hashes[k] for k in places))

    def path(self, row: dict[str, Any]) -> str:
        return str(self.directory / row["file_name"])

    @property
    def data_hash(self) -> str:
        """SHA-256 over the pictures in the order of the rows."""
        return hashlib.sha256("".join(self.hashes).encode()).hexdigest()


def sort_sets(directories: Iterable[Path]) -> tuple[Dataset | None, list[tuple[Cause, Dataset]]]:
    """(the plain set, the variation sets with their causes); raises BiasError and DatasetError."""
    plain: Dataset | None = None
    varied: list[tuple[Cause, Dataset]] = []
    for directory in directories:
        dataset = open_dataset(directory)
        if not dataset.rows:
            raise BiasError(f"{directory}: holds no samples yet; finish it with the command that makes it")
        settings = dataset.card.engine.get("variation")
        if settings is not None:
            try:
                varied.append((of_settings(settings), dataset))
            except BiasError as error:
                raise BiasError(f"{directory}: {error}") from None
        elif plain is None:
            plain = dataset
        else:
            raise BiasError(f"{plain.directory} and {directory}: both are plain sets; give one")
    return plain, varied


def _parsed(line: bytes, key: str) -> dict[str, Any] | None:
    """An entry of the kept answers; None where the line was cut or is none."""
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
        whole = isinstance(entry, dict) and isinstance(entry[key], str) and (key != "sha256" or 0 <= entry["p"] <= 1)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return entry if whole else None


def is_kept(path: Path) -> bool:
    """Are these the answers of an audit, be they cut by a kill in the first line?"""
    try:
        with open(path, "rb") as handle:
            line = handle.readline(10_000)
    except OSError:
        return False
    start = b'{"identity"'
    cut = not line.endswith(b"\n") and line[:len(start)] == start[:len(line)]
    return cut or _parsed(line, "identity") is not None


class Judge:
    """Asks a model about pictures and keeps the answers in `folder`. Use as a context manager.

    Raises BiasError where the folder holds answers of another model or preprocess file; the first that are there are
    asked for again, for a Python function may read its weights from anywhere.
    """

    def __init__(self, model: Model, folder: Path) -> None:
        self._model = model
        self._path = folder / KEPT
        self._known: dict[str, float] = {}
        self._handle: Any = None
        self._compared = False

    def __enter__(self) -> Judge:
        whole = self._read()
        self._compared = not self._known
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = open(self._path, "ab")
        if whole == 0:
            self._write([{"identity": self._model.identity, "model": self._model.name}])
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()

    def _read(self) -> int:
        """Take over the answers that are there; a line that a kill has cut is dropped. Returns the bytes kept."""
        if not self._path.exists():
            return 0
        if self._path.stat().st_size > MAX_KEPT_BYTES:
            raise BiasError(f"{self._path}: larger than {MAX_KEPT_BYTES} bytes; give --overwrite or another --out")
        whole = 0
        with open(self._path, "rb") as handle:
            for number, line in enumerate(handle):
                entry = _parsed(line, "identity" if number == 0 else "sha256")
                if entry is None:
                    break
                if number > 0:
                    self._known[entry["sha256"]] = float(entry["p"])
                elif entry["identity"] != self._model.identity:
                    raise BiasError(f"{self._path.parent}: holds the audit of another model or preprocess file "
                                    f"({str(entry.get('model'))[:60]}); give another --out, or --overwrite")
                whole += len(line)
        if whole < self._path.stat().st_size:
            os.truncate(self._path, whole)
        return whole

    def _write(self, entries: Sequence[dict[str, Any]]) -> None:
        self._handle.write(b"".join(json.dumps(entry).encode() + b"\n" for entry in entries))
        self._handle.flush()

    def judge(self, dataset: Dataset, progress: Progress) -> Judged:
        """Predictions for every row; raises DatasetError on a file that is missing or damaged."""
        rows = dataset.rows
        hashes: list[str] = []
        progress.start(len(rows), 0)
        try:
            for k in range(0, len(rows), BATCH):
                hashes += self._batch(dataset, rows[k:k + BATCH])
                progress.step(len(hashes))
        finally:
            progress.stop()
        return Judged(dataset.directory, rows, np.array([self._known[own] for own in hashes]), tuple(hashes))

    def _batch(self, dataset: Dataset, rows: Sequence[dict[str, Any]]) -> list[str]:
        hashes: list[str] = []
        images: dict[str, NDArray[np.uint8]] = {}
        for row in rows:
            where = f"{dataset.directory}/{row['file_name']}"
            path = safe_path(dataset.directory, row["file_name"])
            try:
                own = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                raise DatasetError(f"{where}: cannot be read: {error.strerror}") from None
            hashes.append(own)
            if own in images or (own in self._known and self._compared):
                continue
            try:
                image = read_png(path)
            except DatasetError as error:
                raise DatasetError(f"{where}: {error}") from None
            images[own] = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
        found = {own: float(p) for own, p in zip(images, self._model.predict(list(images.values())), strict=True)}
        again = [own for own in found if own in self._known]
        if any(abs(found[own] - self._known[own]) > SAME_P for own in again):
            raise BiasError(f"{self._path.parent}: the model answers otherwise than before about the same pictures "
                            "(other weights, or chance in it); give another --out, or --overwrite")
        self._compared = self._compared or bool(again)
        new = {own: p for own, p in found.items() if own not in self._known}
        self._known.update(new)
        if new:
            self._write([{"sha256": own, "p": p} for own, p in new.items()])
        return hashes
