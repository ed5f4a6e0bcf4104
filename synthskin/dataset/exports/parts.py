"""The parts of a set that forms with a place for splits have: training, validation and test, by the rows' `split`."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from synthskin.dataset.format import short
from synthskin.dataset.imports.splits import SPLITS

PARTS: Final = ("train", "val", "test")


class Parts:
    """Tells the part of each row, and remarks on rows whose split is none of the three."""

    def __init__(self) -> None:
        self._others: Counter[str | None] = Counter()
        self._named = False

    def of(self, row: dict[str, Any]) -> str:
        """train, val or test; a row without a split, or with another, is with the training rows."""
        split = row["split"]
        part = SPLITS.get(split.lower()) if split is not None else None
        if part is None:
            self._others[split] += 1
        self._named = self._named or split is not None
        return part or "train"

    def remarks(self) -> list[str]:
        """Nothing where no row has a split; else how many rows lie with the training rows without being of them."""
        if not self._named:
            return []
        return [f"{count} samples {'without a split' if split is None else f'of the split {short(split)}'} are with "
                "the training samples; the column split tells them apart"
                for split, count in sorted(self._others.items(), key=lambda item: str(item[0]))]
