"""Do the intervals and tests of synthskin.bias.statistics hold what they say? Simulated score tables, no training.

    python benchmarks/study_statistics.py --out benchmarks/results/study_statistics.json      (about 3 minutes, 1 core)

Each scenario draws `--tables` score tables from a known truth and counts: how often p < 0.05 where there is no
difference (false alarms, 5 % is right), how often the 95 % interval holds the truth (coverage), how often a true
difference is found (power).
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from synthskin.bias import metrics
from synthskin.bias.statistics import (
    Interval,
    Replicates,
    Resampler,
    difference,
    estimate_of,
    gap_change,
    holm,
    mean_of,
    replicate,
)

SD = 0.15  # of a case's score, as the Dice of lesion segmenters spreads
SEED_SD = 0.02  # between trainings
CROSS_SD = 0.05  # case x training


def table(rng, n, seeds, mean=0.8, per_cluster=1, skewed=False, seed_sd=SEED_SD, cross=CROSS_SD):
    """(scores (cases, seeds), clusters): total SD of a case is SD; with several pictures a person half of it is his."""
    people = rng.standard_normal(n)
    clusters = np.repeat(np.arange(n), per_cluster)
    own = rng.standard_normal(n * per_cluster)
    z = people[clusters] if per_cluster == 1 else np.sqrt(0.5) * people[clusters] + np.sqrt(0.5) * own
    if skewed:  # most cases good, a few failures: an exponential turned round, mean 0, variance 1
        from scipy.stats import expon, norm

        z = 1 - expon.ppf(norm.cdf(z))
    main = np.sqrt(SD**2 - cross**2)
    noise = cross * rng.standard_normal((len(clusters), seeds))
    return mean + main * z[:, None] + seed_sd * rng.standard_normal(seeds) + noise, clusters


def groups_gap(gap, n=50, other=50, seeds=3, **how):
    """Group a's trainings vary on their own (groups and trainings interact); group b's do not."""
    def run(rng, replicates):
        (a, ca), (b, cb) = table(rng, n, seeds, **how), table(rng, other, seeds, **{**how, "seed_sd": 0.0})
        a = a - gap
        scores = np.concatenate([a, b])
        clusters = np.concatenate([ca, 10_000 + cb])
        draws = Resampler.of(clusters.tolist(), replicates, int(rng.integers(2**31)))
        first = np.arange(len(scores)) < len(a)
        return difference(replicate(mean_of(scores), seeds, draws, ~first),
                          replicate(mean_of(scores), seeds, draws, first)), gap
    return run


def arms(effect, n=50, seeds=3, seed_sd=SEED_SD):
    def run(rng, replicates):
        hard = np.sqrt(SD**2 - CROSS_SD**2) * rng.standard_normal(n)
        draws = Resampler.of(list(range(n)), replicates, int(rng.integers(2**31)))
        made = []
        for k, shift in enumerate((effect, 0.0)):
            scores = (0.8 + shift + hard[:, None] + seed_sd * rng.standard_normal(seeds)
                      + CROSS_SD * rng.standard_normal((n, seeds)) + 0.03 * rng.standard_normal((n, 1)))
            made.append(replicate(mean_of(scores), seeds, draws, arm=str(k)))
        return difference(*made), effect
    return run


def counterfactual(gap, n=50, seeds=3):
    """The same lesion in both groups: the gap is paired by lesion."""
    def run(rng, replicates):
        a, clusters = table(rng, n, seeds)
        b = a - gap + 0.05 * rng.standard_normal(a.shape[0])[:, None] + CROSS_SD * rng.standard_normal(a.shape)
        draws = Resampler.of([*clusters.tolist(), *clusters.tolist()], replicates, int(rng.integers(2**31)))
        scores, first = np.concatenate([a, b]), np.arange(2 * n) < n
        return difference(replicate(mean_of(scores), seeds, draws, first),
                          replicate(mean_of(scores), seeds, draws, ~first)), gap
    return run


def rates(gap, n=50, seeds=3, rate=0.8):
    """Sensitivity in two groups of n positive cases; a training flips a tenth of the decisions."""
    def run(rng, replicates):
        labels = np.ones(2 * n)
        p = np.where(np.arange(2 * n) < n, rate, rate - gap)
        flip = 0.1
        inner = (p - flip / 2) / (1 - flip)
        base = rng.random(2 * n) < inner
        decided = np.stack([np.where(rng.random(2 * n) < flip, rng.random(2 * n) < 0.5, base) for _ in range(seeds)], 1)
        draws = Resampler.of(list(range(2 * n)), replicates, int(rng.integers(2**31)))
        first = np.arange(2 * n) < n
        parts = []
        for where in (first, ~first):
            parts.append(replicate(lambda w, s: metrics.sensitivity(labels, decided[:, s], w), seeds, draws, where))
        return difference(*parts), gap
    return run


def one_mean(n=50, seeds=3, **how):
    def run(rng, replicates):
        scores, clusters = table(rng, n, seeds, **how)
        draws = Resampler.of(clusters.tolist(), replicates, int(rng.integers(2**31)))
        return estimate_of(replicate(mean_of(scores), seeds, draws), None), 0.8
    return run


def one_auc(n=60, seeds=3, shift=1.2):
    """Binormal scores: the true AUC is Phi(shift / sqrt 2)."""
    def run(rng, replicates):
        from scipy.stats import norm

        labels = (np.arange(2 * n) < n).astype(int)
        z = shift * labels + rng.standard_normal(2 * n)
        keep = 0.9
        scores = np.sqrt(keep) * (z - shift * labels)[:, None] + shift * labels[:, None] + np.sqrt(
            1 - keep) * rng.standard_normal((2 * n, seeds))
        draws = Resampler.of(list(range(2 * n)), replicates, int(rng.integers(2**31)))
        return estimate_of(replicate(lambda w, s: metrics.auc(labels, scores[:, s], w), seeds, draws)), float(
            norm.cdf(shift / np.sqrt(2)))
    return run


def mended(n=50, seeds=3):
    """Change of a gap between two arms; there is none."""
    def run(rng, replicates):
        draws = Resampler.of(list(range(2 * n)), replicates, int(rng.integers(2**31)))
        first = np.arange(2 * n) < n
        hard = np.sqrt(SD**2 - CROSS_SD**2) * rng.standard_normal((2 * n, 1))
        made: list[Replicates] = []
        for arm in ("a", "b"):
            scores = 0.8 - 0.1 * first[:, None] + hard + SEED_SD * rng.standard_normal(
                seeds) + CROSS_SD * rng.standard_normal((2 * n, seeds))
            made += [replicate(mean_of(scores), seeds, draws, where, arm) for where in (first, ~first)]
        return gap_change(*made), 0.0
    return run


SCENARIOS: dict[str, tuple[str, Callable]] = {
    "gap, none, n 50 and 50": ("null", groups_gap(0.0)),
    "gap 0.15, n 50 and 50, SD 0.15": ("power", groups_gap(0.15)),
    "gap, none, n 12 and 88": ("null", groups_gap(0.0, 12, 88)),
    "gap, none, skewed scores, n 50 and 50": ("null", groups_gap(0.0, skewed=True)),
    "gap, none, 3 pictures a person, 40 and 40": ("null", groups_gap(0.0, 40, 40, per_cluster=3)),
    "gap, none, one training": ("null", groups_gap(0.0, seeds=1, seed_sd=0.0)),
    "gap, none, sensitivity 0.8, n 50 and 50": ("null", rates(0.0)),
    "gap, none, same lesions on two skins, n 50": ("null", counterfactual(0.0)),
    "arms, none, n 50, 3 trainings": ("null", arms(0.0)),
    "arms, none, n 50, 5 trainings that differ much": ("null", arms(0.0, seeds=5, seed_sd=0.04)),
    "arms 0.05, n 50, 5 trainings": ("power", arms(0.05, seeds=5)),
    "change of a gap, none": ("null", mended()),
    "mean, n 50, 3 trainings": ("interval", one_mean()),
    "mean, n 50, 5 trainings that differ much": ("interval", one_mean(seeds=5, seed_sd=0.04)),
    "mean, n 20": ("interval", one_mean(20)),
    "mean, 3 pictures a person, 40": ("interval", one_mean(40, per_cluster=3)),
    "AUC 0.80, n 60 and 60": ("interval", one_auc()),
}


def judge(name: str, tables: int, replicates: int, seed: int = 0) -> dict[str, float | str | int]:
    """Figures of one scenario."""
    kind, run = SCENARIOS[name]
    found: list[tuple[Interval, float]] = []
    for k in range(tables):
        rng = np.random.default_rng([seed, list(SCENARIOS).index(name), k])
        found.append(run(rng, replicates))
    covered = np.mean([x.low <= truth <= x.high for x, truth in found])
    out: dict[str, float | str | int] = {"tables": tables, "coverage": round(float(covered), 4),
                                         "width": round(float(np.mean([x.high - x.low for x, _ in found])), 4)}
    if kind != "interval":
        out["false_alarms" if kind == "null" else "power"] = round(float(np.mean([x.p < 0.05 for x, _ in found])), 4)
    if kind == "power":
        out["detectable"] = round(float(np.mean([x.detectable for x, _ in found])), 4)
    return out


def family(tables: int, replicates: int, seed: int = 0, size: int = 8) -> float:
    """How often any of `size` comparisons without a difference has p_holm < 0.05."""
    wrong = 0
    for k in range(tables // size):
        found = [SCENARIOS["gap, none, n 50 and 50"][1](np.random.default_rng([seed, 99, k, j]), replicates)[0]
                 for j in range(size)]
        wrong += any(x.p_holm < 0.05 for x in holm(found))
    return wrong / (tables // size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--replicates", type=int, default=500)
    parser.add_argument("--only", help="scenarios whose name holds this")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    started = time.process_time()
    results: dict[str, object] = {}
    for name in SCENARIOS:
        if args.only is None or args.only in name:
            results[name] = judge(name, args.tables, args.replicates)
            print(f"{name:48} {results[name]}", flush=True)
    if args.only is None:
        results["Holm, 8 comparisons without a difference, families with a false alarm"] = round(
            family(8 * (args.tables // 4), args.replicates), 4)
    if args.out:
        args.out.write_text(json.dumps({
            "what": __doc__.splitlines()[0], "replicates": args.replicates, "python": platform.python_version(),
            "numpy": np.__version__, "cpu_seconds": round(time.process_time() - started, 1), "scenarios": results,
        }, indent=1) + "\n")


if __name__ == "__main__":
    main()
