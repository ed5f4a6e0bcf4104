"""Reading a data set: rows, arrays, and `validate`, which lists every fault. Nothing outside the folder is opened."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from synthskin.dataset.card import MAX_CARD_BYTES, Card, parse_card
from synthskin.dataset.encode import read_npz, read_png
from synthskin.dataset.format import MAX_ROW_BYTES, DatasetError, Sample, media_paths, parse_row, short

_MEDIA_FOLDERS: Final = ("images", "masks", "instances", "hair", "maps")
_CHECK_AT_ONCE: Final = 256  # samples that are checked in one go
_MOST_MAPS: Final = 64  # float32 maps of the picture's size that an NPZ may hold
_NAMED_FOLDERS: Final = ("attributes", "artefacts")
_TOP: Final = ("README.md", "dataset.json", "preset.toml", "metadata.jsonl", "preview.png",
               *_MEDIA_FOLDERS, *_NAMED_FOLDERS)


class Progress(Protocol):
    """Told of every sample that is through."""

    def start(self, total: int, done: int) -> None: ...
    def step(self, done: int) -> None: ...
    def stop(self) -> None: ...


def safe_path(directory: Path, relative: str) -> Path:
    """`directory/relative`, refused (DatasetError) if it is absolute, climbs out, or passes through a link."""
    parts = relative.split("/")
    if not relative or "\\" in relative or "\0" in relative or any(part in ("", ".", "..") for part in parts):
        raise DatasetError(f"{relative!r}: paths are relative and stay inside the folder")
    path = directory
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise DatasetError(f"{relative}: passes through a symbolic link; files stay inside the folder")
    return path


def file_sha256(directory: Path, relative: str) -> str:
    """SHA-256 of a file of a set; raises DatasetError."""
    path = safe_path(directory, relative)
    try:
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None


def read_card(directory: Path) -> tuple[Card, dict[str, Any]]:
    """Card and run block; raises DatasetError with the folder's name."""
    path = safe_path(directory, "dataset.json")
    try:
        if path.stat().st_size > MAX_CARD_BYTES:
            raise DatasetError(f"{path}: larger than {MAX_CARD_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DatasetError(f"{directory}: no dataset.json there; give the folder of a synthskin data set") from None
    except NotADirectoryError:
        raise DatasetError(f"{directory}: is not a folder; give the folder of a synthskin data set") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from None
    try:
        return parse_card(text)
    except DatasetError as error:
        raise DatasetError(f"{directory}/{error}") from None


def read_lines(directory: Path) -> Iterator[tuple[int, bytes, bool]]:
    """(line number, line, whether it ended) of metadata.jsonl, each of bounded length."""
    path = safe_path(directory, "metadata.jsonl")
    try:
        handle = open(path, "rb")  # noqa: SIM115 - closed by the with below
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    with handle:
        number = 0
        while line := handle.readline(MAX_ROW_BYTES + 2):
            number += 1
            yield number, line.rstrip(b"\r\n"), line.endswith(b"\n")
            if len(line) > MAX_ROW_BYTES:
                return


def iter_rows(directory: Path) -> Iterator[dict[str, Any]]:
    """Row after row; raises DatasetError at the first bad one, but for an unfinished last line (a run under way)."""
    for number, line, ended in read_lines(directory):
        try:
            yield parse_row(line)
        except DatasetError as error:
            if not ended:
                break
            raise DatasetError(f"{directory}/metadata.jsonl, line {number}: {error}") from None


def read_rows(directory: Path) -> list[dict[str, Any]]:
    """All rows, as `iter_rows`."""
    return list(iter_rows(directory))


@dataclass(frozen=True)
class Dataset:
    """A set on disk: `card`, `rows`, `load(i)`; iterating gives Samples in the order of the rows."""

    directory: Path
    card: Card
    rows: tuple[dict[str, Any], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Sample]:
        return (self.load(i) for i in range(len(self.rows)))

    def load(self, position: int) -> Sample:
        """Decode the sample of `rows[position]`; raises DatasetError."""
        return load_sample(self.directory, self.rows[position], self.card)


def open_dataset(directory: str | Path) -> Dataset:
    """Open a set; raises DatasetError if there is none, or a row breaks the contract."""
    directory = Path(directory)
    card, _ = read_card(directory)
    return Dataset(directory, card, tuple(read_rows(directory)))


def load_sample(directory: Path, row: dict[str, Any], card: Card) -> Sample:
    """Decode all of a row's files and check them against each other; raises DatasetError naming the file."""
    arrays: dict[str, Any] = {}
    paths = media_paths(row, maps=bool(card.engine.get("maps")))
    for role, relative in paths.items():
        path = safe_path(directory, relative)
        try:
            if role == "maps":
                height, width = arrays["image"].shape[:2]
                arrays[role] = read_npz(path, _MOST_MAPS * (4 * height * width + 1024))
                continue
            arrays[role] = read_png(path)
            _check_array(role, arrays[role], arrays["image"], row)
        except DatasetError as error:
            raise DatasetError(f"{relative}: {error}") from None
    if card.size_px and arrays["image"].shape[:2] != (card.size_px, card.size_px):
        raise DatasetError(f"{paths['image']}: {arrays['image'].shape[1]} x {arrays['image'].shape[0]} pixels, "
                           f"the card says {card.size_px}")
    for name, array in arrays.get("maps", {}).items():
        if array.dtype != np.float32 or array.shape != arrays["image"].shape[:2] or not np.isfinite(array).all():
            raise DatasetError(f"{paths['maps']}: {name}: finite float32 of the image's size is needed")
    return Sample(
        row=row,
        image=arrays["image"],
        mask=arrays.get("mask"),
        hair=arrays.get("hair"),
        attributes={n: arrays[f"attributes/{n}"] for n in row["attributes"]},
        artefacts={n: arrays[f"artefacts/{n}"] for n in row["artefacts"]},
        instances=arrays.get("instances"),
        maps=arrays.get("maps", {}),
    )


def check_files(directory: Path, row: dict[str, Any], card: Card) -> str | None:
    """None if all files of the row are whole and fit; else what is wrong."""
    try:
        load_sample(directory, row, card)
    except DatasetError as error:
        return str(error)
    return None


def validate(directory: str | Path, progress: Progress | None = None) -> list[str]:
    """Every fault of a set, one line each; [] if it keeps the contract. Raises DatasetError if there is no set.

    What a run that is under way or was killed has not written yet is no fault: the card says `run.open` then.
    """
    directory = Path(directory)
    card, run = read_card(directory)
    under_way = run.get("open") is True
    there = {name: (directory / name).is_file() for name in ("README.md", "preset.toml", "metadata.jsonl")}
    faults = [] if under_way else [f"{name}: is missing" for name, is_there in there.items() if not is_there]
    seen: set[int] = set()
    lines = read_lines(directory) if there["metadata.jsonl"] else iter(())
    if progress is not None:
        progress.start(sum(1 for _ in read_lines(directory)) if there["metadata.jsonl"] else 0, 0)
    try:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # decoding leaves Python's lock
            while some := list(itertools.islice(lines, _CHECK_AT_ONCE)):
                checked = pool.map(lambda item: _check_line(directory, card, item, under_way), some)
                for (number, _, _), (index, found) in zip(some, checked, strict=True):
                    if index is not None and index in seen:
                        found.insert(0, f"index {index} comes twice")
                    seen |= set() if index is None else {index}
                    faults += [f"metadata.jsonl, line {number}: {fault}" for fault in found]
                    if progress is not None:
                        progress.step(number)
    finally:
        if progress is not None:
            progress.stop()
    return faults + _strangers(directory)


def _check_line(
    directory: Path, card: Card, item: tuple[int, bytes, bool], under_way: bool
) -> tuple[int | None, list[str]]:
    """(index of the row, or None where the line is none; its faults)."""
    _, line, ended = item
    try:
        row = parse_row(line)
    except DatasetError as error:
        return None, [str(error)] if ended else [] if under_way else ["is cut off"]
    faults = [f"{key}={short(row[key])}, the card says {short(wanted)}"
              for key, wanted in (("set_hash", card.set_hash), ("seed", card.seed), ("generator", card.generator),
                                  ("preset", card.preset)) if row[key] != wanted]
    problem = check_files(directory, row, card)
    return row["index"], [*faults, problem] if problem else faults


def _strangers(directory: Path) -> list[str]:
    """Files that no data set has. Media of an index without a row are allowed: a kill can leave them."""
    faults = []
    for entry in sorted(os.scandir(directory), key=lambda e: e.name):
        if entry.is_symlink():
            faults.append(f"{entry.name}: is a symbolic link; files stay inside the folder")
        elif entry.name not in _TOP and not entry.name.startswith("."):
            faults.append(f"{entry.name}: does not belong to a data set")
    folders = [directory / name for name in _MEDIA_FOLDERS]
    for kind in _NAMED_FOLDERS:
        if (directory / kind).is_dir():
            folders += sorted((directory / kind).iterdir())
    for folder in folders:
        if folder.is_symlink() or not folder.exists():
            continue
        relative = folder.relative_to(directory)
        if not folder.is_dir():
            faults.append(f"{relative}: is not a folder")
            continue
        ending = ".npz" if folder.name == "maps" and folder.parent == directory else ".png"
        for entry in sorted(os.scandir(folder), key=lambda e: e.name):
            stem, dot = Path(entry.name).stem, Path(entry.name).suffix
            if entry.is_symlink() or not entry.is_file() or dot != ending or not stem.isdigit():
                faults.append(f"{relative}/{entry.name}: does not belong to a data set")
    return faults


def _check_array(role: str, array: NDArray[Any], image: NDArray[Any], row: Mapping[str, Any]) -> None:
    if role == "image":
        if array.ndim != 3 or array.dtype != np.uint8:
            raise DatasetError("8-bit RGB is needed")
        return
    if array.ndim != 2 or array.shape != image.shape[:2]:
        raise DatasetError(f"{array.shape[1]} x {array.shape[0]} pixels in {array.ndim - 1} channels; "
                           f"one channel of {image.shape[1]} x {image.shape[0]} is needed")
    if role != "instances" and not ((array == 0) | (array == 255)).all():
        raise DatasetError("values other than 0 and 255")
    if role == "mask":
        if row["diagnosis"] == "healthy" and array.any():
            raise DatasetError("the mask of healthy skin is not empty")
        if len(row["boxes"]) <= 1 and [float(v) for v in row["bbox"]] != [float(v) for v in bounding_box(array)]:
            raise DatasetError(f"bbox={row['bbox']} in the row, the mask has {bounding_box(array)}")


def bounding_box(mask: NDArray[Any]) -> list[int]:
    """[x, y, width, height] in pixels of what is not 0; [] if nothing is."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return []
    return [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]


def longest_px(mask: NDArray[Any]) -> float:
    """Largest distance between two points of the mask's pixels, in pixels; 0 of an empty mask."""
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist

    rows = np.flatnonzero((mask > 0).any(axis=1))
    if not len(rows):
        return 0.0
    inside = mask[rows] > 0
    left, right = inside.argmax(axis=1), mask.shape[1] - inside[:, ::-1].argmax(axis=1)
    x, y = np.concatenate([left, left, right, right]), np.concatenate([rows, rows + 1] * 2)
    corners = np.stack([x, y], axis=1)
    return float(pdist(corners[ConvexHull(corners).vertices]).max())
