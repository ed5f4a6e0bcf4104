"""Blur and blank: pictures without detail, of one colour, or black (a safety checker's answer to skin)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from synthskin.gates.errors import GateError
from synthskin.gates.panel import Candidate, Verdict

_SIDE_PX: Final = 128
#: Detail below which a picture counts as blurred, where no reference pictures are given: half of the lowest of 420
#: renders (benchmarks/gates_quality.py).
MIN_DETAIL: Final = 0.35
#: Standard deviation of grey (0-255) below which a picture is of one colour; the flattest render has 1.6.
MIN_SPREAD: Final = 0.8
#: Share of pixels that are black or white beyond which nothing is shown.
MAX_CLIPPED: Final = 0.9
_BLACK, _WHITE = 3, 252


def _grey(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(128, 128) luma 0-255, so that the measure does not depend on the picture's size."""
    small = Image.fromarray(image).convert("L").resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BILINEAR)
    return np.asarray(small, np.float32)


def detail(image: NDArray[np.uint8]) -> float:
    """Standard deviation in grey levels of what a Gaussian of 1 px takes away from the picture at 128 px.

    A blurred picture has less of it; noise alone raises it, so it tells blur from detail only, not good from bad.
    """
    grey = _grey(image)
    return float((grey - ndimage.gaussian_filter(grey, 1.0)).std())


def spread(image: NDArray[np.uint8]) -> float:
    """Standard deviation of grey (0-255) of the whole picture."""
    return float(_grey(image).std())


def clipped(image: NDArray[np.uint8]) -> float:
    """Share of pixels that are black or white."""
    grey = _grey(image)
    return float(((grey <= _BLACK) | (grey >= _WHITE)).mean())


class BlurGate:
    """Refuses blur and blank. `min_detail` in grey levels (see `detail`)."""

    name = "blur"

    def __init__(self, min_detail: float = MIN_DETAIL, min_spread: float = MIN_SPREAD,
                 max_clipped: float = MAX_CLIPPED) -> None:
        if min_detail < 0 or min_spread < 0 or not 0 < max_clipped <= 1:
            raise GateError(f"blur gate: min_detail={min_detail:g}, min_spread={min_spread:g}, max_clipped="
                            f"{max_clipped:g}: the first two are 0 or more, the last in (0, 1]")
        self.min_detail, self.min_spread, self.max_clipped = min_detail, min_spread, max_clipped

    @staticmethod
    def calibrated(images: Iterable[NDArray[np.uint8]], share: float = 0.01, slack: float = 0.5) -> BlurGate:
        """Threshold from pictures that are known to be sharp enough: `slack` times their quantile `share`."""
        values = [detail(image) for image in images]
        if not values:
            raise GateError("blur gate: no reference pictures to calibrate on")
        return BlurGate(round(slack * float(np.quantile(values, share)), 4))

    def settings(self) -> dict[str, Any]:
        return {"min_detail": self.min_detail, "min_spread": self.min_spread, "max_clipped": self.max_clipped}

    def judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        return [self._one(candidate.image) for candidate in candidates]

    def kept(self, candidate: Candidate) -> None:
        pass

    def _one(self, image: NDArray[np.uint8]) -> Verdict:
        share = clipped(image)
        if share > self.max_clipped:
            return Verdict(self.name, False, detail(image), self.min_detail,
                           f"blank: {100 * share:.0f} % of the pixels are black or white")
        flat = spread(image)
        if flat < self.min_spread:
            return Verdict(self.name, False, detail(image), self.min_detail,
                           f"blank: one colour (spread {flat:.2f} < {self.min_spread:g} grey levels)")
        value = detail(image)
        good = value >= self.min_detail
        return Verdict(self.name, good, value, self.min_detail,
                       "" if good else f"blurred: detail {value:.2f} < {self.min_detail:g} grey levels")
