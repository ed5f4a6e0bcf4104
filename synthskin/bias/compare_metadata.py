"""A folder's metadata.jsonl, written by whoever: every line is checked before a picture is opened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from synthskin.bias.errors import BiasError
from synthskin.conventions import DIAGNOSES, HEALTHY
from synthskin.dataset.format import MAX_ROW_BYTES, DatasetError
from synthskin.dataset.reader import read_lines, safe_path
from synthskin.laws import one_line

_IDS: Final = ("group_id", "patient_id", "lesion_id")


@dataclass(frozen=True, slots=True)
class Item:
    """A picture of a set before it is read: name, files, diagnosis or "", and the group it belongs to (without one
    its own path, so that equal file names of two sets are no group)."""

    name: str
    image: Path
    mask: Path | None
    hair: Path | None
    kind: str
    group: str


def read_metadata(folder: Path) -> Iterator[Item]:
    """Item after item; empty lines are passed over. Raises BiasError naming the line, DatasetError without the file."""
    for number, line, _ in read_lines(folder):
        if not line.strip():
            continue
        try:
            yield _item(folder, line)
        except (BiasError, DatasetError) as error:
            raise BiasError(f"{folder}/metadata.jsonl, line {number}: {one_line(str(error), 200)}") from None


def _item(folder: Path, line: bytes) -> Item:
    if len(line) > MAX_ROW_BYTES:
        raise BiasError(f"longer than {MAX_ROW_BYTES} bytes; one object with file_name a line is needed")
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BiasError(f"byte {error.start + 1} is not UTF-8; save the file as UTF-8") from None
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict) or "file_name" not in row:
        raise BiasError("an object with file_name is needed")
    name = row["file_name"]
    if not isinstance(name, str) or not _writable(name):
        raise BiasError(f"file_name {one_line(ascii(name), 60)}: a path inside the folder, as text, is needed")
    image = safe_path(folder, name)
    kind = row.get("diagnosis")
    return Item(name, image, None, None, kind if kind in (*DIAGNOSES, HEALTHY) else "", _group(row) or str(image))


def _group(row: dict[str, Any]) -> str | None:
    """The first id that there is; raises BiasError on one that is neither text nor a whole number."""
    for key in _IDS:
        value = row.get(key)
        if value is None or value == "":
            continue
        whole = isinstance(value, (int, float)) and not isinstance(value, bool) and value % 1 == 0
        if not isinstance(value, str) and not whole:
            raise BiasError(f"{key} {one_line(ascii(value), 60)}: text or a whole number is needed, null where unknown")
        return str(value)
    return None


def _writable(name: str) -> bool:
    """Is it text that a file system can hold?"""
    try:
        return "\0" not in name and all(len(part) < 256 for part in name.encode("utf-8").split(b"/"))
    except UnicodeEncodeError:
        return False
