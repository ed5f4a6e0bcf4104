"""What all imports share: the files and tables of a source, and the plan of the set to be written."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from synthskin.conventions import BENIGN_MALIGNANT, MODALITIES
from synthskin.dataset.format import MAX_SAMPLES, DatasetError, short
from synthskin.dataset.photo import ENDINGS
from synthskin.dataset.reader import Progress

MAX_FILES: Final = 5_000_000
MAX_TABLE_BYTES: Final = 500_000_000
_UNKNOWN: Final = ("", "unknown", "nan", "none", "n/a", "na", "null")


#: Makes the progress of a stage, by its name.
Shown = Callable[[str], Progress]


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """licences, attribution: added to those of the kind, needed for `folder`. modality: for `folder`.

    skip_bad   leave out photographs that are missing or damaged, instead of refusing
    """

    licences: tuple[str, ...] = ()
    attribution: tuple[str, ...] = ()
    modality: str | None = None
    skip_bad: bool = False


def checked_options(kind: str, options: ImportOptions) -> None:
    if kind == "folder" and not (options.licences and options.attribution):
        raise DatasetError("folder: --licence and --attribution are needed, for only you know whose the pictures are")
    if options.modality is not None and kind != "folder":
        raise DatasetError(f"--modality: has no meaning for {kind}, which says it itself")
    if options.modality is not None and options.modality not in MODALITIES:
        raise DatasetError(f"--modality {options.modality}: allowed are {', '.join(MODALITIES)}")
    for text in (*options.licences, *options.attribution):
        if not text.strip() or not text.isprintable():
            raise DatasetError(f"{short(text)}: a licence or attribution on one line is needed")


@dataclass(frozen=True, slots=True)
class Imported:
    """out, samples in it, samples made by this call, {source: why} of what was left out, remarks for the user."""

    out: Path
    samples: int
    made: int
    left_out: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Photo:
    """One photograph to take over.

    identifier   the source's own id; becomes source_id
    image        path inside the source
    label        the source's own label, diagnosis: its place in the ISIC 2018 vocabulary or None
    row          further keys of the row
    group        what ties it to others: lesion, patient or case; None where the source names none
    source       the source's own record, kept in `params`
    mask, attributes   paths of masks
    boxes        (x centre, y centre, width, height) as shares of the picture
    """

    identifier: str
    image: str
    label: str | None
    diagnosis: str | None
    row: dict[str, Any] = field(default_factory=dict)
    group: str | None = None
    source: dict[str, Any] = field(default_factory=dict)
    mask: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    boxes: tuple[tuple[float, float, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """kind: name of the set; missing: {id: why}; remarks: for the user; tell_classes: list the classes at the end."""

    kind: str
    title: str
    scheme: str
    photos: tuple[Photo, ...]
    source: Source
    licences: tuple[str, ...]
    attribution: tuple[str, ...]
    missing: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    tell_classes: bool = False


class Source:
    """The files of a source folder, found once; links are refused, so that nothing outside is taken over.

    root   the folder; shown   what the user calls it
    """

    def __init__(self, root: Path, shown: Path) -> None:
        self.root = root
        self.shown = shown
        self._by_name: dict[str, list[str]] = {}
        self.files: list[str] = []
        for where, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = Path(where) / name
                relative = path.relative_to(root).as_posix()
                if path.is_symlink():
                    raise DatasetError(f"{shown}/{short(relative)}: is a symbolic link; files stay inside the folder")
                if name.startswith(".") or "__MACOSX" in relative:
                    continue
                self.files.append(relative)
                self._by_name.setdefault(name.lower(), []).append(relative)
            for name in folders:
                if (Path(where) / name).is_symlink():
                    raise DatasetError(f"{shown}/{short(name)}: is a symbolic link; files stay inside the folder")
            if len(self.files) > MAX_FILES:
                raise DatasetError(f"{shown}: more than {MAX_FILES} files")
        self.files.sort()

    def named(self, name: str) -> str | None:
        """The one file of this name, wherever it lies (letter case aside); raises DatasetError if there are two."""
        found = self._by_name.get(name.lower(), [])
        if len(found) > 1:
            raise DatasetError(f"{self.shown}: {name} is there twice ({found[0]}, {found[1]}); keep one")
        return found[0] if found else None

    def table(self, *names: str) -> str:
        """The first of these files that is there; raises DatasetError if none is."""
        for name in names:
            if (found := self.named(name)) is not None:
                return found
        raise DatasetError(f"{self.shown}: {' or '.join(names)} is not there; give the folder that holds it")

    def export_of_ours(self) -> str | None:
        """The folder in which an export of ours lies ('' or `top/`), by its dataset.json; None if there is none.

        Raises DatasetError if there are several.
        """
        files = set(self.files)
        found = [path.removesuffix("dataset.json") for path in self._by_name.get("dataset.json", [])
                 if path == "dataset.json" or path.removesuffix("dataset.json") + "LICENCE.txt" in files]
        if len(found) > 1:
            raise DatasetError(f"{self.shown}: holds several exports ({short(found[0])}, {short(found[1])}); give one")
        return found[0] if found else None

    def photo(self, stem: str) -> str | None:
        """The picture of this stem, whatever its ending; raises DatasetError if there are two."""
        found = [path for ending in ENDINGS if (path := self.named(stem + ending)) is not None]
        if len(found) > 1:
            raise DatasetError(f"{self.shown}: {stem} is there as {found[0]} and as {found[1]}; keep one")
        return found[0] if found else None

    def photos_in(self, test: Any) -> list[str]:
        """All pictures whose path passes `test`."""
        return [path for path in self.files if path.lower().endswith(ENDINGS) and test(path)]

    def rows(
        self, relative: str, needed: Sequence[str], delimiter: str = ",", may_be_empty: bool = False,
    ) -> list[dict[str, str]]:
        """A table with a header as dicts, cells stripped; raises DatasetError naming line and column.

        may_be_empty   allow a header alone
        """
        path = self.root / relative
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise DatasetError(f"{self.shown}/{relative}: larger than {MAX_TABLE_BYTES} bytes")
        rows: list[dict[str, str]] = []
        try:
            with open(path, newline="", encoding="utf-8-sig") as handle:
                reader = csv.reader(handle, delimiter=delimiter, strict=True)
                header = [cell.strip() for cell in next(reader, [])]
                for name in needed:
                    if name not in header:
                        raise DatasetError(f"{self.shown}/{relative}: the column '{name}' is missing; found are "
                                           f"{short(', '.join(header))}")
                for cells in reader:
                    if not any(cell.strip() for cell in cells):
                        continue
                    if len(cells) != len(header):
                        raise DatasetError(f"{self.shown}/{relative}, line {reader.line_num}: {len(cells)} cells, "
                                           f"the header has {len(header)}")
                    rows.append({name: cell.strip() for name, cell in zip(header, cells, strict=True) if name})
                    if len(rows) > MAX_SAMPLES:
                        raise DatasetError(f"{self.shown}/{relative}: more than {MAX_SAMPLES} lines")
        except (UnicodeDecodeError, csv.Error, OSError) as error:
            raise DatasetError(f"{self.shown}/{relative}: cannot be read: {error}") from None
        if not rows and not may_be_empty:
            raise DatasetError(f"{self.shown}/{relative}: holds no line below its header")
        return rows


def known(text: str) -> str | None:
    """A cell, or None where it says that nothing is known."""
    return None if text.strip().lower() in _UNKNOWN else text.strip()


def age(text: str) -> int | None:
    """Whole years of a cell such as '45.0'; None if it is none from 0 to 120."""
    try:
        value = float(text)
    except ValueError:
        return None
    return round(value) if 0 <= value <= 120 else None


def sex(text: str) -> str | None:
    return {"male": "male", "m": "male", "female": "female", "f": "female"}.get(text.strip().lower())


def allowed(table: dict[str, Any], value: str, where: str) -> Any:
    """`table[value]`; raises DatasetError naming what came and what is allowed."""
    if value not in table:
        raise DatasetError(f"{where}: {short(value)}; allowed are {', '.join(map(str, table))}")
    return table[value]


def agreed(diagnosis: str | None, malignancy: str | None) -> tuple[str | None, str | None]:
    """(diagnosis, benign_malignant) where a source gives both; a diagnosis that its malignancy denies is dropped."""
    if diagnosis is None:
        return None, malignancy
    usual = BENIGN_MALIGNANT[diagnosis]
    if malignancy is not None and usual != "indeterminate" and malignancy != usual:
        return None, malignancy
    return diagnosis, usual
