"""Running a study: each arm with each seed is trained, tested and set down whole; the same call again continues.

OUT/
  study.json                     the study as it was declared, hashes of all data, versions
  runs/ARM/seed7/scores.npz      scores of every test case; done.json, written last, says the run is whole
  results.json, results.csv, report.html

A kill at any moment loses at most the training under way. Everything but done.json's seconds follows from the study
and the data, so a study that was killed and continued ends with the same results.json, byte for byte.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from synthskin import __version__
from synthskin.bias import study_scores as scores_of
from synthskin.bias.errors import BiasError
from synthskin.bias.folders import check_folder, new_folder
from synthskin.bias.groups import MEASURED
from synthskin.bias.study_data import (
    Parts,
    Pictures,
    check_leaks,
    chosen,
    load_pictures,
    load_rows,
    split,
    test_positions,
    train_positions,
)
from synthskin.bias.study_file import StudySpec
from synthskin.dataset.reader import Progress
from synthskin.files import LOCK, FolderLock, json_bytes, read_json, write_whole

if TYPE_CHECKING:
    from synthskin.bias.study_train import Source

OURS: Final = ("study.json", "runs", "results.json", "results.csv", "report.html", "data", LOCK)
MakeProgress = Callable[[str, str], Progress]  # (verb, unit)


@dataclass(frozen=True, slots=True)
class StudyResult:
    """Where the report is; how many trainings were made now and kept from before; the results as they stand in JSON."""

    out: Path
    made: int
    kept: int
    results: dict[str, Any]


def run_study(spec: StudySpec, folders: Mapping[str, Path], out: Path, progress: MakeProgress | None = None,
              overwrite: bool = False) -> StudyResult:
    """Train, test and report what is missing. `folders`: for each data set of the study where it lies.

    Raises BiasError on data that do not fit the study and on a folder `out` that holds something else.
    """
    check_out(out)
    check_given(spec, {name: folders[name] for name in _used(spec)})
    with new_folder(out), _locked(out):
        sets = {name: load_pictures(spec, name, folders[name], progress and progress(f"reading {name},", "pictures"))
                for name in _used(spec)}
        repeats = [{name: split(spec, data, r) for name, data in sets.items()} for r in range(spec.split.repeats)]
        for parts in repeats:
            check_leaks(spec, sets, parts)
        _check_tests(spec, sets, repeats)
        _check_arms(spec, sets, repeats)
        if overwrite:
            for name in reversed(OURS):  # study.json last: by it the folder is known as ours
                if name not in ("data", LOCK):
                    _remove(out / name)
        for arm in spec.arms:
            for seed in spec.seeds:
                _same(_folder(out, arm, seed), _identity(spec, arm, seed, sets))
        told = {"study": spec.model_dump(), "data": _hashes(sets), "versions": versions()}
        write_whole(out / "study.json", json_bytes(_finite(told)), BiasError)
        made = 0
        for arm in spec.arms:
            for position, seed in enumerate(spec.seeds):
                parts = repeats[position % len(repeats)]
                made += _one(spec, arm, seed, sets, parts, out, progress)
        from synthskin.bias.study_report import write_report
        from synthskin.bias.study_results import results_of, write_tables

        tables, runs = _tables(spec, sets, out)
        results = results_of(spec, sets, tables, repeats)
        write_whole(out / "results.json", json_bytes(_finite(results)), BiasError)
        write_tables(results, out / "results.csv")
        write_report(spec, sets, tables, runs, results, out / "report.html")
    return StudyResult(out, made, len(spec.arms) * len(spec.seeds) - made, results)


def check_out(out: Path) -> None:
    """Raise BiasError where a study cannot write into `out`, or it holds what no study writes."""
    check_folder(out, OURS, "a study", _strange)


def _strange(out: Path) -> str | None:
    """The first of our names in the folder, where study.json, which is written before them, is none of a study."""
    with contextlib.suppress(BiasError):
        if "study" in read_json(out / "study.json", BiasError):
            return None
    return next((name for name in OURS if name not in ("data", LOCK) and (out / name).exists()), None)


def check_given(spec: StudySpec, folders: Mapping[str, Path]) -> dict[str, str]:
    """What the rows of sets that are there already show, before anything is rendered or read: too few pictures that
    can be used, parts that would be too small, classes and groups without a picture. Raises BiasError, DatasetError.

    Returns what is to be said of splits that the rows have of their own, by the name of the set.
    """
    from synthskin.bias.study_train import device_of

    device_of(spec.training.device)
    sets = {name: load_rows(spec, name, folders[name]) for name in _used(spec) if name in folders}
    repeats = [{name: split(spec, data, r) for name, data in sets.items()} for r in range(spec.split.repeats)]
    _check_tests(spec, sets, repeats, measured=False)
    _check_arms(spec, sets, repeats, masks=False)
    return {name: str(data.facts["split"]) for name, data in sets.items() if "split" in data.facts}


def _locked(out: Path) -> FolderLock:
    try:
        return FolderLock(out, BiasError, f"{out}: another run of a study is writing there; wait for it or choose "
                                          "another --out")
    except OSError as error:
        raise BiasError(f"{out}: cannot be written: {error.strerror}; choose another --out") from None


def versions() -> dict[str, str]:
    """Of all that decides the numbers."""
    import monai
    import scipy
    import torch

    return {"synthskin": __version__, "python": platform.python_version(), "numpy": np.__version__,
            "scipy": scipy.__version__, "torch": torch.__version__, "monai": monai.__version__,
            "machine": platform.machine()}


def _used(spec: StudySpec) -> list[str]:
    names = [u.data for arm in spec.arms.values() for u in arm.use] + [t.data for t in spec.tests.values()]
    return list(dict.fromkeys([*names, spec.validation_data]))


def _check_tests(spec: StudySpec, sets: Mapping[str, Pictures], repeats: list[dict[str, Parts]],
                 measured: bool = True) -> None:
    """Every class must be there in the tests, every grouping must find its groups, and the primary endpoint must have
    a value, before hours of training.

    measured   the sets hold what is measured on pictures; without it only groupings by a row's own value are looked at
    """
    from synthskin.bias.study_results import check_primary, grouping_of

    for name, test in spec.tests.items():
        if test.data not in sets:
            continue
        data = sets[test.data]
        tested = [test_positions(spec, name, data, parts[test.data]) for parts in repeats]
        for at in tested:
            if spec.task == "classification":
                positive = np.isin(data.labels[at], scores_of.positive_of(spec))
                for found, which in ((positive.any(), spec.positive), (
                        (~positive).any(), [c for c in spec.classes if c not in spec.positive])):
                    if not found:
                        raise BiasError(f"[tests.{name}] {data.folder}: none of the {len(at)} pictures is "
                                        f"{', '.join(which)}; both sides are needed for AUC and sensitivity")
            for kind in spec.groups_of(name):
                if measured or spec.groups[kind].by not in MEASURED:
                    grouping_of(spec, kind, data, at)
        p = spec.primary
        if name == p.test and p.of is not None and (measured or spec.groups[p.of].by not in MEASURED):
            together = np.unique(np.concatenate(tested))
            whole = grouping_of(spec, p.of, data, together)  # as the results are grouped
            check_primary(spec, whole)
            for at in tested if spec.task == "classification" else ():
                own = replace(whole, labels=tuple(np.array(whole.labels, object)[np.isin(together, at)]))
                check_primary(spec, own, np.isin(data.labels[at], scores_of.positive_of(spec)))


def _check_arms(spec: StudySpec, sets: Mapping[str, Pictures], repeats: list[dict[str, Parts]], masks: bool = True
                ) -> None:
    """Every arm must have as many pictures as it asks for, and among them each class, or a lesion (with `masks`); the
    threshold must have the classes that its rule needs."""
    from synthskin.bias.study_train import class_weights

    for arm, declared in spec.arms.items():
        whole = all(use.data in sets for use in declared.use) and (masks or spec.task == "classification")
        for parts in repeats:
            sources = _sources(spec, arm, sets, parts)
            if whole:
                class_weights(spec, declared, arm, sources)
    own = spec.validation_data
    for parts in repeats if spec.task == "classification" and own in sets else ():
        at = parts[own].validation  # refused here where it would be after the first training, whatever that finds
        scores_of.choose_threshold(spec, sets[own], at, np.zeros((len(at), len(spec.classes)), np.float32))


def _hashes(sets: Mapping[str, Pictures]) -> dict[str, Any]:
    return {name: {"folder": data.folder, "digest": data.digest, **data.facts} for name, data in sets.items()}


def _identity(spec: StudySpec, arm: str, seed: int, sets: Mapping[str, Pictures]) -> dict[str, Any]:
    """All that decides one training and its scores."""
    whole = spec.model_dump()
    used = {u.data for u in spec.arms[arm].use} | {t.data for t in spec.tests.values()} | {spec.validation_data}
    return {"arm": {k: v for k, v in whole["arms"][arm].items() if k not in ("says", "x")}, "seed": seed,
            "tests": {n: {k: v for k, v in t.items() if k != "says"} for n, t in whole["tests"].items()},
            **{k: whole[k] for k in ("name", "task", "size_px", "label", "classes", "positive", "threshold", "split",
                                     "training", "validation")},
            "data": {name: sets[name].digest for name in sorted(used)},
            "repeat": spec.seeds.index(seed) % spec.split.repeats,
            "versions": {k: v for k, v in versions().items() if k in ("synthskin", "torch", "monai", "machine")}}


def _one(spec: StudySpec, arm: str, seed: int, sets: Mapping[str, Pictures], parts: Mapping[str, Parts], out: Path,
         progress: MakeProgress | None) -> int:
    """Make one training with its scores, unless it is there whole; 1 if it was made."""
    folder = _folder(out, arm, seed)
    identity = _identity(spec, arm, seed, sets)
    if _whole(folder, identity):
        return 0
    from synthskin.bias.study_train import degraded, predict, train

    started = time.monotonic()
    sources = _sources(spec, arm, sets, parts)
    network = train(spec, arm, sources, seed,
                    progress and progress(f"training {arm}, seed {seed},", "steps"))
    data = sets[spec.validation_data]
    at = parts[spec.validation_data].validation
    threshold = scores_of.choose_threshold(spec, data, at, predict(spec, network, data.images[at]))
    found = {}
    for name, test in spec.tests.items():
        data = sets[test.data]
        at = test_positions(spec, name, data, parts[test.data])
        images = degraded(data.images[at], test.noise, test.blur, name)
        found[name] = scores_of.score(spec, data, at, predict(spec, network, images), threshold)
    content = scores_of.to_bytes(found)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "scores.npz", content, BiasError)
    done = {"identity": identity, "sha256": hashlib.sha256(content).hexdigest(), "threshold": threshold,
            "trained_on": {source.data.name: len(source.positions) for source in sources},
            "seconds": round(time.monotonic() - started, 1)}
    write_whole(folder / "done.json", json_bytes(_finite(done)), BiasError)
    return 1


def _sources(spec: StudySpec, arm: str, sets: Mapping[str, Pictures], parts: Mapping[str, Parts]) -> list[Source]:
    """The pictures of an arm, of those of its sets that are in `sets`."""
    from synthskin.bias.study_train import Source

    found = []
    for use in spec.arms[arm].use:
        if use.data in sets:
            data = sets[use.data]
            at = train_positions(spec, use.data, use.part, parts[use.data])
            found.append((data, chosen(at, use.n, data, spec.split.seed, f"[arms.{arm}] use {use.data}"), use.share))
    total = sum(len(at) for _, at, _ in found)
    return [Source(data, at, len(at) / total if share is None else share) for data, at, share in found]


def _folder(out: Path, arm: str, seed: int) -> Path:
    return out / "runs" / arm / f"seed{seed}"


def _same(folder: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """What done.json says of the run, None where it is not there; raises BiasError where it is of other settings."""
    done = _done(folder)
    if done is None:
        return None
    before, now = done.get("identity"), json.loads(json.dumps(identity))
    if before != now:
        key = next((k for k in now if not isinstance(before, dict) or before.get(k) != now[k]), "settings")
        raise BiasError(f"{folder}: was made with another '{key}'; choose another --out, or give --overwrite to make "
                        "all of it again")
    return done


def _whole(folder: Path, identity: dict[str, Any]) -> bool:
    """Is the run there, complete and of these settings? Raises BiasError where it is of others."""
    done = _same(folder, identity)
    if done is None:
        return False
    try:
        return hashlib.sha256((folder / "scores.npz").read_bytes()).hexdigest() == done.get("sha256")
    except OSError:
        return False


def _done(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _tables(spec: StudySpec, sets: Mapping[str, Pictures], out: Path
            ) -> tuple[dict[str, scores_of.Table], dict[str, list[dict[str, Any]]]]:
    """(test -> table, arm -> for each seed the arrays on disk)."""
    runs = {arm: [scores_of.from_file(_folder(out, arm, seed) / "scores.npz") for seed in spec.seeds]
            for arm in spec.arms}
    thresholds = {arm: [float((_done(_folder(out, arm, seed)) or {})["threshold"]) for seed in spec.seeds]
                  for arm in spec.arms}
    tables = {}
    for test in spec.tests:
        own = {arm: [run[test] for run in all_seeds] for arm, all_seeds in runs.items()}
        tables[test] = scores_of.make_table(spec, test, sets[spec.tests[test].data], own, thresholds)
    return tables, runs


def _finite(value: Any) -> Any:
    """NaN becomes null; NumPy numbers become Python's."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
