"""Imports: published sets of real photographs, in the form of the data set contract. One kind a module.

A kind reads its tables and gives a `Plan`; `write` turns a plan into a set. The same command again continues.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Final

from synthskin.dataset.archive import opened
from synthskin.dataset.format import DatasetError
from synthskin.dataset.imports.common import Imported, ImportOptions, Plan, Shown, Source, checked_options
from synthskin.dataset.imports.write import write_plan
from synthskin.dataset.reader import read_card

__all__ = ["KINDS", "ImportOptions", "Imported", "import_set"]

#: Kind: (module, what it is in a line).
KINDS: Final = {
    "ham10000": ("ham10000", "HAM10000: HAM10000_metadata.csv and its JPEGs"),
    "isic2017": ("isic2017", "ISIC 2017: task folders"),
    "isic2018": ("isic2018", "ISIC 2018: task folders"),
    "ph2": ("ph2", "PH2: PH2_dataset.txt and the IMD folders"),
    "fitzpatrick17k": ("fitzpatrick17k", "Fitzpatrick17k: fitzpatrick17k.csv and <md5hash>.jpg"),
    "ddi": ("ddi", "DDI: ddi_metadata.csv and its PNGs"),
    "scin": ("scin", "SCIN: scin_cases.csv, scin_labels.csv and images/"),
    "itobos": ("itobos", "iToBoS 2024: images/ and labels/ with YOLO boxes"),
    "folder": ("folder", "a plain folder per class"),
    "webdataset": ("shards", "shards of `synthskin export --to webdataset`"),
    "set": ("whole", "a synthskin set, usually as an archive"),
}
_OURS: Final = ("webdataset", "set")


def import_set(
    kind: str, source: str | Path, out: str | Path, options: ImportOptions | None = None,
    progress: Shown | None = None,
) -> Imported:
    """Take over `source`, a folder or an archive (zip, tar), into the set `out`; `progress` shows each stage by name.

    Raises DatasetError: unknown kind, a table or picture that is missing or damaged, a hostile archive, an `out` that
    holds something else. What is refused before the first picture leaves nothing behind.
    """
    source, out = Path(source), Path(out)
    options = options or ImportOptions()
    if kind not in KINDS:
        raise DatasetError(f"{kind}: is no kind of import; allowed are {', '.join(KINDS)}")
    checked_options(kind, options)
    module = importlib.import_module(f"synthskin.dataset.imports.{KINDS[kind][0]}")
    with opened(source, out) as folder:
        if out.resolve() == folder.resolve() or folder.resolve() in out.resolve().parents:
            raise DatasetError(f"{out}: lies inside {source}; choose a folder elsewhere")
        if kind in _OURS:
            taken: Imported = module.take(folder, out, progress)
            return taken
        plan = module.plan(Source(folder, source), options)
        return write_plan(_with_licences(plan, options), out, options, progress)


def _with_licences(plan: Plan, options: ImportOptions) -> Plan:
    """The plan with the licences the user added, and with those of an export of ours that is taken back."""
    licences, attribution = plan.licences, plan.attribution
    if (ours := plan.source.export_of_ours()) is not None:
        card, _ = read_card(plan.source.root / ours)
        if card.generator != "real":
            raise DatasetError(f"{plan.source.shown}: is the export of a synthetic set, and this kind is of "
                               "photographs; use the set itself, or `synthskin import webdataset`")
        licences, attribution = tuple(card.licences), tuple(card.attribution)
    return replace(plan, licences=tuple(dict.fromkeys((*licences, *options.licences))),
                   attribution=tuple(dict.fromkeys((*attribution, *options.attribution))))
