"""Are two folders the same set? Media byte-identical, rows equal, cards equal outside `run` (DATASET.md)."""

from __future__ import annotations

import json
from pathlib import Path


def differences(first: Path, second: Path) -> list[str]:
    """What differs, one line each; [] if the folders are the same."""
    names = [{str(p.relative_to(d)) for p in d.rglob("*") if p.is_file()} for d in (first, second)]
    found = [f"{name}: only in {first if name in names[0] else second}" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1]):
        a, b = (first / name).read_bytes(), (second / name).read_bytes()
        if name == "dataset.json":
            cards = [json.loads(data) for data in (a, b)]
            for card in cards:
                card.pop("run", None)
            if cards[0] != cards[1]:
                found.append("dataset.json: differs outside run")
        elif a != b:
            found.append(f"{name}: differs")
    return found
