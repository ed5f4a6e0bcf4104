"""Labelled pictures of one or more sets: which rows, which split, and their pixels at the network's size."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from synthskin.classify.errors import ClassifyError
from synthskin.conventions import DIAGNOSES, HEALTHY
from synthskin.dataset.encode import read_png
from synthskin.dataset.format import DatasetError
from synthskin.dataset.reader import Dataset, open_dataset, safe_path
from synthskin.hooks.data import squared

U8 = NDArray[np.uint8]
MAX_HELD_BYTES: Final = 2_000_000_000  # pictures beyond this are read again in every epoch
_ORDER: Final[dict[str, tuple[str, ...]]] = {
    "diagnosis": (*DIAGNOSES, HEALTHY),
    "benign_malignant": ("benign", "malignant", "indeterminate"),
    "ita_class": ("1", "2", "3", "4", "5", "6"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One labelled picture: the set it is of, its row, the position of its label in the classes, its group."""

    dataset: Dataset
    row: dict[str, Any]
    label: int
    group: str


@dataclass(frozen=True, slots=True)
class Labelled:
    """Pictures of sets with a label in `classes`; `left_out` counts rows by the reason they are not here.

    tested    groups with a row of split=test, whatever the label of that row
    """

    classes: tuple[str, ...]
    entries: tuple[Entry, ...]
    sets: tuple[Dataset, ...]
    left_out: dict[str, int] = field(default_factory=dict)
    tested: frozenset[str] = frozenset()

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.array([entry.label for entry in self.entries], np.int64)


def group_of(dataset: Dataset, row: dict[str, Any]) -> str:
    """What no split may cut: the row's group_id, else the picture alone."""
    group = row["group_id"]
    return group if group is not None else f"{dataset.card.set_hash}/{row['file_name']}"


def label_of(row: dict[str, Any], label: str) -> str | None:
    """The row's value as text; None where there is none."""
    return None if row[label] is None else str(row[label])


def open_sets(directories: Sequence[str | Path]) -> tuple[Dataset, ...]:
    """Open every set; raises ClassifyError if none is named or one has no samples, DatasetError as the reader does."""
    if not directories:
        raise ClassifyError("no set came; give the folder of a data set")
    sets = tuple(open_dataset(directory) for directory in directories)
    for opened in sets:
        if not opened.rows:
            raise ClassifyError(f"{opened.directory}: holds no samples yet; finish it and give the same command again")
    return sets


def labelled(sets: Sequence[Dataset], label: str, classes: Sequence[str] = ()) -> Labelled:
    """Rows of `sets` with a label; `classes` () takes the values that occur, in the vocabulary's order.

    Raises ClassifyError where fewer than two classes are left, or a class that is asked for does not occur.
    """
    seen = {value for opened in sets for row in opened.rows if (value := label_of(row, label)) is not None}
    order = _ORDER[label]
    chosen = tuple(classes) if classes else tuple(name for name in order if name in seen)
    for name in chosen:
        if name not in order:
            raise ClassifyError(f"class {name!r}: {label} has {', '.join(order)}")
    if len(chosen) < 2:
        raise ClassifyError(f"{', '.join(str(opened.directory) for opened in sets)}: {label} has "
                            f"{', '.join(sorted(seen)) or 'no value'} alone; a classifier needs two classes")
    place = {name: number for number, name in enumerate(chosen)}
    entries: list[Entry] = []
    left_out: dict[str, int] = {}
    for opened in sets:
        for row in opened.rows:
            value = label_of(row, label)
            if value in place:
                entries.append(Entry(opened, row, place[value], group_of(opened, row)))
            else:
                why = f"no {label}" if value is None else f"{label} {value}"
                left_out[why] = left_out.get(why, 0) + 1
    tested = frozenset(group_of(opened, row) for opened in sets for row in opened.rows if row["split"] == "test")
    return Labelled(chosen, tuple(entries), tuple(sets), left_out, tested)


def training_split(data: Labelled, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Positions for training and for validation. Groups with a row of split=test are in neither; no group is in both.

    Where there are rows with split=val they are the validation; else about `share` of the groups of each class, by a
    hash of seed and group. Raises ClassifyError if a class has no picture in training, or validation is empty.
    """
    usable = [k for k, entry in enumerate(data.entries) if entry.group not in data.tested]
    given = {data.entries[k].group for k in usable if data.entries[k].row["split"] == "val"}
    held = given or _hashed_groups(data, usable, share, seed)
    train = [k for k in usable if data.entries[k].group not in held]
    validation = [k for k in usable if data.entries[k].group in held]
    counts = np.bincount([data.entries[k].label for k in train], minlength=len(data.classes))
    for name, count in zip(data.classes, counts, strict=True):
        if count == 0:
            raise ClassifyError(f"class {name}: no picture of it is left for training (test rows and the validation "
                                "groups are kept apart); add pictures or leave the class out with --classes")
    if not validation:
        raise ClassifyError("no group is left for validation; two groups or more of a class are needed")
    return train, validation


def _hashed_groups(data: Labelled, usable: list[int], share: float, seed: int) -> set[str]:
    first: dict[str, int] = {}
    for k in usable:
        first.setdefault(data.entries[k].group, data.entries[k].label)
    held: set[str] = set()
    for label in range(len(data.classes)):
        groups = sorted((g for g, own in first.items() if own == label),
                        key=lambda g: hashlib.sha256(f"{seed}|{g}".encode()).digest())
        if len(groups) > 1:
            held |= set(groups[:max(1, round(share * len(groups)))])
    return held


def data_hash(data: Labelled) -> str:
    """SHA-256 over picture files, labels, groups, splits in order; raises ClassifyError on a file that is missing."""
    digest = hashlib.sha256()
    for entry in data.entries:
        name = f"{entry.dataset.directory}/{entry.row['file_name']}"
        try:
            content = safe_path(entry.dataset.directory, entry.row["file_name"]).read_bytes()
        except (OSError, DatasetError) as error:
            raise ClassifyError(f"{name}: cannot be read: {error}") from None
        digest.update(hashlib.sha256(content).digest())
        digest.update(json.dumps([entry.label, entry.group, entry.row["split"]]).encode())
    groups = {entry.group for entry in data.entries}
    seen = {entry.group for entry in data.entries if entry.row["split"] == "test"}
    if unseen := sorted(groups & data.tested - seen):  # tested by rows that have no label in the classes
        digest.update(json.dumps(unseen).encode())
    return digest.hexdigest()


def read_picture(directory: Path, row: dict[str, Any]) -> U8:
    """(h, w, 3) uint8 of a row; raises ClassifyError naming the file."""
    try:
        image = read_png(safe_path(directory, row["file_name"]))
    except DatasetError as error:
        raise ClassifyError(f"{directory}/{row['file_name']}: {error}") from None
    return to_rgb(image, f"{directory}/{row['file_name']}")


def to_rgb(image: NDArray[Any], name: str) -> U8:
    """(h, w, 3) uint8 from that or from (h, w); raises ClassifyError on other arrays."""
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ClassifyError(f"{name}: an array of {image.shape} {image.dtype} came; (h, w, 3) uint8 is needed")
    return image


def fitted(image: U8, size_px: int) -> U8:
    """(size_px, size_px, 3) uint8: shorter side scaled (bilinear, antialiased), middle square."""
    if image.shape[:2] == (size_px, size_px):
        return image
    scaled = squared(torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(255), size_px)
    return scaled.mul_(255).round_().byte().permute(1, 2, 0).numpy()


class Pictures:
    """Pixels of entries at `size_px`; held in memory after the first reading, up to MAX_HELD_BYTES."""

    def __init__(self, data: Labelled, size_px: int) -> None:
        self._entries = data.entries
        self._size_px = size_px
        self._held: dict[int, U8] = {}
        self._holds = len(data.entries) * size_px * size_px * 3 <= MAX_HELD_BYTES

    def get(self, positions: Sequence[int]) -> U8:
        """(n, size_px, size_px, 3) uint8."""
        return np.stack([self._one(k) for k in positions])

    def _one(self, position: int) -> U8:
        if position in self._held:
            return self._held[position]
        entry = self._entries[position]
        image = fitted(read_picture(entry.dataset.directory, entry.row), self._size_px)
        if self._holds:
            self._held[position] = image
        return image
