"""What the user is told of the classes of a source: each with its diagnosis and number, and those that have none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from synthskin.conventions import DIAGNOSES, HEALTHY
from synthskin.dataset.format import short
from synthskin.dataset.imports.common import Photo

_MOST: Final = 40


def classes_told(photos: Iterable[Photo]) -> tuple[str, ...]:
    """One line of `class -> diagnosis (number)`, and one that names the classes without a diagnosis, if any."""
    counts = Counter((photo.label or "", photo.diagnosis) for photo in photos)
    ordered = sorted(counts.items(), key=lambda item: item[0][0])
    lines = ["classes: " + _listed([f"{short(label)} -> {diagnosis or 'none'} ({count})"
                                    for (label, diagnosis), count in ordered])]
    unknown = [f"{short(label)} ({count})" for (label, diagnosis), count in ordered if diagnosis is None]
    if unknown:
        lines.append(f"no known diagnosis: {_listed(unknown)}; their rows have diagnosis null and the name as "
                     f"diagnosis_raw; for another, name the folder {', '.join((*DIAGNOSES, HEALTHY))}")
    return tuple(lines)


def _listed(texts: list[str]) -> str:
    more = f" and {len(texts) - _MOST} more" if len(texts) > _MOST else ""
    return ", ".join(texts[:_MOST]) + more
