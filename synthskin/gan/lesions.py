"""Several lesions in one picture: their label map and boxes at the working size. What is left of one is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthskin.dataset.reader import bounding_box

#: Why `class` and `picture` leave such a row out: one mask and one diagnosis would go for all of them.
SEVERAL = "more than one lesion in the picture"


@dataclass(frozen=True, slots=True)
class Lesions:
    """Lesions of a picture (s, s).

    labels      (s, s) uint8 or uint16, 0 = skin, 1 ... in the order of `boxes`; None where the set told none apart by
                pixels, or one is left
    boxes       [x, y, w, h] in pixels, one a lesion
    diagnoses   one a box, or () where the set says none
    """

    labels: NDArray[Any] | None
    boxes: tuple[list[Any], ...]
    diagnoses: tuple[str, ...]


def several(row: dict[str, Any]) -> bool:
    """Does the row tell more than one lesion?"""
    return len(row["lesions"]) > 1 or len(row["boxes"]) > 1


def beside_mask(row: dict[str, Any]) -> bool:
    """Does the row tell of lesions what its one mask does not?"""
    return several(row) or (bool(row["boxes"]) and row["mask_file_name"] is None)


def lesions_at(
    row: dict[str, Any], labels: NDArray[Any] | None, mask: NDArray[np.uint8] | None, shape: tuple[int, ...],
    size_px: int,
) -> Lesions:
    """Lesions of such a row, brought to size_px as the picture is; those that no longer show are left out.

    labels   as on disk, (h, w); None: the boxes alone are carried
    mask     at the new size, or None; a label map that is scaled covers the same pixels
    shape    (h, w, ...) of the picture on disk
    """
    if labels is None:
        kept = [(k, box) for k, box in enumerate(_moved(row["boxes"], shape, size_px)) if box]
        boxes = tuple(box for _, box in kept)
        return Lesions(None, boxes, tuple(row["lesions"][k] for k, _ in kept) if row["lesions"] else ())
    scaled = labels if shape[:2] == (size_px, size_px) else _labels_at(labels, mask, size_px)
    seen = [int(label) for label in np.unique(scaled) if 1 <= label <= len(row["lesions"])]
    closed = np.zeros_like(scaled)
    for number, label in enumerate(seen, start=1):
        closed[scaled == label] = number
    boxes = tuple(bounding_box(closed == number) for number in range(1, len(seen) + 1))
    return Lesions(closed if len(seen) > 1 else None, boxes, tuple(row["lesions"][label - 1] for label in seen))


def _labels_at(labels: NDArray[Any], mask: NDArray[np.uint8] | None, size_px: int) -> NDArray[Any]:
    """The label map scaled and cut as the picture; pixels of the mask get the label next to them, all else 0."""
    import torch
    from scipy.ndimage import distance_transform_edt

    height, width, top, left = _placed(labels.shape, size_px)
    planes = torch.from_numpy(labels.astype(np.float32))[None, None]
    whole = torch.nn.functional.interpolate(planes, (height, width), mode="nearest-exact")[0, 0].numpy()
    cut = whole[top:top + size_px, left:left + size_px].astype(labels.dtype)
    if mask is None or not cut.any():
        return cut
    rows, columns = distance_transform_edt(cut == 0, return_distances=False, return_indices=True)
    return np.where(mask > 0, cut[rows, columns], 0).astype(labels.dtype)


def _moved(boxes: list[list[Any]], shape: tuple[int, ...], size_px: int) -> list[list[Any]]:
    """Boxes where the picture's scaling and cutting puts them; [] for one that is cut off."""
    height, width, top, left = _placed(shape, size_px)
    if shape[:2] == (size_px, size_px):
        return [list(box) for box in boxes]
    found: list[list[Any]] = []
    for x, y, w, h in boxes:
        x0, x1 = (float(np.clip(v * width / shape[1] - left, 0, size_px)) for v in (x, x + w))
        y0, y1 = (float(np.clip(v * height / shape[0] - top, 0, size_px)) for v in (y, y + h))
        found.append([round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)] if x1 > x0 and y1 > y0 else [])
    return found


def _placed(shape: tuple[int, ...], size_px: int) -> tuple[int, int, int, int]:
    """(height, width) the whole picture is scaled to, and (top, left) of the square: as synthskin.hooks.data.squared.
    """
    scale = size_px / min(shape[:2])
    height, width = (max(round(n * scale), size_px) for n in shape[:2])
    return height, width, (height - size_px) // 2, (width - size_px) // 2
