"""Groups of cases (tone, contrast, class, hair, size, artefact, device, any key of a row) and who belongs together.

A case may lie in no group (None): its row has no value. How many do is reported. Boundaries of `quantiles` are taken
from the rows of the test set, never from scores; equal values are never parted, so groups may differ in size or merge.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthskin.bias.errors import BiasError
from synthskin.conventions import ita_class
from synthskin.dataset.format import ROW_KEYS
from synthskin.laws import nearest, one_line

#: kind -> (default bins by value, default edges, their names). Tone: light is ITA classes 1-3, dark 4-6 (CIRCLe).
_TONE: Final[dict[str, tuple[Any, ...]]] = {"light": (1, 2, 3), "dark": (4, 5, 6)}
_HAIR_EDGES: Final = (0.005, 0.05)  # share of the pixels: next to none, some, dense; by design
NUMBERS: Final = ("ita", "contrast", "hair", "size")
KINDS: Final = ("tone", "ita", "contrast", "class", "hair", "size", "device", "artefact:NAME", "params:group.field")
MEASURED: Final = ("tone", *NUMBERS)  # on the picture, where the row has no value


@dataclass(frozen=True, slots=True)
class Grouping:
    """`labels[i]` is the group of case i or None; `names` in their order; `pair` (a, b): a - b is what is tested.

    bounds   the least value of each group of numbers but the first
    note     says where equal values left fewer groups than were asked for
    """

    kind: str
    names: tuple[str, ...]
    labels: tuple[str | None, ...]
    pair: tuple[str, str] | None
    bounds: tuple[float, ...] = ()
    note: str = ""

    def where(self, name: str) -> NDArray[np.bool_]:
        return np.array([label == name for label in self.labels], bool)

    @property
    def unknown(self) -> int:
        return sum(label is None for label in self.labels)


def make_grouping(
    kind: str, by: str, rows: Sequence[Mapping[str, Any]], measured: Mapping[str, Sequence[float]],
    bins: Mapping[str, Sequence[Any]] | None = None, edges: Sequence[float] = (), quantiles: int | None = None,
    names: Sequence[str] = (), pair: Sequence[str] = (),
) -> Grouping:
    """Group the cases of `rows`.

    by         tone (ita_class), ita (degrees), contrast (CIEDE2000), class (diagnosis), hair (share of the pixels),
               size (share of the pixels in the mask), artefact:NAME (there or not), device (profile of renders, else
               dermoscopic_type), a key of a row, or params:group.field of renders
    measured   numbers measured on the pictures: hair, size, ita, contrast; NaN where there is nothing to measure. Tone,
               ita and contrast of the row go before what was measured

    Raises BiasError where `by` is nothing known, no case has a value, or a group of the pair does not occur.
    """
    values = [value_of(by, row, measured, i) for i, row in enumerate(rows)]
    if all(value is None for value in values):
        raise BiasError(f"[groups.{kind}] by = \"{by}\": none of the {len(rows)} test pictures has a value for it; "
                        f"{_remedy(by)}")
    bounds: tuple[float, ...] = ()
    note = ""
    if bins or (by == "tone" and not edges and quantiles is None):
        chosen = bins or _TONE
        labels = [_in_bins(value, chosen) for value in values]
        order = [name for name in chosen if name in set(labels)]
    elif edges or quantiles is not None or by in NUMBERS or _numeric(values):
        found = np.array([float(v) for v in values if v is not None])
        if edges or (by == "hair" and quantiles is None):
            cuts = tuple(edges or _HAIR_EDGES)
        else:
            cuts = _cuts(found, quantiles or 3)
            note = _merged(found, cuts)
        bounds = tuple(dict.fromkeys(cuts))
        words = tuple(names) or _words(by, edges, quantiles)
        if not words:
            cuts, words = bounds, _ranges(bounds)
        labels = [None if v is None else words[int(np.searchsorted(cuts, float(v), side="right"))] for v in values]
        order = [name for name in words if name in set(labels)]
    else:
        labels = [None if value is None else str(value) for value in values]
        order = sorted({label for label in labels if label is not None})
    if len(order) < 2:
        raise BiasError(f"[groups.{kind}] by = \"{by}\": all test pictures are in one group ({', '.join(order)}); a "
                        "gap needs two. Give a test set that has both, other bins, or leave the grouping out")
    for side in pair:
        if side not in order:
            raise BiasError(f"[groups.{kind}] pair: no test picture is in '{one_line(side)}'{nearest(side, order)}; "
                            f"there are {', '.join(order)}{f' ({note})' if note else ''}")
    tested = (pair[0], pair[1]) if pair else (order[1], order[0]) if len(order) == 2 else None
    return Grouping(kind, tuple(order), tuple(labels), tested, bounds, note)


def value_of(by: str, row: Mapping[str, Any], measured: Mapping[str, Sequence[float]], position: int) -> Any:
    """What the case is grouped by; None where it has none. Raises BiasError on an unknown `by`."""
    key = {"tone": "ita_class", "contrast": "contrast", "class": "diagnosis"}.get(by, by)
    if by in ("hair", "size"):
        return _measured(measured, by, position)
    if by == "ita":
        found = row["ita_deg"] if row["ita_deg"] is not None else row["ita_image_deg"]
        return found if found is not None else _measured(measured, "ita", position)
    if by == "tone" and row["ita_class"] is None:
        angle = _measured(measured, "ita", position)
        return None if angle is None else ita_class(angle)
    if by == "contrast" and row["contrast"] is None:
        return _measured(measured, "contrast", position)
    if by == "device":
        profile = _params(row).get("device", {})
        profile = profile.get("profile") if isinstance(profile, dict) else None
        return profile if profile is not None else row["dermoscopic_type"]
    if by.startswith("artefact:"):
        return f"with {by[9:]}" if by[9:] in row["artefacts"] else f"without {by[9:]}"
    if by.startswith("params:"):
        param: Any = _params(row)
        for part in by[7:].split("."):
            param = param.get(part) if isinstance(param, dict) else None
        return param if isinstance(param, (int, float, str)) else None
    if key not in row:
        raise BiasError(f"groups: {_unknown(by)}")
    value = row[key]
    return value if isinstance(value, (int, float, str)) else None


def check_by(by: str) -> None:
    """Raise BiasError on what no row is ever grouped by."""
    if by not in KINDS and by not in ROW_KEYS and not re.fullmatch(r"artefact:.+|params:[^.]+(\.[^.]+)+", by):
        raise BiasError(_unknown(by))


def _unknown(by: str) -> str:
    return (f"by = \"{one_line(by)}\"{nearest(by, KINDS)}: allowed are {', '.join(KINDS)} or a key of metadata.jsonl")


def fixed_names(by: str, bins: Mapping[str, Sequence[Any]], edges: Sequence[float], quantiles: int | None,
                names: Sequence[str]) -> tuple[str, ...]:
    """Names of the groups that `make_grouping` gives, as far as they are known without data; else ()."""
    if bins or (by == "tone" and not edges and quantiles is None):
        return tuple(bins or _TONE)
    if names or edges:
        return tuple(names) or _ranges(edges)
    if by in NUMBERS and quantiles in (None, 3):
        return _words(by, edges, quantiles)
    return (f"with {by[9:]}", f"without {by[9:]}") if by.startswith("artefact:") else ()


def connected(names: Sequence[Iterable[str]]) -> list[int]:
    """For each case the number of one that stands for all it is tied to by a name, however indirectly."""
    parent = list(range(len(names)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[str, int] = {}
    for i, own in enumerate(names):
        for name in own:
            parent[root(i)] = root(first.setdefault(name, i))
    return [root(i) for i in range(len(names))]


def clusters_of(rows: Sequence[Mapping[str, Any]], home: Sequence[str] | None = None,
                sha256: Sequence[str] | None = None) -> list[str]:
    """For each case the name of its cluster: cases that share a patient, lesion, group_id or parent, however
    indirectly.

    home     name of each case's data set: a case without any of these stands alone, under set and file name
    sha256   of each case's picture: a picture, its copies and what was made from it are then one cluster too
    """
    ties = [[*ids_of(row), *parents_of(row)] for row in rows]
    roots = connected([own if sha256 is None else [*own, f"picture:{sha256[i]}"] for i, own in enumerate(ties)])
    names: dict[int, str] = {}
    result = []
    for i, (row, own) in enumerate(zip(rows, ties, strict=True)):
        result.append(names.setdefault(roots[i], own[0] if own else f"{home[i] if home else ''}/{row['file_name']}"))
    return result


def ids_of(row: Mapping[str, Any]) -> list[str]:
    """Names of the patient, the lesion and the group of a case, those it has."""
    return [f"{key}:{row[key]}" for key in ("group_id", "patient_id", "lesion_id") if row.get(key) is not None]


def parents_of(row: Mapping[str, Any]) -> list[str]:
    """Names of the pictures that a case was made from."""
    return [f"picture:{parent['sha256']}" for parent in row.get("parents") or ()]


def _measured(measured: Mapping[str, Sequence[float]], what: str, position: int) -> float | None:
    value = float(measured[what][position]) if what in measured else math.nan
    return value if math.isfinite(value) else None


def _in_bins(value: Any, bins: Mapping[str, Sequence[Any]]) -> str | None:
    return next((name for name, members in bins.items() if value in members or str(value) in map(str, members)), None)


def _numeric(values: Sequence[Any]) -> bool:
    """Numbers with more values than would make sense as groups."""
    known = [v for v in values if v is not None]
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in known) and len(set(known)) > 8


def _cuts(found: NDArray[np.float64], count: int) -> tuple[float, ...]:
    """The least value of each of `count` parts but the first: parts as alike in size as equal values let them be.

    Two cuts are the same where so many values are equal that nothing is left for the part between them.
    """
    values, many = np.unique(found, return_counts=True)
    if len(values) < 2:
        return ()
    below = np.cumsum(many)[:-1] / len(found)  # share of the cases under values[1:]
    return tuple(float(values[1 + int(np.argmin(np.abs(below - k / count)))]) for k in range(1, count))


def _merged(found: NDArray[np.float64], cuts: Sequence[float]) -> str:
    """What is to be said where two cuts fell together."""
    made = len(set(cuts)) + 1
    if made == len(cuts) + 1:
        return ""
    values, many = np.unique(found, return_counts=True)
    most = int(np.argmax(many))
    return (f"{made} groups instead of {len(cuts) + 1}, as equal values stay together: {many[most]} of {len(found)} "
            f"cases have {values[most]:.4g}")


def _words(by: str, edges: Sequence[float], quantiles: int | None) -> tuple[str, ...]:
    """Names of three groups of numbers that we cut; () where their ranges are their names."""
    if edges or quantiles not in (None, 3):
        return ()
    if by == "hair" and quantiles is None:
        return "no hair", "some hair", "dense hair"  # by _HAIR_EDGES
    return {"size": ("small", "middle", "large"), "contrast": ("low", "middle", "high"),
            "hair": ("least hair", "middle hair", "most hair")}.get(by, ("lowest", "middle", "highest"))


def _ranges(bounds: Sequence[float]) -> tuple[str, ...]:
    """Names of the groups between rising bounds, in as many digits as tell them apart."""
    if not bounds:
        return ("all alike",)
    texts = next(t for digits in range(4, 18) if len(set(t := [f"{b:.{digits}g}" for b in bounds])) == len(set(bounds)))
    return (f"under {texts[0]}", *(f"{a} to {b}" for a, b in itertools.pairwise(texts)), f"{texts[-1]} and over")


def _remedy(by: str) -> str:
    return {
        "tone": "it could not be measured either (`synthskin tone` says why); leave the grouping out",
        "size": "the pictures need masks", "hair": "the pictures need masks of hair",
        "contrast": "the pictures need masks",
    }.get(by, "give a test set that has it, or leave the grouping out")


def _params(row: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(row["params"] or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
