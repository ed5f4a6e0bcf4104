"""Metrics against values computed by hand and against scikit-learn, MONAI and torchmetrics."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthskin.bias import metrics as m
from synthskin.bias.errors import BiasError

ys = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
ps = np.array([0.9, 0.8, 0.4, 0.3, 0.7, 0.4, 0.2, 0.2, 0.1, 0.05])
ds = (ps >= 0.5).astype(int)  # TP 2, FN 2, FP 1, TN 5


def test_by_hand():
    assert m.sensitivity(ys, ds) == 2 / 4
    assert m.specificity(ys, ds) == 5 / 6
    assert m.accuracy(ys, ds) == 7 / 10
    assert m.balanced_accuracy(ys, ds) == pytest.approx((2 / 4 + 5 / 6) / 2)
    # pairs won by 0.9: 6, 0.8: 6, 0.4: 4 and one tie, 0.3: 4 -> 20.5 of 24
    assert m.auc(ys, ps) == pytest.approx(20.5 / 24)
    assert m.brier([1, 0], [0.8, 0.3]) == pytest.approx((0.04 + 0.09) / 2)
    # bins of 0.5: {0.2: wrong 0, 0.4: came} and {0.9: came}; |0.5 - 0.3| 2/3 + |1 - 0.9| 1/3
    assert m.ece([0, 1, 1], [0.2, 0.4, 0.9], bins=2) == pytest.approx(0.2 * 2 / 3 + 0.1 / 3)
    assert m.prevalence(ys) == 0.4


def test_overlap_by_hand():
    a = np.zeros((4, 4), bool)
    b = np.zeros((4, 4), bool)
    a[0, :3] = True  # 3 pixels
    b[0, 1:] = True  # 3 pixels, 2 shared
    found = m.overlap(a, b)
    assert (found.tp, found.fp, found.fn, found.tn) == (2, 1, 1, 12)
    assert found.dice == pytest.approx(2 * 2 / 6)
    assert found.iou == pytest.approx(2 / 4)
    assert found.sensitivity == pytest.approx(2 / 3)
    assert found.specificity == pytest.approx(12 / 13)
    empty = np.zeros((4, 4), bool)
    assert m.dice(empty, empty) == 1.0 == m.iou(empty, empty)
    assert m.dice(a, empty) == 0.0
    assert math.isnan(m.overlap(a, empty).sensitivity)
    with pytest.raises(BiasError, match="same shape"):
        m.dice(a, empty[:2])


def test_papers_definitions_on_a_worked_example():
    """Light: 4 ill, 3 found. Dark: 5 ill, 2 found. EOD = 0.75 - 0.40. NAR of 0.9, 0.8, 0.6 = 0.3 / 0.7667."""
    labels = np.array([1] * 4 + [0] * 3 + [1] * 5 + [0] * 2)
    found = np.array([1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0])
    light = np.arange(14) < 7
    assert m.equal_opportunity_difference(labels, found, light, ~light) == pytest.approx(0.35)
    assert m.nar([0.9, 0.8, 0.6]) == pytest.approx(0.3 / ((0.9 + 0.8 + 0.6) / 3))
    assert m.nar({"I": 0.5, "VI": 0.5}) == 0.0
    assert m.ratio(0.6, 0.75) == pytest.approx(0.8) == m.ratio(0.75, 0.6)
    with pytest.raises(BiasError, match="at least 2"):
        m.nar([0.9])


def random_scores(seed, n=200, ties=True):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    scores = np.clip(0.35 + 0.25 * labels + 0.25 * rng.standard_normal(n), 0, 1)
    return labels, (np.round(scores, 2) if ties else scores), rng.integers(0, 4, n).astype(float)


@pytest.mark.parametrize("seed", range(5))
def test_against_scikit_learn(seed):
    sk = pytest.importorskip("sklearn.metrics")
    y, p, w = random_scores(seed)
    d = (p >= 0.5).astype(int)
    for weights in (None, w):
        assert m.auc(y, p, weights) == pytest.approx(sk.roc_auc_score(y, p, sample_weight=weights), abs=1e-6)
        assert m.sensitivity(y, d, weights) == pytest.approx(sk.recall_score(y, d, sample_weight=weights), abs=1e-6)
        assert m.specificity(y, d, weights) == pytest.approx(
            sk.recall_score(y, d, pos_label=0, sample_weight=weights), abs=1e-6)
        assert m.accuracy(y, d, weights) == pytest.approx(sk.accuracy_score(y, d, sample_weight=weights), abs=1e-6)
        assert m.balanced_accuracy(y, d, weights) == pytest.approx(
            sk.balanced_accuracy_score(y, d, sample_weight=weights), abs=1e-6)
        assert m.brier(y, p, weights) == pytest.approx(sk.brier_score_loss(y, p, sample_weight=weights), abs=1e-6)


def many_classes(seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, 300)
    logits = rng.standard_normal((300, 4)) + 1.2 * np.eye(4)[y]
    p = np.exp(logits)
    return y, p / p.sum(1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
def test_many_classes(seed):
    sk = pytest.importorskip("sklearn.metrics")
    torch = pytest.importorskip("torch")
    tm = pytest.importorskip("torchmetrics.classification")
    y, p = many_classes(seed)
    assert m.macro_auc(y, p) == pytest.approx(sk.roc_auc_score(y, p, multi_class="ovr"), abs=1e-6)
    assert m.balanced_accuracy(y, p.argmax(1)) == pytest.approx(sk.balanced_accuracy_score(y, p.argmax(1)), abs=1e-6)
    theirs = tm.MulticlassCalibrationError(4, n_bins=15)(torch.tensor(p), torch.tensor(y))
    assert m.ece(y, p) == pytest.approx(float(theirs), abs=1e-6)
    assert m.brier(y, p) == pytest.approx(((p - np.eye(4)[y]) ** 2).sum(1).mean(), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_against_torchmetrics(seed):
    torch = pytest.importorskip("torch")
    tm = pytest.importorskip("torchmetrics.classification")
    y, p, _ = random_scores(seed, ties=False)
    scores, labels = torch.tensor(p), torch.tensor(y)
    assert m.ece(y, p) == pytest.approx(float(tm.BinaryCalibrationError(n_bins=15)(scores, labels)), abs=1e-6)
    assert m.auc(y, p) == pytest.approx(float(tm.BinaryAUROC()(scores, labels)), abs=1e-6)
    d = p >= 0.5
    assert m.specificity(y, d) == pytest.approx(float(tm.BinarySpecificity()(scores, labels)), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_masks_against_monai(seed):
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.metrics")
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, 32, 40)) < 0.3
    pair = [torch.tensor(x[None, None].astype(np.float32)) for x in (a, b)]
    assert m.dice(a, b) == pytest.approx(float(monai.DiceMetric()(*pair)), abs=1e-6)
    assert m.iou(a, b) == pytest.approx(float(monai.MeanIoU()(*pair)), abs=1e-6)
    empty = torch.zeros_like(pair[0])
    assert float(monai.DiceMetric(ignore_empty=False)(empty, empty)) == m.dice(~a & a, ~a & a)


@given(st.integers(0, 10_000))
def test_weights_are_repeated_cases(seed):
    """A case of weight 3 counts as three cases, and rows of weights give the value of each row."""
    y, p, w = random_scores(seed, n=40)
    if not 0 < (y * w).sum() < w.sum():
        return
    again = np.repeat(np.arange(40), w.astype(int))
    d = (p >= 0.5).astype(int)
    rows = np.stack([w, np.ones(40)])
    for metric, x in ((m.auc, p), (m.brier, p), (m.ece, p), (m.sensitivity, d), (m.specificity, d), (m.accuracy, d),
                      (m.balanced_accuracy, d)):
        assert metric(y, x, w) == pytest.approx(metric(y[again], x[again]), abs=1e-12)
        assert metric(y, x, rows) == pytest.approx([metric(y, x, w), metric(y, x)], abs=1e-12)


def test_absent_class_has_no_value():
    assert math.isnan(m.sensitivity([0, 0], [0, 1]))
    assert math.isnan(m.auc([1, 1], [0.2, 0.4]))
    assert np.isnan(m.auc(ys, ps, np.stack([ys, 1 - ys]))).all()
    with pytest.raises(BiasError, match="0 or 1"):
        m.auc([0, 2], [0.1, 0.2])


def test_threshold_rules():
    assert m.choose_threshold(ys, ps, "half") == 0.5
    assert m.choose_threshold(ys, ps, 0.31) == 0.31
    t = m.choose_threshold(ys, ps, "youden")
    best = max(m.sensitivity(ys, ps >= p) + m.specificity(ys, ps >= p) for p in ps)
    assert m.sensitivity(ys, ps >= t) + m.specificity(ys, ps >= t) == pytest.approx(best)
    t = m.choose_threshold(ys, ps, "sensitivity:0.75")
    assert m.sensitivity(ys, ps >= t) == 0.75 and m.sensitivity(ys, ps >= t + 0.06) < 0.75
    t = m.choose_threshold(ys, ps, "specificity:0.9")
    assert m.specificity(ys, ps >= t) == 1.0
    with pytest.raises(BiasError, match="all of one class"):
        m.choose_threshold([1, 1], [0.1, 0.2])
    with pytest.raises(BiasError, match="allowed are"):
        m.choose_threshold(ys, ps, "best")
