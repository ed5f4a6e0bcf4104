"""Laws of a field: how one number of the record is drawn, read from TOML and written back."""

from __future__ import annotations

import difflib
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any, Final

from synthskin.record import RecordError, check_value, field_specs

#: Laws of a field and how many numbers each takes (None: not a list of numbers).
LAWS: Final[dict[str, int | None]] = {
    "value": None, "uniform": 2, "log_uniform": 2, "normal": 4, "integer": 2, "choice": None,
}
#: Largest weight; sums stay finite, and counts of any data set fit.
MAX_WEIGHT: Final = 1e9
EXTRAS: Final = ("zero_probability", "pinned", "source")


class PresetError(ValueError):
    """A preset or an override is not valid. One line, meant for the user."""


@dataclass(frozen=True, slots=True)
class FieldLaw:
    """How one field is drawn.

    law               str     one of LAWS
    args              tuple   value: (x,); uniform, log_uniform, integer: (low, high); normal: (mean, sd, low, high);
                              choice: ((option, weight), ...) with weights that sum to 1
    zero_probability  float   share of the samples in which the value is 0 instead
    source            str     citation of the numbers
    pinned            bool    the law holds whatever a variant or a tone says (every `--set` is pinned)
    """

    law: str
    args: tuple[Any, ...]
    zero_probability: float = 0.0
    source: str = ""
    pinned: bool = False

    def inverse_cdf(self, u: float) -> Any:
        """Value at the cumulative probability u in (0, 1), `zero_probability` left aside."""
        a = self.args
        if self.law == "value":
            return a[0]
        if self.law == "uniform":
            return min(max(a[0] + u * (a[1] - a[0]), a[0]), a[1])  # rounding only; the law has no mass outside
        if self.law == "log_uniform":
            return min(max(a[0] * (a[1] / a[0]) ** u, a[0]), a[1])
        if self.law == "integer":
            return min(a[0] + int(u * (a[1] - a[0] + 1)), a[1])
        if self.law == "normal":
            mean, sd, low, high = a
            unit = NormalDist()
            p_low, p_high = unit.cdf((low - mean) / sd), unit.cdf((high - mean) / sd)
            p = min(max(p_low + u * (p_high - p_low), 1e-300), 1.0 - 1e-16)
            return min(max(mean + sd * unit.inv_cdf(p), low), high)
        total = 0.0
        for option, weight in a:
            total += weight
            if u < total and weight > 0.0:
                return option
        return next(option for option, weight in reversed(a) if weight > 0.0)

    def limits(self) -> tuple[float, float] | None:
        """Smallest and largest number that can be drawn; None for a choice."""
        if self.law == "choice" or isinstance(self.args[0], str):
            return None
        low, high = {"value": (0, 0), "normal": (2, 3)}.get(self.law, (0, 1))
        least = self.args[low]
        return (min(0.0, least) if self.zero_probability > 0 else least), self.args[high]


def read_law(where: str, key: str, body: Mapping[str, Any], document: Any = None) -> FieldLaw:
    """Check one field's table; every message names where it stands, the key and what is allowed."""
    spec = specs()[key]
    for name in body:
        if name not in LAWS and name not in EXTRAS:
            line = document.where(f'"{key}"', name) if document else where
            raise PresetError(f"{line}: {key}: unknown key '{name}'{nearest(name, (*LAWS, *EXTRAS))}; "
                              f"allowed are {', '.join((*LAWS, *EXTRAS))}")
    laws = [name for name in body if name in LAWS]
    if len(laws) != 1:
        came = " and ".join(laws) if laws else "none"
        raise PresetError(f"{where}: {key}: exactly one law of {', '.join(LAWS)} is needed, {came} came")
    law = laws[0]
    if document:
        where = document.where(f'"{key}"', law)
    raw = body[law]
    source = body.get("source")
    if not isinstance(source, str) or not source.strip():
        raise PresetError(f"{where}: {key}: a source is needed, source = \"Author year: what was taken\"")
    kind = "choice" if "options" in spec else "integer" if spec.get("integer") else "number"
    fitting = {"choice": ("value", "choice"), "integer": ("value", "integer"),
               "number": ("value", "uniform", "log_uniform", "normal")}[kind]
    if law not in fitting:
        raise PresetError(f"{where}: {key}: the law {law} does not fit this field; allowed are {', '.join(fitting)}")
    args: tuple[Any, ...]
    if law == "value":
        args = (_checked(where, key, raw),)
    elif law == "choice":
        if not isinstance(raw, dict):
            raise PresetError(f"{where}: {key}: choice takes a table of weights, {{ \"{spec['options'][0]}\" = 1 }}")
        for option in raw:
            _checked(where, key, option)
        args = tuple((o, w) for o, w in normalised(raw, f"{where}: {key}", spec["options"]) if o in raw)
    else:
        count = LAWS[law]
        if not isinstance(raw, list) or len(raw) != count or not all(is_number(x) for x in raw):
            form = "[mean, sd, low, high]" if law == "normal" else "[low, high]"
            raise PresetError(f"{where}: {key}: {law} = {one_line(repr(raw))}: {form} of numbers is needed")
        low, high = raw[-2], raw[-1]
        _checked(where, key, low)
        _checked(where, key, high)
        if low > high:
            raise PresetError(f"{where}: {key}: {law} = {raw}: low is above high; write the smaller number first")
        if law == "log_uniform" and low <= 0:
            raise PresetError(f"{where}: {key}: log_uniform = {raw}: low must be above 0")
        if law == "normal":
            mean, sd = float(raw[0]), float(raw[1])
            if sd <= 0:
                raise PresetError(f"{where}: {key}: normal = {raw}: the standard deviation must be above 0")
            unit = NormalDist()
            if unit.cdf((high - mean) / sd) - unit.cdf((low - mean) / sd) < 1e-3:
                raise PresetError(f"{where}: {key}: normal = {raw}: less than 0.1 % of the law lies in [low, high]")
        args = tuple(int(x) for x in raw) if law == "integer" else tuple(float(x) for x in raw)
    zero = body.get("zero_probability", 0.0)
    if not is_number(zero) or not 0 <= zero <= 1:
        raise PresetError(f"{where}: {key}: zero_probability = {one_line(repr(zero))}: allowed is 0 to 1")
    if zero > 0:
        if kind == "choice":
            raise PresetError(f"{where}: {key}: zero_probability does not fit a choice; leave it out")
        _checked(where, key, 0)
    pinned = body.get("pinned", False)
    if not isinstance(pinned, bool):
        raise PresetError(f"{where}: {key}: pinned = {one_line(repr(pinned))}: allowed are true and false")
    return FieldLaw(law, args, float(zero), source, pinned)


def law_lines(law: FieldLaw) -> list[str]:
    """The law as lines of TOML."""
    if law.law == "value":
        lines = [f"value = {toml(law.args[0])}"]
    elif law.law == "choice":
        body = ", ".join(f"{toml(option)} = {toml(weight)}" for option, weight in law.args)
        lines = [f"choice = {{ {body} }}"]
    else:
        lines = [f"{law.law} = [{', '.join(toml(x) for x in law.args)}]"]
    if law.zero_probability > 0:
        lines.append(f"zero_probability = {toml(law.zero_probability)}")
    if law.pinned:
        lines.append("pinned = true")
    lines.append(f"source = {toml(law.source)}")
    return lines


def law_identity(law: FieldLaw) -> list[Any]:
    """What decides a draw of the law; citations do not."""
    return [law.law, canonical(law.args), repr(float(law.zero_probability)), *(["pinned"] if law.pinned else [])]


def _checked(where: str, key: str, value: Any) -> Any:
    try:
        return check_value(key, value)
    except RecordError as error:
        raise PresetError(f"{where}: {one_line(str(error))}") from None
    except TypeError:
        raise PresetError(f"{where}: {key}: {one_line(repr(value))} is not a value") from None


def normalised(table: Mapping[str, Any], where: str, order: Sequence[str]) -> list[tuple[str, float]]:
    """Weights in a fixed order, divided by their sum; raises PresetError on one out of bounds or an empty sum."""
    for name, weight in table.items():
        if not is_number(weight) or weight < 0:
            raise PresetError(f"{where}: weight {one_line(str(name))} = {one_line(repr(weight))}: "
                              "a number of 0 or more is needed")
        if weight > MAX_WEIGHT:
            raise PresetError(f"{where}: weight {one_line(str(name))} = {one_line(repr(weight))}: "
                              f"at most {MAX_WEIGHT:g} is allowed; weights count by their ratio alone")
    total = math.fsum(float(w) for w in table.values())
    if not total > 0:
        raise PresetError(f"{where}: the weights sum to {total}; at least one must be above 0")
    if abs(total - 1.0) < 1e-9:  # already normalised: keep the digits, so that a resolved preset reads back the same
        total = 1.0
    return [(name, float(table.get(name, 0.0)) / total) for name in order]


@lru_cache(maxsize=1)
def specs() -> dict[str, dict[str, Any]]:
    return field_specs()


def nearest(word: str, among: Any) -> str:
    close = difflib.get_close_matches(str(word), list(among), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


def is_number(x: Any) -> bool:
    """A number that a float holds, neither NaN nor infinite."""
    return isinstance(x, (int, float)) and not isinstance(x, bool) and abs(x) <= sys.float_info.max


def number(text: str) -> float | int:
    """A decimal number as a person writes it: no underscores, no `inf`, no `nan`."""
    if not re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", text, re.ASCII) or len(text) > 64:
        raise ValueError(text)
    if re.fullmatch(r"\s*[+-]?\d+\s*", text):
        return int(text)
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def one_line(text: str, limit: int = 120) -> str:
    flat = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."


def canonical(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [canonical(x) for x in value]
    return value if isinstance(value, str) else repr(float(value))


def toml(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    return repr(value)
