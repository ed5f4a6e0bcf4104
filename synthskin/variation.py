"""Variation sets: pictures that differ in one cause. Sweep, counterfactual, follow-up, as plans of a render run.

Sibling v of group g is sample g * k + v. All of a group share (preset, seed, g): lesion, hair, vessels, noise and walk
are keyed by it, so they stay; its `group_id` is that of sample g of the plain preset. Exposure and white balance are
inputs (`device.*`) and never follow the picture, so they are frozen too. What follows is listed in DERIVED.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from synthskin.conventions import HEALTHY
from synthskin.dataset.reader import safe_path
from synthskin.draw import draw
from synthskin.laws import PresetError, law_identity, nearest, normalised, number, one_line, specs
from synthskin.preset import Preset
from synthskin.record import RecordError, SampleRecord, check_value
from synthskin.run.request import RunError

#: Keys of a row that follow from the inputs; all others are equal among siblings, index and file names aside.
DERIVED: Final = (
    "attributes", "attributes_delta_e", "artefacts", "ita_deg", "ita_image_deg", "ita_class", "contrast",
    "visible_delta_e", "bbox", "boxes", "lesions", "modality", "dermoscopic_type", "caption",
)
#: Keys that name a sample, and the inputs themselves.
_NAMES: Final = ("index", "file_name", "mask_file_name", "hair_file_name", "params")
MAX_VALUES: Final = 64
_MAX_BYTES: Final = 100_000
_FILE_KEYS: Final = ("name", "description", "source", "preset", "field", "values", "n", "seed", "set", "diagnosis",
                     "tone")


class VariationError(RunError):
    """A variation cannot be made. One line, meant for the user."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Siblings differ in one field of the record: `kind` is sweep or followup."""

    field: str
    values: tuple[Any, ...]
    kind: str = "sweep"

    def __len__(self) -> int:
        return len(self.values)

    def record(self, preset: Preset, seed: int, index: int) -> SampleRecord:
        group, sibling = divmod(index, len(self.values))
        return with_value(draw(preset, seed, group), self.field, self.values[sibling])

    def settings(self) -> dict[str, Any]:
        return {"kind": self.kind, "field": self.field, "values": list(self.values), "derived": list(DERIVED)}

    def words(self) -> str:
        return f"{self.kind} {self.field} = {', '.join(self.siblings())}"

    def siblings(self) -> tuple[str, ...]:
        """What each sibling has, in words."""
        return tuple(map(str, self.values))


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """Siblings are the same lesion on other skin: all fields of `skin` follow the tone, and with `hair` its pigment."""

    tones: tuple[str, ...]
    hair: bool = False

    def __len__(self) -> int:
        return len(self.tones)

    def record(self, preset: Preset, seed: int, index: int) -> SampleRecord:
        group, sibling = divmod(index, len(self.tones))
        base = draw(preset, seed, group)
        other = draw(_on_tone(preset, self.tones[sibling]), seed, group)
        own = replace(base, skin=other.skin)
        if self.hair:
            pigment = other.hair
            own = replace(own, hair=replace(base.hair, eumelanin=pigment.eumelanin, pheomelanin=pigment.pheomelanin))
        return own

    def settings(self) -> dict[str, Any]:
        return {"kind": "counterfactual", "tones": list(self.tones), "hair": self.hair, "laws": _laws_hash(self.tones),
                "derived": list(DERIVED)}

    def words(self) -> str:
        return f"counterfactual tones = {', '.join(self.tones)}{' with hair' if self.hair else ''}"

    def siblings(self) -> tuple[str, ...]:
        """What each sibling has, in words."""
        return self.tones


@lru_cache(maxsize=64)
def _tones_of(name: str) -> Any:
    from synthskin.preset import load_preset

    return load_preset("base").with_tones(f"{name}=1").tones


def _on_tone(preset: Preset, name: str) -> Preset:
    return replace(preset, tones=_tones_of(name))


def _laws_hash(tones: Sequence[str]) -> str:
    laws = [[{key: law_identity(law) for key, law in tone.fields.items()} for tone in _tones_of(name)]
            for name in tones]
    return hashlib.sha256(json.dumps(laws, sort_keys=True).encode("ascii")).hexdigest()[:16]


def with_value(record: SampleRecord, key: str, value: Any) -> SampleRecord:
    """Copy of `record` in which the field `key` (group.name) has another value; raises RecordError."""
    group, _, name = key.partition(".")
    return replace(record, **{group: replace(getattr(record, group), **{name: check_value(key, value)})})


def make_sweep(field: str, values: Sequence[Any], where: str = "", kind: str = "sweep") -> Sweep:
    """Check field and values; raises VariationError naming what came and what is allowed."""
    prefix = f"{where}: " if where else ""
    if field not in specs():
        raise VariationError(f"{prefix}unknown field '{one_line(str(field))}'{nearest(field, specs())}; "
                             "allowed are the keys of `synthskin presets fields`")
    checked = []
    for value in values:
        try:
            checked.append(check_value(field, value))
        except (RecordError, TypeError) as error:
            raise VariationError(f"{prefix}{one_line(str(error))}") from None
    if not 2 <= len(checked) <= MAX_VALUES or len(set(checked)) != len(checked):
        raise VariationError(f"{prefix}{field}: 2 to {MAX_VALUES} different values are needed, "
                             f"{one_line(', '.join(map(str, checked)) or 'none')} came")
    return Sweep(field, tuple(checked), kind)


def check_sets(field: str, sets: Sequence[str], where: str = "--set") -> None:
    """Raises VariationError where an assignment fixes the field that varies, and would be of no effect."""
    for text in sets:
        if text.partition("=")[0].strip() == field:
            raise VariationError(f"{where} {one_line(text)}: {field} is what varies here; leave this out")


def parse_values(field: str, text: str, option: str = "--values") -> list[Any]:
    """`0.01,0.11,0.21`, or the options of a choice; raises VariationError."""
    spec = specs().get(field, {})
    parts = [part.strip() for part in text.split(",")]
    if "options" in spec:
        return parts
    try:
        return [number(part) for part in parts]
    except ValueError:
        example = {"--times": "0.4,0.7,1.0"}.get(option, "0.01,0.11,0.21")
        raise VariationError(f"{option} {one_line(text) or repr('')}: numbers with commas between are needed, {example}"
                             ) from None


def make_counterfactual(preset: Preset, text: str, hair: bool = False) -> Counterfactual:
    """From `fst1,fst6`; raises VariationError, also where the skin cannot follow because the preset has fixed it."""
    from synthskin.preset import TONES

    names = [part.strip() for part in text.split(",")]
    for name in names:
        if name not in TONES:
            raise VariationError(f"--tones {one_line(text)}: unknown tone '{one_line(name)}'{nearest(name, TONES)}; "
                                 f"allowed are {', '.join(TONES)}")
    if len(names) < 2 or len(set(names)) != len(names):
        raise VariationError(f"--tones {one_line(text)}: two or more different tones are needed, fst1,fst6")
    plan = Counterfactual(tuple(names), hair)
    if preset.fields["skin.melanosome_fraction"].pinned:
        raise VariationError("skin.melanosome_fraction is fixed by --set or the preset, so the skin cannot follow "
                             "--tones; leave it out")
    return plan


def with_lesions(preset: Preset) -> Preset:
    """Copy without the diagnosis healthy, for variations of the lesion; raises VariationError if nothing is left."""
    weights = {name: weight for name, weight in preset.diagnosis if name != HEALTHY}
    if not weights:
        raise VariationError(f"preset {preset.name}: healthy skin alone has no lesion to vary; give --diagnosis NV=1")
    if len(weights) == len(preset.diagnosis):
        return preset
    pairs = tuple(normalised(weights, preset.name, list(weights)))
    return replace(preset, diagnosis=pairs, overrides=(*preset.overrides, "leaving out healthy skin"))


@dataclass(frozen=True, slots=True)
class SweepFile:
    """A sweep as a TOML file: preset and its changes, the field, its values, how many lesions, the seed."""

    name: str
    preset: str
    field: str
    values: tuple[Any, ...]
    n: int = 4
    seed: int = 0
    sets: tuple[str, ...] = ()
    diagnosis: str | None = None
    tone: str | None = None
    description: str = ""


def sweep_names() -> list[str]:
    """Names of the sweeps that ship with synthskin."""
    folder = _folder()
    return sorted(path.stem for path in folder.glob("*.toml")) if folder else []


def _folder() -> Path | None:
    here = Path(__file__).resolve().parent
    return next((folder for folder in (here / "sweeps", here.parent / "sweeps") if folder.is_dir()), None)


def load_sweep(name_or_path: str) -> SweepFile:
    """Read a sweep by its shipped name or by the path of a TOML file; raises VariationError."""
    path = Path(name_or_path)
    if not path.is_file():
        folder = _folder()
        found = folder / f"{name_or_path}.toml" if folder and re.fullmatch(r"[\w-]{1,64}", name_or_path) else None
        if found is None or not found.is_file():
            names = sweep_names()
            raise VariationError(f"sweep '{one_line(name_or_path)}' is not there{nearest(name_or_path, names)}; "
                                 f"give a TOML file or one of {', '.join(names)}")
        path = found
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise VariationError(f"{path}: larger than {_MAX_BYTES} bytes; this is not a sweep")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise VariationError(f"{path}: cannot be read as UTF-8 text: {one_line(str(error))}") from None
    return parse_sweep(text, str(path), path.stem)


def parse_sweep(text: str, where: str, name: str) -> SweepFile:
    """Check the text of a sweep file; raises VariationError naming the file, the key and what is allowed."""
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise VariationError(f"{where}: is not valid TOML: {one_line(str(error))}") from None
    for key in data:
        if key not in _FILE_KEYS:
            raise VariationError(f"{where}: unknown key '{one_line(key)}'{nearest(key, _FILE_KEYS)}; "
                                 f"allowed are {', '.join(_FILE_KEYS)}")
    kinds: dict[str, Any] = {"values": list, "set": list, "n": int, "seed": int}
    for key, value in data.items():
        kind = kinds.get(key, str)
        if not isinstance(value, kind) or isinstance(value, bool):
            what = {list: "a list", int: "a whole number", str: "a text in quotes"}[kind]
            raise VariationError(f"{where}: {key} = {one_line(repr(value))}: {what} is needed")
    for key in ("field", "values"):
        if key not in data:
            raise VariationError(f"{where}: the key '{key}' is missing")
    sets = data.get("set", [])
    if not all(isinstance(item, str) for item in sets):
        raise VariationError(f"{where}: set is a list of texts, [\"hair.count=0\"]")
    made = make_sweep(data["field"], data["values"], where)
    check_sets(made.field, sets, f"{where}: set")
    own = data.get("name", name)
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", own):
        raise VariationError(f"{where}: name = {one_line(repr(own))}: letters, digits, '_' and '-' are needed")
    return SweepFile(own, data.get("preset", "fst2"), made.field, made.values, data.get("n", 4), data.get("seed", 0),
                     tuple(sets), data.get("diagnosis"), data.get("tone"), data.get("description", ""))


def followed(rows: Sequence[dict[str, Any]], siblings: int) -> list[str]:
    """Keys of the rows, names and inputs aside, that differ within any group of `siblings` rows."""
    groups = [rows[i:i + siblings] for i in range(0, len(rows), siblings)]
    return [key for key in (rows[0] if rows else ()) if key not in _NAMES
            and any(row[key] != group[0][key] for group in groups for row in group)]


def same_pictures(directory: Path, rows: Sequence[dict[str, Any]], siblings: int) -> list[list[int]]:
    """Siblings whose pictures are byte-identical in every group of a whole set, as lists of two or more."""
    alike = [list(range(siblings))]
    for first in range(0, len(rows), siblings):
        if not alike:
            break
        parted: dict[tuple[int, bytes], list[int]] = {}
        for place, members in enumerate(alike):
            for sibling in members:
                data = safe_path(directory, rows[first + sibling]["file_name"]).read_bytes()
                parted.setdefault((place, hashlib.sha256(data).digest()), []).append(sibling)
        alike = [members for members in parted.values() if len(members) > 1]
    return alike


def changed_preset(name: str, sets: Sequence[str], diagnosis: str | None, tone: str | None) -> Preset:
    """A preset with its changes; raises PresetError."""
    from synthskin.preset import load_preset

    preset = load_preset(name).with_sets(sets)
    if diagnosis is not None:
        preset = preset.with_diagnosis(diagnosis)
    return preset if tone is None else preset.with_tones(tone)


__all__ = [
    "DERIVED", "Counterfactual", "PresetError", "Sweep", "SweepFile", "VariationError", "changed_preset", "check_sets",
    "followed", "load_sweep", "make_counterfactual", "make_sweep", "parse_sweep", "parse_values", "same_pictures",
    "sweep_names", "with_lesions", "with_value",
]
