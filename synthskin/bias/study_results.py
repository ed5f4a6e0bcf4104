"""From tables of scores to what a study says: estimates, gaps, fairness, the primary endpoint, the rest with Holm."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthskin.bias import metrics as m
from synthskin.bias import statistics as st
from synthskin.bias.errors import BiasError
from synthskin.bias.groups import Grouping, make_grouping
from synthskin.bias.study_data import Parts, Pictures
from synthskin.bias.study_file import METRICS, OF_BOTH, StudySpec
from synthskin.bias.study_scores import Table, blank
from synthskin.files import write_whole
from synthskin.laws import one_line

NOT_CLINICAL: Final = "Made on synthetic pictures: not clinical evidence."
_SHARES: Final = ("accuracy", "sensitivity", "specificity")
_COLUMNS: Final = ("kind", "test", "arm", "against", "of", "group", "metric", "estimate", "low", "high", "p", "p_holm",
                   "detectable", "cases", "clusters", "seeds", "note")


def results_of(spec: StudySpec, sets: Mapping[str, Pictures], tables: Mapping[str, Table],
               repeats: Sequence[Mapping[str, Parts]]) -> dict[str, Any]:
    """All numbers of the study as plain JSON values; NaN where there is none, `note` then says why."""
    from synthskin.bias.study import versions

    judges = {name: Judge(spec, table) for name, table in tables.items()}
    comparisons = [c for judge in judges.values() for c in judge.comparisons()]
    primary = judges[spec.primary.test].primary()
    same = next((c for c in comparisons if c["question"] == primary["question"]), None)
    family = st.holm([c["interval"] for c in comparisons if c is not same])
    corrected = iter(family)
    for c in comparisons:
        c["interval"] = c["interval"] if c is same else next(corrected)
    return {
        "name": spec.name, "task": spec.task, "description": spec.description, "source": spec.source,
        "study": spec.model_dump(), "versions": versions(),
        "data": {name: {"digest": data.digest, **data.facts} for name, data in sets.items()},
        "split": [{name: {part: len(getattr(p, part)) for part in ("train", "validation", "test", "other")}
                   for name, p in parts.items() if spec.parts_of(name)} for parts in repeats],
        "thresholds": {arm: found.tolist() for arm, found in next(iter(tables.values())).thresholds.items()},
        "primary": _flat(primary),
        "comparisons": [_flat(c) for c in comparisons if c is not same],
        "family": sum(math.isfinite(i.p) for i in family),
        "tests": {name: judge.summary() for name, judge in judges.items()},
    }


def grouping_of(spec: StudySpec, kind: str, data: Pictures, positions: NDArray[np.int64]) -> Grouping:
    """The grouping `kind` of the cases at `positions`; raises BiasError where it has no groups."""
    g = spec.groups[kind]
    return make_grouping(kind, g.by, [data.rows[i] for i in positions],
                         {key: values[positions].tolist() for key, values in data.measured.items()},
                         g.bins, g.edges, g.quantiles, g.names, g.pair)


def metrics_by(spec: StudySpec, grouping: Grouping, positive: NDArray[np.bool_]) -> tuple[str, ...]:
    """The main metrics that one of the groups at least can have: AUC and balanced accuracy need both sides in it."""
    both = any(len(set(positive[grouping.where(name)].tolist())) == 2 for name in grouping.names)
    return tuple(x for x in spec.main_metrics if both or x not in OF_BOTH)


def check_primary(spec: StudySpec, grouping: Grouping, positive: NDArray[np.bool_] | None = None) -> None:
    """Raise BiasError where a group of the primary endpoint is not there, or lacks a side that its metric needs.

    positive   (cases,) of a classification
    """
    p = spec.primary
    sides = (True, False) if p.metric in OF_BOTH else ()
    needed = {"sensitivity": (True,), "specificity": (False,)}.get(p.metric, sides) if positive is not None else ()
    for name in p.groups:
        if name not in grouping.names:
            raise BiasError(f"[primary] groups: no test picture of '{p.test}' is in '{one_line(name)}'; there are "
                            f"{', '.join(grouping.names)}{f' ({grouping.note})' if grouping.note else ''}")
        own = [] if positive is None else positive[grouping.where(name)].tolist()
        for side in needed:
            if side not in own:
                raise BiasError(f"[primary] metric = \"{p.metric}\": {'none' if side else 'each'} of the {len(own)} "
                                f"pictures of '{p.test}' in '{one_line(name)}' is {' or '.join(spec.positive)}, so it "
                                "has no value there; give accuracy, other groups, or a test set that has both sides")


class Judge:
    """Estimates and comparisons on one test set."""

    def __init__(self, spec: StudySpec, table: Table) -> None:
        self.spec, self.table = spec, table
        self.groupings = {kind: grouping_of(spec, kind, table.data, table.positions) for kind in
                          spec.groups_of(table.name)}
        self.metrics = {kind: metrics_by(spec, grouping, table.labels == 1)
                        for kind, grouping in self.groupings.items()}
        self._cache: dict[tuple[str, str, str, str], st.Replicates] = {}

    # --- pieces -------------------------------------------------------------------------------------------------

    def where(self, kind: str, group: str) -> NDArray[np.bool_]:
        """Cases of a group; '' is all, 'not X' the rest of those that are in any group."""
        if not kind:
            return np.ones(len(self.table.positions), bool)
        grouping = self.groupings[kind]
        if group.startswith("not "):
            known = np.array([label is not None for label in grouping.labels])
            return known & ~grouping.where(group[4:])
        return grouping.where(group)

    def replicates(self, arm: str, metric: str, kind: str = "", group: str = "") -> st.Replicates:
        key = (arm, metric, kind, group)
        if key not in self._cache:
            self._cache[key] = self.table.of(arm, metric, self.where(kind, group))
        return self._cache[key]

    def estimate(self, arm: str, metric: str, kind: str = "", group: str = "") -> st.Interval:
        keep = self.where(kind, group)
        why = self.table.too_few(metric, keep)
        if why:
            return blank(self.table, math.nan, keep & self.table.bearing(metric), why)
        share = metric in _SHARES and self.spec.task == "classification"
        return st.estimate_of(self.replicates(arm, metric, kind, group), (0.0, self.top(metric)), share,
                              self.spec.least)

    def top(self, metric: str) -> float:
        """The largest value a metric can have; the least is 0."""
        return 2.0 if metric == "brier" and len(self.spec.classes) > 2 else 1.0

    def difference(self, metric: str, terms: Sequence[tuple[float, str, str, str]]) -> st.Interval:
        """Sum of sign x metric of (arm, kind, group): two terms lie within 1 of 0, four (a gap's change) within 2."""
        for _, _, kind, group in terms:
            keep = self.where(kind, group)
            why = self.table.too_few(metric, keep)
            if why:
                return blank(self.table, math.nan, keep & self.table.bearing(metric),
                             f"{group}: {why}" if group else why)
        reach = self.top(metric) * len(terms) / 2
        return st.combine([(sign, self.replicates(arm, metric, kind, group)) for sign, arm, kind, group in terms],
                          0.0, (-reach, reach), self.spec.least)

    # --- what is said -------------------------------------------------------------------------------------------

    def comparisons(self) -> list[dict[str, Any]]:
        """Arms against the first arm, gaps in each arm, changes of a gap against the first arm: the main metrics, by
        each grouping those that its groups can have."""
        arms, found = list(self.spec.arms), []
        for metric in self.spec.main_metrics:
            for arm in arms[1:]:
                found.append(self.compare(metric, (arm, arms[0])))
            for kind, grouping in self.groupings.items():
                if metric not in self.metrics[kind]:
                    continue
                pairs = [grouping.pair] if grouping.pair else [(name, f"not {name}") for name in grouping.names]
                for pair in pairs:
                    for arm in arms:
                        found.append(self.compare(metric, (arm,), kind, pair))
                    if grouping.pair:
                        for arm in arms[1:]:
                            found.append(self.compare(metric, (arm, arms[0]), kind, pair))
        return found

    def compare(self, metric: str, arms: Sequence[str], kind: str = "", groups: Sequence[str] = ()) -> dict[str, Any]:
        """One comparison with its words; `question` is the same where arms or groups are turned."""
        terms = [(s * g, arm, kind, group) for s, arm in zip((1.0, -1.0), arms, strict=False)
                 for g, group in zip((1.0, -1.0), groups or ("",), strict=False)]
        if len(arms) == 2 and len(groups) == 2:
            words = f"gap {groups[0]} less {groups[1]}: {arms[0]} less {arms[1]}"
        elif len(groups) == 2:
            words = f"{groups[0]} less {groups[1]}, {arms[0]}"
        else:
            words = f"{arms[0]} less {arms[1]}{f', {groups[0]}' if groups else ''}"
        return {"what": f"{self.table.name}: {metric}, {words}", "kind": "comparison", "test": self.table.name,
                "arm": arms[0], "against": arms[1] if len(arms) > 1 else None, "of": kind or None,
                "group": " less ".join(groups) or None, "metric": metric, "interval": self.difference(metric, terms),
                "question": (self.table.name, metric, kind, frozenset(arms), frozenset(groups))}

    def primary(self) -> dict[str, Any]:
        p = self.spec.primary
        found = self.compare(p.metric, p.arms or (p.arm or "",), p.of or "", p.groups)
        return {**found, "kind": "primary"}

    def summary(self) -> dict[str, Any]:
        """Estimates of every metric, arm and group; fairness; what the test set is."""
        table, spec = self.table, self.spec
        estimates = [
            {"kind": "estimate", "test": table.name, "arm": arm, "of": kind or None, "group": group or None,
             "metric": metric, "interval": self.estimate(arm, metric, kind, group)}
            for metric, arm in itertools.product(METRICS[spec.task], spec.arms)
            for kind, group in (("", ""), *((k, n) for k, g in self.groupings.items() for n in g.names))]
        test = spec.tests[table.name]
        return {
            "heading": NOT_CLINICAL if table.data.synthetic else None, "data": test.data, "says": test.says,
            "noise": test.noise, "blur": test.blur, "cases": len(table.positions),
            "clusters": len(set(table.draws.clusters.tolist())), "positive": int(table.labels.sum()),
            "groups": {kind: {"names": {n: int(g.where(n).sum()) for n in g.names}, "without": g.unknown,
                              "bounds": list(g.bounds), "pair": g.pair, "note": g.note,
                              "metrics": list(self.metrics[kind]),
                              "independent": {n: len(set(table.draws.clusters[g.where(n)].tolist())) for n in g.names}}
                       for kind, g in self.groupings.items()},
            "estimates": [_flat(e) for e in estimates],
            "fairness": [_flat(f) for f in self.fairness()],
        }

    def fairness(self) -> list[dict[str, Any]]:
        """For each arm and grouping: range over the groups, ratio, equal opportunity, normalised accuracy range."""
        found = []
        for kind, grouping in self.groupings.items():
            for arm in self.spec.arms:
                found += [self._range(arm, kind, grouping, metric) for metric in self.metrics[kind]]
                if grouping.pair:
                    found += [self._ratio(arm, kind, grouping.pair, metric) for metric in self.metrics[kind]]
                if self.spec.task == "classification":
                    found += self._opportunity(arm, kind, grouping)
                    found.append(self._nar(arm, kind, grouping))
        return found

    def _range(self, arm: str, kind: str, grouping: Grouping, metric: str) -> dict[str, Any]:
        big = [n for n in grouping.names if not self.estimate(arm, metric, kind, n).says_nothing]
        base = {"kind": "range", "test": self.table.name, "arm": arm, "of": kind, "group": ", ".join(big),
                "metric": metric}
        if len(big) < 2:
            return {**base, "value": math.nan, "chance": math.nan, "note": "fewer than two groups are large enough"}
        spread, chance = st.range_of([self.replicates(arm, metric, kind, n) for n in big])
        return {**base, "value": spread, "chance": chance, "note": "largest less smallest group; `chance` of it is to "
                "be expected without any difference"}

    def _ratio(self, arm: str, kind: str, pair: tuple[str, str], metric: str) -> dict[str, Any]:
        base = {"kind": "ratio", "test": self.table.name, "arm": arm, "of": kind, "group": " over ".join(pair),
                "metric": metric}
        for name in pair:
            why = self.table.too_few(metric, self.where(kind, name))
            if why:
                return {**base, "interval": blank(self.table, math.nan, self.where(kind, name), f"{name}: {why}")}
        a, b = (self.replicates(arm, metric, kind, name) for name in pair)
        return {**base, "interval": st.ratio(a, b, self.spec.least)}

    def _opportunity(self, arm: str, kind: str, grouping: Grouping) -> list[dict[str, Any]]:
        """Sensitivity of one less that of the other (of a pair), or of one less that of the rest."""
        pairs = [grouping.pair] if grouping.pair else [(name, f"not {name}") for name in grouping.names]
        return [{"kind": "equal opportunity difference", "test": self.table.name, "arm": arm, "of": kind,
                 "group": " less ".join(pair), "metric": "sensitivity", "interval": self.difference(
                     "sensitivity", [(1.0, arm, kind, pair[0]), (-1.0, arm, kind, pair[1])])} for pair in pairs]

    def _nar(self, arm: str, kind: str, grouping: Grouping) -> dict[str, Any]:
        accuracies = {n: self.replicates(arm, "accuracy", kind, n).estimate for n in grouping.names
                      if not self.estimate(arm, "accuracy", kind, n).says_nothing}
        prevalence = {n: m.prevalence(self.table.labels[grouping.where(n)]) for n in grouping.names}
        base = {"kind": "normalised accuracy range", "test": self.table.name, "arm": arm, "of": kind,
                "group": ", ".join(accuracies), "metric": "accuracy", "accuracy": accuracies, "prevalence": prevalence}
        if len(accuracies) < 2:
            return {**base, "value": math.nan, "note": "fewer than two groups are large enough"}
        return {**base, "value": m.nar(accuracies), "note": "read it beside the prevalence: accuracy depends on it"}


def _flat(found: Mapping[str, Any]) -> dict[str, Any]:
    """The interval's fields beside the names."""
    own = {key: value for key, value in found.items() if key not in ("interval", "question")}
    interval = found.get("interval")
    return own if interval is None else {**own, **asdict(interval)}


def write_tables(results: Mapping[str, Any], path: Path) -> None:
    """results.csv: a row an estimate or comparison, numbers in full. Raises BiasError."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, _COLUMNS, extrasaction="ignore", restval="", lineterminator="\n")
    writer.writeheader()
    rows = [results["primary"], *results["comparisons"]]
    for test in results["tests"].values():
        rows += [*test["estimates"], *test["fairness"]]
    for row in rows:
        writer.writerow({key: "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value
                         for key, value in {**row, "estimate": row.get("estimate", row.get("value"))}.items()})
    write_whole(path, buffer.getvalue().encode(), BiasError)


def sentence(found: Mapping[str, Any]) -> str:
    """A comparison in words."""
    value, low, high = (found.get(key) for key in ("estimate", "low", "high"))
    if low is None or not math.isfinite(low):
        return f"{found['what']}: nothing can be said ({found['note']})."
    p = found["p"]
    words = f"{value:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}, p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
    least = found["detectable"]  # none where no possible difference would do; the note says so
    verdict = "There is a difference." if p < 0.05 else "No difference is shown." if (
        least is None or not math.isfinite(least)) else (
        f"No difference is shown; one of {least:.3f} would have been found with 80 % power.")
    note = f" ({found['note']})" if found["note"] else ""
    return f"{found['what']}: {words}{note}. {verdict}"
