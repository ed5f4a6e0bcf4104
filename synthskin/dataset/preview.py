"""preview.png: a contact sheet of up to 64 samples, each with the outline of its mask."""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synthskin.dataset.encode import png_bytes, read_png
from synthskin.dataset.format import DatasetError
from synthskin.dataset.reader import iter_rows, read_card, safe_path
from synthskin.files import write_whole

MAX_TILES: Final = 64
MAX_SHEET_PX: Final = 1600
GAP_PX: Final = 4
OUTLINE_RGB: Final = (70, 240, 255)


def preview_png(directory: Path) -> bytes:
    """PNG of the contact sheet: the first 64 samples by index. Raises DatasetError if there is none."""
    read_card(directory)
    rows = heapq.nsmallest(MAX_TILES, iter_rows(directory), key=lambda row: row["index"])
    if not rows:
        raise DatasetError(f"{directory}: holds no finished sample yet; there is nothing to show")
    columns = int(np.ceil(np.sqrt(len(rows))))
    if len(rows) in (2, 3, 12):  # 4 x 3 looks better than 4 x 4 with a hole
        columns = min(len(rows), 4)
    tiles = []
    side = 0
    for row in rows:
        image = read_png(safe_path(directory, row["file_name"]))
        mask = None
        if row["mask_file_name"] is not None:
            mask = read_png(safe_path(directory, row["mask_file_name"]))
        side = side or min(max(image.shape[:2]), (MAX_SHEET_PX - GAP_PX) // columns - GAP_PX)
        tiles.append(_tile(image, mask, side))
    lines = -(-len(tiles) // columns)
    pitch = side + GAP_PX
    sheet = np.full((lines * pitch + GAP_PX, columns * pitch + GAP_PX, 3), 255, np.uint8)
    for k, tile in enumerate(tiles):
        y, x = GAP_PX + pitch * (k // columns), GAP_PX + pitch * (k % columns)
        sheet[y:y + tile.shape[0], x:x + tile.shape[1]] = tile
    return png_bytes(sheet)


def _tile(image: NDArray[Any], mask: NDArray[Any] | None, side: int) -> NDArray[np.uint8]:
    scale = side / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    tile = np.array(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
    if mask is not None and mask.any():
        inside = np.array(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)) > 0
        padded = np.pad(inside, 1)
        core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        tile[inside & ~core] = OUTLINE_RGB
    return tile


def write_preview(directory: Path, out: Path | None = None) -> Path:
    """Write the contact sheet to `out`, or to preview.png in the set; gives the path. Raises DatasetError.

    `out` may lie inside no data set, but for the set's own preview.png.
    """
    if out is not None and out.resolve() != directory.resolve() / "preview.png":
        for folder in {*out.absolute().parents, *out.resolve().parents}:
            if (folder / "dataset.json").is_file():
                raise DatasetError(f"--out {out}: lies inside the set {folder}; choose a file elsewhere")
    data = preview_png(directory)
    target = out if out is not None else safe_path(directory, "preview.png")
    write_whole(target, data, DatasetError, "choose another --out")
    return target
