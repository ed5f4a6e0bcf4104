"""SkinDataset: a set of the contract (docs/dataset.md), real or synthetic, for a training loop; and its `collate`.

A sample is a dict:

  image       (3, h, w) float32 in [0, 1], sRGB
  mask        (1, h, w) float32, 0 or 1; None where the set has none
  label       int, position in `classes`; None where the row has null or a value outside `classes`
  meta_json   str, the row of metadata.jsonl
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from synthskin.conventions import DIAGNOSES, HEALTHY
from synthskin.dataset.encode import read_png
from synthskin.dataset.format import DatasetError
from synthskin.dataset.reader import open_dataset, safe_path
from synthskin.hooks.shards import reseed

#: Keys of a row that can be a label, and the classes each has by default.
LABEL_KEYS: Final[dict[str, tuple[Any, ...]]] = {
    "diagnosis": (*DIAGNOSES, HEALTHY),
    "benign_malignant": ("benign", "malignant", "indeterminate"),
    "ita_class": (1, 2, 3, 4, 5, 6),
}
NO_LABEL: Final = -100  # torch.nn.functional.cross_entropy leaves it out
COVERS: Final = ("hair", "artefact")  # masks that the overlays add
Transform = Callable[[dict[str, Any]], dict[str, Any]]


class SkinDataset(Dataset[dict[str, Any]]):
    """Samples of the set in `directory`, in the order of its rows.

    label        "diagnosis", "benign_malignant", "ita_class" or any other key of a row; names its `classes`
    classes      the values that get the labels 0, 1, 2 ...; by default those of LABEL_KEYS
    size_px      None: as on disk; else the short side is scaled to it and the middle square cut out
    transform    called with each sample (ToneShift, a MONAI Compose ...); MONAI's random state gets a seed of its own
                 in each worker of a DataLoader and each epoch, from torch's generator
    split        only rows whose `split` is this

    Holds rows and paths, no open files: may be pickled, forked or spawned. Raises DatasetError where there is no valid
    set, ValueError on a label that cannot be.
    """

    def __init__(
        self,
        directory: str | Path,
        label: str = "diagnosis",
        classes: Sequence[Any] | None = None,
        size_px: int | None = None,
        transform: Transform | None = None,
        split: str | None = None,
    ) -> None:
        self.directory = Path(directory)
        rows = open_dataset(self.directory).rows
        self.rows = [row for row in rows if split is None or row["split"] == split]
        if not self.rows:
            raise DatasetError(f"{directory}: no samples with split={split}; {_splits_of(rows)}")
        if label not in self.rows[0]:
            raise ValueError(f"label={label!r}: a key of metadata.jsonl is needed, such as {', '.join(LABEL_KEYS)}")
        self.label = label
        self.classes = checked_classes(label, classes)
        if label not in LABEL_KEYS and not any(row[label] in self.classes for row in rows):
            there = sorted({str(row[label]) for row in rows})
            raise ValueError(f"classes={self.classes!r:.80}: no row has one of them as its {label}; there are "
                             f"{', '.join(there[:8])}")
        if size_px is not None and size_px < 16:
            raise ValueError(f"size_px={size_px}: at least 16 is needed")
        self.size_px = size_px
        self.transform = transform
        self._seeded: int | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> dict[str, Any]:
        row = self.rows[position]
        image = self._read(row["file_name"])
        mask = None if row["mask_file_name"] is None else self._read(row["mask_file_name"])
        if mask is not None and mask.shape[:2] != image.shape[:2]:
            raise DatasetError(f"{self.directory}/{row['mask_file_name']}: {mask.shape[1]} x {mask.shape[0]} pixels, "
                               f"the picture has {image.shape[1]} x {image.shape[0]}")
        sample = make_sample(image, mask, self.label_of(row), row)
        if self.size_px is not None:
            sample["image"] = squared(sample["image"], self.size_px)
            sample["mask"] = None if sample["mask"] is None else squared(sample["mask"], self.size_px, hard=True)
        if self.transform is None:
            return sample
        self._seeded = reseed(self.transform, str(self.directory), self._seeded)
        return self.transform(sample)

    def label_of(self, row: dict[str, Any]) -> int | None:
        """Position of the row's value in `classes`; None where there is none."""
        value = row[self.label]
        return self.classes.index(value) if value in self.classes else None

    def _read(self, relative: str) -> NDArray[Any]:
        try:
            return read_png(safe_path(self.directory, relative))
        except DatasetError as error:
            raise DatasetError(f"{self.directory}/{relative}: {error}") from None


def checked_classes(label: str, classes: Sequence[Any] | None) -> list[Any]:
    """`classes`, or those of LABEL_KEYS; raises ValueError where they cannot be the values of `label`."""
    allowed = LABEL_KEYS.get(label)
    if classes is None:
        if allowed is None:
            raise ValueError(f"label={label!r}: allowed are {', '.join(LABEL_KEYS)}, or give its classes=[...] too")
        return list(allowed)
    if isinstance(classes, (str, bytes)) or not list(classes):
        raise ValueError(f"classes={classes!r:.80}: a list of values is needed, such as ['NV', 'MEL']")
    found = list(classes)
    if any(value in found[:k] for k, value in enumerate(found)):
        raise ValueError(f"classes={found!r:.80}: a value comes twice")
    unknown = [] if allowed is None else [value for value in found if value not in allowed]
    if unknown:
        raise ValueError(f"classes={found!r:.80}: {unknown[0]!r:.40} is no {label}; allowed are "
                         f"{', '.join(map(str, allowed or ()))}")
    return found


def _splits_of(rows: Sequence[dict[str, Any]]) -> str:
    """What splits there are, and what to do."""
    there = sorted({str(row["split"]) for row in rows if row["split"] is not None})
    if there:
        return f"there are {', '.join(there)}"
    return ("no row has a split (rendered sets never do); leave split out, or divide by group_id" if rows
            else "the set has no samples at all")


def make_sample(
    image: NDArray[Any], mask: NDArray[Any] | None, label: int | None, row: dict[str, Any]
) -> dict[str, Any]:
    """A sample dict from 8-bit arrays (h, w, 3) and (h, w) or None."""
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    picture = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div_(255)
    where = None if mask is None else torch.from_numpy(np.asarray(mask) > 0)[None].float()
    return {"image": picture, "mask": where, "label": label, "meta_json": json.dumps(row, ensure_ascii=False)}


def squared(image: Tensor, size_px: int, hard: bool = False) -> Tensor:
    """(c, size_px, size_px): short side scaled to size_px (antialiased), middle square; `hard` keeps values 0 or 1."""
    h, w = image.shape[-2:]
    if (h, w) == (size_px, size_px):
        return image
    scale = size_px / min(h, w)
    shape = (max(round(h * scale), size_px), max(round(w * scale), size_px))
    scaled = F.interpolate(image[None], shape, mode="bilinear", antialias=True)[0]
    top, left = (shape[0] - size_px) // 2, (shape[1] - size_px) // 2
    cut = scaled[:, top : top + size_px, left : left + size_px]
    return (cut >= 0.5).to(image) if hard else cut.clamp(0, 1).contiguous()


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch of samples, nulls included.

    image (n, 3, h, w); mask (n, 1, h, w), NaN throughout where there is none (a loss on it turns NaN at once instead of
    learning from an empty mask); has_mask (n,) bool; label (n,) int64, -100 where there is none; meta_json [str]; all
    other keys of any sample: tensors and numbers stacked, the rest as lists. Where a sample lacks a key (or has None) a
    number is NaN, the masks `hair` and `artefact` are 0, anything else is None in a list. Raises ValueError if pictures
    differ in size.
    """
    if not samples:
        raise ValueError("collate: no samples came")
    shapes = {tuple(sample["image"].shape) for sample in samples}
    if len(shapes) > 1:
        raise ValueError(f"pictures of {sorted(shapes)} in one batch: one size is needed; SkinDataset(size_px=...) "
                         "gives it")
    image = torch.stack([sample["image"] for sample in samples])
    nothing = torch.full((1, *image.shape[-2:]), torch.nan)
    masks = [sample.get("mask") for sample in samples]
    labels = [sample.get("label") for sample in samples]
    batch: dict[str, Any] = {
        "image": image,
        "mask": torch.stack([nothing if mask is None else mask.to(torch.float32) for mask in masks]),
        "has_mask": torch.tensor([mask is not None for mask in masks]),
        "label": torch.tensor([NO_LABEL if label is None else int(label) for label in labels]),
        "meta_json": [sample.get("meta_json", "{}") for sample in samples],
    }
    for key in dict.fromkeys(key for sample in samples for key in sample):
        if key not in batch:
            values = [sample.get(key) for sample in samples]
            batch[key] = _stacked(_filled(values, (1, *image.shape[-2:]) if key in COVERS else None))
    return batch


def _filled(values: list[Any], cover: tuple[int, ...] | None) -> list[Any]:
    """Values with NaN for a number that is not there, zeros for a mask of the shape `cover`."""
    there = [value for value in values if value is not None]
    if not there or len(there) == len(values):
        return values
    if cover is not None and all(isinstance(value, Tensor) and value.shape == cover for value in there):
        return [torch.zeros_like(there[0]) if value is None else value for value in values]
    if all(_is_number(value) for value in there):
        like = next((v for v in there if isinstance(v, Tensor) and v.is_floating_point()), torch.zeros(()))
        return [like.new_tensor(torch.nan if value is None else float(value)) for value in values]
    return values


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.ndim == 0 and value.dtype != torch.bool and not value.is_complex()
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _stacked(values: list[Any]) -> Any:
    if all(isinstance(value, Tensor) for value in values) and len({value.shape for value in values}) == 1:
        return torch.stack(values)
    if all(_is_number(value) and not isinstance(value, Tensor) for value in values):
        return torch.tensor(values)
    return values
