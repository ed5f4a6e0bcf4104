"""Does an independent classifier see the class that was asked for?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from synthskin.gates.errors import GateError
from synthskin.gates.panel import Candidate, Verdict

#: Calibrated probability of the class asked for; with seven classes chance is 0.14.
MIN_PROBABILITY: Final = 0.25


class Classifier(Protocol):
    @property
    def classes(self) -> Sequence[str]: ...
    def predict(self, images: Any) -> NDArray[Any]: ...


class ClassGate:
    """Refuses a picture to which the classifier gives less than `min_probability` for the class asked for.

    classifier   synthskin.classify.load_classifier(path): never one that was trained on this generator's pictures
    A class the classifier does not know cannot be judged: GateError, not a pass.
    """

    name = "class"

    def __init__(self, classifier: Classifier, min_probability: float = MIN_PROBABILITY) -> None:
        if not 0 <= min_probability <= 1:
            raise GateError(f"class gate: min_probability={min_probability:g}: 0 to 1 is allowed")
        self.classifier, self.min_probability = classifier, min_probability

    def settings(self) -> dict[str, Any]:
        return {"min_probability": self.min_probability, "classes": list(self.classifier.classes),
                "classifier": str(getattr(self.classifier, "checkpoint", ""))}

    def check(self, diagnoses: Sequence[str | None]) -> None:
        """Raises GateError for classes that the classifier does not know; call it before anything is generated."""
        unknown = sorted({name for name in diagnoses if name is not None} - set(self.classifier.classes))
        if unknown:
            raise GateError(f"class gate: the classifier knows {', '.join(self.classifier.classes)}, "
                            f"{unknown[0]} was asked for; give a classifier that knows it, or leave the gate out")

    def judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        if not candidates:
            return []
        self.check([candidate.diagnosis for candidate in candidates])
        found = np.asarray(self.classifier.predict([candidate.image for candidate in candidates]), float)
        return [self._one(candidate, row) for candidate, row in zip(candidates, found, strict=True)]

    def kept(self, candidate: Candidate) -> None:
        pass

    def _one(self, candidate: Candidate, row: NDArray[np.float64]) -> Verdict:
        if candidate.diagnosis is None:
            return Verdict(self.name, True, None, self.min_probability, "no class was asked for")
        classes = list(self.classifier.classes)
        value = float(row[classes.index(candidate.diagnosis)])
        good = value >= self.min_probability
        return Verdict(self.name, good, value, self.min_probability,
                       "" if good else f"{candidate.diagnosis} has probability {value:.2f} < "
                                       f"{self.min_probability:g}; {classes[int(row.argmax())]} {row.max():.2f}")
