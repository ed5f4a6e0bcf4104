"""Join shards of one run: the same folder, media byte for byte, rows and card, as the run without shards."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from synthskin.dataset.card import MAX_PRESET_BYTES, Card
from synthskin.dataset.encode import EncodedSample
from synthskin.dataset.format import DatasetError, encode_row, media_paths
from synthskin.dataset.preview import preview_png
from synthskin.dataset.reader import Progress, check_files, iter_rows, read_card, safe_path
from synthskin.dataset.writer import DatasetWriter

_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class Merged:
    """n samples asked for, how many are in the folder, how many this call copied, and the indices still missing."""

    n: int
    samples: int
    copied: int
    missing: tuple[int, ...]


def merge_sets(folders: list[Path], out: Path, progress: Progress | None = None) -> Merged:
    """Copy every whole sample of `folders` that `out` has not; sources, and samples that it has, stay as they are.

    Raises DatasetError where the folders are not of one run (naming what differs), where two of them, or one and `out`,
    hold different rows for one index, where a sample is damaged, or where `out` lies in one of them or cannot be
    written. The same call again continues.
    """
    cards = _matching_cards(folders, out)
    card = replace(cards[0], n=max(card.n for card in cards))
    preset = _preset_text(folders[0])
    for folder in folders[1:]:
        if _preset_text(folder) != preset:
            raise DatasetError(f"{folder}/preset.toml: differs from that of {folders[0]}; only shards of one run "
                               "can be merged")
    copied = 0
    with DatasetWriter(out, card, preset) as writer:
        # index: hash of its row; those that the folder has already are compared too
        seen = {row["index"]: hash(encode_row(row)) for row in iter_rows(out)}
        if progress is not None:
            progress.start(writer.card.n, len(writer.finished))
        try:
            there = len(writer.finished)
            for folder in folders:
                for encoded in _whole_samples(folder, card, seen, writer):
                    writer.write(encoded)
                    copied += 1
                    if progress is not None:
                        progress.step(there + copied)
        finally:
            if progress is not None:
                progress.stop()
        runs = [read_card(folder)[1] for folder in folders]
        writer.run |= {"merged": len(folders), "device": runs[0].get("device"),
                       "seconds": round(sum(float(run.get("seconds") or 0.0) for run in runs), 3)}
        writer.finish()
        if writer.finished:
            writer.put_extra("preview.png", preview_png(out))
        finished = writer.finished
        missing = tuple(index for index in range(writer.card.n) if index not in finished)
        return Merged(writer.card.n, len(finished), copied, missing)


def _matching_cards(folders: list[Path], out: Path) -> list[Card]:
    if not folders:
        raise DatasetError("merge: no folder was given; name the folders of the shards")
    real = [folder.resolve() for folder in folders]
    for k, folder in enumerate(real):
        if folder in real[:k]:
            raise DatasetError(f"{folders[k]}: was given twice")
    target = out.resolve()
    if target in real:
        raise DatasetError(f"--out {out}: is one of the folders to merge; choose another --out")
    for folder, place in zip(folders, real, strict=True):
        if place in target.parents:
            raise DatasetError(f"--out {out}: lies inside {folder}, which is to be merged; choose a folder elsewhere")
    cards = [read_card(folder)[0] for folder in folders]
    for folder, card in zip(folders, cards, strict=True):
        here = card.identity() | {"licences": card.licences, "attribution": card.attribution}
        first = cards[0].identity() | {"licences": cards[0].licences, "attribution": cards[0].attribution}
        for name, wanted in first.items():
            if here.get(name) != wanted:
                raise DatasetError(f"{folder}: holds a set with {name} = {here.get(name)}, {folders[0]} has {wanted}; "
                                   "only shards of one run can be merged")
    return cards


def _preset_text(folder: Path) -> str:
    path = safe_path(folder, "preset.toml")
    try:
        if path.stat().st_size > MAX_PRESET_BYTES:
            raise DatasetError(f"{path}: larger than {MAX_PRESET_BYTES} bytes")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from None


def _whole_samples(folder: Path, card: Card, seen: dict[int, int], writer: DatasetWriter) -> Iterator[EncodedSample]:
    """The samples of a folder that `writer` has not yet, checked and read; rows of an index in `seen` are compared."""
    there = writer.finished
    rows = iter_rows(folder)
    maps = bool(card.engine.get("maps"))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # decoding leaves Python's lock
        while some := list(itertools.islice(rows, _AT_ONCE)):
            new: list[tuple[dict[str, Any], str]] = []
            for row in some:
                line = encode_row(row)
                index = row["index"]
                if seen.setdefault(index, hash(line)) != hash(line):
                    raise DatasetError(f"{folder}: its sample {index} differs from that of another folder or of "
                                       f"{writer.directory}; only shards of one run can be merged")
                if row["set_hash"] != card.set_hash or row["seed"] != card.seed:
                    raise DatasetError(f"{folder}: sample {index} is of another set than the card says; see "
                                       f"`synthskin validate {folder}`")
                if index not in there and index not in {one["index"] for one, _ in new}:
                    new.append((row, line))
            faults = pool.map(lambda item: check_files(folder, item[0], card), new)
            for (row, line), fault in zip(new, faults, strict=True):
                if fault is not None:
                    raise DatasetError(f"{folder}: sample {row['index']}: {fault}; give its render command again, "
                                       "then merge again")
                yield EncodedSample(row["index"], line, _files(folder, media_paths(row, maps=maps)))


def _files(folder: Path, paths: dict[str, str]) -> dict[str, bytes]:
    return {relative: safe_path(folder, relative).read_bytes() for relative in paths.values()}
