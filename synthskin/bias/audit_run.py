"""An audit from sets to report: judge, analyse, write."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from synthskin.bias.audit import Audit, analyse
from synthskin.bias.audit_former import PLAIN, Part, check_former, check_pictures
from synthskin.bias.audit_model import Model
from synthskin.bias.audit_page import page_of
from synthskin.bias.audit_pictures import KEPT, Judge, is_kept, sort_sets
from synthskin.bias.audit_results import Settings, write_results
from synthskin.bias.errors import BiasError
from synthskin.bias.folders import check_folder
from synthskin.dataset.reader import Progress
from synthskin.dataset.writer import delete_set
from synthskin.files import read_json

RENDERS: Final = "renders"
OURS: Final = (RENDERS, KEPT, "results.json", "results.csv", "curves.csv", "predictions.csv", "report.html")


def find_sets(folders: Sequence[Path]) -> list[Path]:
    """Data sets among the folders, or one level below them; raises BiasError if there is none."""
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise BiasError(f"--renders {folder}: is not a folder; give a set, or `renders` of an audit")
        below = [folder] if (folder / "dataset.json").is_file() else sorted(
            own for own in folder.iterdir() if (own / "dataset.json").is_file())
        if not below:
            raise BiasError(f"--renders {folder}: holds no data set; give one, or the folder `renders` of an audit")
        found += below
    return found


def check_out(out: Path) -> None:
    """Raise BiasError where an audit cannot write into `out`, or it holds anything that is no part of an audit."""
    check_folder(out, OURS, "an audit", _strange)


def _strange(out: Path) -> str | None:
    """The first of our names whose content is not ours: a report has the answers of the model beside it."""
    if (out / RENDERS).exists() and not (out / RENDERS).is_dir():
        return RENDERS
    if (out / KEPT).exists():
        return None if is_kept(out / KEPT) else KEPT
    if (out / "results.json").exists():
        with contextlib.suppress(BiasError):
            if "ranking" in read_json(out / "results.json", BiasError):
                return None
    return next((name for name in OURS if name != RENDERS and (out / name).exists()), None)


def delete_former(out: Path, sets: bool = False) -> None:
    """Delete a former audit's report, figures and answers, and its rendered sets if asked; raises DatasetError.

    An overwriting run that is stopped leaves nothing of the former one, so the same command goes on.
    """
    for name in OURS:
        if name != RENDERS:
            (out / name).unlink(missing_ok=True)
    for card in sorted((out / RENDERS).glob("*/dataset.json")) if sets else ():
        if not card.parent.is_symlink():
            delete_set(card.parent)


def run_audit(
    model: Model, folders: Sequence[Path], out: Path, asked: dict[str, Any], overwrite: bool,
    progress_of: Callable[[str], Progress], seed: int = 0,
) -> tuple[Audit, dict[str, Any]]:
    """Ask the model about every picture of the sets and write the answer into `out`; returns it, and its JSON.

    Continues where the same audit stopped and refuses to replace the report of another one (`check_former`).
    Raises BiasError and DatasetError.
    """
    plain, varied = sort_sets(folders)
    if not varied:
        raise BiasError(f"{', '.join(map(str, folders))}: no set varies a cause; give sweeps or counterfactuals")
    check_out(out)
    if overwrite:
        delete_former(out)
    else:
        own = {} if plain is None else {PLAIN: Part((), len(plain.rows))}
        check_former(out, model, asked, own | {cause.name: Part(cause.values, len(dataset.rows))
                                               for cause, dataset in varied})
    with Judge(model, out) as judge:
        base = None if plain is None else judge.judge(plain, progress_of("asking the model: plain,"))
        judged = [(cause, judge.judge(dataset, progress_of(f"asking the model: {cause.name},")))
                  for cause, dataset in varied]
    if not overwrite:
        check_pictures(out, asked, {cause.name: own for cause, own in judged} | ({} if base is None else {PLAIN: base}))
    truth, threshold = model.preprocess.truth(), model.preprocess.decides_at
    audit = analyse(base, judged, truth, threshold, seed)
    real = () if plain is None or plain.card.generator != "real" else (
        "the unswept pictures are photographs; where renders are named below, that is only of the causes",)
    audit = replace(audit, notes=(*audit.notes, *real, *((model.doubt,) if model.doubt else ())))
    settings = Settings(model, base, tuple(judged), seed, asked)
    data = write_results(out, audit, settings)
    page_of(audit, data).write(out / "report.html")
    return audit, data
