"""Confounders on purpose: the probability of an artefact as a function of the diagnosis.

`--confound ink:MEL=0.9,NV=0.1` or, in a preset, `[confound.ink]` with `MEL = 0.9`. A diagnosis that is not named keeps
the probability of the preset's own law. A higher probability keeps every artefact that a lower one shows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from synthskin.conventions import ARTEFACTS, DIAGNOSES, HEALTHY
from synthskin.laws import PresetError, nearest, number, one_line, toml

EXAMPLE = "ink:MEL=0.9,NV=0.1"


@dataclass(frozen=True, slots=True)
class Confound:
    """Probability of `artefact` by diagnosis, in the order of conventions.DIAGNOSES, healthy last."""

    artefact: str
    probabilities: tuple[tuple[str, float], ...]

    @property
    def key(self) -> str:
        """The field that it decides."""
        return f"artefacts.{self.artefact}"

    def probability(self, diagnosis: str) -> float | None:
        """None where the diagnosis is not named."""
        return dict(self.probabilities).get(diagnosis)

    def among(self, diagnoses: Collection[str]) -> Confound:
        """Copy without the diagnoses that never occur."""
        return replace(self, probabilities=tuple((name, p) for name, p in self.probabilities if name in diagnoses))

    def check_occurs(self, where: str, diagnoses: Collection[str]) -> None:
        """Raises PresetError, beginning with `where`, on a diagnosis that never occurs."""
        for name, _ in self.probabilities:
            if name not in diagnoses:
                raise PresetError(f"{where}: {name} never occurs in this preset; it has {', '.join(diagnoses)}")

    def identity(self) -> list[Any]:
        """What decides a draw."""
        return [self.artefact, [[name, repr(p)] for name, p in self.probabilities]]

    def toml_lines(self) -> list[str]:
        return ["", f"[confound.{self.artefact}]", *(f"{name} = {toml(p)}" for name, p in self.probabilities)]


def parse_confound(text: str) -> Confound:
    """`ink:MEL=0.9,NV=0.1`; raises PresetError saying what came and what is allowed."""
    where = f"--confound {one_line(text)}"
    artefact, colon, rest = text.partition(":")
    if not colon:
        raise PresetError(f"{where}: write an artefact and its probabilities, as {EXAMPLE}")
    table: dict[str, Any] = {}
    for part in rest.split(","):
        name, equals, value = part.partition("=")
        name = name.strip()
        if name in table:
            raise PresetError(f"{where}: '{one_line(name)}' is given twice")
        try:
            table[name] = number(value) if equals else None
        except ValueError:
            table[name] = None
        if table[name] is None:
            raise PresetError(f"{where}: '{one_line(part)}' is no diagnosis=probability; write {EXAMPLE}")
    return read_confound(where, artefact.strip(), table)


def read_confound(where: str, artefact: str, table: Any) -> Confound:
    """Check one table of probabilities; raises PresetError."""
    if artefact not in ARTEFACTS:
        raise PresetError(f"{where}: unknown artefact '{one_line(artefact)}'{nearest(artefact, ARTEFACTS)}; "
                          f"allowed are {', '.join(ARTEFACTS)}")
    if not isinstance(table, Mapping) or not table:
        raise PresetError(f"{where}: {artefact}: a table of probabilities by diagnosis is needed, MEL = 0.9")
    known = (*DIAGNOSES, HEALTHY)
    for name, value in table.items():
        if name not in known:
            raise PresetError(f"{where}: unknown diagnosis '{one_line(str(name))}'{nearest(name, known)}; "
                              f"allowed are {', '.join(known)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise PresetError(f"{where}: {name} = {one_line(str(value))}: a probability from 0 to 1 is needed")
    return Confound(artefact, tuple((name, float(table[name])) for name in known if name in table))
