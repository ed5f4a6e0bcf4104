"""Sets to training pictures: what is used and why not, the split by group, and a cache of working-size pictures."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from synthskin.conventions import HEALTHY
from synthskin.dataset.card import Card
from synthskin.dataset.encode import read_png
from synthskin.dataset.format import DatasetError
from synthskin.dataset.reader import Progress, open_dataset, safe_path
from synthskin.segment.errors import SegmentError
from synthskin.segment.settings import TrainSettings

VALIDATION_NAMES: Final = ("val", "valid", "validation")
DARK: Final = "dark_corner"
LEAST_WEIGHT: Final = 0.15  # of a lesion that cannot be seen; by design
_CHUNK: Final = 1 << 20  # bytes of a file that are hashed at a time


@dataclass(frozen=True)
class Item:
    """A row that is used, and where it is."""

    directory: Path
    row: dict[str, Any]
    group: str

    @property
    def weight(self) -> float:
        """How often it is drawn: less where nobody could see the lesion (`contrast`, `visible_delta_e` of renders).

        Full from CIEDE2000 4 between lesion and skin; a real row, which has no `contrast`, always counts in full.
        """
        contrast, visible = self.row["contrast"], self.row["visible_delta_e"]
        if self.row["diagnosis"] == HEALTHY or contrast is None:
            return 1.0
        seen = min(max((contrast - 1.0) / 3.0, 0.0), 1.0) * (1.0 if visible is None else visible)
        return max(float(seen), LEAST_WEIGHT)


@dataclass(frozen=True)
class Collection:
    """Rows to learn from and to check with; `left_out` counts the others by reason."""

    training: tuple[Item, ...]
    validation: tuple[Item, ...]
    left_out: dict[str, int]
    cards: tuple[Card, ...]

    @property
    def items(self) -> tuple[Item, ...]:
        return self.training + self.validation


def collect(directories: Sequence[Path], settings: TrainSettings, for_test: bool = False) -> Collection:
    """Rows of sets by the rules of docs/segmenter.md; raises SegmentError where too few are left.

    for_test   to score a finished model: all splits, nothing held out, one row is enough
    """
    left_out: Counter[str] = Counter()
    items: list[Item] = []
    cards = []
    if len({directory.resolve() for directory in directories}) < len(directories):
        raise SegmentError("a set is given twice; give each once")
    opened = [open_dataset(directory) for directory in directories]
    tested = {_group(data.directory, row) for data in opened for row in data.rows if row["split"] == "test"}
    for data in opened:
        cards.append(data.card)
        for row in data.rows:
            group = _group(data.directory, row)
            reason = _reason(row, settings) if for_test or group not in tested else _tested_reason(row)
            if reason is None:
                items.append(Item(data.directory, row, group))
            else:
                left_out[reason] += 1
    if not items:
        why = "; ".join(f"{n} with {reason}" for reason, n in left_out.items()) or "no rows at all"
        raise SegmentError(f"{', '.join(map(str, directories))}: nothing to learn from: {why}; "
                           f"mask_status must be one of {', '.join(settings.masks)} (--masks)")
    if for_test:
        return Collection((), tuple(items), dict(left_out), tuple(cards))
    training, validation = split(items, settings)
    if not any(item.row["diagnosis"] != HEALTHY for item in training) or not validation:
        raise SegmentError(f"{len(items)} samples in {len({i.group for i in items})} groups: at least two groups are "
                           "needed, one to learn from (with a lesion) and one to check with; give a larger set")
    return Collection(tuple(training), tuple(validation), dict(left_out), tuple(cards))


def _group(directory: Path, row: dict[str, Any]) -> str:
    """What no split may cut: the row's group, else person, else lesion, else the picture alone."""
    group = row["group_id"] or row["patient_id"] or row["lesion_id"]
    return f"{directory.resolve()}:{row['index']}" if group is None else str(group)


def _tested_reason(row: dict[str, Any]) -> str:
    return "split=test" if row["split"] == "test" else "a group that has split=test"


def _reason(row: dict[str, Any], settings: TrainSettings) -> str | None:
    """Why a row is not used, its split left aside."""
    if row["diagnosis"] == HEALTHY:
        return None  # an empty mask
    if row["mask_status"] not in settings.masks:
        return f"mask_status={row['mask_status']}"
    return None


def split(items: Sequence[Item], settings: TrainSettings) -> tuple[list[Item], list[Item]]:
    """(training, validation): rows the set marks for validation; else whole groups, in the order of a keyed hash."""
    marked = {item.group for item in items if item.row["split"] in VALIDATION_NAMES}
    if not marked:
        sizes = Counter(item.group for item in items)
        wanted = max(round(settings.validation_share * len(items)), 1)
        for group in sorted(sizes, key=lambda name: hashlib.sha256(f"{settings.seed}:{name}".encode()).digest()):
            if sum(sizes[name] for name in marked) >= wanted:
                break
            marked.add(group)
    return ([item for item in items if item.group not in marked], [item for item in items if item.group in marked])


def _paths(item: Item) -> list[str | None]:
    """Picture, mask, dark corner, relative to the set; None where there is none."""
    dark = f"artefacts/{DARK}/{Path(item.row['file_name']).name}" if DARK in item.row["artefacts"] else None
    return [item.row["file_name"], item.row["mask_file_name"], dark]


def _hash_files(item: Item) -> bytes:
    """SHA-256 of an item's files, one behind the other; raises SegmentError."""
    digest = hashlib.sha256()
    for relative in filter(None, _paths(item)):
        try:
            with open(safe_path(item.directory, relative), "rb") as handle:
                while part := handle.read(_CHUNK):
                    digest.update(part)
        except (DatasetError, OSError) as error:
            why = getattr(error, "strerror", None) or error
            raise SegmentError(f"{item.directory}/{relative}: cannot be read: {why}") from None
    return digest.digest()


def files_digest(items: Sequence[Item]) -> str:
    """SHA-256 of pictures and masks in their order: what a training must find again to go on. Raises SegmentError."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(_hash_files(item))
    return digest.hexdigest()


def rows_digest(collection: Collection) -> str:
    """SHA-256 of what rows say beside their files: how often each is drawn, which are held out."""
    told = [[item.weight for item in part] for part in (collection.training, collection.validation)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def read_item(item: Item) -> tuple[NDArray[np.uint8], NDArray[np.bool_], bytes]:
    """(picture (h, w, 3), mask (h, w), digest of the files); raises SegmentError.

    What a black surround covers (artefacts/dark_corner) is taken out of the mask: no reader outlines what is not seen.
    """
    arrays: list[NDArray[Any] | None] = []
    for relative in _paths(item):
        try:
            arrays.append(None if relative is None else read_png(safe_path(item.directory, relative)))
        except (DatasetError, OSError) as error:
            raise SegmentError(f"{item.directory}/{relative}: {error}") from None
    image, mask, corner = arrays
    assert image is not None
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if mask is None:
        mask = np.zeros(image.shape[:2], np.uint8)
    if mask.shape != image.shape[:2] or image.dtype != np.uint8:
        raise SegmentError(f"{item.directory}/{item.row['mask_file_name']}: {mask.shape} does not fit the picture's "
                           f"{image.shape[:2]}; give `synthskin validate {item.directory}`")
    seen = mask > 0
    if corner is not None and corner.shape == mask.shape:
        seen &= corner == 0
    return image, seen, _hash_files(item)


def scaled(array: NDArray[Any], shape: tuple[int, int]) -> Tensor:
    """(c, *shape) float32: an 8-bit picture in [0, 1], or a mask as a share; area means where it shrinks."""
    value = torch.from_numpy(np.array(array))
    value = value.permute(2, 0, 1).float().div_(255) if value.ndim == 3 else value[None].float()
    if tuple(value.shape[1:]) == shape:
        return value
    return F.interpolate(value[None], shape, mode="bilinear", antialias=True, align_corners=False)[0].clamp_(0, 1)


class Cache:
    """All pictures and masks as squares of size_px in one memory-mapped file, filled once; [i] gives (4, s, s) uint8.

    path       file in the model's training folder; the aspect of each picture is kept beside it
    digest     `files_digest` of the items: squares of other files are not used again
    """

    def __init__(self, path: Path, items: Sequence[Item], digest: str, size_px: int, progress: Progress | None) -> None:
        self.digest = digest
        side = (len(items), 4, size_px, size_px)
        note = path.with_suffix(".json")
        key = f"{digest} {size_px}"
        self.aspect = self._known(note, key, len(items))
        if self.aspect and path.is_file() and path.stat().st_size == int(np.prod(side)) + _HEADER:
            self._array = np.memmap(path, np.uint8, "r", _HEADER, side)
            return
        try:
            array = np.memmap(path, np.uint8, "w+", _HEADER, side)
            self.aspect, found = self._fill(array, items, size_px, progress)
            if found != digest:
                raise SegmentError(f"{items[0].directory}: pictures or masks were changed while they were read; give "
                                   "the same command again")
            array.flush()
            note.write_text(json.dumps({"key": key, "aspect": self.aspect}), encoding="utf-8")
        except OSError as error:
            raise SegmentError(f"{path}: cannot be written: {error.strerror or error}") from None
        self._array = array

    @staticmethod
    def _known(note: Path, key: str, count: int) -> list[float]:
        try:
            found = json.loads(note.read_text(encoding="utf-8"))
            if found["key"] == key and len(found["aspect"]) == count:
                return [float(value) for value in found["aspect"]]
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return []

    @staticmethod
    def _fill(array: NDArray[np.uint8], items: Sequence[Item], size_px: int,
              progress: Progress | None) -> tuple[list[float], str]:
        aspect, digest = [], hashlib.sha256()
        if progress is not None:
            progress.start(len(items), 0)
        try:
            for position, item in enumerate(items):
                image, mask, own = read_item(item)
                digest.update(own)
                aspect.append(image.shape[1] / image.shape[0])
                both = torch.cat([scaled(image, (size_px, size_px)), scaled(mask, (size_px, size_px))])
                array[position] = (both * 255).round().to(torch.uint8).numpy()
                if progress is not None:
                    progress.step(position + 1)
        finally:
            if progress is not None:
                progress.stop()
        return aspect, digest.hexdigest()

    def batch(self, positions: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """(pictures (n, 3, s, s) in [0, 1], masks (n, 1, s, s), aspects (n,)) of the squares as they lie."""
        both = torch.from_numpy(np.stack([self._array[i] for i in positions])).float().div_(255)
        return both[:, :3], both[:, 3:], torch.tensor([self.aspect[i] for i in positions])


_HEADER: Final = 64


def data_card(collection: Collection) -> list[dict[str, Any]]:
    """What a model's card says of each set."""
    result = []
    for card in collection.cards:
        result.append({"preset": card.preset, "set_hash": card.set_hash, "seed": card.seed, "n": card.n,
                       "size_px": card.size_px, "generator": card.generator,
                       "synthskin_version": card.synthskin_version})
    return result


def joined(lists: Sequence[Sequence[str]]) -> list[str]:
    """All of them, each once, in order: licences and attributions of a model bind as those of its data."""
    return list(dict.fromkeys(name for names in lists for name in names))
