"""An audit from sets to report: judge, analyse, write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from synthskin.bias.audit import Audit, analyse
from synthskin.bias.audit_model import Model
from synthskin.bias.audit_page import page_of
from synthskin.bias.audit_pictures import KEPT, Judge, sort_sets
from synthskin.bias.audit_results import Settings, write_results
from synthskin.bias.errors import BiasError
from synthskin.dataset.reader import Progress


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


def run_audit(
    model: Model, folders: Sequence[Path], out: Path, asked: dict[str, Any], overwrite: bool,
    progress_of: Callable[[str], Progress], seed: int = 0,
) -> tuple[Audit, dict[str, Any]]:
    """Ask the model about every picture of the sets and write the answer into `out`; returns it, and its JSON.

    Continues where an audit of the same model stopped. Raises BiasError and DatasetError.
    """
    plain, varied = sort_sets(folders)
    if not varied:
        raise BiasError(f"{', '.join(map(str, folders))}: no set varies a cause; give sweeps or counterfactuals")
    if overwrite:
        (out / KEPT).unlink(missing_ok=True)
    with Judge(model, out) as judge:
        base = None if plain is None else judge.judge(plain, progress_of("asking the model: plain,"))
        judged = [(cause, judge.judge(dataset, progress_of(f"asking the model: {cause.name},")))
                  for cause, dataset in varied]
    truth, threshold = model.preprocess.truth(), model.preprocess.decides_at
    audit = analyse(base, judged, truth, threshold, seed)
    settings = Settings(model, base, tuple(judged), seed, asked)
    data = write_results(out, audit, settings)
    page_of(audit, data).write(out / "report.html")
    return audit, data
