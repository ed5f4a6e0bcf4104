"""Figures of a classifier from its probabilities; the counting is scikit-learn's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


def figures(labels: NDArray[np.int64], probabilities: NDArray[Any], classes: Sequence[str]) -> dict[str, Any]:
    """All figures of (n,) labels and (n, k) probabilities; null where a class does not occur.

    accuracy, balanced_accuracy (mean recall over the classes that occur), recall and precision and auc (one against the
    rest) a class, count a class, confusion [true][predicted], nll (nats), ece (expected calibration error, Guo 2017).
    """
    from sklearn.metrics import confusion_matrix, roc_auc_score

    k = len(classes)
    predicted = probabilities.argmax(axis=1)
    table = confusion_matrix(labels, predicted, labels=range(k))
    count, asked = table.sum(axis=1), table.sum(axis=0)
    right = np.diag(table)
    recall = [_ratio(right[c], count[c]) for c in range(k)]
    auc = [float(roc_auc_score(labels == c, probabilities[:, c])) if 0 < count[c] < len(labels) else None
           for c in range(k)]
    own = np.clip(probabilities[np.arange(len(labels)), labels], 1e-12, 1.0)
    there = [value for value in recall if value is not None]
    return {
        "n": len(labels),
        "accuracy": _rounded(_ratio(right.sum(), len(labels))),
        "balanced_accuracy": _rounded(float(np.mean(there))) if there else None,
        "recall": {name: _rounded(recall[c]) for c, name in enumerate(classes)},
        "precision": {name: _rounded(_ratio(right[c], asked[c])) for c, name in enumerate(classes)},
        "auc": {name: _rounded(auc[c]) for c, name in enumerate(classes)},
        "count": {name: int(count[c]) for c, name in enumerate(classes)},
        "confusion": table.tolist(),
        "nll": _rounded(float(-np.log(own).mean())) if len(labels) else None,
        "ece": _rounded(calibration_error(labels, probabilities)) if len(labels) else None,
    }


def calibration_error(labels: NDArray[np.int64], probabilities: NDArray[Any], bins: int = 10) -> float:
    """Expected calibration error: mean gap between confidence and accuracy over bins of equal width (Guo 2017)."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(confidence[which == b].mean() - right[which == b].mean()) * (which == b).mean()
            for b in range(bins) if (which == b).any()]
    return float(sum(gaps))


def fit_temperature(logits: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """Temperature in [0.05, 20] of the least negative log-likelihood (Guo 2017)."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    values = np.asarray(logits, np.float64)

    def loss(log_t: float) -> float:
        return float(-log_softmax(values / np.exp(log_t), axis=1)[np.arange(len(labels)), labels].mean())

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded", options={"xatol": 1e-5})
    return float(np.exp(found.x))


def _ratio(part: Any, whole: Any) -> float | None:
    return float(part) / float(whole) if whole else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
