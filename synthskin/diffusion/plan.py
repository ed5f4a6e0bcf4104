"""What is asked for, sample by sample: class, tone, parent and mask of every slot, the same whatever n is.

Shares are dealt out exactly: slot i goes to the class that is furthest behind its share; so a larger n extends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthskin.conventions import DIAGNOSES, HEALTHY
from synthskin.diffusion.devices import keyed
from synthskin.diffusion.errors import DiffusionError
from synthskin.diffusion.prompts import parse_weights

CLASSES = (*DIAGNOSES, HEALTHY)
_TONES = tuple(f"fst{k}" for k in range(1, 7))


@dataclass(frozen=True, slots=True)
class Slot:
    """One sample to be made. `parents` are positions in the source set, the one for each try in turn."""

    index: int
    diagnosis: str | None
    ita_class: int | None
    parents: tuple[int, ...]

    def parent(self, attempt: int) -> int | None:
        """Two tries with each parent, then the next."""
        return self.parents[(attempt // 2) % len(self.parents)] if self.parents else None


def dealt(weights: Mapping[str, float]) -> Iterator[str]:
    """Names without end, each as often as its weight says, as evenly as can be."""
    counts = dict.fromkeys(weights, 0)
    made = 0
    while True:
        made += 1
        name = max(weights, key=lambda key: (weights[key] * made - counts[key], weights[key]))
        counts[name] += 1
        yield name


def plan_slots(n: int, diagnosis: str | None, tone: str | None, rows: Sequence[Mapping[str, Any]] | None, seed: int,
               spare: int = 4, default_classes: Mapping[str, float] | None = None, rows_name: str = "") -> list[Slot]:
    """n slots. diagnosis, tone: weights as text, such as "MEL=1,NV=3" and "fst5=1", or None.

    rows              of the source set (renders, masks); a slot's parents fit its class and tone. None: no source
    default_classes   weights where `diagnosis` is None and there are no rows
    Without weights every row is taken in turn, with its own class and tone. Raises DiffusionError where no row fits.
    """
    classes = None if diagnosis is None else parse_weights(diagnosis, list(CLASSES), "--diagnosis")
    tones = None if tone is None else parse_weights(tone, list(_TONES), "--tone")
    if rows is None:
        return list(_free(n, classes or dict(default_classes or {}), tones))
    by_class_tone: dict[tuple[Any, Any], list[int]] = {}
    for position, row in enumerate(rows):
        key = (row["diagnosis"] if classes else None, row["ita_class"] if tones else None)
        by_class_tone.setdefault(key, []).append(position)
    if not classes and not tones:
        return [_from_rows(index, rows, list(range(len(rows))), index, seed, spare) for index in range(n)]
    _check_there(classes, tones, by_class_tone, rows_name)
    streams: dict[str | None, Iterator[str]] = {}
    of_class = dealt(classes) if classes else None
    used: dict[tuple[Any, Any], int] = {}
    slots = []
    for index in range(n):
        name = next(of_class) if of_class is not None else None
        if tones and name not in streams:
            streams[name] = dealt(tones)
        number = int(next(streams[name])[3:]) if tones else None
        key = (name, number)
        pool = by_class_tone[key]
        slots.append(_from_rows(index, rows, pool, used.get(key, 0), seed, spare))
        used[key] = used.get(key, 0) + 1
    return slots


def _free(n: int, classes: Mapping[str, float], tones: Mapping[str, float] | None) -> Iterator[Slot]:
    if not classes:
        raise DiffusionError("--diagnosis: is needed, such as MEL=1,NV=1")
    of_class = dealt(classes)
    streams: dict[str, Iterator[str]] = {}
    for index in range(n):
        name = next(of_class)
        if tones and name not in streams:
            streams[name] = dealt(tones)
        yield Slot(index, name, int(next(streams[name])[3:]) if tones else None, ())


def _from_rows(index: int, rows: Sequence[Mapping[str, Any]], pool: Sequence[int], use: int, seed: int,
               spare: int) -> Slot:
    """The `use`-th of the pool in an order drawn anew for each round and each spare."""
    parents = []
    for turn in range(min(spare, len(pool))):
        order = np.random.Generator(np.random.Philox(key=keyed(seed, "parents", turn, use // len(pool)))).permutation(
            len(pool))
        parents.append(int(pool[order[use % len(pool)]]))
    row = rows[parents[0]]
    return Slot(index, row["diagnosis"], row["ita_class"],
                tuple(p for p in dict.fromkeys(parents)
                      if (rows[p]["diagnosis"], rows[p]["ita_class"]) == (row["diagnosis"], row["ita_class"])))


def _check_there(classes: Mapping[str, float] | None, tones: Mapping[str, float] | None,
                 there: Mapping[tuple[Any, Any], Sequence[int]], name: str) -> None:
    for diagnosis in classes or [None]:
        for tone in tones or [None]:
            number = None if tone is None else int(tone[3:])
            if not there.get((diagnosis, number)):
                asked = " with ".join(str(part) for part in (diagnosis, tone) if part is not None)
                have = sorted({str(part) for key in there for part in key if part is not None})
                raise DiffusionError(f"{name}: holds no picture of {asked} to start from; it has "
                                     f"{', '.join(have)[:200]}")
