"""Source-leak: a translated picture that is still its source, or that changed where it had to stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthskin.gates.errors import GateError
from synthskin.gates.panel import Candidate, Verdict

#: Mean CIEDE2000 inside the mask below which an eye sees no change (just noticeable: 1 to 2.3).
MIN_CHANGE_DELTA_E: Final = 2.3


def change_delta_e(image: NDArray[np.uint8], source: NDArray[np.uint8], where: NDArray[Any]) -> float:
    """Mean CIEDE2000 between two (h, w, 3) pictures over `where` (h, w, anything not 0); 0 where it is empty."""
    from skimage.color import deltaE_ciede2000, rgb2lab

    if image.shape != source.shape:
        raise GateError(f"leak gate: picture of {image.shape[:2]} pixels, its source has {source.shape[:2]}")
    inside = where > 0
    if not inside.any():
        return 0.0
    return float(deltaE_ciede2000(rgb2lab(image[inside]), rgb2lab(source[inside])).mean())


class SourceLeakGate:
    """Refuses a candidate that leaks its source: what had to change did not (mean CIEDE2000 to the source inside the
    mask under `min_change`), or, with `max_outside`, what had to stay did not (mean outside the mask over it).

    whole   the whole picture had to change (tone translation): the mask is left out of account
    Passes candidates without a source.
    """

    name = "source-leak"

    def __init__(self, min_change: float = MIN_CHANGE_DELTA_E, max_outside: float | None = None,
                 whole: bool = False) -> None:
        if min_change < 0 or (max_outside is not None and max_outside < 0):
            raise GateError(f"leak gate: min_change={min_change:g}, max_outside={max_outside}: 0 or more is allowed")
        self.min_change, self.max_outside, self.whole = min_change, max_outside, whole

    def settings(self) -> dict[str, Any]:
        return {"min_change": self.min_change, "max_outside": self.max_outside, "whole": self.whole}

    def judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        return [self._one(candidate) for candidate in candidates]

    def kept(self, candidate: Candidate) -> None:
        pass

    def _one(self, candidate: Candidate) -> Verdict:
        if candidate.source is None:
            return Verdict(self.name, True, None, self.min_change, "has no source")
        everywhere = np.ones(candidate.image.shape[:2], bool)
        inside = everywhere if self.whole or candidate.mask is None else candidate.mask > 0
        value = change_delta_e(candidate.image, candidate.source, inside)
        if value < self.min_change:
            return Verdict(self.name, False, value, self.min_change,
                           f"still its source: CIEDE2000 {value:.1f} < {self.min_change:g} where it had to change")
        if self.max_outside is not None and not inside.all():
            outside = change_delta_e(candidate.image, candidate.source, ~inside)
            if outside > self.max_outside:
                return Verdict(self.name, False, outside, self.max_outside,
                               f"changed outside the mask: CIEDE2000 {outside:.1f} > {self.max_outside:g}")
        return Verdict(self.name, True, value, self.min_change, "")
