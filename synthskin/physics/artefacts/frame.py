"""The picture as a plane in millimetres, and what is drawn on it by signed distance: coverage of each pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)

#: Strokes of the digits and of "m" on a cell 1 wide and 2 high, y downwards.
GLYPHS: dict[str, tuple[tuple[tuple[float, float], ...], ...]] = {
    "0": (((0, 0), (1, 0), (1, 2), (0, 2), (0, 0)),),
    "1": (((0.2, 0.4), (0.6, 0), (0.6, 2)),),
    "2": (((0, 0.3), (0.3, 0), (0.8, 0), (1, 0.4), (0.9, 0.9), (0, 2), (1, 2)),),
    "3": (((0, 0), (1, 0), (0.4, 0.8), (0.9, 1.0), (1, 1.6), (0.6, 2), (0, 1.9)),),
    "4": (((0.8, 2), (0.8, 0), (0, 1.4), (1, 1.4)),),
    "5": (((1, 0), (0.1, 0), (0, 0.9), (0.7, 0.8), (1, 1.3), (0.7, 2), (0, 1.9)),),
    "6": (((0.9, 0), (0.2, 0.7), (0, 1.4), (0.4, 2), (0.9, 1.7), (0.9, 1.2), (0.4, 0.9), (0.05, 1.2)),),
    "7": (((0, 0), (1, 0), (0.4, 2)),),
    "8": (((0.5, 0.9), (0.1, 0.5), (0.5, 0), (0.9, 0.5), (0.5, 0.9), (0, 1.5), (0.5, 2), (1, 1.5), (0.5, 0.9)),),
    "9": (((0.1, 2), (0.8, 1.3), (1, 0.6), (0.6, 0), (0.1, 0.3), (0.1, 0.8), (0.6, 1.1), (0.95, 0.8)),),
    "m": (((0, 2), (0, 0.9)), ((0, 1.1), (0.3, 0.9), (0.5, 1.1), (0.5, 2)), ((0.5, 1.1), (0.8, 0.9), (1, 1.1), (1, 2))),
}


@dataclass(frozen=True, slots=True)
class Frame:
    """size_px pixels a side over field_of_view_mm; points are (x, y) in mm from the middle of the picture."""

    size_px: int
    field_of_view_mm: float

    @property
    def pixel_mm(self) -> float:
        return self.field_of_view_mm / self.size_px

    @property
    def half_mm(self) -> float:
        return 0.5 * self.field_of_view_mm

    @property
    def axis_mm(self) -> F32:
        """Pixel centres, (size,)."""
        return ((np.arange(self.size_px) + 0.5) * self.pixel_mm - self.half_mm).astype(np.float32)

    def coverage(self, distance_mm: F32) -> F32:
        """Share of a pixel inside a shape, from the signed distance (negative inside) of its centre."""
        return np.clip(np.float32(0.5) - distance_mm / np.float32(self.pixel_mm), 0, 1).astype(np.float32)

    def blur(self, values: F32, sigma_mm: float) -> F32:
        """Gaussian blur of (size, size) or (size, size, c)."""
        sigma = sigma_mm / self.pixel_mm
        out: F32 = gaussian_filter(values, (sigma, sigma, 0)[: values.ndim], mode="nearest", truncate=3.0)
        return out

    def disc(self, x_mm: float, y_mm: float, radius_mm: float) -> F32:
        """Coverage of a disc, (size, size)."""
        axis = self.axis_mm
        return self.coverage(np.hypot(axis - np.float32(x_mm), (axis - np.float32(y_mm))[:, None]) - radius_mm)

    def strokes(self, lines: Sequence[F64], half_width_mm: float) -> F32:
        """Coverage of polylines with round ends, (size, size); each line is (k, 2)."""
        out = np.zeros((self.size_px, self.size_px), np.float32)
        axis = self.axis_mm
        reach = half_width_mm + self.pixel_mm
        for line in lines:
            for p, q in pairwise(line):
                low, high = np.minimum(p, q) - reach, np.maximum(p, q) + reach
                x0, x1 = np.searchsorted(axis, (low[0], high[0]))
                y0, y1 = np.searchsorted(axis, (low[1], high[1]))
                if x0 >= x1 or y0 >= y1:
                    continue
                dx, dy = axis[x0:x1] - p[0], (axis[y0:y1] - p[1])[:, None]
                along = q - p
                s = np.clip((dx * along[0] + dy * along[1]) / max(float(along @ along), 1e-12), 0, 1)
                far = np.hypot(dx - s * along[0], dy - s * along[1]).astype(np.float32)
                window = out[y0:y1, x0:x1]  # a stroke narrower than a pixel ends inside it on both sides
                both = self.coverage(far - np.float32(half_width_mm)) - self.coverage(far + np.float32(half_width_mm))
                np.maximum(window, both, out=window)
        return out


def text_strokes(text: str, height_mm: float) -> list[F64]:
    """Polylines of digits and "m", baseline on y = 0, centred on x = 0, upright (y downwards)."""
    width, gap = 0.5 * height_mm, 0.22 * height_mm
    start = -0.5 * (len(text) * width + (len(text) - 1) * gap)
    lines = []
    for place, letter in enumerate(text):
        for stroke in GLYPHS[letter]:
            points = np.array(stroke, np.float64) * 0.5 * height_mm
            points += (start + place * (width + gap), -height_mm)
            lines.append(points)
    return lines


def turned(lines: Sequence[F64], angle_rad: float, x_mm: float, y_mm: float) -> list[F64]:
    """Lines rotated about the origin (from +x towards +y), then moved."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    matrix = np.array([[c, s], [-s, c]])
    return [line @ matrix + (x_mm, y_mm) for line in lines]
