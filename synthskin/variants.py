"""Variants: the forms a diagnosis takes, each a TOML table of structures and of laws of fields.

```toml
[variants.nodular]
diagnosis = "MEL"
weight = 0.2                              # among the variants of MEL
source = "Argenziano 2012"
[variants.nodular.structures.blue_white_veil]
probability = 0.7                         # else the structure is absent: its first number is 0
strength = [0.5, 1.0]                     # evenly between; a single number is fixed
source = "Menzies 2013"
[variants.nodular.fields."lesion.diameter_mm"]
uniform = [4.0, 9.0]                      # any law of a preset's fields
source = "..."
```
A structure's numbers are those of the record that begin with its name: `strength` of blue_white_veil is
`structures.blue_white_veil_strength`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from synthskin.conventions import DIAGNOSES
from synthskin.laws import (
    FieldLaw,
    PresetError,
    is_number,
    law_identity,
    law_lines,
    nearest,
    one_line,
    read_law,
    specs,
    toml,
)

#: Structures whose numbers are older than the group `structures`.
_ELSEWHERE: Final = {
    "pigment_network": {"strength": "lesion.network_strength", "spacing_um": "lesion.network_spacing_um",
                        "atypia": "structures.pigment_network_atypia"},
    "globules": {"density_per_mm2": "lesion.globule_density_per_mm2", "diameter_um": "lesion.globule_diameter_um",
                 "rim": "structures.globules_rim"},
}
#: Structures of the record, in the order of its fields.
STRUCTURES: Final = (
    "pigment_network", "globules", "negative_network", "parallel_ridge", "parallel_furrow", "follicular_pigment",
    "dots", "streaks", "pseudopods", "blotch", "blue_white_veil", "regression", "peppering", "milia_like_cyst",
    "comedo_like_opening", "fissures", "scale", "ulceration", "central_white_patch", "shiny_white_streaks",
    "leaf_like_area", "blue_grey_ovoid_nest", "arborizing_vessels", "dotted_vessels", "curved_vessels", "red_lacunae",
    "red_pseudonetwork", "acanthosis",
)
_NAME: Final = r"[A-Za-z0-9_-]{1,40}"


@dataclass(frozen=True, slots=True)
class Variant:
    """One form of a diagnosis.

    weight    share among the variants of its diagnosis (they sum to 1 in a preset)
    fields    {key: FieldLaw} that take the place of the preset's laws, unless these are pinned
    """

    name: str
    diagnosis: str
    weight: float
    fields: Mapping[str, FieldLaw] = field(default_factory=dict)
    source: str = ""

    def identity(self) -> list[Any]:
        """What decides a draw."""
        laws = {key: law_identity(law) for key, law in self.fields.items()}
        return [self.name, self.diagnosis, repr(self.weight), laws]

    def toml_lines(self) -> list[str]:
        lines = ["", f"[variants.{self.name}]", f"diagnosis = {toml(self.diagnosis)}", f"weight = {toml(self.weight)}",
                 f"source = {toml(self.source)}"]
        for key, law in self.fields.items():
            lines += ["", f'[variants.{self.name}.fields."{key}"]', *law_lines(law)]
        return lines


def structure_keys(name: str) -> dict[str, str]:
    """{number: key of the record} of a structure, the one that says whether it is there first."""
    if name in _ELSEWHERE:
        return _ELSEWHERE[name]
    prefix = f"structures.{name}_"
    return {key[len(prefix):]: key for key in specs() if key.startswith(prefix)}


def read_variants(tables: Any, document: Any, known: Mapping[str, Variant]) -> dict[str, Variant]:
    """Variants of one document; `known` are those of its parents, of which a table may change the weight alone.

    Raises PresetError with file, line, key and what is allowed.
    """
    if not isinstance(tables, dict):
        raise PresetError(f"{document.where('variants')}: variants are tables, [variants.my_nevus]")
    result = {}
    for name, body in tables.items():
        where = document.where(f"[variants.{name}")
        if not re.fullmatch(_NAME, name):
            raise PresetError(f"{where}: variant '{one_line(name)}': a name of letters, digits, '_' and '-' is needed "
                              "(at most 40)")
        if not isinstance(body, dict):
            raise PresetError(f"{where}: variants.{name} is a table, [variants.{name}] diagnosis = \"NV\"")
        allowed = ("diagnosis", "weight", "source", "structures", "fields")
        for key in body:
            if key not in allowed:
                raise PresetError(f"{document.where(f'[variants.{name}', key)}: variants.{name}: unknown key "
                                  f"'{one_line(key)}'{nearest(key, allowed)}; allowed are {', '.join(allowed)}")
        weight = body.get("weight", 1.0)
        if not is_number(weight) or weight < 0:
            raise PresetError(f"{where}: variants.{name}: weight = {one_line(repr(weight))}: "
                              "a number of 0 or more is needed")
        if set(body) == {"weight"} and name in known:
            result[name] = replace(known[name], weight=float(weight))
            continue
        diagnosis = body.get("diagnosis")
        if diagnosis not in DIAGNOSES:
            raise PresetError(f"{where}: variants.{name}: diagnosis = {one_line(repr(diagnosis))}: "
                              f"allowed are {', '.join(DIAGNOSES)}")
        source = body.get("source")
        if not isinstance(source, str) or not source.strip():
            raise PresetError(f"{where}: variants.{name}: a source is needed, source = \"Author year: what was taken\"")
        structures = _structures(name, body.get("structures", {}), document, where)
        fields = _fields(name, body.get("fields", {}), document, where)
        _refuse_twice(name, structures, fields, document)
        result[name] = Variant(name, diagnosis, float(weight), structures | fields, source)
    return result


def _refuse_twice(variant: str, structures: Mapping[str, FieldLaw], fields: Mapping[str, FieldLaw],
                  document: Any) -> None:
    """Raise PresetError where a number of a structure stands among the fields too."""
    for name in STRUCTURES:
        for number, key in structure_keys(name).items():
            if key in structures and key in fields:
                first = document.where(f"[variants.{variant}.structures.{name}]", number)
                second = document.where(f'[variants.{variant}.fields."{key}"]')
                raise PresetError(f"{second}: variants.{variant}: {key} is given twice: in fields here, and as "
                                  f"{number} of structures.{name} ({first}); leave one of them out")


def _structures(variant: str, tables: Any, document: Any, where: str) -> dict[str, FieldLaw]:
    if not isinstance(tables, dict):
        raise PresetError(f"{where}: structures are tables, [variants.{variant}.structures.dots] probability = 0.5")
    laws: dict[str, FieldLaw] = {}
    for name, body in tables.items():
        at = document.where(f"[variants.{variant}.structures.{name}")
        if name not in STRUCTURES:
            raise PresetError(f"{at}: unknown structure '{one_line(name)}'{nearest(name, STRUCTURES)}; "
                              f"allowed are {', '.join(STRUCTURES)}")
        keys = structure_keys(name)
        if not isinstance(body, dict):
            raise PresetError(f"{at}: structures.{name} is a table, probability = 0.5")
        allowed = ("probability", "source", *keys)
        for key in body:
            if key not in allowed:
                raise PresetError(f"{at}: {name}: unknown key '{one_line(key)}'{nearest(key, allowed)}; "
                                  f"allowed are {', '.join(allowed)}")
        probability = body.get("probability", 1.0)
        if not is_number(probability) or not 0 <= probability <= 1:
            raise PresetError(f"{at}: {name}: probability = {one_line(repr(probability))}: allowed is 0 to 1")
        first = next(iter(keys))
        if first not in body:
            raise PresetError(f"{at}: {name}: {first} is needed, {first} = [low, high]")
        for number, key in keys.items():
            if number not in body:
                continue
            raw = body[number]
            law = "value"
            if isinstance(raw, list):
                law = "integer" if specs()[key].get("integer") else "uniform"
            table = {law: raw, "source": body.get("source")}
            if number == first:
                table["zero_probability"] = round(1.0 - float(probability), 9)
            laws[key] = read_law(f"{at}: variants.{variant}", key, table)
    return laws


def _fields(variant: str, tables: Any, document: Any, where: str) -> dict[str, FieldLaw]:
    if not isinstance(tables, dict):
        raise PresetError(f"{where}: fields are tables, [variants.{variant}.fields.\"lesion.diameter_mm\"]")
    laws = {}
    for key, body in tables.items():
        at = document.where(f'[variants.{variant}.fields."{key}"')
        if key not in specs():
            raise PresetError(f"{at}: unknown field '{one_line(key)}'{nearest(key, specs())}; write the key in quotes, "
                              "\"group.name\"; allowed are the keys of `synthskin presets fields`")
        if not isinstance(body, dict):
            raise PresetError(f"{at}: {key} is a table with one law, for example uniform = [low, high]")
        laws[key] = read_law(f"{at}: variants.{variant}", key, body)
    return laws
