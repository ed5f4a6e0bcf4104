"""Scores of the cases: what one training leaves behind on disk, and the tables and statistics made of all of them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthskin.bias import metrics as m
from synthskin.bias.errors import BiasError
from synthskin.bias.statistics import Floats, Interval, Replicates, Resampler, Statistic, mean_of, replicate
from synthskin.bias.study_data import Pictures
from synthskin.bias.study_file import OF_BOTH, StudySpec

WORST: Final = 6  # cases of each test whose predicted masks are kept for the report
LEAST_OF_A_CLASS: Final = 5  # patients or lesions of either class that OF_BOTH need
_MAX_BYTES: Final = 4_000_000_000


def score(spec: StudySpec, data: Pictures, positions: NDArray[np.int64], found: NDArray[np.float32], threshold: float
          ) -> dict[str, NDArray[Any]]:
    """What is kept of the predictions for the cases at `positions`.

    segmentation     counts (n, 4) tp fp fn tn; brier (n,); bins (n, ECE_BINS, 3) pixels, confidence, truth;
                     worst (k,) positions of the lowest Dice and masks (k, s, s) predicted there
    classification   probabilities (n, classes)
    """
    if spec.task == "classification":
        return {"positions": positions, "probabilities": found}
    counts, brier = np.zeros((len(positions), 4), np.int64), np.zeros(len(positions))
    bins = np.zeros((len(positions), m.ECE_BINS, 3))
    for k, i in enumerate(positions):
        p, true = found[k].astype(np.float64), data.masks[i]
        o = m.overlap(p >= threshold, true)
        counts[k] = o.tp, o.fp, o.fn, o.tn
        brier[k] = np.mean((p - true) ** 2)
        at = m.bin_of(p.ravel(), m.ECE_BINS)
        for column, value in enumerate((None, p.ravel(), true.ravel().astype(np.float64))):
            bins[k, :, column] = np.bincount(at, value, m.ECE_BINS)
    dice = _dice(counts)
    worst = np.argsort(dice, kind="stable")[:WORST]
    return {"positions": positions, "counts": counts, "brier": brier, "bins": bins, "worst": positions[worst],
            "masks": found[worst] >= threshold}


def to_bytes(scores: Mapping[str, Mapping[str, NDArray[Any]]]) -> bytes:
    """{test: arrays} as NPZ."""
    buffer = io.BytesIO()
    flat: dict[str, Any] = {f"{test}|{name}": array for test, own in scores.items() for name, array in own.items()}
    np.savez_compressed(buffer, **flat)
    return buffer.getvalue()


def from_file(path: Path) -> dict[str, dict[str, NDArray[Any]]]:
    """Raises BiasError on anything that is not what `to_bytes` writes."""
    from synthskin.dataset.encode import read_npz
    from synthskin.dataset.format import DatasetError

    try:
        flat = read_npz(path, _MAX_BYTES)
    except DatasetError as error:
        raise BiasError(f"{path}: {error}; delete its folder and give the same command again") from None
    result: dict[str, dict[str, NDArray[Any]]] = {}
    for key, array in flat.items():
        test, _, name = key.rpartition("|")
        result.setdefault(test, {})[name] = array
    return result


def choose_threshold(spec: StudySpec, data: Pictures, positions: NDArray[np.int64], found: NDArray[np.float32]
                     ) -> float:
    """Once for all groups and tests, on the validation pictures."""
    rule = spec.threshold
    if spec.task == "classification":
        labels = np.isin(data.labels[positions], positive_of(spec)).astype(int)
        return m.choose_threshold(labels, found[:, positive_of(spec)].sum(1), rule)
    if isinstance(rule, float):
        return rule
    if rule == "half":
        return 0.5
    candidates = np.arange(1, 20) / 20
    scores = [np.mean([m.dice(found[k] >= t, data.masks[i]) for k, i in enumerate(positions)]) for t in candidates]
    best = np.flatnonzero(np.array(scores) >= max(scores) - 1e-12)
    return float(candidates[best[np.argmin(np.abs(candidates[best] - 0.5))]])


def positive_of(spec: StudySpec) -> list[int]:
    return [k for k, name in enumerate(spec.classes) if name in spec.positive]


@dataclass(frozen=True, slots=True)
class Table:
    """Scores of all trainings on one test set.

    positions   (cases,) in `data`; those that any training was tested on
    known       arm -> (cases, seeds) whether that training was
    values      arm -> name -> (cases, seeds, ...)
    thresholds  arm -> (seeds,)
    """

    spec: StudySpec
    name: str
    data: Pictures
    positions: NDArray[np.int64]
    known: dict[str, NDArray[np.bool_]]
    values: dict[str, dict[str, NDArray[Any]]]
    thresholds: dict[str, NDArray[np.float64]]
    draws: Resampler

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [self.data.rows[i] for i in self.positions]

    @property
    def labels(self) -> NDArray[np.int64]:
        """0 or 1: is the case positive? (Segmentation: has it a lesion?)"""
        if self.spec.task == "segmentation":
            return np.asarray(self.data.masks[self.positions].any(axis=(1, 2)), np.int64)
        return np.asarray(np.isin(self.data.labels[self.positions], positive_of(self.spec)), np.int64)

    def of(self, arm: str, metric: str, where: NDArray[np.bool_] | None = None) -> Replicates:
        """The metric of an arm on the cases `where`, those that do not bear on it left out."""
        keep = self.known[arm].any(1) & self.bearing(metric)
        return replicate(self.statistic(arm, metric), len(self.spec.seeds), self.draws,
                         keep if where is None else keep & where, arm)

    def bearing(self, metric: str) -> NDArray[np.bool_]:
        labels = self.labels
        if metric == "sensitivity":
            return labels == 1
        return labels == 0 if metric == "specificity" and self.spec.task == "classification" else labels >= 0

    def too_few(self, metric: str, where: NDArray[np.bool_] | None = None) -> str:
        """Why the cases cannot carry the metric; '' if they can."""
        keep = self.bearing(metric) if where is None else self.bearing(metric) & where
        if not keep.any():
            return "has no value: no case bears on it"
        if metric not in OF_BOTH:
            return ""
        for label, word in ((1, "positive"), (0, "negative")):
            n = len(set(self.draws.clusters[keep & (self.labels == label)].tolist()))
            if n < LEAST_OF_A_CLASS:
                return (f"too small to say anything: {n} {word} patients or lesions, at least {LEAST_OF_A_CLASS} "
                        "are needed")
        return ""

    def statistic(self, arm: str, metric: str) -> Statistic:
        values, known = self.values[arm], self.known[arm]
        if self.spec.task == "segmentation":
            if metric == "ece":
                return _pooled_ece(values["bins"], known)
            return mean_of(np.where(known, values[metric], np.nan))
        p = np.where(known[..., None], values["probabilities"], 0.0)
        s = p[..., positive_of(self.spec)].sum(-1)
        y, many = self.labels, len(self.spec.classes) > 2
        true = self.data.labels[self.positions]
        decided = (s >= self.thresholds[arm][None, :]).astype(np.int64)

        def value(weights: Floats, seed: int) -> Floats:
            w = weights * known[:, seed]
            if metric == "auc":
                return np.asarray(m.auc(y, s[:, seed], w))
            if metric in ("sensitivity", "specificity"):
                return np.asarray(getattr(m, metric)(y, decided[:, seed], w))
            if metric in ("accuracy", "balanced_accuracy"):
                both = (true, p[:, seed].argmax(1)) if many else (y, decided[:, seed])
                return np.asarray(getattr(m, metric)(*both, w))
            of = m.brier if metric == "brier" else m.ece
            return np.asarray(of(true, p[:, seed], w) if many else of(y, s[:, seed], w))

        return value


def make_table(spec: StudySpec, test: str, data: Pictures, scores: Mapping[str, Sequence[Mapping[str, NDArray[Any]]]],
               thresholds: Mapping[str, Sequence[float]]) -> Table:
    """`scores`: arm -> for each seed what `score` gave for this test."""
    every = [s["positions"] for runs in scores.values() for s in runs]
    positions = np.unique(np.concatenate(every))
    known: dict[str, NDArray[np.bool_]] = {}
    values: dict[str, dict[str, NDArray[Any]]] = {}
    for arm, runs in scores.items():
        known[arm] = np.stack([np.isin(positions, s["positions"]) for s in runs], 1)
        own = [_measures(spec, s) for s in runs]
        values[arm] = {}
        for name, first in own[0].items():
            table = np.full((len(positions), len(runs), *first.shape[1:]), np.nan)
            for k, (s, found) in enumerate(zip(runs, own, strict=True)):
                table[np.searchsorted(positions, s["positions"]), k] = found[name]
            values[arm][name] = table
    clusters = [data.clusters[i] for i in positions]
    draws = Resampler.of(clusters, spec.bootstrap, 0)
    return Table(spec, test, data, positions, known, values,
                 {arm: np.array(t, np.float64) for arm, t in thresholds.items()}, draws)


def blank(table: Table, estimate: float, keep: NDArray[np.bool_], note: str) -> Interval:
    """An estimate of which nothing more can be said."""
    nan = float("nan")
    return Interval(estimate, nan, nan, nan, nan, nan, nan, int(keep.sum()),
                    len(set(table.draws.clusters[keep].tolist())), len(table.spec.seeds), note)


def _measures(spec: StudySpec, s: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    if spec.task == "classification":
        return {"probabilities": s["probabilities"].astype(np.float64)}
    tp, fp, fn, tn = s["counts"].astype(np.float64).T
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"dice": _dice(s["counts"]), "iou": np.where(tp + fp + fn > 0, tp / (tp + fp + fn), 1.0),
                "sensitivity": np.where(tp + fn > 0, tp / (tp + fn), np.nan),
                "specificity": np.where(tn + fp > 0, tn / (tn + fp), np.nan), "brier": s["brier"], "bins": s["bins"]}


def _dice(counts: NDArray[np.int64]) -> Floats:
    tp, fp, fn, _ = counts.astype(np.float64).T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(tp + fp + fn > 0, 2 * tp / (2 * tp + fp + fn), 1.0)


def _pooled_ece(bins: NDArray[np.float64], known: NDArray[np.bool_]) -> Statistic:
    """Calibration over all pixels of the weighted cases."""
    filled = np.where(known[..., None, None], bins, 0.0)

    def value(weights: Floats, seed: int) -> Floats:
        pixels, confidence, right = (weights @ filled[:, seed, :, k] for k in range(3))
        total = pixels.sum(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(total > 0, np.abs(right - confidence).sum(-1) / total, np.nan)

    return value
