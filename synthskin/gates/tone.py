"""Tone reached against tone asked: the individual typology angle (ITA) measured on the picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from synthskin.conventions import ITA_CLASS_LOWER_DEG
from synthskin.gates.errors import GateError
from synthskin.gates.panel import Candidate, Verdict

#: Degrees by which a picture may miss; the classes of light skin are 13 to 18 degrees wide.
MAX_ERROR_DEG: Final = 10.0


class Tone(Protocol):
    @property
    def ita_deg(self) -> float | None: ...


Measure = Callable[[NDArray[np.uint8], NDArray[Any] | None], Tone]


def class_bounds_deg(ita_class: int) -> tuple[float, float]:
    """(low, high) in degrees of ITA class 1-6; the outer ones end at -90 and 90."""
    if ita_class not in range(1, 7):
        raise GateError(f"tone class {ita_class}: 1 to 6 is allowed")
    edges = (90.0, *ITA_CLASS_LOWER_DEG, -90.0)
    return edges[ita_class], edges[ita_class - 1]


def tone_error_deg(measured_deg: float, ita_class: int | None, ita_deg: float | None) -> float | None:
    """Signed error in degrees: measured less asked; of a class, its distance to the class (0 inside). None: not asked.
    """
    if ita_deg is not None:
        return measured_deg - ita_deg
    if ita_class is None:
        return None
    low, high = class_bounds_deg(ita_class)
    return min(0.0, measured_deg - low) + max(0.0, measured_deg - high)


def default_measure(image: NDArray[np.uint8], mask: NDArray[Any] | None) -> Tone:
    """synthskin.bias.tone.measure_tone, imported when it is first asked."""
    from importlib import import_module

    found: Tone = import_module("synthskin.bias.tone").measure_tone(image, mask=mask)
    return found


class ToneGate:
    """Refuses a picture whose ITA misses by more than `max_error_deg`, or whose tone cannot be measured.

    Passes where no tone was asked for. `measure` is synthskin.bias.tone.measure_tone unless another is given.
    """

    name = "tone"

    def __init__(self, max_error_deg: float = MAX_ERROR_DEG, measure: Measure = default_measure) -> None:
        if not 0 < max_error_deg <= 180:
            raise GateError(f"tone gate: max_error_deg={max_error_deg:g}: above 0, at most 180 is allowed")
        self.max_error_deg, self.measure = max_error_deg, measure

    def settings(self) -> dict[str, Any]:
        return {"max_error_deg": self.max_error_deg}

    def judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        return [self._one(candidate) for candidate in candidates]

    def kept(self, candidate: Candidate) -> None:
        pass

    def _one(self, candidate: Candidate) -> Verdict:
        if candidate.ita_class is None and candidate.ita_deg is None:
            return Verdict(self.name, True, None, self.max_error_deg, "no tone was asked for")
        found = self.measure(candidate.image, candidate.found_mask if candidate.mask is None else candidate.mask)
        if found.ita_deg is None:
            why = getattr(found, "reason", None) or "too little healthy skin"
            return Verdict(self.name, False, None, self.max_error_deg, f"the tone cannot be measured: {why}")
        error = tone_error_deg(found.ita_deg, candidate.ita_class, candidate.ita_deg)
        assert error is not None
        good = abs(error) <= self.max_error_deg
        wanted = f"{candidate.ita_deg:.0f} degrees" if candidate.ita_deg is not None else f"class {candidate.ita_class}"
        return Verdict(self.name, good, error, self.max_error_deg,
                       "" if good else f"ITA {found.ita_deg:.0f} degrees, {wanted} was asked for")
