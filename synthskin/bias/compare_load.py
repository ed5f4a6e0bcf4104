"""Sets to compare, read and measured alike: fitted pictures, masks by one method, tone, statistics, groups, kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthskin.bias import compare_statistics as cs
from synthskin.bias.alike import LEAST, Group
from synthskin.bias.compare_masks import mask_statistics
from synthskin.bias.compare_metadata import Item, read_metadata
from synthskin.bias.errors import BiasError
from synthskin.bias.tone import Tone, measure_tone
from synthskin.dataset.encode import read_png
from synthskin.dataset.format import DatasetError
from synthskin.dataset.photo import load_mask, load_photo
from synthskin.dataset.photo_folder import find_photographs
from synthskin.dataset.reader import open_dataset, safe_path

U8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]
MASK_CHOICES: Final = ("auto", "own", "segmenter", "none")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A set, measured.

    images   (n, s, s, 3) uint8, fitted      masks  (n, s, s) bool, or None
    tones    one a picture                   shapes `mask_statistics` a picture, () without masks
    group    images and statistics for alike.*
    left_out why, by name, of pictures that cannot be read; mask_files: pictures of a folder that are masks
    """

    name: str
    items: tuple[Item, ...]
    images: U8
    masks: Mask | None
    tones: tuple[Tone, ...]
    group: Group
    shapes: tuple[dict[str, float], ...]
    left_out: dict[str, str]
    mask_files: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.items)


def find_items(folder: Path, left_out: list[Path] | None = None) -> list[Item]:
    """Pictures of a synthskin set, of a folder with metadata.jsonl (file_name, diagnosis), or of a plain folder.

    left_out   takes what lies in a plain folder and is a mask, no photograph
    Raises BiasError, DatasetError.
    """
    if not folder.is_dir():
        raise BiasError(f"{folder}: there is no such folder; give a synthskin set or a folder of pictures")
    if (folder / "dataset.json").is_file():
        return list(_of_set(folder))
    if (folder / "metadata.jsonl").is_file():
        return list(read_metadata(folder))
    there = find_photographs(folder)
    if left_out is not None:
        left_out += there.masks
    return [Item(str(p.relative_to(folder)), p, None, None, "", str(p)) for p in there.photographs]


def _of_set(folder: Path) -> Iterator[Item]:
    for row in open_dataset(folder).rows:
        def path(key: str, row: dict[str, Any] = row) -> Path | None:
            return safe_path(folder, row[key]) if row[key] else None

        masked = row["mask_status"] != "none"
        image = safe_path(folder, row["file_name"])
        yield Item(row["file_name"], image, path("mask_file_name") if masked else None, path("hair_file_name"),
                   row["diagnosis"] or "", row["group_id"] or row["patient_id"] or row["lesion_id"] or str(image))


def chosen(items: Sequence[Item], kinds: Sequence[str], limit: int | None) -> list[Item]:
    """Only these diagnoses; then `limit` of them, the same ones on every run (by a fixed shuffle)."""
    some = [item for item in items if not kinds or item.kind in kinds]
    if limit is not None and len(some) > limit:
        order = np.random.default_rng(0).permutation(len(some))[:limit]
        some = [some[k] for k in sorted(order)]
    return some


def load(folder: Path, items: Sequence[Item], size_px: int, masks: str, quality: int = cs.JPEG_QUALITY,
         step: Callable[[int], None] | None = None) -> Loaded:
    """Read and measure; `masks` is own, segmenter or none. A picture that cannot be read is told in `left_out`."""
    images, found_masks, kept, left_out = [], [], [], {}
    for item in items:
        try:
            photo = _picture(item.image)
            images.append(cs.fitted(photo, size_px, quality))
            if masks == "own":
                found_masks.append(cs.fitted_mask(_mask(item, photo), size_px))
            kept.append(item)
        except (DatasetError, BiasError) as error:
            left_out[item.name] = str(error)
            del images[len(kept):]
    if len(kept) < LEAST:
        raise BiasError(f"{folder}: {len(kept)} pictures that can be read; at least {LEAST} are needed")
    if masks == "segmenter":
        found_masks = _segmented(images)
    tones, statistics, shapes = [], [], []
    for number, image in enumerate(images, start=1):
        mask = found_masks[number - 1] if found_masks else None
        lesion = mask if mask is not None else cs.find_lesion(cs.to_lab(image))[0]
        tones.append(measure_tone(image, lesion))
        statistics.append(cs.statistics(image, mask))
        if mask is not None:
            shapes.append(mask_statistics(mask))
        if step is not None:
            step(number)
    stacked = np.stack(images)
    group = Group(stacked, tuple(statistics), tuple(i.group for i in kept), tuple(i.kind for i in kept))
    return Loaded(folder.name, tuple(kept), stacked, np.stack(found_masks) if found_masks else None, tuple(tones),
                  group, tuple(shapes), left_out)


def _picture(path: Path) -> U8:
    return read_png(path) if path.suffix == ".png" and path.parent.name == "images" else load_photo(path)


def _mask(item: Item, photo: U8) -> U8:
    if item.mask is None:
        raise DatasetError("has no mask")
    height, width = photo.shape[:2]
    return load_mask(item.mask, (height, width))


def _segmented(images: Sequence[U8]) -> list[Mask]:
    from synthskin.segment import default_segmenter

    return [np.asarray(found.mask, np.bool_) for found in default_segmenter().predict(list(images))]


def agree_on_masks(asked: str, real: Sequence[Item], synthetic: Sequence[Item]) -> tuple[str, str]:
    """(own, segmenter or none; why): one method for both sets, so that neither has the better masks.

    Raises BiasError where what was asked for cannot be had.
    """
    if asked not in MASK_CHOICES:
        raise BiasError(f"--masks {asked}: allowed are {', '.join(MASK_CHOICES)}")
    without = [name for name, items in (("REAL", real), ("SYNTHETIC", synthetic)) if any(i.mask is None for i in items)]
    if asked == "none":
        return "none", "not asked for; lesion and skin are found by Otsu's threshold on both sides"
    if asked == "own" and without:
        raise BiasError(f"--masks own: {' and '.join(without)} has pictures without a mask; take --masks segmenter")
    if asked in ("own", "auto") and not without:
        return "own", "both sets bring masks"
    trouble = _no_segmenter()
    if trouble is None:
        return "segmenter", "masks of both sets by the segmenter that ships" + (
            f", as {' and '.join(without)} brings none" if without else "")
    if asked == "segmenter":
        raise BiasError(f"--masks segmenter: {trouble}")
    return "none", f"{' and '.join(without)} brings no masks, and the segmenter cannot be had: {trouble}"


def _no_segmenter() -> str | None:
    try:
        from synthskin.segment import SegmentError, default_segmenter
    except ImportError as error:
        return str(error)
    try:
        default_segmenter()
    except SegmentError as error:
        return str(error)
    return None


def with_group(loaded: Loaded, statistics: Sequence[dict[str, float]]) -> Group:
    """The set's group with other numbers in it."""
    return replace(loaded.group, statistics=tuple(statistics))
