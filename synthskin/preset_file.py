"""Files of presets: found by name or path, read, and each table checked; `preset.py` merges them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

from synthskin.confound import Confound, read_confound
from synthskin.laws import MAX_WEIGHT, FieldLaw, PresetError, nearest, one_line, read_law, specs
from synthskin.variants import Variant, read_variants

_MAX_BYTES: Final = 1_000_000
_MAX_DEPTH: Final = 8


@dataclass(frozen=True)
class Document:
    """One TOML file, read but not merged."""

    path: Path
    text: str
    data: dict[str, Any]

    @cached_property
    def lines(self) -> list[str]:
        """Lines without comments."""
        return [line.split("#")[0] for line in self.text.splitlines()]

    def where(self, *needles: str) -> str:
        """`file` or `file, line n`: the first line that holds all needles, each after the other."""
        lines = self.lines
        at = -1
        for needle in needles:
            found = next((i for i in range(max(at, 0), len(lines)) if needle in lines[i]), None)
            if found is None:
                break
            at = found
        return f"{self.path}, line {at + 1}" if at >= 0 else str(self.path)

    def parse(self) -> tuple[dict[str, Any] | None, dict[str, FieldLaw]]:
        allowed = ("name", "description", "extends", "diagnosis", "fields", "variants", "variants_from", "tones",
                   "confound")
        for key in self.data:
            if key not in allowed:
                raise PresetError(f"{self.where(key)}: unknown key '{key}'{nearest(key, allowed)}; "
                                  f"allowed are {', '.join(allowed)}")
        table = self.data.get("diagnosis")
        if table is not None and not isinstance(table, dict):
            raise PresetError(f"{self.where('diagnosis')}: diagnosis is a table of weights, [diagnosis] NV = 0.9")
        tables = self.data.get("fields", {})
        if not isinstance(tables, dict):
            raise PresetError(f"{self.where('fields')}: fields are tables, [fields.\"skin.blood_fraction\"]")
        fields = {}
        for key, body in tables.items():
            where = self.where(f'"{key}"')
            if key not in specs():
                hint = "; write the key in quotes, [fields.\"group.name\"]" if key in ("skin", "hair", "lesion",
                                                                                         "camera") else ""
                raise PresetError(f"{self.where(key)}: unknown field '{key}'{nearest(key, specs())}{hint}; "
                                  "allowed are the keys of `synthskin presets fields`")
            if not isinstance(body, dict):
                raise PresetError(f"{where}: {key} is a table with one law, for example uniform = [low, high]")
            fields[key] = read_law(where, key, body, self)
        return table, fields

    def confounds(self) -> dict[str, Confound]:
        """[confound.ink] MEL = 0.9"""
        table = self.data.get("confound", {})
        if not isinstance(table, dict):
            raise PresetError(f"{self.where('confound')}: confounds are tables, [confound.ink] MEL = 0.9")
        return {name: read_confound(self.where(f"[confound.{name}"), name, body) for name, body in table.items()}

    def borrowed_variants(self) -> dict[str, Variant]:
        """Variants of the presets named in `variants_from`."""
        names = self.data.get("variants_from", [])
        where = self.where("variants_from")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise PresetError(f"{where}: variants_from is a list of presets, [\"mel\", \"my_file.toml\"]")
        result: dict[str, Variant] = {}
        for name in names:
            path = (self.path.parent / name) if name.endswith(".toml") else find(name, where)
            if not path.is_file():
                raise PresetError(f"{where}: variants_from: '{one_line(name)}': that file is not there")
            result = joined(result, _variants_in(path, path.stat().st_mtime_ns), where)
        return result

    def with_variants(self, known: Mapping[str, Variant]) -> dict[str, Variant]:
        """`known` of its parents with the variants that it borrows and its own."""
        known = joined(known, self.borrowed_variants(), self.where("variants_from"))
        for name, variant in read_variants(self.data.get("variants", {}), self, known).items():
            known = joined(known, {name: variant}, self.where(f"[variants.{name}"))
        return dict(known)


def joined(known: Mapping[str, Variant], own: Mapping[str, Variant], where: str) -> dict[str, Variant]:
    """`known` with `own` in their place; raises PresetError where one of another diagnosis would be lost."""
    for name, variant in own.items():
        if variant.weight > MAX_WEIGHT:
            raise PresetError(f"{where}: variants.{name}: weight = {variant.weight}: at most {MAX_WEIGHT:g} is allowed")
        before = known.get(name, variant).diagnosis
        if before != variant.diagnosis:
            raise PresetError(f"{where}: variants.{name}: diagnosis = '{variant.diagnosis}', but this preset has a "
                              f"variant of {before} by that name, which would be lost; choose another name")
    return {**known, **own}


def preset_names() -> list[str]:
    """Names of the presets that ship with synthskin."""
    return sorted({path.stem for folder in _folders() for path in folder.glob("*.toml")})


def _folders() -> list[Path]:
    """Inside the package where it is installed from a wheel, else at the top of the checkout."""
    here = Path(__file__).resolve().parent
    return [folder for folder in (here / "presets", here.parent / "presets") if folder.is_dir()][:1]


def find(name: str, where: str = "") -> Path:
    """File of a preset by its name; raises PresetError, beginning with `where`."""
    for folder in _folders():
        path = folder / f"{name}.toml"
        if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) and path.is_file():
            return path
    prefix = f"{where}: " if where else ""
    raise PresetError(f"{prefix}unknown preset '{one_line(name)}'{nearest(name, preset_names())}; "
                      f"there are {listed()}, or give the path of a TOML file")


@lru_cache(maxsize=64)
def _variants_in(path: Path, _changed_ns: int) -> Mapping[str, Variant]:
    """Variants of a file that others borrow; read once as long as it does not change."""
    document = _read(path)
    return read_variants(document.data.get("variants", {}), document, {})


def documents_of(path: Path) -> list[Document]:
    """A file and, each after its child, all that it extends; raises PresetError."""
    chain = [_read(path)]
    while "extends" in chain[-1].data:
        last = chain[-1]
        parent = last.data["extends"]
        where = last.where("extends")
        if not isinstance(parent, str):
            raise PresetError(f"{where}: extends takes the name of a preset or the path of a file")
        target = (last.path.parent / parent) if parent.endswith(".toml") else find(parent, where)
        if not target.is_file():
            raise PresetError(f"{where}: extends = '{one_line(parent)}': that file is not there")
        if len(chain) >= _MAX_DEPTH or any(target.resolve() == seen.path.resolve() for seen in chain):
            raise PresetError(f"{where}: extends goes in a circle or deeper than {_MAX_DEPTH} files")
        chain.append(_read(target))
    return chain


def _read(path: Path) -> Document:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise PresetError(f"{path}: larger than {_MAX_BYTES} bytes; this is not a preset")
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise PresetError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PresetError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise PresetError(f"{path}: is not valid TOML: {one_line(str(error))}") from None
    document = Document(path, text, data)
    name = data.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) or name.startswith("."):
        raise PresetError(f"{document.where('name')}: name = {one_line(repr(name))}: a name of letters, digits, "
                          "'_', '-' and '.' is needed (at most 64)")
    if not isinstance(data.get("description", ""), str):
        raise PresetError(f"{document.where('description')}: description is a text in quotes")
    return document


def listed() -> str:
    """Names of the presets with commas."""
    return ", ".join(preset_names()) or "no presets"
