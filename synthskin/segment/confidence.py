"""How good a mask is likely to be: a calibrated estimate of its Dice, and the scores it is calibrated and judged by.

Three signs, all computed at working size:
  own       Dice of the mask with its own probabilities, 2 sum(p m) / (sum p + sum m): its expected Dice if pixels erred
            independently, which they do not
  agree     the same between the probabilities of the picture and of its mirror images (test-time flips)
  margin    mean |2 p - 1| where p is above 0.05: how decided the picture is
A logistic regression on them, fitted to the true Dice on augmented held-out pictures, gives `confidence`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

EPSILON: Final = 1e-3  # share of the frame added to the sums, so that empty masks have a value
SIGNS: Final = ("constant", "own", "agree", "margin", "size")
RIDGE: Final = 1e-2
BINS: Final = 10


def dice_score(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """2 |A B| / (|A| + |B|); 1 if both are empty."""
    total = int(mask.sum()) + int(truth.sum())
    return 1.0 if total == 0 else 2.0 * int((mask & truth).sum()) / total


def iou_score(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """|A B| / |A or B|; 1 if both are empty."""
    union = int((mask | truth).sum())
    return 1.0 if union == 0 else int((mask & truth).sum()) / union


def signs(flips: Tensor, mask: Tensor) -> Tensor:
    """(n, len(SIGNS)) float64 of probabilities (k, n, 1, h, w), turned back to the picture, and masks (n, 1, h, w)."""
    p = flips.mean(0).double().flatten(1)
    m = mask.double().flatten(1)
    small = EPSILON * p.shape[1]
    own = (2 * (p * m).sum(1) + small) / (p.sum(1) + m.sum(1) + small)
    each = flips.double().flatten(2)
    hard = (each > 0.5).double()
    both = 2 * torch.minimum(hard, m[None]).sum(2) + small
    agree = (both / (hard.sum(2) + m.sum(1) + small)).mean(0)
    where = (p > 0.05).double()
    margin = (((2 * p - 1).abs() * where).sum(1) + small) / (where.sum(1) + small)
    size = m.mean(1).sqrt()
    columns = [torch.ones_like(own), _logit(own), _logit(agree), _logit(margin), size - 0.5]
    return torch.stack(columns, 1)


def confidence(values: Tensor, weights: Sequence[float]) -> Tensor:
    """(n,) in 0..1: the Dice to expect."""
    return torch.sigmoid(values @ values.new_tensor(list(weights)))


def fit(values: Tensor, truth: Tensor) -> list[float]:
    """Weights of `confidence`: maximum likelihood of the Dice (n,) as a probability, ridge towards 0."""
    weights = torch.zeros(values.shape[1], dtype=torch.float64)
    penalty = RIDGE * len(values) * torch.eye(values.shape[1], dtype=torch.float64)
    penalty[0, 0] = 0
    for _ in range(50):  # Newton's steps of a convex problem
        p = torch.sigmoid(values @ weights)
        slope = values.T @ (truth - p) - penalty @ weights
        curve = (values * (p * (1 - p)).clamp_min(1e-6)[:, None]).T @ values + penalty
        step = torch.linalg.solve(curve, slope).clamp(-2, 2)
        weights = weights + step
        if float(step.abs().max()) < 1e-9:
            break
    return [round(float(w), 6) for w in weights]


def calibration_error(expected: Sequence[float], truth: Sequence[float]) -> float:
    """Mean |expected - true Dice| over ten bins of equal count, weighted by count (ECE with adaptive bins)."""
    order = np.argsort(expected, kind="stable")
    e, t = np.asarray(expected)[order], np.asarray(truth)[order]
    parts = np.array_split(np.arange(len(e)), min(BINS, len(e)))
    return float(sum(abs(e[p].mean() - t[p].mean()) * len(p) for p in parts) / len(e))


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over scored pictures ({dice, iou, confidence, diagnosis, ita_class}), whole, by class and by tone."""
    def mean(some: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {"n": len(some), "dice": _round(np.mean([r["dice"] for r in some])),
                "iou": _round(np.mean([r["iou"] for r in some]))}

    if not rows:
        return {"n": 0}
    values = {"dice": [r["dice"] for r in rows], "confidence": [r["confidence"] for r in rows]}
    result: dict[str, Any] = mean(rows)
    result["dice_median"] = _round(np.median(values["dice"]))
    result["dice_below_0.5"] = sum(d < 0.5 for d in values["dice"])
    result["calibration_error"] = _round(calibration_error(values["confidence"], values["dice"]))
    both = np.std(values["dice"]) > 0 and np.std(values["confidence"]) > 0
    result["confidence_correlation"] = (
        _round(np.corrcoef(values["confidence"], values["dice"])[0, 1]) if both else None)
    for key, name in (("diagnosis", "by_diagnosis"), ("ita_class", "by_tone")):
        there = sorted({r[key] for r in rows if r[key] is not None})
        result[name] = {str(value): mean([r for r in rows if r[key] == value]) for value in there}
    return result


def _logit(x: Tensor) -> Tensor:
    x = x.clamp(0.002, 0.998)
    return torch.log(x / (1 - x)).clamp(-6, 6)


def _round(value: Any) -> float:
    return round(float(value), 4)
