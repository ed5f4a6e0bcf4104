"""Presets: a population of pictures as ranges and weights, read from TOML, each value with its source.

`load_preset("fst6")` or `load_preset("my/own.toml")` gives a resolved `Preset`: parents (`extends`) merged a field at
a time, every field of the record present, every value inside the field's bounds. Whatever is not understood is a
`PresetError` that names the file, the line where it can be told, the key and what is allowed. Nothing is repaired.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final

from synthskin.conventions import DIAGNOSES, HEALTHY
from synthskin.record import RecordError, check_value, field_specs

#: Diagnoses that the physics generator can grow today.
IMPLEMENTED_DIAGNOSES: Final = ("NV", HEALTHY)
#: Laws of a field and how many numbers each takes (None: not a list of numbers).
LAWS: Final[dict[str, int | None]] = {
    "value": None, "uniform": 2, "log_uniform": 2, "normal": 4, "integer": 2, "choice": None,
}
_EXTRAS: Final = ("zero_probability", "source")
_MAX_BYTES: Final = 1_000_000
_MAX_DEPTH: Final = 8


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
    """

    law: str
    args: tuple[Any, ...]
    zero_probability: float = 0.0
    source: str = ""

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


@dataclass(frozen=True)
class Preset:
    """A resolved preset: what `draw` needs, and nothing that is decided elsewhere.

    name         str   of the preset that was asked for; keys all draws, so overrides leave other fields as they were
    diagnosis    ((name, weight), ...)   weights sum to 1, in the order of conventions.DIAGNOSES, healthy last
    fields       {key: FieldLaw}         every key of record.field_specs()
    overrides    what --set and --diagnosis changed, in words
    """

    name: str
    description: str
    diagnosis: tuple[tuple[str, float], ...]
    fields: Mapping[str, FieldLaw]
    overrides: tuple[str, ...] = ()

    @cached_property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of everything that decides a draw (citations and descriptions do not)."""
        canonical = {
            "name": self.name,
            "diagnosis": [[name, repr(weight)] for name, weight in self.diagnosis],
            "fields": {
                key: [law.law, _canonical(law.args), repr(float(law.zero_probability))]
                for key, law in self.fields.items()
            },
        }
        text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]

    def resolved_toml(self) -> str:
        """The preset as TOML with nothing left open; `load_preset` of it gives the same hash."""
        lines = [f"name = {_toml(self.name)}", f"description = {_toml(self.description)}"]
        lines += [f"# changed by {text}" for text in self.overrides]
        lines += ["", "[diagnosis]", *(f"{name} = {_toml(weight)}" for name, weight in self.diagnosis)]
        for key, law in self.fields.items():
            lines += ["", f'[fields."{key}"]']
            if law.law == "value":
                lines.append(f"value = {_toml(law.args[0])}")
            elif law.law == "choice":
                body = ", ".join(f"{_toml(option)} = {_toml(weight)}" for option, weight in law.args)
                lines.append(f"choice = {{ {body} }}")
            else:
                lines.append(f"{law.law} = [{', '.join(_toml(x) for x in law.args)}]")
            if law.zero_probability > 0:
                lines.append(f"zero_probability = {_toml(law.zero_probability)}")
            lines.append(f"source = {_toml(law.source)}")
        return "\n".join(lines) + "\n"

    def with_sets(self, assignments: Sequence[str]) -> Preset:
        """Copy with `key=value` or `key=low..high` applied; raises PresetError on an unknown key or a bad value."""
        fields = dict(self.fields)
        for text in assignments:
            key, law = parse_set(text)
            fields[key] = law
        notes = tuple(f"--set {_one_line(text)}" for text in assignments)
        return replace(self, fields=fields, overrides=self.overrides + notes)

    def with_diagnosis(self, text: str) -> Preset:
        """Copy with the weights of `NV=0.8,healthy=0.2`; raises PresetError on anything else."""
        weights: dict[str, float] = {}
        for part in text.split(","):
            name, sep, number = part.partition("=")
            name = name.strip()
            if name in weights:
                raise PresetError(f"--diagnosis {_one_line(text)}: '{name}' is given twice")
            try:
                weights[name] = float(number) if sep else math.nan
            except ValueError:
                weights[name] = math.nan
            if math.isnan(weights[name]):
                raise PresetError(f"--diagnosis {_one_line(text)}: write weights as NV=0.8,healthy=0.2")
        note = f"--diagnosis {_one_line(text)}"
        return replace(self, diagnosis=_weights(weights, "--diagnosis"), overrides=(*self.overrides, note))


def preset_names() -> list[str]:
    """Names of the presets that ship with synthskin."""
    return sorted({path.stem for folder in _folders() for path in folder.glob("*.toml")})


def load_preset(name_or_path: str | Path) -> Preset:
    """Resolve a preset by its name or by the path of a TOML file; raises PresetError."""
    text = str(name_or_path)
    own = Path(text)
    if text.endswith(".toml") or "/" in text or "\\" in text:
        if not own.is_file():
            raise PresetError(f"preset file '{_one_line(text)}' is not there; give a file or one of {_listed()}")
        path = own
    else:
        path = _find(text)
    chain = _chain(path)
    merged_fields: dict[str, FieldLaw] = {
        key: FieldLaw("value", (spec["default"],), 0.0, f"default of the record: {spec['source']}")
        for key, spec in _specs().items()
    }
    diagnosis: tuple[tuple[str, float], ...] | None = None
    for document in reversed(chain):
        weights, fields = document.parse()
        diagnosis = weights if weights is not None else diagnosis
        merged_fields.update(fields)
    if diagnosis is None:
        raise PresetError(f"{path}: the table [diagnosis] is missing; write for example [diagnosis] NV = 0.9")
    head = chain[0].data
    return Preset(head["name"], head.get("description", ""), diagnosis, merged_fields)


def parse_set(text: str) -> tuple[str, FieldLaw]:
    """`skin.blood_fraction=0.02`, `hair.count=0..12` or `camera.dermoscopic_type=contact polarized`."""
    shown = _one_line(text)
    key, sep, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not sep or not key or not value:
        raise PresetError(f"--set {shown}: write key=value or key=low..high; keys: `synthskin presets fields`")
    spec = _specs().get(key)
    if spec is None:
        raise PresetError(f"--set {shown}: unknown key '{_one_line(key)}'{_nearest(key, _specs())}; "
                          "keys: `synthskin presets fields`")
    where = f"--set {shown}"
    source = f"--set {shown}"
    if "options" in spec:
        return key, _law(where, key, {"value": value, "source": source})
    low, dots, high = value.partition("..")
    try:
        numbers = [_number(low), _number(high)] if dots else [_number(value)]
    except ValueError:
        raise PresetError(f"{where}: '{_one_line(value)}' is not a number or low..high; "
                          f"allowed is {spec['low']} to {spec['high']}") from None
    if len(numbers) == 1:
        return key, _law(where, key, {"value": numbers[0], "source": source})
    law = "integer" if spec.get("integer") else "uniform"
    return key, _law(where, key, {law: numbers, "source": source})


@dataclass(frozen=True)
class _Document:
    """One TOML file, read but not merged."""

    path: Path
    text: str
    data: dict[str, Any]

    def where(self, *needles: str) -> str:
        """`file` or `file, line n`: the first line that holds all needles, each after the other."""
        lines = self.text.splitlines()
        at = -1
        for needle in needles:
            found = next((i for i in range(max(at, 0), len(lines)) if needle in lines[i].split("#")[0]), None)
            if found is None:
                break
            at = found
        return f"{self.path}, line {at + 1}" if at >= 0 else str(self.path)

    def parse(self) -> tuple[tuple[tuple[str, float], ...] | None, dict[str, FieldLaw]]:
        allowed = ("name", "description", "extends", "diagnosis", "fields")
        for key in self.data:
            if key not in allowed:
                raise PresetError(f"{self.where(key)}: unknown key '{key}'{_nearest(key, allowed)}; "
                                  f"allowed are {', '.join(allowed)}")
        weights = None
        table = self.data.get("diagnosis")
        if table is not None:
            if not isinstance(table, dict):
                raise PresetError(f"{self.where('diagnosis')}: diagnosis is a table of weights, [diagnosis] NV = 0.9")
            weights = _weights(table, self.where("[diagnosis]"))
        tables = self.data.get("fields", {})
        if not isinstance(tables, dict):
            raise PresetError(f"{self.where('fields')}: fields are tables, [fields.\"skin.blood_fraction\"]")
        fields = {}
        for key, body in tables.items():
            where = self.where(f'"{key}"')
            if key not in _specs():
                hint = "; write the key in quotes, [fields.\"group.name\"]" if key in ("skin", "hair", "lesion",
                                                                                         "camera") else ""
                raise PresetError(f"{self.where(key)}: unknown field '{key}'{_nearest(key, _specs())}{hint}; "
                                  "allowed are the keys of `synthskin presets fields`")
            if not isinstance(body, dict):
                raise PresetError(f"{where}: {key} is a table with one law, for example uniform = [low, high]")
            fields[key] = _law(where, key, body, self)
        return weights, fields


def _law(where: str, key: str, body: Mapping[str, Any], document: _Document | None = None) -> FieldLaw:
    """Check one field's table; every message names where it stands, the key and what is allowed."""
    spec = _specs()[key]
    for name in body:
        if name not in LAWS and name not in _EXTRAS:
            line = document.where(f'"{key}"', name) if document else where
            raise PresetError(f"{line}: {key}: unknown key '{name}'{_nearest(name, (*LAWS, *_EXTRAS))}; "
                              f"allowed are {', '.join((*LAWS, *_EXTRAS))}")
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
        args = tuple((o, w) for o, w in _normalised(raw, f"{where}: {key}", spec["options"]) if o in raw)
    else:
        count = LAWS[law]
        if not isinstance(raw, list) or len(raw) != count or not all(_is_number(x) for x in raw):
            form = "[mean, sd, low, high]" if law == "normal" else "[low, high]"
            raise PresetError(f"{where}: {key}: {law} = {_one_line(repr(raw))}: {form} of numbers is needed")
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
    if not _is_number(zero) or not 0 <= zero <= 1:
        raise PresetError(f"{where}: {key}: zero_probability = {_one_line(repr(zero))}: allowed is 0 to 1")
    if zero > 0:
        if kind == "choice":
            raise PresetError(f"{where}: {key}: zero_probability does not fit a choice; leave it out")
        _checked(where, key, 0)
    return FieldLaw(law, args, float(zero), source)


def _checked(where: str, key: str, value: Any) -> Any:
    try:
        return check_value(key, value)
    except RecordError as error:
        raise PresetError(f"{where}: {_one_line(str(error))}") from None
    except TypeError:
        raise PresetError(f"{where}: {key}: {_one_line(repr(value))} is not a value") from None


def _weights(table: Mapping[str, Any], where: str) -> tuple[tuple[str, float], ...]:
    known = (*DIAGNOSES, HEALTHY)
    for name, weight in table.items():
        if name not in known:
            raise PresetError(f"{where}: unknown diagnosis '{_one_line(name)}'{_nearest(name, known)}; "
                              f"allowed are {', '.join(IMPLEMENTED_DIAGNOSES)}")
        if name not in IMPLEMENTED_DIAGNOSES and weight != 0:
            raise PresetError(f"{where}: the diagnosis {name} is not implemented yet; "
                              f"allowed are {', '.join(IMPLEMENTED_DIAGNOSES)}")
    pairs = _normalised(table, where, known)
    return tuple((name, weight) for name, weight in pairs if weight > 0)


def _normalised(table: Mapping[str, Any], where: str, order: Sequence[str]) -> list[tuple[str, float]]:
    """Weights in a fixed order, divided by their sum; raises PresetError on a negative one or an empty sum."""
    for name, weight in table.items():
        if not _is_number(weight) or weight < 0:
            raise PresetError(f"{where}: weight {_one_line(str(name))} = {_one_line(repr(weight))}: "
                              "a number of 0 or more is needed")
    total = math.fsum(float(w) for w in table.values())
    if not total > 0 or not math.isfinite(total):
        raise PresetError(f"{where}: the weights sum to {total}; at least one must be above 0")
    if abs(total - 1.0) < 1e-9:  # already normalised: keep the digits, so that a resolved preset reads back the same
        total = 1.0
    return [(name, float(table.get(name, 0.0)) / total) for name in order]


@lru_cache(maxsize=1)
def _specs() -> dict[str, dict[str, Any]]:
    return field_specs()


def _folders() -> list[Path]:
    """Inside the package where it is installed from a wheel, else at the top of the checkout."""
    here = Path(__file__).resolve().parent
    return [folder for folder in (here / "presets", here.parent / "presets") if folder.is_dir()][:1]


def _find(name: str, where: str = "") -> Path:
    for folder in _folders():
        path = folder / f"{name}.toml"
        if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) and path.is_file():
            return path
    prefix = f"{where}: " if where else ""
    raise PresetError(f"{prefix}unknown preset '{_one_line(name)}'{_nearest(name, preset_names())}; "
                      f"there are {_listed()}, or give the path of a TOML file")


def _chain(path: Path) -> list[_Document]:
    chain = [_read(path)]
    while "extends" in chain[-1].data:
        last = chain[-1]
        parent = last.data["extends"]
        where = last.where("extends")
        if not isinstance(parent, str):
            raise PresetError(f"{where}: extends takes the name of a preset or the path of a file")
        target = (last.path.parent / parent) if parent.endswith(".toml") else _find(parent, where)
        if not target.is_file():
            raise PresetError(f"{where}: extends = '{_one_line(parent)}': that file is not there")
        if len(chain) >= _MAX_DEPTH or any(target.resolve() == seen.path.resolve() for seen in chain):
            raise PresetError(f"{where}: extends goes in a circle or deeper than {_MAX_DEPTH} files")
        chain.append(_read(target))
    return chain


def _read(path: Path) -> _Document:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise PresetError(f"{path}: larger than {_MAX_BYTES} bytes; this is not a preset")
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise PresetError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PresetError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PresetError(f"{path}: is not valid TOML: {_one_line(str(error))}") from None
    document = _Document(path, text, data)
    name = data.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) or name.startswith("."):
        raise PresetError(f"{document.where('name')}: name = {_one_line(repr(name))}: a name of letters, digits, "
                          "'_', '-' and '.' is needed (at most 64)")
    if not isinstance(data.get("description", ""), str):
        raise PresetError(f"{document.where('description')}: description is a text in quotes")
    return document


def _nearest(word: str, among: Any) -> str:
    close = difflib.get_close_matches(str(word), list(among), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _listed() -> str:
    return ", ".join(preset_names()) or "no presets"


def _is_number(x: Any) -> bool:
    return isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x)


def _number(text: str) -> float | int:
    """A decimal number as a person writes it: no underscores, no `inf`, no `nan`."""
    if not re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", text, re.ASCII) or len(text) > 64:
        raise ValueError(text)
    if re.fullmatch(r"\s*[+-]?\d+\s*", text):
        return int(text)
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _one_line(text: str, limit: int = 120) -> str:
    flat = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."


def _canonical(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_canonical(x) for x in value]
    return value if isinstance(value, str) else repr(float(value))


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    return repr(value)
