"""What a gate is, and the panel that asks several of them, decides, counts and keeps what `--explain` shows.

A gate judges candidates one by one and never alters them. A candidate is refused by the first gate of the panel that
does not pass it; every gate's value is kept all the same, so that a report can say what the others thought.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from synthskin.gates.errors import GateError


@dataclass(frozen=True, slots=True)
class Candidate:
    """A generated picture and what was asked of it.

    key            str                    name in reports, such as "000012-t1"
    image          (h, w, 3) uint8        sRGB
    mask           (h, w) uint8 or None   0 or 255: where the lesion was asked to be; None: not asked
    diagnosis      str or None            class asked for
    ita_class      int or None            tone class 1-6 asked for
    ita_deg        float or None          tone asked for in degrees, comparable to what is measured on pictures; goes
                                          before `ita_class` where both are given
    source         (h, w, 3) uint8 / None the picture it was made from
    found_mask     (h, w) or None         where no mask was asked for: the one that was found, for measuring skin
    exempt         names in the near-duplicate gate's reference that it may resemble: its own declared parents
    """

    key: str
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None = None
    diagnosis: str | None = None
    ita_class: int | None = None
    ita_deg: float | None = None
    source: NDArray[np.uint8] | None = None
    found_mask: NDArray[Any] | None = None
    exempt: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Verdict:
    """One gate on one candidate. `value` None: could not be measured (`reason` says why)."""

    gate: str
    passed: bool
    value: float | None
    threshold: float | None
    reason: str

    def to_json(self) -> dict[str, Any]:
        value = None if self.value is None or not math.isfinite(self.value) else round(float(self.value), 4)
        return {"gate": self.gate, "passed": self.passed, "value": value, "threshold": self.threshold,
                "reason": self.reason}


class Gate(Protocol):
    """`judge` gives a verdict a candidate, in order; `kept` is told of a candidate that passed the whole panel."""

    @property
    def name(self) -> str: ...
    def settings(self) -> dict[str, Any]: ...
    def judge(self, candidates: Sequence[Candidate]) -> list[Verdict]: ...
    def kept(self, candidate: Candidate) -> None: ...


@dataclass(frozen=True, slots=True)
class Decision:
    """`refused_by` is the name of the first gate that did not pass the candidate; None: kept."""

    candidate: Candidate
    verdicts: tuple[Verdict, ...]
    refused_by: str | None

    @property
    def kept(self) -> bool:
        return self.refused_by is None

    def verdict(self, gate: str) -> Verdict | None:
        return next((verdict for verdict in self.verdicts if verdict.gate == gate), None)

    def scores(self) -> dict[str, float | None]:
        """{gate: value}, finite or None, as it goes into a row's params."""
        return {verdict.gate: verdict.to_json()["value"] for verdict in self.verdicts}


@dataclass
class Tally:
    """Counts of judged, kept and refused, in all and by class and tone asked; `check` proves that they add up."""

    judged: int = 0
    kept: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    by_group: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)

    def add(self, refused_by: str | None, diagnosis: str | None, ita_class: int | None) -> None:
        self.judged += 1
        group = self.by_group.setdefault((diagnosis or "any", "any" if ita_class is None else str(ita_class)),
                                         Counter())
        group["judged"] += 1
        if refused_by is None:
            self.kept += 1
            group["kept"] += 1
        else:
            self.refused[refused_by] += 1
            group[f"refused by {refused_by}"] += 1

    def check(self) -> None:
        """Raises AssertionError where the counts do not add up."""
        assert self.judged == self.kept + sum(self.refused.values())
        assert self.judged == sum(group["judged"] for group in self.by_group.values())
        assert self.kept == sum(group["kept"] for group in self.by_group.values())
        for group in self.by_group.values():
            assert group["judged"] == sum(count for key, count in group.items() if key != "judged")

    def by(self, axis: int) -> dict[str, dict[str, int]]:
        """Counts by class (axis 0) or by tone (axis 1)."""
        found: dict[str, Counter[str]] = {}
        for key, group in sorted(self.by_group.items()):
            found.setdefault(key[axis], Counter()).update(group)
        return {name: dict(sorted(group.items())) for name, group in found.items()}

    def to_json(self) -> dict[str, Any]:
        self.check()
        return {"judged": self.judged, "kept": self.kept, "refused": dict(sorted(self.refused.items())),
                "by_class": self.by(0), "by_tone": self.by(1),
                "by_class_and_tone": {f"{diagnosis}/{tone}": dict(sorted(group.items()))
                                      for (diagnosis, tone), group in sorted(self.by_group.items())}}


class GatePanel:
    """Gates in order. `judge` decides and counts; near-duplicates among the candidates of one call count too.

        panel = GatePanel([BlurGate(), MaskGate(segmenter), CopyGate(index)])
        for decision in panel.judge(candidates): ...
        panel.tally.to_json()
    """

    def __init__(self, gates: Sequence[Gate]) -> None:
        names = [gate.name for gate in gates]
        if len(set(names)) != len(names):
            raise GateError(f"gates {', '.join(names)}: each name once")
        self.gates = tuple(gates)
        self.tally = Tally()

    def settings(self) -> dict[str, Any]:
        """{gate: its settings}, thresholds included: for the card of the set."""
        return {gate.name: gate.settings() for gate in self.gates}

    def judge(self, candidates: Sequence[Candidate]) -> list[Decision]:
        """A decision a candidate, in order. Candidates that pass are told to every gate at once, so that a copy of an
        earlier candidate of the same call is seen."""
        if not candidates:
            return []
        sequential = [gate for gate in self.gates if getattr(gate, "remembers", False)]
        early = {gate.name: gate.judge(candidates) for gate in self.gates if gate not in sequential}
        decisions = []
        for k, candidate in enumerate(candidates):
            verdicts = tuple(early[gate.name][k] if gate.name in early else gate.judge([candidate])[0]
                             for gate in self.gates)
            refused_by = next((verdict.gate for verdict in verdicts if not verdict.passed), None)
            self.tally.add(refused_by, candidate.diagnosis, candidate.ita_class)
            if refused_by is None:
                self.tell(candidate)
            decisions.append(Decision(candidate, verdicts, refused_by))
        return decisions

    def tell(self, candidate: Candidate) -> None:
        """A picture that is kept: from `judge`, or kept by an earlier run that is continued."""
        for gate in self.gates:
            gate.kept(candidate)
