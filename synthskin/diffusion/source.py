"""What `generate` starts from: a set of renders, or of masks; and which part of a render inpainting redoes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthskin.dataset.card import Card
from synthskin.dataset.encode import read_png
from synthskin.dataset.format import DatasetError
from synthskin.dataset.reader import file_sha256, open_dataset, safe_path
from synthskin.diffusion.data import square
from synthskin.diffusion.errors import DiffusionError
from synthskin.diffusion.request import GenerateRequest

_DRAWN: Final = "drawn"
_NO_LESION: Final = "no lesion in the picture"


@dataclass(frozen=True, slots=True)
class Source:
    """Renders or masks to start from: rows, the sha256 of their picture's and mask's file, rows left out by reason."""

    folder: Path
    card: Card
    rows: tuple[dict[str, Any], ...]
    files: tuple[tuple[str, str], ...]
    left_out: dict[str, int]

    def picture(self, position: int, size_px: int) -> NDArray[np.uint8]:
        return square(read_picture(self.folder, self.rows[position]["file_name"]), size_px)

    def mask(self, position: int, size_px: int) -> NDArray[np.uint8]:
        return square(read_picture(self.folder, self.rows[position]["mask_file_name"]), size_px)

    def reference(self, position: int) -> dict[str, str]:
        return {"set_hash": self.card.set_hash, "file_name": self.rows[position]["file_name"],
                "sha256": self.files[position][0]}

    def content(self) -> str:
        """sha256 of rows and files: another source, whatever its folder and its set hash say, is another."""
        return hashlib.sha256(json.dumps([self.rows, self.files], sort_keys=True).encode()).hexdigest()

    def with_lesion(self, size_px: int) -> Source:
        """Without the rows whose lesion is no pixel large, or outside the square, at this size."""
        keep = [k for k in range(len(self.rows)) if self.mask(k, size_px).any()]
        left_out = Counter(self.left_out)
        if len(keep) < len(self.rows):
            left_out[_NO_LESION] += len(self.rows) - len(keep)
        _need(keep, self.folder, left_out)
        return replace(self, rows=tuple(self.rows[k] for k in keep), files=tuple(self.files[k] for k in keep),
                       left_out=dict(left_out))

    def refuse_replaced(self, rows: Sequence[dict[str, Any]], out: Path) -> None:
        """Raise DiffusionError where a row of `out` was made from another picture than lies here now."""
        there = {row["file_name"]: sha256 for row, (sha256, _) in zip(self.rows, self.files, strict=True)}
        for row in rows:
            for parent in row["parents"]:
                if there.get(parent["file_name"]) != parent["sha256"]:
                    raise DiffusionError(f"{out}: {row['file_name']} was made from another {parent['file_name']} than "
                                         f"{self.folder} holds now; choose another --out, or --overwrite")


def open_source(request: GenerateRequest) -> Source | None:
    """The set to start from: rows of one lesion with a mask, or healthy ones where no lesion is needed.

    Raises DiffusionError where there is none, DatasetError where a file is missing.
    """
    folder = request.from_set if request.from_set is not None else (
        None if request.mask_from in (None, _DRAWN) else Path(str(request.mask_from)))
    if folder is None:
        return None
    data = open_dataset(folder)
    rows, left_out = [], Counter[str]()
    for row in data.rows:
        why = _unfit(row, request.needs_lesion)
        if why:
            left_out[why] += 1
        else:
            rows.append(row)
    _need(rows, folder, left_out)
    files = tuple((file_sha256(folder, row["file_name"]), file_sha256(folder, row["mask_file_name"])) for row in rows)
    return Source(folder, data.card, tuple(rows), files, dict(left_out))


def _unfit(row: dict[str, Any], needs_lesion: bool) -> str:
    """Why nothing is started from a row; empty where it is fit."""
    if row["mask_file_name"] is None:
        return "no mask"
    if len(row["lesions"]) > 1 or len(row["boxes"]) > 1:
        return "more than one lesion in the picture"
    return _NO_LESION if needs_lesion and not row["bbox"] else ""


def _need(rows: Sequence[Any], folder: Path, left_out: Counter[str]) -> None:
    if not rows:
        why = ", ".join(f"{count} have {reason}" for reason, count in left_out.items()) or "it has none"
        raise DiffusionError(f"{folder}: none of its {left_out.total()} samples can be started from: {why}; give a set "
                             "with masks and lesions")


def read_picture(folder: Path, relative: str) -> NDArray[Any]:
    try:
        return read_png(safe_path(folder, relative))
    except DatasetError as error:
        raise DatasetError(f"{folder}/{relative}: {error}") from None


def region(mask: NDArray[np.uint8], redo: str) -> NDArray[np.uint8]:
    """What inpainting redoes: the lesion with a rim of 3 % of the frame, or all but the lesion."""
    from scipy.ndimage import binary_dilation

    if redo == "skin":
        return np.where(mask > 0, np.uint8(0), np.uint8(255))
    grown = binary_dilation(mask > 0, iterations=max(1, round(0.03 * mask.shape[0]))) if mask.any() else mask > 0
    return np.where(grown, np.uint8(255), np.uint8(0))


def keep_outside(picture: NDArray[np.uint8], image: NDArray[np.uint8], where: NDArray[np.uint8]) -> None:
    """Blend the source back outside the region, over a soft rim, in place."""
    from scipy.ndimage import gaussian_filter

    share = gaussian_filter((where > 0).astype(np.float32), max(1.0, 0.008 * where.shape[0]))[..., None]
    picture[:] = np.clip(share * picture + (1.0 - share) * image, 0, 255).round().astype(np.uint8)
