"""The filter of rows `diagnosis=NV`, `diagnosis=MEL|BCC,ita_class>=4`: parsed, never evaluated.

Clauses are joined by commas and all of them must hold. A clause is a key of metadata.jsonl, one of = != >= <= > <, and
a value; with = and != several values may be given, split by |. `null` stands for no value. For the lists `attributes`
and `artefacts`, = means that one of the names is present and != that none is. Null never fulfils a comparison of size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from synthskin.conventions import DIAGNOSES, DIAGNOSIS_STATUS, GENERATORS, HEALTHY, MASK_STATUS, MODALITIES
from synthskin.dataset.format import ROW_KEYS, short
from synthskin.gan import GanError

_CLAUSE: Final = re.compile(r"\s*([a-z_]+)\s*(!=|>=|<=|=|>|<)\s*(.*?)\s*", re.DOTALL)
_KINDS: Final = ("str", "int", "float", "names")
_ALLOWED: Final[dict[str, tuple[str, ...]]] = {
    "diagnosis": (*DIAGNOSES, HEALTHY), "diagnosis_status": DIAGNOSIS_STATUS, "generator": GENERATORS,
    "mask_status": MASK_STATUS, "modality": MODALITIES, "benign_malignant": ("benign", "malignant", "indeterminate"),
    "sex": ("male", "female"),
}
_COMPARED: Final = {
    ">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, "<": lambda a, b: a < b,
}
MAX_CHARACTERS: Final = 2000


@dataclass(frozen=True, slots=True)
class Clause:
    """key, operator, and the values of which one is meant (one only for a comparison of size)."""

    key: str
    operator: str
    values: tuple[str | int | float | None, ...]

    def holds(self, row: Mapping[str, Any]) -> bool:
        value = row[self.key]
        if self.operator in _COMPARED:
            return value is not None and bool(_COMPARED[self.operator](value, self.values[0]))
        if ROW_KEYS[self.key][0] == "names":
            found = any(name in value if name is not None else not value for name in self.values)
        else:
            found = value in self.values
        return found if self.operator == "=" else not found

    def __str__(self) -> str:
        return self.key + self.operator + "|".join("null" if v is None else str(v) for v in self.values)


@dataclass(frozen=True, slots=True)
class Where:
    """All clauses must hold; none at all lets every row through. `str` gives the text that parses to the same."""

    clauses: tuple[Clause, ...] = ()

    def __call__(self, row: Mapping[str, Any]) -> bool:
        return all(clause.holds(row) for clause in self.clauses)

    def __str__(self) -> str:
        return ",".join(map(str, self.clauses))

    def only(self, key: str) -> str | int | float | None:
        """The one value that every row let through has for `key`, if the filter fixes one."""
        fixed = [c.values[0] for c in self.clauses if c.key == key and c.operator == "=" and len(c.values) == 1]
        return fixed[0] if fixed else None


def parse_where(text: str | None, option: str = "--where") -> Where:
    """The filter a text means; None or blanks mean every row. Raises GanError that names the clause at fault."""
    if text is None or not text.strip():
        return Where()
    if len(text) > MAX_CHARACTERS:
        raise GanError(f"{option}: {len(text)} characters; at most {MAX_CHARACTERS} are allowed")
    return Where(tuple(_clause(part, option) for part in text.split(",")))


def _clause(text: str, option: str) -> Clause:
    match = _CLAUSE.fullmatch(text)
    if match is None:
        raise GanError(f"{option}: {short(text.strip())} is no clause; diagnosis=MEL or ita_class>=4 is needed, "
                       "several joined by commas")
    key, operator, right = match.groups()
    kind = ROW_KEYS.get(key, ("", False))[0]
    if kind not in _KINDS:
        known = ", ".join(sorted(name for name, (of, _) in ROW_KEYS.items() if of in _KINDS))
        raise GanError(f"{option}: {key!r} cannot be filtered by; keys are {known}")
    if operator in _COMPARED and kind not in ("int", "float"):
        raise GanError(f"{option}: {text.strip()}: {key} is no number; = and != are allowed")
    parts = right.split("|") if operator in ("=", "!=") else [right]
    return Clause(key, operator, tuple(_value(key, kind, part.strip(), operator, option) for part in parts))


def _value(key: str, kind: str, text: str, operator: str, option: str) -> str | int | float | None:
    if not text or not text.isprintable() or any(sign in text for sign in "=<>!"):
        raise GanError(f"{option}: {key}{operator}{short(text)}: a value is needed")
    if text == "null":
        if operator in _COMPARED:
            raise GanError(f"{option}: {key}{operator}null: null has no size; = and != are allowed")
        return None
    if kind in ("int", "float"):
        try:
            number = int(text) if kind == "int" else float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise GanError(f"{option}: {key}{operator}{short(text)}: a {'whole ' if kind == 'int' else ''}number "
                           "is needed")
        return number
    if key in _ALLOWED and text not in _ALLOWED[key]:
        raise GanError(f"{option}: {key}{operator}{short(text)}: allowed are {', '.join(_ALLOWED[key])}")
    return text
