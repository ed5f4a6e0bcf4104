"""Presets: a population of pictures as ranges and weights, read from TOML, each value with its source.

`load_preset("fst6")` or `load_preset("my/own.toml")` gives a resolved `Preset`: parents (`extends`) merged a field at
a time, every field of the record present, every value inside the field's bounds. Whatever is not understood is a
`PresetError` that names the file, the line where it can be told, the key and what is allowed. Nothing is repaired.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from synthskin.confound import Confound, parse_confound
from synthskin.conventions import DIAGNOSES, HEALTHY
from synthskin.laws import (
    LAWS,
    FieldLaw,
    PresetError,
    law_identity,
    law_lines,
    nearest,
    normalised,
    number,
    one_line,
    read_law,
    specs,
    toml,
)
from synthskin.preset_file import Document, documents_of, find, listed, preset_names
from synthskin.variants import Variant

__all__ = ["LAWS", "FieldLaw", "Preset", "PresetError", "Tone", "load_preset", "parse_set", "preset_names"]

#: A diagnosis that the record's own fields describe; every other one needs a variant.
PLAIN_DIAGNOSES: Final = ("NV", HEALTHY)
TONES: Final = ("fst1", "fst2", "fst3", "fst4", "fst5", "fst6")
#: What a tone brings besides all fields of `skin`: the colour and form of hair.
_TONE_HAIR: Final = ("hair.eumelanin", "hair.pheomelanin", "hair.curl")


@dataclass(frozen=True)
class Preset:
    """A resolved preset: what `draw` needs, and nothing that is decided elsewhere.

    name         str   of the preset that was asked for; keys all draws, so overrides leave other fields as they were
    diagnosis    ((name, weight), ...)   weights sum to 1, in the order of conventions.DIAGNOSES, healthy last
    fields       {key: FieldLaw}         every key of record.field_specs()
    variants     (Variant, ...)          forms of the diagnoses; their laws come before `fields` unless pinned
    tones        (Tone, ...)             populations of skin, weights sum to 1; empty: the skin of `fields`
    confounds    (Confound, ...)         probabilities of artefacts that depend on the diagnosis
    overrides    what --set, --diagnosis, --tone and --confound changed, in words
    """

    name: str
    description: str
    diagnosis: tuple[tuple[str, float], ...]
    fields: Mapping[str, FieldLaw]
    overrides: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    tones: tuple[Tone, ...] = ()
    confounds: tuple[Confound, ...] = ()

    @cached_property
    def reachable(self) -> tuple[Variant, ...]:
        """Variants that can be drawn, their weights summing to 1 within each diagnosis."""
        result = []
        for name, _ in self.diagnosis:
            own = [v for v in self.variants if v.diagnosis == name and v.weight > 0]
            total = math.fsum(v.weight for v in own)
            total = 1.0 if abs(total - 1.0) < 1e-9 else total
            result += [replace(v, weight=v.weight / total) for v in own]
        return tuple(result)

    @cached_property
    def met_confounds(self) -> tuple[Confound, ...]:
        """Confounds without the diagnoses that are never drawn."""
        own = [confound.among(dict(self.diagnosis)) for confound in self.confounds]
        return tuple(confound for confound in own if confound.probabilities)

    @cached_property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of everything that decides a draw (citations and descriptions do not)."""
        canonical: dict[str, Any] = {
            "name": self.name,
            "diagnosis": [[name, repr(weight)] for name, weight in self.diagnosis],
            "fields": {key: law_identity(law) for key, law in self.fields.items()},
        }
        if self.reachable:
            canonical["variants"] = [v.identity() for v in self.reachable]
        if self.tones:
            canonical["tones"] = [tone.identity() for tone in self.tones]
        if self.met_confounds:
            canonical["confound"] = [confound.identity() for confound in self.met_confounds]
        text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]

    def resolved_toml(self) -> str:
        """The preset as TOML with nothing left open; `load_preset` of it gives the same hash."""
        lines = [f"name = {toml(self.name)}", f"description = {toml(self.description)}"]
        lines += [f"# changed by {text}" for text in self.overrides]
        lines += ["", "[diagnosis]", *(f"{name} = {toml(weight)}" for name, weight in self.diagnosis)]
        for key, law in self.fields.items():
            lines += ["", f'[fields."{key}"]']
            lines += law_lines(law)
        for tone in self.tones:
            lines += tone.toml_lines()
        for confound in self.met_confounds:
            lines += confound.toml_lines()
        for variant in self.reachable:
            lines += variant.toml_lines()
        return "\n".join(lines) + "\n"

    def with_sets(self, assignments: Sequence[str]) -> Preset:
        """Copy with `key=value` or `key=low..high` applied; raises PresetError on an unknown key or a bad value.

        That of an artefact takes the place of the preset's [confound] table of it.
        """
        fields = dict(self.fields)
        for text in assignments:
            key, law = parse_set(text)
            fields[key] = replace(law, pinned=True)
        notes = tuple(f"--set {one_line(text)}" for text in assignments)
        kept = tuple(confound for confound in self.confounds if not fields[confound.key].pinned)
        return replace(self, fields=fields, confounds=kept, overrides=self.overrides + notes)

    def with_diagnosis(self, text: str) -> Preset:
        """Copy with the weights of `NV=0.8,healthy=0.2`, or of variants, `MEL/nodular=1`; raises PresetError."""
        shown = f"--diagnosis {one_line(text)}"
        weights = parse_weights("--diagnosis", text, "NV=0.8,healthy=0.2")
        normalised(weights, "--diagnosis", tuple(weights))
        diagnosis: dict[str, float] = {}
        own: dict[str, float] = {}
        for key, weight in weights.items():
            name, slash, variant = key.partition("/")
            if slash:
                names = [v.name for v in self.variants if v.diagnosis == name]
                if variant not in names:
                    raise PresetError(f"{shown}: unknown variant '{one_line(key)}'{nearest(variant, names)}; "
                                      f"allowed are {', '.join(names) or 'none'}")
                own[variant] = weight
            diagnosis[name] = diagnosis.get(name, 0.0) + weight
        variants = self.variants
        for name in {v.diagnosis for v in variants if v.name in own}:
            if name in weights:
                raise PresetError(f"{shown}: give {name} or its variants, not both")
            variants = tuple(replace(v, weight=own.get(v.name, 0.0)) if v.diagnosis == name else v for v in variants)
        pairs = _weights(diagnosis, "--diagnosis", variants)
        return replace(self, diagnosis=pairs, variants=variants, overrides=(*self.overrides, shown))

    def with_tones(self, text: str) -> Preset:
        """Copy whose skin, and the colour and form of its hair, is that of `fst1=1,fst6=3`; raises PresetError."""
        weights = parse_weights("--tone", text, "fst1=1,fst6=3")
        shown = f"--tone {one_line(text)}"
        return replace(self, tones=_tones(weights, shown), overrides=(*self.overrides, shown))

    def laws_of(self, key: str) -> list[FieldLaw]:
        """All laws by which the field is drawn, of the preset, its tones and the forms of its diagnoses."""
        own = self.fields[key]
        if own.pinned:
            return [own]
        on_tones = [tone.fields.get(key, own) for tone in self.tones] or [own]
        found = []
        for name, _ in self.diagnosis:
            forms = [form.fields for form in self.reachable if form.diagnosis == name] or [{}]
            for laws in ([form[key]] if key in form else on_tones for form in forms):
                found += [law for law in laws if law not in found]
        return found

    def options_of(self, key: str) -> set[str]:
        """Options of a choice that can be drawn."""
        return {option for law in self.laws_of(key)
                for option, weight in (law.args if law.law == "choice" else [(law.args[0], 1.0)]) if weight > 0}

    def in_environment(self) -> Preset:
        """Copy whose photographs are lit by a panorama; raises PresetError if it has none, or another light is set."""
        if not self.options_of("camera.view") & {"clinical", "region"}:
            raise PresetError(f"--environment: preset {self.name} makes no photographs; use --preset clinical or "
                              "--set camera.view=clinical")
        if self.fields["clinical.light"].pinned:
            lights = self.options_of("clinical.light")
            if "environment" not in lights:
                raise PresetError(f"--environment: clinical.light is set to {' or '.join(sorted(lights))}, which would "
                                  "be of no effect; leave one of them out")
            return self
        return self.with_sets(["clinical.light=environment"])

    def with_confounds(self, texts: Sequence[str]) -> Preset:
        """Copy in which artefacts depend on the diagnosis as in `ink:MEL=0.9,NV=0.1`; raises PresetError."""
        made = {confound.artefact: confound for confound in self.confounds}
        given: set[str] = set()
        for text in texts:
            confound, shown = parse_confound(text), f"--confound {one_line(text)}"
            if confound.artefact in given:
                raise PresetError(f"{shown}: {confound.artefact} is given twice; write its diagnoses in one option")
            if self.fields[confound.key].pinned:
                raise PresetError(f"{shown}: {confound.key} is set by --set too; leave one of them out")
            confound.check_occurs(shown, dict(self.diagnosis))
            made[confound.artefact] = confound
            given.add(confound.artefact)
        order = tuple(made[name] for name in sorted(made))
        notes = tuple(f"--confound {one_line(text)}" for text in texts)
        return replace(self, confounds=order, overrides=self.overrides + notes)


@dataclass(frozen=True, slots=True)
class Tone:
    """A population of skin by its preset's name: weight and the laws that it brings."""

    name: str
    weight: float
    fields: Mapping[str, FieldLaw]

    def identity(self) -> list[Any]:
        """What decides a draw."""
        return [self.name, repr(self.weight), {key: law_identity(law) for key, law in self.fields.items()}]

    def toml_lines(self) -> list[str]:
        lines = ["", f"[tones.{self.name}]", f"weight = {toml(self.weight)}"]
        for key, law in self.fields.items():
            lines += ["", f'[tones.{self.name}.fields."{key}"]', *law_lines(law)]
        return lines


def parse_weights(option: str, text: str, example: str) -> dict[str, float]:
    """`a=1,b=2` as a table; raises PresetError on anything else. Signs and sums are checked by the caller."""
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, sep, value = part.partition("=")
        name = name.strip()
        if name in weights:
            raise PresetError(f"{option} {one_line(text)}: '{one_line(name)}' is given twice")
        try:
            weights[name] = float(number(value)) if sep else math.nan
        except ValueError:
            weights[name] = math.nan
        if math.isnan(weights[name]):
            raise PresetError(f"{option} {one_line(text)}: write weights as {example}")
    return weights


def load_preset(name_or_path: str | Path) -> Preset:
    """Resolve a preset by its name or by the path of a TOML file; raises PresetError."""
    text = str(name_or_path)
    file = Path(text)
    if text.endswith(".toml") or "/" in text or "\\" in text:
        if not file.is_file():
            raise PresetError(f"preset file '{one_line(text)}' is not there; give a file or one of {listed()}")
        path = file
    else:
        path = find(text)
    chain = documents_of(path)
    merged_fields: dict[str, FieldLaw] = {
        key: FieldLaw("value", (spec["default"],), 0.0, f"default of the record: {spec['source']}")
        for key, spec in specs().items()
    }
    tables: list[dict[str, Any]] = []
    where = str(path)
    variants: dict[str, Variant] = {}
    tones: tuple[Tone, ...] = ()
    confounds: dict[str, Confound] = {}
    declared: list[tuple[str, Confound, int]] = []
    for document in reversed(chain):
        weights, fields = document.parse()
        if weights is not None:
            where = document.where("[diagnosis]")
            tables.append(weights)
        merged_fields.update(fields)
        variants = document.with_variants(variants)
        if "tones" in document.data:
            tones = _own_tones(document)
        confounds = {name: old for name, old in confounds.items() if not merged_fields[old.key].pinned}
        for name, confound in document.confounds().items():
            at = document.where(f"[confound.{name}")
            if merged_fields[confound.key].pinned:
                raise PresetError(f"{at}: {confound.key} is pinned by a law too; leave one of them out")
            confounds[name] = confound
            declared.append((at, confound, max(len(tables) - 1, 0)))
    if not tables:
        raise PresetError(f"{path}: the table [diagnosis] is missing; write for example [diagnosis] NV = 0.9")
    head = chain[0].data
    everything = tuple(variants.values())
    diagnosis = _weights(tables[-1], where, everything)
    for at, confound, first in declared:  # a file may draw fewer diagnoses than the one that it extends
        drawn = {name for own in tables[first:] for name, weight in own.items() if weight}
        confound.check_occurs(at, [name for name in (*DIAGNOSES, HEALTHY) if name in drawn])
    return Preset(head["name"], head.get("description", ""), diagnosis, merged_fields,
                  variants=everything, tones=tones, confounds=tuple(confounds[name] for name in sorted(confounds)))


def parse_set(text: str) -> tuple[str, FieldLaw]:
    """`skin.blood_fraction=0.02`, `hair.count=0..12` or `camera.dermoscopic_type=contact polarized`."""
    shown = one_line(text)
    key, sep, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not sep or not key or not value:
        raise PresetError(f"--set {shown}: write key=value or key=low..high; keys: `synthskin presets fields`")
    spec = specs().get(key)
    if spec is None:
        raise PresetError(f"--set {shown}: unknown key '{one_line(key)}'{nearest(key, specs())}; "
                          "keys: `synthskin presets fields`")
    where = f"--set {shown}"
    source = f"--set {shown}"
    if "options" in spec:
        return key, read_law(where, key, {"value": value, "source": source})
    low, dots, high = value.partition("..")
    try:
        numbers = [number(low), number(high)] if dots else [number(value)]
    except ValueError:
        raise PresetError(f"{where}: '{one_line(value)}' is not a number or low..high; "
                          f"allowed is {spec['low']} to {spec['high']}") from None
    if len(numbers) == 1:
        return key, read_law(where, key, {"value": numbers[0], "source": source})
    law = "integer" if spec.get("integer") else "uniform"
    return key, read_law(where, key, {law: numbers, "source": source})


def _own_tones(document: Document) -> tuple[Tone, ...]:
    """[tones.fst1] weight = 1, with the laws of preset fst1 or with its own [tones.fst1.fields]."""
    table = document.data["tones"]
    where = document.where("[tones")
    if not isinstance(table, dict) or not all(isinstance(body, dict) for body in table.values()):
        raise PresetError(f"{where}: tones are tables, [tones.fst1] weight = 1")
    for name, body in table.items():
        for key in body:
            if key not in ("weight", "fields"):
                raise PresetError(f"{where}: tones.{name}: unknown key '{one_line(key)}'; "
                                  "allowed are weight, fields")
    tones = _tones({name: body.get("weight", 1.0) for name, body in table.items()}, where)
    result = []
    for tone in tones:
        given = table[tone.name].get("fields")
        if given is None:
            result.append(tone)
            continue
        if not isinstance(given, dict) or set(given) != set(tone.fields):
            raise PresetError(f"{where}: tones.{tone.name}.fields: all of {', '.join(tone.fields)} are needed, "
                              "or leave the table out")
        fields = {}
        for key in tone.fields:
            if not isinstance(given[key], dict):
                raise PresetError(f"{where}: {key} is a table with one law, for example uniform = [low, high]")
            fields[key] = read_law(where, key, given[key], document)
        result.append(replace(tone, fields=fields))
    return tuple(result)


def _weights(
    table: Mapping[str, Any], where: str, variants: Sequence[Variant]
) -> tuple[tuple[str, float], ...]:
    known = (*DIAGNOSES, HEALTHY)
    grown = [name for name in known
             if name in PLAIN_DIAGNOSES or any(v.diagnosis == name and v.weight > 0 for v in variants)]
    for name, weight in table.items():
        if name not in known:
            raise PresetError(f"{where}: unknown diagnosis '{one_line(name)}'{nearest(name, known)}; "
                              f"allowed are {', '.join(grown)}")
        if name not in grown and weight != 0:
            raise PresetError(f"{where}: this preset has no variant of {name}; allowed are {', '.join(grown)}; "
                              f"write variants_from = [\"{name.lower()}\"], extend \"base\" or write [variants.<name>]")
    pairs = normalised(table, where, known)
    return tuple((name, weight) for name, weight in pairs if weight > 0)


def _tones(weights: Mapping[str, Any], where: str) -> tuple[Tone, ...]:
    for name in weights:
        if name not in TONES:
            raise PresetError(f"{where}: unknown tone '{one_line(name)}'{nearest(name, TONES)}; "
                              f"allowed are {', '.join(TONES)}")
    result = []
    for name, weight in normalised(weights, where, TONES):
        if weight > 0:
            fields = load_preset(name).fields
            keys = [key for key in fields if key.startswith("skin.") or key in _TONE_HAIR]
            result.append(Tone(name, weight, {key: fields[key] for key in keys}))
    return tuple(result)
