"""Does the picture show the lesion where it was asked to be? Segmented again, and compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from synthskin.conventions import HEALTHY
from synthskin.gates.errors import GateError
from synthskin.gates.panel import Candidate, Verdict

MIN_IOU: Final = 0.6
#: Where no mask was asked for: the segmenter's own confidence in the mask it predicts.
MIN_CONFIDENCE: Final = 0.6
#: Healthy skin: share of the frame that may be segmented as lesion all the same.
MAX_HEALTHY_SHARE: Final = 0.02


class Prediction(Protocol):
    """What a segmenter says of a picture: mask (h, w), probability (h, w), confidence 0-1."""

    @property
    def mask(self) -> NDArray[Any]: ...
    @property
    def confidence(self) -> float: ...


class Segmenter(Protocol):
    def predict(self, images: Any) -> Sequence[Prediction]: ...


def iou(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Intersection over union of two (h, w) masks (anything not 0); 1 where both are empty."""
    a, b = first > 0, second > 0
    union = int((a | b).sum())
    return 1.0 if union == 0 else float((a & b).sum() / union)


class MaskGate:
    """Segments a candidate again. With a mask asked for: IoU at least `min_iou`; healthy skin (an empty mask): at most
    `max_healthy_share` of the frame; without one: the predicted mask's confidence, and that there is a mask at all.

    segmenter   synthskin.segment.load_segmenter(), or anything with the same `predict`
    """

    name = "mask"

    def __init__(self, segmenter: Segmenter, min_iou: float = MIN_IOU, min_confidence: float = MIN_CONFIDENCE,
                 max_healthy_share: float = MAX_HEALTHY_SHARE) -> None:
        for key, value in (("min_iou", min_iou), ("min_confidence", min_confidence),
                           ("max_healthy_share", max_healthy_share)):
            if not 0 <= value <= 1:
                raise GateError(f"mask gate: {key}={value:g}: 0 to 1 is allowed")
        self.segmenter = segmenter
        self.min_iou, self.min_confidence, self.max_healthy_share = min_iou, min_confidence, max_healthy_share

    def settings(self) -> dict[str, Any]:
        return {"min_iou": self.min_iou, "min_confidence": self.min_confidence,
                "max_healthy_share": self.max_healthy_share,
                "segmenter": str(getattr(self.segmenter, "sha256", ""))}

    def judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        if not candidates:
            return []
        found = self.segmenter.predict([candidate.image for candidate in candidates])
        return [self.compare(candidate, prediction) for candidate, prediction in zip(candidates, found, strict=True)]

    def kept(self, candidate: Candidate) -> None:
        pass

    def compare(self, candidate: Candidate, found: Prediction) -> Verdict:
        """The verdict from a prediction that is there already."""
        mask = np.asarray(found.mask) > 0
        share = float(mask.mean())
        empty_asked = candidate.mask is not None and not (candidate.mask > 0).any()
        if empty_asked or (candidate.mask is None and candidate.diagnosis == HEALTHY):
            good = share <= self.max_healthy_share
            return Verdict(self.name, good, share, self.max_healthy_share,
                           "" if good else f"healthy skin was asked for, a lesion of {100 * share:.1f} % was found")
        if candidate.mask is None:
            value = float(found.confidence)
            if not mask.any():
                return Verdict(self.name, False, value, self.min_confidence, "no lesion was found")
            good = value >= self.min_confidence
            return Verdict(self.name, good, value, self.min_confidence,
                           "" if good else f"mask confidence {value:.2f} < {self.min_confidence:g}")
        value = iou(mask, candidate.mask)
        good = value >= self.min_iou
        return Verdict(self.name, good, value, self.min_iou,
                       "" if good else f"the lesion found overlaps the mask by IoU {value:.2f} < {self.min_iou:g}")
