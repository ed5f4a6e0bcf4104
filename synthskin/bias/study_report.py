"""The page of a study: what was asked, the answer, every number with its interval, the worst cases, all settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthskin.bias import metrics as m
from synthskin.bias.report import Page, Picture, outlined, shown
from synthskin.bias.report_plots import Bar, Line, intervals, lines
from synthskin.bias.study_data import Pictures
from synthskin.bias.study_file import METRICS, StudySpec
from synthskin.bias.study_results import NOT_CLINICAL, sentence
from synthskin.bias.study_scores import Table, positive_of

_WORDS: Final = {
    "dice": "Dice", "iou": "IoU", "auc": "AUC", "balanced_accuracy": "balanced accuracy", "brier": "Brier score",
    "ece": "calibration error (ECE)",
}
_PICTURES: Final = 6
METHODS: Final = (
    "Intervals are 95 %, by a hierarchical bootstrap: patients or lesions are drawn again (all their pictures "
    "together), then trainings; the width is corrected for few of either (Student's t with Satterthwaite's degrees of "
    "freedom). Arms are compared on the same cases, groups as independent samples unless the same lesions are in both.",
    "One endpoint, declared beforehand, is tested at 5 %. All other comparisons of the main metrics form one family; "
    "their p is corrected by Holm's method. Estimates without a p are not tests.",
    "Sensitivity is TP / (TP + FN), specificity TN / (TN + FP). A group with too few independent patients or lesions "
    "is said to be too small and gets no interval.",
)


def write_report(spec: StudySpec, sets: Mapping[str, Pictures], tables: Mapping[str, Table],
                 runs: Mapping[str, Sequence[Mapping[str, Any]]], results: Mapping[str, Any], path: Path) -> Path:
    """Write the page; nothing in it is computed that is not in `results`, but for pictures and reliability."""
    page = Page(f"Study: {spec.name}", spec.description)
    synthetic = [name for name, test in results["tests"].items() if test["heading"]]
    if synthetic:
        which = "All results" if len(synthetic) == len(tables) else f"Results on {', '.join(synthetic)}"
        page.note(f"{which}: {NOT_CLINICAL[0].lower()}{NOT_CLINICAL[1:]}", label="Not clinical evidence")
    if spec.source:
        page.text(f"After: {spec.source}")
    _primary(page, spec, results)
    for name, test in results["tests"].items():
        _test(page, spec, name, test, tables[name], results, runs)
    _comparisons(page, results)
    page.heading("Methods")
    page.text(*METHODS, _apart(spec))
    _settings(page, spec, results)
    return page.write(path)


def _primary(page: Page, spec: StudySpec, results: Mapping[str, Any]) -> None:
    page.heading("Primary endpoint")
    p = results["primary"]
    page.text(sentence(p))
    page.table("Primary endpoint", ("what", "difference", "low", "high", "p", "80 % power from", "cases",
                                    "patients or lesions", "trainings", "remark"),
               [(p["what"], p["estimate"], p["low"], p["high"], p["p"], p["detectable"], p["cases"], p["clusters"],
                 p["seeds"], p["note"])])


def _test(page: Page, spec: StudySpec, name: str, test: Mapping[str, Any], table: Table, results: Mapping[str, Any],
          runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    page.heading(f"Test set: {name}")
    if test["heading"]:
        page.note(test["heading"], label="Not clinical evidence")
    worse = "".join(f" {word} {test[key]:g} was added." for key, word in (("noise", "Noise of"), ("blur", "Blur of"))
                    if test[key])
    lesions = "with a lesion" if spec.task == "segmentation" else f"positive ({', '.join(spec.positive)})"
    page.text(f"{test['says']}{' ' if test['says'] else ''}{test['cases']} pictures of {test['clusters']} independent "
              f"patients or lesions, {test['positive']} {lesions}.{worse}")
    own = [e for e in test["estimates"] if e["of"] is None]
    page.table(f"All cases of {name}", ("arm", *(_WORDS.get(x, x) for x in METRICS[spec.task])),
               [(arm, *(_cell(next(e for e in own if e["arm"] == arm and e["metric"] == x))
                        for x in METRICS[spec.task])) for arm in spec.arms])
    for metric in spec.main_metrics:
        page.figure(intervals(f"{_WORDS.get(metric, metric)} by arm, {name}", _WORDS.get(metric, metric),
                              [_bar(e, e["arm"]) for e in own if e["metric"] == metric]))
    _trend(page, spec, name, own)
    for kind, group in test["groups"].items():
        _group(page, spec, name, kind, group, test)
    if spec.task == "classification" and len(spec.classes) == 2:
        _reliability(page, spec, name, table)
    _worst(page, spec, name, table, runs)


def _group(page: Page, spec: StudySpec, name: str, kind: str, group: Mapping[str, Any], test: Mapping[str, Any]
           ) -> None:
    page.heading(f"{name}: groups by {kind}", 3)
    without = f" {group['without']} cases have no value for it." if group["without"] else ""
    bounds = f" Boundaries at {', '.join(f'{b:.4g}' for b in group['bounds'])}." if group["bounds"] else ""
    note = f" {group['note'][:1].upper()}{group['note'][1:]}." if group["note"] else ""
    sizes = "; ".join(f"{n}: {count} cases of {group['independent'][n]}" for n, count in group["names"].items())
    page.text(f"{sizes} independent patients or lesions.{without}{bounds}{note}")
    lost = [x for x in spec.main_metrics if x not in group["metrics"]]
    if lost:
        page.text(f"No group holds both positive and negative cases: {' and '.join(map(_word, lost))} cannot be given "
                  "by these groups. What can is below; name it in `metrics` of the study's file, such as accuracy, to "
                  "have it compared.")
    found = [e for e in test["estimates"] if e["of"] == kind]
    for metric in group["metrics"]:
        bars = [_bar(e, f"{e['group']}, {e['arm']}", e["arm"]) for n in group["names"] for e in found
                if e["metric"] == metric and e["group"] == n]
        page.figure(intervals(f"{_WORDS.get(metric, metric)} by {kind}, {name}", _WORDS.get(metric, metric), bars))
    rest = [x for x in METRICS[spec.task] if x not in spec.main_metrics]
    page.table(f"Other metrics by {kind}, {name}", ("arm", "group", *(_WORDS.get(x, x) for x in rest)), [
        (arm, n, *(_cell(next(e for e in found if (e["arm"], e["group"], e["metric"]) == (arm, n, x))) for x in rest))
        for arm in spec.arms for n in group["names"]])
    fair = [f for f in test["fairness"] if f["of"] == kind]
    page.table(f"Fairness by {kind}, {name}", ("measure", "arm", "metric", "groups", "value", "low", "high",
                                               "chance alone gives", "remark"), [
        (f["kind"], f["arm"], _WORDS.get(f["metric"], f["metric"]), f["group"], f.get("estimate", f.get("value")),
         f.get("low"), f.get("high"), f.get("chance"), f["note"]) for f in fair])
    nar = [f for f in fair if f["kind"] == "normalised accuracy range"]
    if nar:
        page.table(f"Accuracy and prevalence behind the normalised accuracy range by {kind}, {name}", (
            "arm", "group", "accuracy", "prevalence"), [
            (f["arm"], n, f["accuracy"].get(n), f["prevalence"][n]) for f in nar for n in f["prevalence"]])


def _trend(page: Page, spec: StudySpec, name: str, own: Sequence[Mapping[str, Any]]) -> None:
    """Metric against the `x` of the arms."""
    placed = sorted((arm.x, arm_name) for arm_name, arm in spec.arms.items() if arm.x is not None)
    if len(placed) < 3:
        return
    for metric in spec.main_metrics:
        found = [next(e for e in own if e["arm"] == arm and e["metric"] == metric) for _, arm in placed]
        word = _WORDS.get(metric, metric)
        page.figure(lines(f"{word} against {spec.x_axis or 'x'}, {name}", spec.x_axis or "x", word, [
            Line(word, [x for x, _ in placed], *([e[k] for e in found] for k in ("estimate", "low", "high")))]))


def _comparisons(page: Page, results: Mapping[str, Any]) -> None:
    page.heading("All other comparisons")
    rows = results["comparisons"]
    if not rows:
        page.text("There are none beside the primary endpoint.")
        return
    page.text(f"{results['family']} comparisons with a p, corrected together by Holm's method.")
    page.table("Comparisons", ("what", "difference", "low", "high", "p", "p corrected", "80 % power from", "remark"), [
        (c["what"], c["estimate"], c["low"], c["high"], c["p"], c["p_holm"], c["detectable"], c["note"]) for c in rows])


def _reliability(page: Page, spec: StudySpec, name: str, table: Table) -> None:
    curves = []
    for arm in spec.arms:
        known = table.known[arm].ravel()
        p = table.values[arm]["probabilities"][..., positive_of(spec)].sum(-1).ravel()[known]
        y = np.repeat(table.labels[:, None], table.known[arm].shape[1], 1).ravel()[known]
        found = m.reliability(y, p)
        curves.append(Line(arm, [c for c, _, _ in found], [r for _, r, _ in found]))
    page.figure(lines(f"Reliability: how often it came against how often it was foretold, {name}", "foretold", "came",
                      curves, (0.0, 1.0), diagonal=True), closed=True)


def _worst(page: Page, spec: StudySpec, name: str, table: Table, runs: Mapping[str, Sequence[Mapping[str, Any]]]
           ) -> None:
    """The worst cases of each arm, by its first training."""
    for arm in spec.arms:
        pictures = []
        if spec.task == "segmentation":
            kept = runs[arm][0][name]
            for i, mask in zip(kept["worst"], kept["masks"], strict=True):
                dice = m.dice(mask, table.data.masks[i])
                row = table.data.rows[i]
                alt = (f"{row['file_name']}: true outline solid, found outline dashed, Dice {dice:.2f}; "
                       f"{_area(table.data.masks[i])} true, {_area(mask)} found")
                pictures.append(Picture(outlined(_rgb(table.data, i), [(table.data.masks[i], "solid"),
                                                                       (mask, "dashed")], alt), alt,
                                        f"{row['file_name']}, Dice {dice:.2f}. {row['caption']}"))
        else:
            p = table.values[arm]["probabilities"][:, 0][:, positive_of(spec)].sum(-1)
            wrong = np.where(table.known[arm][:, 0], np.abs(p - table.labels), -1)
            for k in np.argsort(-wrong, kind="stable")[:_PICTURES]:
                if wrong[k] < 0:
                    continue
                i = int(table.positions[k])
                row = table.data.rows[i]
                truth = spec.classes[table.data.labels[i]]
                alt = f"{row['file_name']}: truly {truth}, probability of {' or '.join(spec.positive)} {p[k]:.2f}"
                pictures.append(Picture(_rgb(table.data, i), alt, f"{alt}. {row['caption']}"))
        page.pictures(f"{name}: worst cases of arm {arm}", pictures)


def _word(metric: str) -> str:
    return _WORDS.get(metric, metric)


def _area(mask: NDArray[np.bool_]) -> str:
    return f"{100 * mask.mean():.0f} % of the picture"


def _apart(spec: StudySpec) -> str:
    """What training, the threshold and the tests may share, in words."""
    rule = f"One threshold a training was chosen ({spec.threshold}) on validation pictures of {spec.validation_data}"
    chosen = f"{rule}, from which nothing was learnt, for all groups and test sets." if spec.threshold_is_chosen else (
        f"The threshold of all trainings, groups and test sets was fixed beforehand ({spec.threshold}).")
    both = "test, nor in both training and validation" if spec.threshold_is_chosen else "test"
    return (f"{chosen} No test picture decided anything in training. By what the rows and files tell, no picture, "
            f"patient, lesion, group or parent picture lies in both training and {both}.")


def _settings(page: Page, spec: StudySpec, results: Mapping[str, Any]) -> None:
    page.heading("Data, settings, versions")
    for name, data in results["data"].items():
        page.facts(f"Data set {name}", data)
    if results["split"]:
        columns = ("train", "validation", "test", "other")
        page.table("Pictures of the parts of each split", ("split", "data", *columns[:3], "in none of them"), [
            (f"{k + 1}", name, *(own[part] for part in columns))
            for k, parts in enumerate(results["split"]) for name, own in parts.items()])
    page.table("Threshold of each training", ("arm", *(f"seed {seed}" for seed in spec.seeds)), [
        (arm, *values) for arm, values in results["thresholds"].items()], digits=4)
    page.facts("The study as it was declared", {k: v for k, v in results["study"].items()
                                                if k not in ("small", "description", "source")})
    page.facts("Versions", results["versions"])


def _bar(e: Mapping[str, Any], label: str, kind: str = "") -> Bar:
    return Bar(label, e["estimate"], e["low"], e["high"], kind, e["note"])


def _cell(e: Mapping[str, Any]) -> str:
    if not math.isfinite(e["estimate"]):
        return "–"
    if not math.isfinite(e["low"]):
        return f"{shown(e['estimate'])} (no interval: {e['note'].split(':')[0]})"
    return f"{shown(e['estimate'])} ({shown(e['low'])} to {shown(e['high'])})"


def _rgb(data: Pictures, i: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(data.images[i].transpose(1, 2, 0))
