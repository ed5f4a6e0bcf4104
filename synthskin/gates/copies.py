"""Near-duplicates of the training set and of each other; the search itself is synthskin.dataset.near_duplicates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthskin.dataset.near_duplicates import CopyIndex, Match
from synthskin.gates.panel import Candidate, Verdict


class CopyGate:
    """Refuses a picture that is a copy of a reference picture (the training set), or of one that was kept before.

    reference   CopyIndex of the training set; its threshold was calibrated on pairs of that set's own pictures
    among       compare kept pictures with each other too

        gate = CopyGate.of(training_images, names, groups)
    """

    name = "near-duplicate"
    remembers = True  # candidates are judged one after the other: each may be a copy of the one before

    def __init__(self, reference: CopyIndex, among: bool = True) -> None:
        self.reference = reference
        self.others = CopyIndex(reference.threshold, reference.max_bits) if among else None
        self.calibration: dict[str, Any] = {}

    @staticmethod
    def of(images: Iterable[NDArray[np.uint8]], names: Sequence[str], groups: Sequence[str | None] | None = None,
           among: bool = True) -> CopyGate:
        """From the training pictures; pictures of one group (the same lesion) are left out of the calibration."""
        index = CopyIndex()
        for name, image in zip(names, images, strict=True):
            index.add(name, image)
        calibration = index.calibrate(groups)
        gate = CopyGate(index, among)
        gate.calibration = calibration
        return gate

    def settings(self) -> dict[str, Any]:
        return {"threshold": self.reference.threshold, "max_bits": self.reference.max_bits,
                "reference_pictures": len(self.reference), "among_each_other": self.others is not None}

    def judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        return [self._one(candidate) for candidate in candidates]

    def kept(self, candidate: Candidate) -> None:
        if self.others is not None:
            self.others.add(candidate.key, candidate.image)

    def _one(self, candidate: Candidate) -> Verdict:
        threshold = self.reference.threshold
        best: tuple[str, Match] | None = None
        for where, index in (("training picture", self.reference), ("kept picture", self.others)):
            match = None if index is None else index.nearest(candidate.image, candidate.exempt | {candidate.key})
            if match is None:
                continue
            if match.copy:
                return Verdict(self.name, False, match.similarity, threshold,
                               f"copy of {where} {match.name}: similarity {match.similarity:.2f}, "
                               f"{match.bits} of 128 bits differ")
            if best is None or match.similarity > best[1].similarity:
                best = (where, match)
        return Verdict(self.name, True, None if best is None else best[1].similarity, threshold, "")
