"""Intervals and tests on simulated score tables of known truth; benchmarks/study_statistics.py does 1,000 of each."""

import math
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest

from synthskin.bias import metrics
from synthskin.bias import statistics as s
from synthskin.bias.errors import BiasError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import study_statistics as bench


@pytest.mark.parametrize("name", ["gap, none, n 50 and 50", "arms, none, n 50, 5 trainings that differ much"])
def test_false_alarms_and_coverage(name):
    """200 tables: 5 % false alarms lie in 2 to 9 % with a chance of 98 %."""
    found = bench.judge(name, 200, 300)
    assert 0.02 <= found["false_alarms"] <= 0.09
    assert 0.91 <= found["coverage"] <= 0.98


def test_power():
    found = bench.judge("gap 0.15, n 50 and 50, SD 0.15", 100, 300)
    assert found["power"] >= 0.9
    assert found["coverage"] >= 0.91
    assert 0.07 < found["detectable"] < 0.11  # (1.98 + 0.85) x 0.15 sqrt(2 / 50) = 0.085, and the trainings


def draws(n, replicates=2000, repeat=1):
    return s.Resampler.of(np.repeat(np.arange(n), repeat).tolist(), replicates)


def test_agrees_with_students_t():
    """Plain means of independent cases: the interval is that of Welch's test."""
    from scipy import stats

    rng = np.random.default_rng(1)
    a, b = rng.normal(0.8, 0.1, 40), rng.normal(0.75, 0.2, 60)
    table, first = np.concatenate([a, b])[:, None], np.arange(100) < 40
    d = draws(100, 20_000)
    found = s.difference(s.replicate(s.mean_of(table), 1, d, first), s.replicate(s.mean_of(table), 1, d, ~first))
    welch = stats.ttest_ind(a, b, equal_var=False)
    low, high = welch.confidence_interval(0.95)
    assert found.estimate == pytest.approx(a.mean() - b.mean())
    assert found.df == pytest.approx(welch.df, rel=0.05)
    assert [found.low, found.high] == pytest.approx([low, high], abs=0.006)
    assert found.p == pytest.approx(welch.pvalue, abs=0.02)
    assert (found.p < 0.05) == (not found.low <= 0 <= found.high)
    assert "one training" in found.note


def test_seeds_alone():
    """Cases all alike: what is left is the t interval of the trainings."""
    from scipy import stats

    by_seed = np.array([0.80, 0.83, 0.79, 0.86])
    found = s.estimate_of(s.replicate(s.mean_of(np.tile(by_seed, (30, 1))), 4, draws(30, 4000)), None)
    t = stats.t.interval(0.95, 3, by_seed.mean(), by_seed.std(ddof=1) / 2)
    assert found.df == pytest.approx(3)
    assert [found.low, found.high] == pytest.approx(t, abs=0.01)


def test_pictures_of_a_person_count_once():
    rng = np.random.default_rng(0)
    scores = np.repeat(rng.normal(0.8, 0.1, 30), 5)[:, None]
    persons = s.estimate_of(s.replicate(s.mean_of(scores), 1, draws(30, repeat=5)), None)
    apart = s.estimate_of(s.replicate(s.mean_of(scores), 1, draws(150)), None)
    assert (persons.high - persons.low) / (apart.high - apart.low) == pytest.approx(math.sqrt(5), rel=0.1)
    assert (persons.clusters, persons.cases) == (30, 150)


def test_counterfactuals_are_paired():
    """The same lesions on two skins: the lesions' own spread leaves the gap."""
    rng = np.random.default_rng(0)
    hard = rng.normal(0.7, 0.15, 40)
    scores = np.concatenate([hard, hard - 0.05 + rng.normal(0, 0.01, 40)])[:, None]
    first = np.arange(80) < 40
    ids = [*range(40), *range(40)]
    gaps = []
    for clusters in (ids, list(range(80))):
        d = s.Resampler.of(clusters)
        gaps.append(s.difference(*(s.replicate(s.mean_of(scores), 1, d, w) for w in (first, ~first))))
    assert gaps[0].estimate == pytest.approx(gaps[1].estimate)
    assert gaps[0].high - gaps[0].low < 0.1 * (gaps[1].high - gaps[1].low)
    assert gaps[0].p < 1e-6 and gaps[1].p > 0.05


def test_small_groups_say_nothing():
    table = np.random.default_rng(0).random((60, 2))
    d = draws(60)
    few = np.arange(60) < 9
    a, b = (s.replicate(s.mean_of(table), 2, d, w) for w in (few, ~few))
    for found in (s.difference(a, b), s.estimate_of(a), s.ratio(a, b)):
        assert found.says_nothing and math.isnan(found.p)
        assert "too small to say anything: 9 independent" in found.note
    with pytest.raises(BiasError, match="no cases in the group"):
        s.replicate(s.mean_of(table), 2, d, few & ~few)
    with pytest.raises(BiasError, match="at least 2 different"):
        s.Resampler.of(["one"] * 20)


def test_all_right_is_not_certain():
    """20 of 20: the bootstrap sees no spread, the exact interval is 0.83 to 1 (Clopper and Pearson's table)."""
    found = s.estimate_of(s.replicate(s.mean_of(np.ones((20, 1))), 1, draws(20)), share=True)
    assert found.low == pytest.approx(0.8316, abs=1e-4) and found.high == 1.0
    assert s.clopper_pearson(0, 20) == pytest.approx((0, 0.1684), abs=1e-4)
    assert s.clopper_pearson(5, 20) == pytest.approx((0.0866, 0.4910), abs=1e-4)
    assert s.estimate_of(s.replicate(s.mean_of(np.ones((20, 1))), 1, draws(20))).says_nothing


def test_absent_class():
    labels = np.array([1] * 3 + [0] * 57)
    scores = np.random.default_rng(0).random(60)
    found = s.estimate_of(s.replicate(lambda w, k: metrics.auc(labels, scores, w), 1, draws(60)))
    assert math.isfinite(found.low)  # 3 positives are lost in 5 % of the draws
    one = np.array([1] + [0] * 59)
    found = s.estimate_of(s.replicate(lambda w, k: metrics.auc(one, scores, w), 1, draws(60)))
    assert "lack a class" in found.note and found.says_nothing
    found = s.estimate_of(s.replicate(lambda w, k: metrics.auc(0 * one, scores, w), 1, draws(60)))
    assert "absent" in found.note


def test_ratio_and_range():
    rng = np.random.default_rng(0)
    table = np.concatenate([rng.normal(0.4, 0.05, 50), rng.normal(0.8, 0.05, 50)])[:, None]
    d, first = draws(100), np.arange(100) < 50
    a, b = (s.replicate(s.mean_of(table), 1, d, w) for w in (first, ~first))
    found = s.ratio(a, b)
    assert found.low < 0.5 < found.high and found.p < 1e-6
    assert found.estimate == pytest.approx(a.estimate / b.estimate)
    spread, chance = s.range_of([a, b])
    assert spread == pytest.approx(abs(a.estimate - b.estimate))
    assert 0 < chance < 0.02
    zero = s.replicate(s.mean_of(np.zeros((100, 1))), 1, d)
    assert "one of the two is 0" in s.ratio(zero, b).note


def test_holm_by_hand():
    """Holm: 0.01 x 3, then 0.02 x 2, then 0.04, never falling; without p untouched."""
    blank = s.Interval(0, 0, 0, 0, 1, math.nan, 0, 1, 1, 1)
    found = s.holm([replace(blank, p=p) for p in (0.04, 0.01, math.nan, 0.02)])
    assert [x.p_holm for x in found[:2]] == pytest.approx([0.04, 0.03])
    assert math.isnan(found[2].p_holm)
    assert found[3].p_holm == pytest.approx(0.04)
    assert s.holm([replace(blank, p=0.9), replace(blank, p=0.8)])[0].p_holm == 1.0


def test_missing_cases_of_a_training():
    """Repeated splits: a case that a training never saw is NaN in its column."""
    table = np.array([[0.5, np.nan], [0.7, 0.9], [np.nan, 0.7]] * 10)
    r = s.replicate(s.mean_of(table), 2, draws(30))
    assert r.values[0] == pytest.approx([0.6, 0.8])


def test_repeatable_and_frozen():
    table = np.random.default_rng(0).random((40, 3))
    first, again = (s.estimate_of(s.replicate(s.mean_of(table), 3, draws(40))) for _ in range(2))
    assert first == again
    with pytest.raises(FrozenInstanceError):
        first.low = 0.0
    with pytest.raises(ValueError, match="read-only"):
        draws(40).weights[0, 0] = 2
