"""Blur and blank: pictures without detail, of one colour, or black (a safety checker's answer to skin)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synthskin.gates.errors import GateError
from synthskin.gates.panel import Candidate, Verdict

_SIDE_PX: Final = 128
#: Blur from which a picture counts as blurred, where no reference pictures are given: above all of 120 photographs and
#: 120 renders (benchmarks/gates_quality.py).
MAX_BLUR: Final = 0.84
#: Standard deviation of grey (0-255) below which a picture is of one colour; the flattest of those pictures has 3.
MIN_SPREAD: Final = 0.8
#: Share of pixels that are black or white beyond which nothing is shown.
MAX_CLIPPED: Final = 0.9
_BLACK, _WHITE = 3, 252


def _grey(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(128, 128) luma 0-255, so that the measure does not depend on the picture's size."""
    small = Image.fromarray(image).convert("L").resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BILINEAR)
    return np.asarray(small, np.float32)


def blur(image: NDArray[np.uint8]) -> float:
    """0 (sharp) to 1: how little a further blur takes away (Crete et al. 2007, scikit-image), at 128 px.

    Contrast has no part in it; noise lowers it, so it tells blur from detail only, not good from bad.
    """
    from skimage.measure import blur_effect

    grey = _grey(image)
    return float(blur_effect(grey, h_size=5)) if grey.std() > 0 else 1.0


def spread(image: NDArray[np.uint8]) -> float:
    """Standard deviation of grey (0-255) of the whole picture."""
    return float(_grey(image).std())


def clipped(image: NDArray[np.uint8]) -> float:
    """Share of pixels that are black or white."""
    grey = _grey(image)
    return float(((grey <= _BLACK) | (grey >= _WHITE)).mean())


class BlurGate:
    """Refuses blur (see `blur`) and blank."""

    name = "blur"

    def __init__(self, max_blur: float = MAX_BLUR, min_spread: float = MIN_SPREAD,
                 max_clipped: float = MAX_CLIPPED) -> None:
        if not 0 < max_blur <= 1 or min_spread < 0 or not 0 < max_clipped <= 1:
            raise GateError(f"blur gate: max_blur={max_blur:g}, min_spread={min_spread:g}, max_clipped="
                            f"{max_clipped:g}: 0 to 1, 0 or more, 0 to 1 are allowed")
        self.max_blur, self.min_spread, self.max_clipped = max_blur, min_spread, max_clipped

    @staticmethod
    def calibrated(images: Iterable[NDArray[np.uint8]], share: float = 0.01, slack: float = 0.02) -> BlurGate:
        """Threshold from pictures that are known to be sharp enough: all but `share` of them, and `slack` more."""
        values = [blur(image) for image in images]
        if not values:
            raise GateError("blur gate: no reference pictures to calibrate on")
        return BlurGate(round(min(1.0, float(np.quantile(values, 1.0 - share)) + slack), 4))

    def settings(self) -> dict[str, Any]:
        return {"max_blur": self.max_blur, "min_spread": self.min_spread, "max_clipped": self.max_clipped}

    def judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        return [self._one(candidate.image) for candidate in candidates]

    def kept(self, candidate: Candidate) -> None:
        pass

    def _one(self, image: NDArray[np.uint8]) -> Verdict:
        value, share, flat = blur(image), clipped(image), spread(image)
        reason = ""
        if share > self.max_clipped:
            reason = f"blank: {100 * share:.0f} % of the pixels are black or white"
        elif flat < self.min_spread:
            reason = f"blank: one colour (spread {flat:.2f} < {self.min_spread:g} grey levels)"
        elif value > self.max_blur:
            reason = f"blurred: {value:.2f} > {self.max_blur:g}"
        return Verdict(self.name, not reason, value, self.max_blur, reason)
