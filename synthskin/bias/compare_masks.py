"""Size, place and shape of lesion masks, and how two sets differ in them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]


def mask_statistics(mask: Mask) -> dict[str, float]:
    """Numbers of one mask (h, w); NaN for all but the area if it is empty.

    area         share of the picture
    offset       distance of its centre of mass from the middle, in half sides
    cut          share of the picture's border pixels that lie in it
    elongation   long over short axis of the ellipse with its second moments
    asymmetry    mean over its two principal axes of 1 - IoU with its mirror image (0: symmetric)
    irregularity perimeter^2 / (4 pi area), 1 for a disc, of the largest piece
    pieces       number of pieces of over 1 % of its area
    """
    area = float(mask.mean())
    names = ("offset", "cut", "elongation", "asymmetry", "irregularity", "pieces")
    if mask.sum() < 16:
        return {"area": area} | dict.fromkeys(names, math.nan)
    h, w = mask.shape
    cy, cx = ndimage.center_of_mass(mask)
    rim = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())[1:]
    largest = labels == int(sizes.argmax()) + 1
    axes, angle = _axes(mask, cy, cx)
    return {
        "area": area,
        "offset": float(np.hypot((cx - (w - 1) / 2) / (w / 2), (cy - (h - 1) / 2) / (h / 2))),
        "cut": float(rim.mean()),
        "elongation": float(axes[0] / max(axes[1], 1e-9)),
        "asymmetry": _asymmetry(mask, cy, cx, angle),
        "irregularity": _irregularity(largest),
        "pieces": float((sizes >= 0.01 * mask.sum()).sum()) if count else 0.0,
    }


def _axes(mask: Mask, cy: float, cx: float) -> tuple[tuple[float, float], float]:
    y, x = np.nonzero(mask)
    values, vectors = np.linalg.eigh(np.cov(np.stack([x - cx, y - cy])) + 1e-9 * np.eye(2))
    return (float(np.sqrt(values[1])), float(np.sqrt(values[0]))), float(np.arctan2(vectors[1, 1], vectors[0, 1]))


def _asymmetry(mask: Mask, cy: float, cx: float, angle: float) -> float:
    """Mirrored about both principal axes through the centre of mass; what the frame cuts off counts as it is."""
    y, x = np.mgrid[:mask.shape[0], :mask.shape[1]].astype(float)
    found = []
    for axis in (angle, angle + np.pi / 2):
        c, s = math.cos(2 * axis), math.sin(2 * axis)
        mx, my = c * (x - cx) + s * (y - cy) + cx, s * (x - cx) - c * (y - cy) + cy
        mirrored = ndimage.map_coordinates(mask.astype(float), [my, mx], order=1) > 0.5
        union = (mask | mirrored).sum()
        found.append(1 - float((mask & mirrored).sum()) / union if union else 0.0)
    return float(np.mean(found))


def _irregularity(mask: Mask) -> float:
    from skimage.measure import perimeter_crofton

    length = float(perimeter_crofton(np.pad(mask, 1), directions=4))
    return length**2 / (4 * math.pi * float(mask.sum()))
