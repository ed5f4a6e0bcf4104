"""COCO instances (Lin et al. 2014): annotations.json and images/. Categories are the diagnoses; ids start at 1.

A polygon runs along the edges of the pixels, one a connected part; COCO has no holes, so a mask with holes loses them
(lesion masks have none by definition). RLE, by pycocotools, is exact for every mask.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthskin.conventions import DIAGNOSES
from synthskin.dataset.exports.common import ExportOptions, Source, need
from synthskin.dataset.format import Sample
from synthskin.dataset.licences import joined, url

#: Category of a lesion without a diagnosis in the ISIC 2018 vocabulary.
UNNAMED: Final = "lesion"
CATEGORIES: Final = (*DIAGNOSES, UNNAMED)
_CARRIED: Final = ("index", "group_id", "patient_id", "lesion_id", "diagnosis", "ita_class", "ita_deg", "modality",
                   "mask_status", "generator", "split", "caption")


def write(source: Source, folder: Path, options: ExportOptions) -> list[str]:
    if options.segm == "rle":
        need("pycocotools.mask", "coco --segm rle")
    (folder / "images").mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    without = 0
    for row, sample, files in source:
        (folder / row["file_name"]).write_bytes(files["image"])
        height, width = sample.image.shape[:2]
        identifier = row["index"] + 1
        images.append({"id": identifier, "file_name": row["file_name"].removeprefix("images/"), "width": width,
                       "height": height, "license": 1, **{key: row[key] for key in _CARRIED}})
        for diagnosis, mask, box in lesions(row, sample):
            entry: dict[str, Any] = {
                "id": len(annotations) + 1, "image_id": identifier, "iscrowd": 0,
                "category_id": 1 + CATEGORIES.index(diagnosis if diagnosis in DIAGNOSES else UNNAMED)}
            if mask is None:
                without += 1
                entry |= {"segmentation": [], "area": float(box[2] * box[3]), "bbox": [float(v) for v in box]}
            else:
                entry |= {"segmentation": _rle(mask) if options.segm == "rle" else polygons(mask),
                          "area": float(np.count_nonzero(mask)), "bbox": [float(v) for v in box]}
            annotations.append(entry)
    card = source.card
    data = {
        "info": {"description": card.description or f"synthskin {card.preset} seed {card.seed}", "version": "1.0",
                 "contributor": "; ".join(card.attribution), "url": "", "year": None, "date_created": "",
                 "set_hash": card.set_hash, "generator": card.generator},
        "licenses": [{"id": 1, "name": joined(card.licences),
                      "url": "; ".join(filter(None, map(url, card.licences)))}],
        "categories": [{"id": k, "name": name, "supercategory": "skin lesion"}
                       for k, name in enumerate(CATEGORIES, start=1)],
        "images": images,
        "annotations": annotations,
    }
    with open(folder / "annotations.json", "w", encoding="utf-8") as handle:
        json.dump(data, handle, ensure_ascii=False, allow_nan=False)
    return [f"{without} boxes have no mask and so no segmentation"] if without else []


def lesions(row: dict[str, Any], sample: Sample) -> list[tuple[str | None, NDArray[np.bool_] | None, list[Any]]]:
    """(diagnosis, mask or None, [x, y, w, h]) of each lesion of a sample; [] for healthy skin."""
    from synthskin.dataset.reader import bounding_box

    names = row["lesions"] or [row["diagnosis"]] * len(row["boxes"])
    if sample.instances is not None:
        masks = [sample.instances == k + 1 for k in range(len(names))]
        return [(name, mask, bounding_box(mask)) for name, mask in zip(names, masks, strict=True) if mask.any()]
    if sample.mask is not None:
        if not sample.mask.any():
            return []
        return [(names[0] if names else row["diagnosis"], sample.mask > 0, bounding_box(sample.mask))]
    return [(name, None, box) for name, box in zip(names, row["boxes"], strict=True)]


def _rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    encoded = need("pycocotools.mask", "coco --segm rle").encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(v) for v in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def polygons(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Outer outlines [x0, y0, x1, y1, ...] of a mask (h, w) along pixel edges, one a 4-connected part, holes filled."""
    from scipy import ndimage

    found = []
    labels, _ = ndimage.label(mask)
    for k, window in enumerate(ndimage.find_objects(labels), start=1):
        part = ndimage.binary_fill_holes(labels[window] == k)
        y0, x0 = window[0].start, window[1].start
        found.append([float(v) for x, y in _outline(part) for v in (x + x0, y + y0)])
    return found


def _outline(part: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Corners (x, y) of the outer edge of one 4-connected part without holes, clockwise, the part on the right."""
    padded = np.pad(part, 1)
    # Directed unit edges: along the top rightwards, right side downwards, bottom leftwards, left side upwards.
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for (dy, dx), (ax, ay), (bx, by) in (((-1, 0), (0, 0), (1, 0)), ((0, 1), (1, 0), (1, 1)),
                                         ((1, 0), (1, 1), (0, 1)), ((0, -1), (0, 1), (0, 0))):
        edge = part & ~padded[1 + dy:1 + dy + part.shape[0], 1 + dx:1 + dx + part.shape[1]]
        for y, x in zip(*(v.tolist() for v in np.nonzero(edge)), strict=True):
            steps.setdefault((x + ax, y + ay), []).append((x + bx, y + by))
    first = min(steps)
    corners = [first]
    at, heading = first, (0, 0)
    while True:
        ways = steps[at]
        if len(ways) > 1:  # two pixels touch at this corner: turn right, so as to stay on the same part of the edge
            right = (at[0] - heading[1], at[1] + heading[0])
            after = ways.pop(ways.index(right))
        else:
            after = ways.pop()
        turned = (after[0] - at[0], after[1] - at[1])
        if turned == heading:
            corners.pop()
        corners.append(after)
        at, heading = after, turned
        if at == first and not steps[at]:
            return corners[:-1]
