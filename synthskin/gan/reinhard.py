"""Colour transfer by means and standard deviations (Reinhard et al. 2001): the plain rival of every translator here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from synthskin.gan import GanError

#: RGB to LMS, and the decorrelated space of Ruderman et al. 1998, as printed by Reinhard et al. 2001.
RGB_TO_LMS: Final = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
LMS_TO_LAB: Final = np.diag([3.0**-0.5, 6.0**-0.5, 2.0**-0.5]) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])
_LEAST: Final = 1.0 / 255.0  # the space is logarithmic


@dataclass(frozen=True, slots=True)
class ColourStatistics:
    """Mean and standard deviation (3,) in l alpha beta."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @staticmethod
    def of(pictures: NDArray[np.uint8]) -> ColourStatistics:
        """Averaged over pictures (n, h, w, 3): the mean picture's mean, the mean of their deviations."""
        values = to_lab(pictures).reshape(len(pictures), -1, 3)
        return ColourStatistics(values.mean((0, 1)), values.std(1).mean(0))

    @staticmethod
    def pooled(pictures: NDArray[np.uint8]) -> ColourStatistics:
        """Over all pixels of all pictures together."""
        values = to_lab(pictures).reshape(-1, 3)
        return ColourStatistics(values.mean(0), values.std(0))


def to_lab(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """l alpha beta of sRGB values (..., 3) in 0-255."""
    rgb = np.maximum(np.asarray(pictures, np.float64) / 255.0, _LEAST)
    return np.asarray(np.log10(np.maximum(rgb @ RGB_TO_LMS.T, 1e-6)) @ LMS_TO_LAB.T)


def from_lab(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    lms = 10.0 ** (values @ np.linalg.inv(LMS_TO_LAB).T)
    rgb = lms @ np.linalg.inv(RGB_TO_LMS).T
    return np.clip(np.rint(rgb * 255.0), 0, 255).astype(np.uint8)


def transfer(picture: NDArray[np.uint8], to: ColourStatistics, of: ColourStatistics | None = None) -> NDArray[np.uint8]:
    """The picture with its own (or `of`'s) mean and deviation in l alpha beta replaced by those of `to`."""
    if picture.ndim != 3 or picture.shape[2] != 3:
        raise GanError(f"a picture of shape {picture.shape} came; (h, w, 3) is needed")
    own = ColourStatistics.of(picture[None]) if of is None else of
    values = (to_lab(picture) - own.mean) * (to.deviation / np.maximum(own.deviation, 1e-6)) + to.mean
    return from_lab(values)
