"""The audit that lies in a folder already: the same goes on, a larger one extends it, any other is refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from synthskin.bias.audit_model import Model
from synthskin.bias.audit_pictures import Judged
from synthskin.bias.errors import BiasError
from synthskin.files import read_json

PLAIN: Final = "plain"
#: Settings that decide the renders, by the option that gives them; causes and numbers of pictures are compared as sets.
COMPARED: Final = {"preset": "--preset", "size": "--size", "spp": "--spp", "seed": "--seed", "set": "--set",
                   "diagnosis": "--diagnosis", "tone": "--tone", "confound": "--confound"}
_ALLOWED: Final = "give {} to continue it, another --out, or --overwrite to start anew"


class Part(NamedTuple):
    """One set of an audit: the values of its cause (none where it is the plain set) and how many pictures it has."""

    values: tuple[Any, ...]
    n: int


def former(out: Path) -> dict[str, Any] | None:
    """results.json of the audit in the folder; None where there is none, or none that can be read."""
    with contextlib.suppress(BiasError, KeyError, TypeError, ValueError, AttributeError):
        found = read_json(out / "results.json", BiasError)
        whole = all(isinstance(found[key], dict) for key in ("model", "preprocess"))
        if whole and isinstance(found["settings"].get("renders", []), list) and _parts(found):
            return found
    return None


def check_former(out: Path, model: Model, asked: Mapping[str, Any], parts: Mapping[str, Part]) -> bool:
    """Does the audit asked for extend the one in `out`? False where it is the same, or there is none.

    parts     the sets of the audit asked for, by name
    Raises BiasError where the one that is there would be lost: it is of another model, threshold or preset, or holds
    causes, values or pictures that were not asked for now.
    """
    there = former(out)
    if there is None:
        return False
    if there["model"].get("sha256") != model.sha256:
        raise BiasError(f"{out}: holds the audit of another model ({str(there['model'].get('name'))[:60]}); "
                        f"{_ALLOWED.format('that model')}")
    old, new = there["preprocess"], json.loads(json.dumps(model.preprocess.model_dump(mode="json", exclude={"label"})))
    for key in new:
        if old.get(key) != new[key]:
            raise _other(out, key, old.get(key), new[key])
    _check_settings(out, there["settings"], asked)
    before = _parts(there)
    extends = False
    for name, part in before.items():
        now = parts.get(name)
        if now is None:
            raise BiasError(f"{out}: holds an audit of {_names(before)}, and one of {_names(parts)} is asked for; "
                            + _ALLOWED.format("the same causes, or more,"))
        if now.values != part.values:
            raise _other(out, name, _words(part.values), _words(now.values))
        if now.n < part.n:
            raise BiasError(f"{out}: holds an audit with {part.n} pictures of {name}, {now.n} are asked for; "
                            + _ALLOWED.format("as many, or more,"))
        extends = extends or now.n > part.n
    return extends or len(parts) > len(before)


def check_pictures(out: Path, asked: Mapping[str, Any], judged: Mapping[str, Judged]) -> None:
    """Raise BiasError where sets that were given hold other pictures than when the audit in `out` was made."""
    there = former(out)
    if there is None or not asked.get("renders"):
        return
    for entry in there["sets"]:
        own = judged.get(entry["set"])
        if own is not None and len(own.rows) == entry["n"] and own.data_hash != entry.get("pictures_sha256"):
            raise BiasError(f"{out}: holds an audit of other pictures of {entry['set']}; "
                            + _ALLOWED.format("the same --renders"))


def _check_settings(out: Path, old: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    if asked.get("renders"):  # the sets themselves are compared
        if not old.get("renders"):
            raise BiasError(f"{out}: holds an audit that rendered its sets itself; "
                            + _ALLOWED.format("its own settings without --renders"))
        return
    if old.get("renders"):
        raise BiasError(f"{out}: holds an audit of sets that were given; "
                        + _ALLOWED.format(f"--renders {_words(old['renders'])}"))
    for key, option in COMPARED.items():
        if key in asked and key in old and old[key] != asked[key]:
            raise _other(out, option, old[key], asked[key])


def _other(out: Path, what: str, old: Any, new: Any) -> BiasError:
    return BiasError(f"{out}: holds an audit with {what} = {_words(old)} where {_words(new)} is asked for; "
                     + _ALLOWED.format("the same settings"))


def _parts(there: Mapping[str, Any]) -> dict[str, Part]:
    """The sets of an audit by name, as its results.json tells them; raises KeyError and TypeError."""
    values = {own["cause"]: tuple(own["values"]) for own in there["causes"]}
    return {str(entry["set"]): Part(values.get(entry["set"], ()), int(entry["n"])) for entry in there["sets"]}


def _names(parts: Mapping[str, Part]) -> str:
    return ", ".join(name for name in parts if name != PLAIN)[:200]


def _words(value: Any) -> str:
    if value is None or value == []:
        return "none"
    return (", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))[:120]
