"""A controlled audit: how a model's prediction moves with one cause at a time, on sets in which only that cause moves.

Reads data sets: one plain set (the unswept pictures) and a variation set a cause (synthskin.audit renders them). For
each cause and lesion there is one picture a value; nothing else differs. Then, over the lesions:

curve      mean probability at each value, 95 % interval of a bootstrap over lesions (synthskin.bias.statistics)
|dp|       largest difference between two points of the curve: how far the cause moves the prediction of a population.
           The pair is the one with the largest difference, so for a cause of many values noise alone makes some |dp|;
           its interval and p-value are those of a largest difference
swing      mean over lesions of the largest less the smallest probability: how far it moves a single picture's
flips      share of lesions whose decision is not the same at all values

It says 'cannot say' where the model does not tell the classes apart on the unswept pictures (AUC under 0.7): what moves
a prediction that means nothing here would mean nothing there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthskin.bias.audit_causes import Cause, linked
from synthskin.bias.audit_pictures import Judged
from synthskin.bias.errors import BiasError
from synthskin.bias.metrics import auc, sensitivity, specificity
from synthskin.bias.statistics import Interval, Resampler, combine, estimate_of, holm, mean_of, replicate

LEAST_AUC: Final = 0.7
STRONG: Final = 0.2  # |dp| of a cause that a model leans on
SMALL: Final = 0.05  # |dp| under which a cause does not count
LEVEL: Final = 0.05  # of the p-values, corrected by Holm over the causes
#: Measured labels of a row that tell what else a cause moved.
FOLLOWED: Final = ("contrast", "ita_deg", "ita_image_deg", "visible_delta_e")
WORST: Final = 12

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Flip:
    """A lesion whose decision a cause turns: its pictures at the values of lowest and highest probability."""

    cause: str
    group: str
    diagnosis: str | None
    values: tuple[Any, Any]
    probabilities: tuple[float, float]
    pictures: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Effect:
    """What one cause does.

    curve       an interval a value
    flips_at    share of lesions whose decision at the value differs from that at the reference
    pair        positions of the values with the lowest and highest mean
    dp          interval of the difference between them
    swing       mean over lesions of largest less smallest probability
    flips       interval of the share of lesions that flip
    by_truth    |dp| of the truly positive and negative lesions, over the same pair
    moved       {measured label: its mean at each value}
    links       {cause of this audit: why it is linked}
    verdict     strong, present, small, unclear, or too few lesions
    strip       pictures of one lesion at the values
    """

    cause: Cause
    lesions: int
    left_out: int
    curve: tuple[Interval, ...]
    flips_at: tuple[float, ...]
    pair: tuple[int, int]
    dp: Interval
    swing: float
    flips: Interval
    by_truth: dict[str, float]
    moved: dict[str, tuple[float | None, ...]]
    links: dict[str, str]
    strip: tuple[str, ...]
    flipped: tuple[Flip, ...]
    verdict: str = ""

    @property
    def size(self) -> float:
        return self.dp.estimate


@dataclass(frozen=True, slots=True)
class Audit:
    """The whole answer. `cannot_say` is "" or the reason; effects are sorted, largest |dp| first."""

    n: int
    positive: int
    auc: Interval | None
    sensitivity: float
    specificity: float
    unswept: str
    effects: tuple[Effect, ...]
    cannot_say: str
    notes: tuple[str, ...] = field(default_factory=tuple)

    def verdict_of(self, effect: Effect) -> str:
        """Of a model that does not work on renders nothing is said."""
        return "cannot say" if self.cannot_say else effect.verdict

    @property
    def worst(self) -> list[Flip]:
        """Flips with the largest change, at most two of a cause."""
        found: list[Flip] = []
        every = sorted((f for e in self.effects for f in e.flipped),
                       key=lambda f: f.probabilities[0] - f.probabilities[1])
        for flip in every:
            if len(found) < WORST and sum(own.cause == flip.cause for own in found) < 2:
                found.append(flip)
        return found


def analyse(
    plain: Judged | None, varied: Sequence[tuple[Cause, Judged]], truth: Mapping[str, bool], threshold: float,
    seed: int = 0,
) -> Audit:
    """The audit of pictures that have been judged.

    plain    unswept pictures; None takes the reference siblings of the variation with most lesions
    varied   a set a cause, whose sample g * k + v shows lesion g at value v
    truth    {diagnosis: is it positive?}; other diagnoses are left out of the AUC
    Raises BiasError where there is nothing to audit.
    """
    if not varied:
        raise BiasError("no cause to audit: give variation sets, or --causes")
    names = [cause.name for cause, _ in varied]
    for name in names:
        if names.count(name) > 1:
            raise BiasError(f"cause {name}: two sets vary it; give one")
    effects = [_effect(cause, judged, truth, threshold, names, seed) for cause, judged in varied]
    corrected = holm(effect.dp for effect in effects)
    effects = [replace(e, dp=dp, verdict=_verdict(dp)) for e, dp in zip(effects, corrected, strict=True)]
    effects.sort(key=lambda e: -e.size)
    notes = []
    if plain is None:
        cause, judged = max(varied, key=lambda own: len(own[1].rows) / len(own[0].values))
        keep = [k for k, row in enumerate(judged.rows) if row["index"] % len(cause.values) == cause.reference]
        plain = judged.only(keep)
        unswept = f"pictures of {cause.name} at {cause.said(cause.values[cause.reference])}"
        notes.append(f"no plain set came: the unswept pictures are those of {cause.name} at its reference value")
    else:
        unswept = "plain set"
    return _with_truth(plain, effects, truth, threshold, unswept, notes, seed)


def _with_truth(plain: Judged, effects: list[Effect], truth: Mapping[str, bool], threshold: float, unswept: str,
                notes: list[str], seed: int) -> Audit:
    keep = [k for k, row in enumerate(plain.rows) if row["diagnosis"] in truth]
    if len(keep) < len(plain.rows):
        notes.append(f"{len(plain.rows) - len(keep)} of {len(plain.rows)} unswept pictures have a diagnosis that is "
                     "none of the model's classes; they are left out of its AUC")
    known = plain.only(keep)
    y = np.array([truth[row["diagnosis"]] for row in known.rows], int)
    p = known.probabilities
    interval: Interval | None = None
    reason = ""
    if not len(y) or y.all() or not y.any():
        kinds = ", ".join(sorted({str(row["diagnosis"]) for row in plain.rows})) or "none"
        reason = (f"the unswept pictures hold no two classes of the model (their diagnoses: {kinds}), so whether it "
                  "works on renders cannot be told; give --diagnosis with a positive and a negative one")
    else:
        draws = Resampler.of(known.groups, seed=seed)
        interval = _perfect(_plain(estimate_of(replicate(lambda w, _: auc(y, p, w), 1, draws))), y, known.groups)
        if interval.estimate < LEAST_AUC:
            reason = (f"the model's AUC on {len(y)} unswept renders is {interval.estimate:.2f}, under {LEAST_AUC}: it "
                      "does not tell its classes apart here, so what moves its prediction says nothing about it")
            if interval.estimate < 1 - LEAST_AUC:
                reason += "; it does so the other way round: is the order of the classes turned, or what is positive?"
        elif interval.says_nothing:
            reason = f"the unswept renders are too few: {interval.note}; give a larger --n"
        elif interval.low < LEAST_AUC:
            notes.append(f"the AUC on the unswept renders may be under {LEAST_AUC} (95 % interval "
                         f"{interval.low:.2f} to {interval.high:.2f}); a larger --n tells")
    decided = (p >= threshold).astype(int)
    return Audit(len(y), int(y.sum()), interval, float(sensitivity(y, decided)) if len(y) else math.nan,
                 float(specificity(y, decided)) if len(y) else math.nan, unswept, tuple(effects), reason, tuple(notes))


def _effect(cause: Cause, judged: Judged, truth: Mapping[str, bool], threshold: float, names: Sequence[str],
            seed: int) -> Effect:
    k = len(cause.values)
    table, rows, left_out = _table(judged, k)
    if not len(rows):
        raise BiasError(f"{judged.directory}: no lesion has its pictures at all {k} values of {cause.name}; finish the "
                        "set with the command that made it")
    n = len(rows)
    draws = Resampler.of([f"lesion {g}" for g in range(n)], seed=seed) if n > 1 else None
    curve = tuple(_mean(table[:, v], draws, None) for v in range(k))
    means = table.mean(0)
    low, high = int(means.argmin()), int(means.argmax())
    dp = _picked(_mean(table[:, high] - table[:, low], draws, 0.0), table, draws)
    decided: NDArray[np.bool_] = np.asarray(table >= threshold)
    flips: NDArray[np.bool_] = np.asarray(decided.any(1) & ~decided.all(1))
    positive = np.array([truth.get(own[0]["diagnosis"], False) for own in rows])
    known = np.array([own[0]["diagnosis"] in truth for own in rows])
    by_truth = {name: float((table[where, high] - table[where, low]).mean())
                for name, where in (("positive", positive & known), ("negative", ~positive & known)) if where.any()}
    order = [int(g) for g in np.argsort(-(np.ptp(table, axis=1))) if flips[g]]
    flipped = tuple(_flip(cause, judged, table[g], rows[g]) for g in order[:3])
    strip = rows[order[0] if order else 0]
    links = {name: why for name, why in linked(cause.name).items() if name in names}
    flips_at = tuple(float(x) for x in (decided != decided[:, [cause.reference]]).mean(0))
    return Effect(cause, n, left_out, curve, flips_at, (low, high), dp, float(np.ptp(table, axis=1).mean()),
                  _share(flips, draws), by_truth,
                  {key: found for key in FOLLOWED if (found := _moved(rows, key)) is not None}, links,
                  tuple(judged.path(row) for row in strip), flipped)


def _table(judged: Judged, k: int) -> tuple[Floats, list[list[dict[str, Any]]], int]:
    """(lesions, values) probabilities, their rows, and how many lesions lack a picture."""
    groups: dict[int, dict[int, int]] = {}
    for place, row in enumerate(judged.rows):
        group, sibling = divmod(row["index"], k)
        groups.setdefault(group, {})[sibling] = place
    whole = [[own[v] for v in range(k)] for _, own in sorted(groups.items()) if len(own) == k]
    table = np.array([[judged.probabilities[place] for place in own] for own in whole]).reshape(len(whole), k)
    return table, [[judged.rows[place] for place in own] for own in whole], len(groups) - len(whole)


def _mean(values: Floats, draws: Resampler | None, null: float | None) -> Interval:
    if draws is None:
        return Interval(float(values.mean()), *(math.nan,) * 6, 1, 1, 1, "too small to say anything: one lesion")
    found = replicate(mean_of(values[:, None]), 1, draws)
    return _plain(combine([(1.0, found)], null, (0.0, 1.0) if null is None else (-1.0, 1.0)))


def _picked(dp: Interval, table: Floats, draws: Resampler | None) -> Interval:
    """The same for the pair that was picked because it differs most: of three values and more, interval and p come
    from the largest difference between any two means in draws of lesions without effect (a maximum statistic)."""
    n, k = table.shape
    if draws is None or k < 3 or dp.says_nothing:
        return dp
    chance = np.ptp(draws.weights[1:] @ (table - table.mean(0)) / n, axis=1) * math.sqrt(n / (n - 1))
    reach = float(np.quantile(chance, 0.95))
    p = float((1 + (chance >= dp.estimate).sum()) / (1 + len(chance)))
    return replace(dp, low=max(dp.estimate - reach, -1.0), high=min(dp.estimate + reach, 1.0), p=p)


def _perfect(found: Interval, y: NDArray[np.int64], groups: Sequence[Any]) -> Interval:
    """An AUC of 1 or 0 with the exact interval of as many pairs as have no lesion in common (Clopper and Pearson)."""
    if found.estimate not in (0.0, 1.0) or found.low != found.high:
        return found
    pairs = min(len({g for g, own in zip(groups, y, strict=True) if own == kind}) for kind in (0, 1))
    least = 0.025 ** (1 / pairs)
    return replace(found, low=least) if found.estimate == 1 else replace(found, high=1 - least)


def _share(flips: NDArray[np.bool_], draws: Resampler | None) -> Interval:
    if draws is None:
        return _mean(flips.astype(float), None, None)
    return _plain(estimate_of(replicate(mean_of(flips[:, None].astype(float)), 1, draws), share=True))


def _plain(interval: Interval) -> Interval:
    """One model is audited, not a way of training: that there is one training is no shortfall."""
    note = interval.note.removeprefix("one training: its variation is not in the interval").removeprefix("; ")
    if not note.startswith("all cases alike: no interval"):
        return replace(interval, note=note)
    return replace(interval, note="", low=interval.estimate, high=interval.estimate,
                   p=1.0 if interval.estimate == 0 else 0.0)


def _moved(rows: Sequence[Sequence[dict[str, Any]]], key: str) -> tuple[float | None, ...] | None:
    """Mean of a measured label at each value, over lesions that have it at all of them; None where it stays."""
    values = [[row[key] for row in own] for own in rows if all(row[key] is not None for row in own)]
    if not values or all(len(set(own)) == 1 for own in values):
        return None
    return tuple(round(float(x), 3) for x in np.mean(values, axis=0))


def _flip(cause: Cause, judged: Judged, p: Floats, rows: Sequence[dict[str, Any]]) -> Flip:
    low, high = int(p.argmin()), int(p.argmax())
    first = rows[0]
    return Flip(cause.name, str(first["group_id"]), first["diagnosis"], (cause.values[low], cause.values[high]),
                (float(p[low]), float(p[high])), (judged.path(rows[low]), judged.path(rows[high])))


def _verdict(dp: Interval) -> str:
    if dp.says_nothing:
        return "too few lesions"
    sure = math.isfinite(dp.p_holm) and dp.p_holm < LEVEL
    if dp.estimate < SMALL:
        return "small"
    if not sure:
        return "unclear"
    return "strong" if dp.estimate >= STRONG else "present"
