"""What `generate` starts from: a set of renders, or of masks; and which part of a render inpainting redoes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthskin.dataset.card import Card
from synthskin.dataset.encode import read_png
from synthskin.dataset.format import DatasetError
from synthskin.dataset.reader import open_dataset, safe_path
from synthskin.diffusion.data import square
from synthskin.diffusion.errors import DiffusionError
from synthskin.diffusion.request import GenerateRequest
from synthskin.diffusion.rows import file_sha256

_DRAWN: Final = "drawn"


@dataclass(frozen=True, slots=True)
class Source:
    """Renders or masks to start from: rows with what was read of them."""

    folder: Path
    card: Card
    rows: tuple[dict[str, Any], ...]

    def picture(self, position: int, size_px: int) -> NDArray[np.uint8]:
        return square(read_picture(self.folder, self.rows[position]["file_name"]), size_px)

    def mask(self, position: int, size_px: int) -> NDArray[np.uint8]:
        return square(read_picture(self.folder, self.rows[position]["mask_file_name"]), size_px)

    def reference(self, position: int) -> dict[str, str]:
        row = self.rows[position]
        content = safe_path(self.folder, row["file_name"]).read_bytes()
        return {"set_hash": self.card.set_hash, "file_name": row["file_name"], "sha256": file_sha256(content)}


def open_source(request: GenerateRequest) -> Source | None:
    """The set to start from, rows with a mask alone; raises DiffusionError."""
    folder = request.from_set if request.from_set is not None else (
        None if request.mask_from in (None, _DRAWN) else Path(str(request.mask_from)))
    if folder is None:
        return None
    data = open_dataset(folder)
    rows = tuple(row for row in data.rows if row["mask_file_name"] is not None and len(row["lesions"]) <= 1)
    if request.way == "mask":
        rows = tuple(row for row in rows if row["bbox"])
    if not rows:
        raise DiffusionError(f"{folder}: none of its {len(data.rows)} samples has a mask to start from")
    return Source(folder, data.card, rows)


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
