"""Intervals and tests for scores of cases under several trainings: hierarchical bootstrap, gaps, arms, Holm.

A score table has a row a case and a column a training (seed). Two things were drawn at random: the people or lesions,
and the seeds of the trainings. Both are drawn again here: clusters of cases (all pictures of a person or a lesion
together) and then whole trainings, crossed, because every training is scored on the same cases (Owen 2007, the
"pigeonhole" bootstrap). The bootstrap gives the shape of the interval; its width is set right for few clusters and few
seeds, where a plain bootstrap is too narrow:

    var = n/(n-1) var*(clusters) + s^2(seeds)/S - var(cases x seeds)/(n S)     never under the first term
    interval: bootstrap quantiles, stretched about the estimate to that variance and to Student's t with
    Satterthwaite's degrees of freedom (Hesterberg 2015 on narrow percentile intervals; Satterthwaite 1946; Welch 1947)

The p-value is that of the same stretched interval: p < 0.05 exactly where the 95 % interval leaves out the null value.
Checked on simulated tables by benchmarks/study_statistics.py.

Not for: fewer than two clusters or one-sided questions. With one seed the variation between trainings is unknown;
`Interval.note` says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from synthskin.bias.errors import BiasError

REPLICATES: Final = 2000
LEAST_CLUSTERS: Final = 10  # below that a group says nothing
POWER: Final = 0.8  # of the smallest effect a comparison could have found (`Interval.detectable`)

Floats = NDArray[np.float64]
#: (weights (b, cases), number of the training) -> (b,) the statistic on the weighted cases; NaN where it has no value.
Statistic = Callable[[Floats, int], Floats]


@dataclass(frozen=True, slots=True)
class Resampler:
    """Weights of the cases: row 0 all 1, then one bootstrap draw of whole clusters a row.

    weights    (1 + replicates, cases)
    clusters   (cases,) number of each case's cluster
    """

    weights: Floats
    clusters: NDArray[np.int64]

    @staticmethod
    def of(clusters: Sequence[Hashable], replicates: int = REPLICATES, seed: int = 0) -> Resampler:
        """`clusters`: for each case the person, lesion or group it belongs to. Raises BiasError under two clusters."""
        numbers: dict[Hashable, int] = {}
        codes = np.array([numbers.setdefault(key, len(numbers)) for key in clusters], np.int64)
        if len(numbers) < 2:
            raise BiasError(f"{len(codes)} cases of {len(numbers)} patient or lesion: at least 2 different ones are "
                            "needed for an interval; give more cases, or ids that tell them apart")
        if replicates < 100:
            raise BiasError(f"{replicates} bootstrap replicates: at least 100 are needed")
        n = len(numbers)
        rng = np.random.default_rng([seed, n, replicates])
        drawn = rng.multinomial(n, np.full(n, 1 / n), replicates)
        weights = np.concatenate([np.ones((1, n), np.int64), drawn])[:, codes].astype(np.float64)
        return Resampler(frozen(weights), frozen(codes))


@dataclass(frozen=True, slots=True)
class Replicates:
    """A statistic on the cases as they are (row 0) and on each draw; a column a training.

    arm        trainings of one arm go together; different arms are trained apart
    clusters   numbers of the clusters that carry it
    cases      number of cases that carry it
    """

    values: Floats
    arm: str
    clusters: frozenset[int]
    cases: int

    @property
    def estimate(self) -> float:
        return float(self.values[0].mean())

    @property
    def seeds(self) -> int:
        return self.values.shape[1]


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.setflags(write=False)
    return array


def replicate(
    statistic: Statistic, seeds: int, draws: Resampler, where: NDArray[np.bool_] | None = None, arm: str = ""
) -> Replicates:
    """Evaluate `statistic` for each training and draw.

    where   (cases,) the cases that carry it (a group, or those with a label); all by default. The others get the weight
            0, so that one statistic serves all groups. Raises BiasError where there are none.
    """
    keep = np.ones(draws.weights.shape[1], bool) if where is None else np.asarray(where, bool)
    if not keep.any():
        raise BiasError("no cases in the group: leave the group out, or give a test set that has it")
    weights = draws.weights if keep.all() else draws.weights * keep
    values = np.stack([np.asarray(statistic(weights, s), np.float64) for s in range(seeds)], axis=1)
    return Replicates(frozen(values), arm, frozenset(draws.clusters[keep].tolist()), int(keep.sum()))


def mean_of(scores: Floats) -> Statistic:
    """Statistic of a table (cases, seeds): the weighted mean of a column. Cases that are NaN in it are left out."""
    table = np.asarray(scores, np.float64)
    known = np.isfinite(table)
    filled = np.where(known, table, 0.0)

    def mean(weights: Floats, seed: int) -> Floats:
        total = weights @ known[:, seed].astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(total > 0, (weights @ filled[:, seed]) / total, np.nan)

    return mean


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval and, for a difference, its p-value against `null`.

    estimate     mean over the trainings of the statistic on all cases
    low, high    NaN where none can be given; `note` then says why
    se, df       standard error (both sources of variation) and degrees of freedom
    p            two-sided; NaN where `null` is None; `p_holm` is filled by `holm`
    detectable   smallest true difference that would have been found with 80 % power; NaN where `null` is None, and
                 where it lies beyond the `bounds` of `combine` (the note says so)
    cases, clusters, seeds   what it rests on
    """

    estimate: float
    low: float
    high: float
    se: float
    df: float
    p: float
    detectable: float
    cases: int
    clusters: int
    seeds: int
    note: str = ""
    p_holm: float = math.nan

    @property
    def says_nothing(self) -> bool:
        return not math.isfinite(self.low)


Term = tuple[float, Replicates]


def combine(
    terms: Sequence[Term], null: float | None = 0.0, bounds: tuple[float, float] | None = None,
    least: int = LEAST_CLUSTERS, level: float = 0.95, share: bool = False,
) -> Interval:
    """Interval of the sum of coefficient x statistic over the terms.

    (1, A)                         one group or arm (`estimate_of`)
    (1, A), (-1, B)                gap between groups of one arm, or difference of arms; cases that both share pair them
    (1, A1), (-1, B1), (-1, A2), (1, B2)   change of a gap between two arms

    least    fewer clusters than this in any term: no interval, the note says so
    bounds   values the sum cannot leave; the interval is cut there (p is that of the uncut one)
    share    the single term is a share of independent cases: where no draw differs (0 of n, n of n) the interval is
             Clopper and Pearson's over the clusters
    """
    estimate = sum(c * r.estimate for c, r in terms)
    cases = min(r.cases for _, r in terms)
    n = min(len(r.clusters) for _, r in terms)
    seeds = min(r.seeds for _, r in terms)
    blank = Interval(estimate, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, cases, n, seeds)
    if n < least:
        return replace(blank, note=f"too small to say anything: {n} independent patients or lesions, "
                                   f"at least {least} are needed")
    if not math.isfinite(estimate):
        return replace(blank, note="has no value: a class it needs is absent")
    blocks = [_block(block) for block in _blocks(terms)]
    draws = sum((b.mean for b in blocks), np.zeros(1))
    good = np.isfinite(draws)
    if good.mean() < 0.9:
        return replace(blank, note="too small to say anything: over 10 % of the draws lack a class it needs")
    case_parts = [(b.variance, b.clusters - 1) for b in blocks]
    seed_parts, cross = _seed_parts(terms), sum(b.cross for b in blocks)
    v_cases = sum(v for v, _ in case_parts)
    v_seeds = max(sum(v for v, _ in seed_parts) - cross, 0.0)
    note = "one training: its variation is not in the interval" if seeds == 1 else ""
    if v_cases + v_seeds <= 0:
        if share and null is None:
            low, high = clopper_pearson(round(estimate * n), n, level)
            return replace(blank, low=low, high=high, se=0.0, df=n - 1, note=_and(note, "all cases alike: exact "
                           "interval over the patients or lesions"))
        return replace(blank, se=0.0, note=_and(note, "all cases alike: no interval"))
    parts = [*case_parts, *(seed_parts if v_seeds > 0 else [])]  # cross not taken off: few seeds keep few degrees
    total = v_cases + v_seeds
    df = total**2 / sum(v**2 / d for v, d in parts if v > 0)
    se = math.sqrt(total)
    shape = _shape(terms, draws, v_seeds > 0)
    quantile = float(stats.t.ppf(0.5 + level / 2, df))
    spread = float(shape.std())
    tail = 100 * (1 - level) / 2
    below, above = np.percentile(shape, [tail, 100 - tail])
    stretch = se / spread * quantile / float(stats.norm.ppf(0.5 + level / 2)) if spread > 0 else 0.0
    low = estimate + stretch * min(float(below), 0.0)
    high = estimate + stretch * max(float(above), 0.0)
    p = math.nan
    detectable = math.nan
    if null is not None:
        side = estimate - low if null < estimate else high - estimate
        away = abs(estimate - null)
        p = float(2 * stats.t.sf(away / side * quantile, df)) if side > 0 else float(away == 0)
        detectable = (quantile + float(stats.t.ppf(POWER, df))) * se
        if bounds is not None and detectable > max(abs(bound - null) for bound in bounds):
            detectable, note = math.nan, _and(note, "no possible difference would have been found with 80 % power")
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Interval(estimate, low, high, se, df, p, detectable, cases, n, seeds, note)


def estimate_of(r: Replicates, bounds: tuple[float, float] | None = (0.0, 1.0), share: bool = False,
                least: int = LEAST_CLUSTERS) -> Interval:
    """One group of one arm: no null value, so no p."""
    return combine([(1.0, r)], None, bounds, least, share=share)


def difference(a: Replicates, b: Replicates, least: int = LEAST_CLUSTERS) -> Interval:
    """a - b: a gap between groups (unpaired, but for clusters that are in both), or between arms (paired by case)."""
    return combine([(1.0, a), (-1.0, b)], 0.0, (-1.0, 1.0), least)


def ratio(a: Replicates, b: Replicates, least: int = LEAST_CLUSTERS) -> Interval:
    """a / b, its interval that of the difference of logarithms; the null value is 1."""
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = [replace(r, values=frozen(np.log(np.where(r.values > 0, r.values, np.nan)))) for r in (a, b)]
    found = combine([(1.0, logs[0]), (-1.0, logs[1])], 0.0, None, least)
    estimate = a.estimate / b.estimate if b.estimate else math.nan
    if found.note.startswith("has no value"):
        found = replace(found, note="has no value: one of the two is 0")
    return replace(found, estimate=estimate, low=math.exp(found.low), high=math.exp(found.high), se=math.nan,
                   detectable=math.nan)


def gap_change(
    a1: Replicates, b1: Replicates, a2: Replicates, b2: Replicates, least: int = LEAST_CLUSTERS
) -> Interval:
    """(a1 - b1) - (a2 - b2): how much larger the gap between groups a and b is in arm 1 than in arm 2."""
    return combine([(1.0, a1), (-1.0, b1), (-1.0, a2), (1.0, b2)], 0.0, (-2.0, 2.0), least)


def range_of(groups: Sequence[Replicates]) -> tuple[float, float]:
    """(largest less smallest group, the part of it to be expected from chance alone).

    A range over groups is never negative, so noise alone makes one; the second number is the mean range of the draws
    about each group's own estimate. No interval: a bootstrap of a maximum has none that holds.
    """
    means = np.stack([r.values.mean(1) for r in groups], axis=1)
    noise = means[1:] - means[0]
    noise = noise[np.isfinite(noise).all(1)]
    expected = float(np.ptp(noise, axis=1).mean()) if len(noise) else math.nan
    return float(np.ptp(means[0])), expected


def holm(intervals: Iterable[Interval]) -> list[Interval]:
    """Holm's step-down correction (Holm 1979): the same intervals with `p_holm`; those without a p stay as they are."""
    given = list(intervals)
    order = sorted((i for i, x in enumerate(given) if math.isfinite(x.p)), key=lambda i: given[i].p)
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * given[i].p))
        given[i] = replace(given[i], p_holm=running)
    return given


def clopper_pearson(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a share (Clopper and Pearson 1934)."""
    tail = (1 - level) / 2
    low = float(stats.beta.ppf(tail, hits, n - hits + 1)) if hits > 0 else 0.0
    high = float(stats.beta.ppf(1 - tail, hits + 1, n - hits)) if hits < n else 1.0
    return low, high


@dataclass(frozen=True, slots=True)
class _Block:
    mean: Floats  # (draws,) sum over the block's terms of coefficient x mean over the trainings
    variance: float  # of the cases
    cross: float  # variance of cases x trainings, which both sources count
    clusters: int


def _blocks(terms: Sequence[Term]) -> list[list[Term]]:
    """Terms that share clusters go together; blocks are independent."""
    blocks: list[tuple[set[int], list[Term]]] = []
    for term in terms:
        near = [b for b in blocks if b[0] & term[1].clusters]
        merged = (set(term[1].clusters).union(*(b[0] for b in near)), [*(t for b in near for t in b[1]), term])
        blocks = [b for b in blocks if b not in near] + [merged]
    return [b[1] for b in blocks]


def _block(terms: Sequence[Term]) -> _Block:
    n = len(frozenset().union(*(r.clusters for _, r in terms)))
    mean = sum((c * r.values.mean(1) for c, r in terms), np.zeros(1))
    small = n / (n - 1) if n > 1 else math.inf
    variance = float(np.nanvar(mean[1:])) * small if np.isfinite(mean[1:]).any() else 0.0
    cross = 0.0
    for arm in {r.arm for _, r in terms}:
        by_seed = sum((c * r.values for c, r in terms if r.arm == arm), np.zeros(1))
        s = by_seed.shape[1]
        if s > 1 and np.isfinite(by_seed[1:]).any():
            alone = float(np.mean(np.nanvar(by_seed[1:], axis=0))) * small
            together = float(np.nanvar(by_seed[1:].mean(1))) * small
            cross += max(alone - together, 0.0) / (s - 1)
    return _Block(mean[1:], variance, cross, n)


def _seed_parts(terms: Sequence[Term]) -> list[tuple[float, int]]:
    """(variance of the mean over the trainings, degrees of freedom) of each arm."""
    parts = []
    for arm in dict.fromkeys(r.arm for _, r in terms):
        row = sum((c * r.values[0] for c, r in terms if r.arm == arm), np.zeros(1))
        if len(row) > 1:
            parts.append((float(row.var(ddof=1)) / len(row), len(row) - 1))
    return parts


def _shape(terms: Sequence[Term], draws: Floats, with_seeds: bool) -> Floats:
    """Deviations of the draws from the estimate, trainings drawn again too where they vary."""
    centre = sum(c * r.estimate for c, r in terms)
    if not with_seeds:
        return draws[np.isfinite(draws)] - centre
    rng = np.random.default_rng([len(draws), len(terms)])
    total = np.zeros(len(draws))
    for arm in dict.fromkeys(r.arm for _, r in terms):
        by_seed = sum((c * r.values[1:] for c, r in terms if r.arm == arm), np.zeros(1))
        chosen = rng.integers(0, by_seed.shape[1], by_seed.shape)
        total = total + np.take_along_axis(by_seed, chosen, axis=1).mean(1)
    return total[np.isfinite(total)] - centre


def _and(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
