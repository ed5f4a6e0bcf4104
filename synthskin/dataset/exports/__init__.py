"""Exports: a set in the form that other software reads. Each form is one module with `write(source, out, options)`.

An export is written beside its place under a temporary name and renamed when it is whole; licences and attributions of
the set go with it in every form, and in LICENCE.txt.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from synthskin.dataset.exports.common import ExportOptions, Source, checked_options, new_folder
from synthskin.dataset.format import DatasetError
from synthskin.dataset.licences import licence_text
from synthskin.dataset.reader import Progress, iter_rows, read_card

__all__ = ["FORMS", "ExportOptions", "Exported", "export_set"]

#: Form: what it is, in a line.
FORMS: Final = {
    "coco": "COCO instances: annotations.json and images/",
    "webdataset": "tar shards for webdataset",
    "parquet": "Parquet with embedded images, as Hugging Face writes it",
    "isic": "folders and CSV files as ISIC 2018 and the ISIC Archive have them",
    "croissant": "MLCommons Croissant 1.1 JSON-LD beside a copy of the set",
}


@dataclass(frozen=True, slots=True)
class Exported:
    """out, number of samples, remarks for the user (what the form has no place for)."""

    out: Path
    samples: int
    remarks: tuple[str, ...]


def export_set(
    directory: str | Path, form: str, out: str | Path, options: ExportOptions | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write the set in `directory` as `form` into the new folder `out`.

    Raises DatasetError: unknown form, no set, a damaged sample, `out` not empty or inside the set, a missing library.
    """
    directory, out = Path(directory), Path(out)
    options = options or ExportOptions()
    if form not in FORMS:
        raise DatasetError(f"--to {form}: allowed are {', '.join(FORMS)}")
    checked_options(form, options)
    card, run = read_card(directory)
    count = sum(1 for _ in iter_rows(directory))
    if not count:
        raise DatasetError(f"{directory}: holds no finished sample; there is nothing to export")
    source = Source(directory, card, run, count, progress)
    with new_folder(out, directory) as folder:
        remarks = importlib.import_module(f"synthskin.dataset.exports.{form}").write(source, folder, options)
        (folder / "LICENCE.txt").write_text(licence_text(card), encoding="utf-8")
    return Exported(out, count, tuple(remarks))
