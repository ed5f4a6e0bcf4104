"""Metrics of segmentation, classification, calibration and fairness, each with optional weights of the cases.

`weights` is (cases,) for a number, or (draws, cases) for one value a draw (synthskin.bias.statistics hands bootstrap
counts in). A metric that has no value (no positive cases, no weight) is NaN. Labels are 0 or 1, scores and
probabilities lie in [0, 1]. Checked against hand-computed values and against scikit-learn, MONAI and torchmetrics in
tests/test_metrics.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthskin.bias.errors import BiasError

Floats = NDArray[np.float64]
ECE_BINS: Final = 15  # Guo et al. 2017
THRESHOLD_RULES: Final = ("youden", "half")  # or sensitivity:0.9, specificity:0.9, or a number


# --- overlap of masks -------------------------------------------------------------------------------------------------

@dataclass(frozen=True, slots=True)
class Overlap:
    """Pixels of one picture: true positive, false positive, false negative, true negative."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN) (Dice 1945); 1 where both masks are empty."""
        return 1.0 if self.tp + self.fp + self.fn == 0 else 2 * self.tp / (2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN) (Jaccard 1912); 1 where both masks are empty."""
        return 1.0 if self.tp + self.fp + self.fn == 0 else self.tp / (self.tp + self.fp + self.fn)

    @property
    def sensitivity(self) -> float:
        """Share of the lesion's pixels that were found; NaN where there is no lesion."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else float("nan")

    @property
    def specificity(self) -> float:
        """Share of the other pixels that were left; NaN where the lesion fills the picture."""
        return self.tn / (self.tn + self.fp) if self.tn + self.fp else float("nan")


def overlap(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> Overlap:
    """Counts of two masks of the same shape; raises BiasError if the shapes differ."""
    p, t = np.asarray(predicted, bool), np.asarray(true, bool)
    if p.shape != t.shape:
        raise BiasError(f"masks of {p.shape} and {t.shape}: the same shape is needed")
    tp, fp, fn = int((p & t).sum()), int((p & ~t).sum()), int((~p & t).sum())
    return Overlap(tp, fp, fn, p.size - tp - fp - fn)


def dice(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    return overlap(predicted, true).dice


def iou(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    return overlap(predicted, true).iou


# --- decisions --------------------------------------------------------------------------------------------------------

def mean(values: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Weighted mean of a value a case."""
    v = np.asarray(values, np.float64)
    return _ratio(_w(weights, v.shape[0]) @ v, _w(weights, v.shape[0]).sum(-1))


def sensitivity(labels: ArrayLike, decisions: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """TP / (TP + FN): the share of the positive cases that were called positive (recall, true positive rate)."""
    y, d, w = _decided(labels, decisions, weights)
    return _ratio(w @ (y * d), w @ y)


def specificity(labels: ArrayLike, decisions: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """TN / (TN + FP): the share of the negative cases that were called negative."""
    y, d, w = _decided(labels, decisions, weights)
    return _ratio(w @ ((1 - y) * (1 - d)), w @ (1 - y))


def accuracy(labels: ArrayLike, decisions: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Share of cases decided right; labels and decisions may be any numbers of classes."""
    y, d = np.asarray(labels), np.asarray(decisions)
    return mean((y == d).astype(np.float64), weights)


def balanced_accuracy(labels: ArrayLike, decisions: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Mean over the classes present of the share decided right (Brodersen et al. 2010); two classes or more."""
    y, d = np.asarray(labels), np.asarray(decisions)
    w = _w(weights, len(y))
    right = (y == d).astype(np.float64)
    shares = [_ratio(w @ (right * (y == c)), w @ (y == c).astype(np.float64)) for c in np.unique(y)]
    return _plain(np.mean(shares, axis=0))


# --- ranking ----------------------------------------------------------------------------------------------------------

def auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Area under the ROC curve: the chance that a positive case scores above a negative one, ties half
    (Hanley and McNeil 1982)."""
    y, s = _labels(labels), np.asarray(scores, np.float64)
    w = _w(weights, len(y))
    order = np.argsort(s, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(s[order]) > 0])
    positive = np.add.reduceat(w[..., order] * y[order], starts, axis=-1)
    negative = np.add.reduceat(w[..., order] * (1 - y[order]), starts, axis=-1)
    below = np.cumsum(negative, axis=-1) - 0.5 * negative
    return _ratio((positive * below).sum(-1), positive.sum(-1) * negative.sum(-1))


def macro_auc(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Mean over the classes of the AUC of one against the rest; probabilities (cases, classes).

    A class without cases has none and is left out of the mean.
    """
    y, p = np.asarray(labels), np.asarray(probabilities, np.float64)
    return _plain(np.mean([auc((y == c).astype(int), p[:, c], weights) for c in np.unique(y)], axis=0))


# --- calibration ------------------------------------------------------------------------------------------------------

def brier(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Mean squared error of the probability (Brier 1950).

    (cases,) probabilities of the positive class: mean of (p - y)^2, from 0 to 1. (cases, classes): the sum over the
    classes, from 0 to 2.
    """
    return mean(brier_cases(labels, probabilities), weights)


def brier_cases(labels: ArrayLike, probabilities: ArrayLike) -> Floats:
    """The term of each case."""
    p = np.asarray(probabilities, np.float64)
    if p.ndim == 1:
        return np.asarray((p - _labels(labels)) ** 2, np.float64)
    hot = np.asarray(labels)[:, None] == np.arange(p.shape[1])
    return np.asarray(((p - hot) ** 2).sum(1), np.float64)


def ece(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None, bins: int = ECE_BINS) -> Any:
    """Expected calibration error: mean distance of confidence and truth over bins of equal width (Guo et al. 2017).

    (cases,) probabilities of the positive class: how often the class came against how often it was foretold.
    (cases, classes): how often the likeliest class was right against its probability. It depends on the bins and is
    biased upwards for few cases: read it beside Brier's score.
    """
    confidence, right = _confidence(labels, probabilities)
    at = bin_of(confidence, bins)
    one = np.eye(bins)[at]
    w = _w(weights, len(confidence))
    off = np.abs(w @ (one * (right - confidence)[:, None]))
    return _ratio(off.sum(-1), w.sum(-1))


def reliability(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> list[tuple[float, float, int]]:
    """(mean confidence, share that was right, cases) of each bin that is not empty, for a plot."""
    confidence, right = _confidence(labels, probabilities)
    at = bin_of(confidence, bins)
    return [(float(confidence[at == b].mean()), float(right[at == b].mean()), int((at == b).sum()))
            for b in range(bins) if (at == b).any()]


def bin_of(confidence: Floats, bins: int) -> NDArray[np.int64]:
    """Number of the bin [k/bins, (k+1)/bins); 1 belongs to the last."""
    edges = np.linspace(0, 1, bins + 1)
    return np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, bins - 1)


def _confidence(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Floats, Floats]:
    p = np.asarray(probabilities, np.float64)
    if p.ndim == 1:
        return p, _labels(labels)
    return p.max(1), (p.argmax(1) == np.asarray(labels)).astype(np.float64)


# --- thresholds -------------------------------------------------------------------------------------------------------

def choose_threshold(labels: ArrayLike, scores: ArrayLike, rule: str | float = "youden") -> float:
    """Threshold t of the decision `score >= t`, chosen once on validation cases and then used for all groups.

    youden           largest sensitivity + specificity - 1 (Youden 1950); of equals the one nearest to 0.5
    half             0.5
    sensitivity:0.9  highest threshold that still finds this share; specificity:0.9 likewise the lowest
    a number         itself

    Raises BiasError where a rule needs both classes and one is absent, or the rule is none.
    """
    if isinstance(rule, (int, float)):
        return float(rule)
    if rule == "half":
        return 0.5
    y, s = _labels(labels), np.asarray(scores, np.float64)
    if not 0 < y.sum() < len(y):
        raise BiasError(f"threshold = {rule}: the validation cases are all of one class ({len(y)} cases); "
                        "give a validation set with both, or threshold = \"half\"")
    values = np.unique(s)
    middles = (values[1:] + values[:-1]) / 2
    candidates = np.concatenate([[values[0]], middles, [np.nextafter(values[-1], np.inf)]])
    found = np.array([[((s >= t) & (y == 1)).sum() / y.sum(), ((s < t) & (y == 0)).sum() / (len(y) - y.sum())]
                      for t in candidates])
    if rule == "youden":
        j = found.sum(1)
        best = np.flatnonzero(j >= j.max() - 1e-12)
        return float(candidates[best[np.argmin(np.abs(candidates[best] - 0.5))]])
    name, _, text = rule.partition(":")
    try:
        at_least = float(text)
    except ValueError:
        at_least = -1.0
    if name not in ("sensitivity", "specificity") or not 0 < at_least <= 1:
        raise BiasError(f"threshold = {rule!r}: allowed are youden, half, sensitivity:0.9, specificity:0.9 or a number")
    column = 0 if name == "sensitivity" else 1
    fitting = candidates[found[:, column] >= at_least - 1e-12]
    return float(fitting[-1] if name == "sensitivity" else fitting[0])


# --- fairness ---------------------------------------------------------------------------------------------------------

def gap(a: float, b: float) -> float:
    """a - b, signed."""
    return a - b


def ratio(a: float, b: float) -> float:
    """The smaller over the larger: 1 is equal, 0.8 the "four fifths" of employment law; NaN if both are 0."""
    low, high = min(a, b), max(a, b)
    return low / high if high > 0 else float("nan")


def equal_opportunity_difference(
    labels: ArrayLike, decisions: ArrayLike, one: ArrayLike, rest: ArrayLike, weights: ArrayLike | None = None
) -> Any:
    """Sensitivity in `one` less sensitivity in `rest` (Hardt et al. 2016); both are (cases,) bool.

    CIRCLe (Pakzad et al. 2022) reports its absolute value for light (types 1-3) against dark (4-6).
    """
    w = _w(weights, len(np.asarray(labels)))
    a, b = (sensitivity(labels, decisions, w * np.asarray(group, np.float64)) for group in (one, rest))
    return a - b


def nar(accuracies: Sequence[float] | Mapping[Any, float]) -> float:
    """Normalised accuracy range: (largest - smallest) / mean of the groups' accuracies (CIRCLe, Pakzad et al. 2022).

    0 is equal. The mean is over groups, not cases. It says nothing of prevalence, which accuracy depends on: a group
    with 95 % benign cases scores 0.95 by calling everything benign. So report `prevalence` of each group beside it.
    """
    values = np.array(list(accuracies.values()) if isinstance(accuracies, Mapping) else list(accuracies), np.float64)
    if len(values) < 2:
        raise BiasError(f"normalised accuracy range of {len(values)} group: at least 2 are needed")
    middle = values.mean()
    return float(np.ptp(values) / middle) if middle > 0 else float("nan")


def prevalence(labels: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Share of positive cases."""
    return mean(_labels(labels), weights)


# --- plumbing ---------------------------------------------------------------------------------------------------------

def _w(weights: ArrayLike | None, n: int) -> Floats:
    w = np.ones(n) if weights is None else np.asarray(weights, np.float64)
    if w.shape[-1] != n:
        raise BiasError(f"{w.shape[-1]} weights for {n} cases: one for each is needed")
    return w


def _labels(labels: ArrayLike) -> Floats:
    y = np.asarray(labels, np.float64)
    if y.ndim != 1 or not np.isin(y, (0.0, 1.0)).all():
        raise BiasError("labels: one 0 or 1 for each case is needed")
    return y


def _decided(labels: ArrayLike, decisions: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    y, d = _labels(labels), _labels(decisions)
    if len(y) != len(d):
        raise BiasError(f"{len(y)} labels and {len(d)} decisions: one for each case is needed")
    return y, d, _w(weights, len(y))


def _ratio(top: Any, bottom: Any) -> Any:
    top, bottom = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _plain(np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0), np.nan))


def _plain(value: Any) -> Any:
    array = np.asarray(value)
    return float(array) if array.ndim == 0 else array
