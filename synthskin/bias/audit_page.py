"""The audit's page: what the model leans on, causes by size, each cause with pictures and curve, worst flips."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthskin.bias.audit import LEVEL, SMALL, STRONG, Audit, Effect
from synthskin.bias.report import Page, Picture
from synthskin.bias.report_plots import Bar, Line, Plot, intervals, lines
from synthskin.bias.statistics import Interval
from synthskin.dataset.encode import read_png

_MEANING: Final = {
    "strong": "leans on it", "present": "moved by it", "small": f"under {SMALL:g} on average",
    "unclear": "not told from chance", "too few lesions": "too few lesions",
}


def page_of(audit: Audit, data: dict[str, Any]) -> Page:
    """The page; `data` is the JSON of audit_results.to_dict. Pictures are embedded."""
    name, followed = data["model"]["name"], " + ".join(data["positive"])
    page = Page(f"What moves {name}", "An audit with renders in which one cause was changed and all else is the same. "
                f"Probabilities are those of {followed}; the decision is taken at {data['threshold']:g}.")
    page.note("Made on synthetic pictures: shows what moves the prediction; not clinical evidence.")
    page.heading("Answer")
    _answer(page, audit)
    page.heading("Causes by size")
    _ranking(page, audit)
    page.heading("Cause by cause")
    for effect in audit.effects:
        _cause(page, effect)
    page.heading("Worst flips")
    _worst(page, audit)
    page.heading("Settings")
    page.table("Sets", ("set", "pictures", "SHA-256 of the pictures"),
               [(own["set"], own["n"], own["pictures_sha256"]) for own in data["sets"]])
    page.facts("Model, rules and what was asked",
               {key: data[key] for key in ("synthskin_version", "model", "preprocess", "rules", "settings")})
    return page


def _answer(page: Page, audit: Audit) -> None:
    works = "" if audit.auc is None else (
        f"On {audit.n} unswept renders, {audit.positive} of them positive, its AUC is {_said(audit.auc)}, its "
        f"sensitivity {audit.sensitivity:.2f} and its specificity {audit.specificity:.2f}.")
    if audit.cannot_say:
        page.note(f"Cannot say: {audit.cannot_say}.", *([works] if works else []), label="Cannot say")
    else:
        strong = [e for e in audit.effects if e.verdict == "strong"]
        for effect in strong:
            page.text(f"The model leans on {effect.cause.label}: |dp| {_said(effect.dp)}, "
                      f"{100 * effect.flips.estimate:.0f} % of lesions change their decision.")
        names = {e.cause.name: e.cause.label for e in strong}
        page.text(*(f"{label[0].upper()}{label[1:]} and {names[other]} are linked: {e.links[other]}."
                    for e in strong for name, label in names.items() if name == e.cause.name
                    for other in e.links if other in names and name < other))
        unsure = [e for e in audit.effects if e.size >= STRONG and e.verdict != "strong"]
        page.text(*(f"{e.cause.label[0].upper()}{e.cause.label[1:]} moves the mean prediction by {_said(e.dp)}: "
                    f"{_MEANING[e.verdict]}; more --lesions tell." for e in unsure))
        if not strong and not unsure:
            page.text(f"No cause moves the mean prediction by {STRONG:g} or more.")
        page.text(works)
    page.text(*(f"Note: {note}." for note in audit.notes))


def _ranking(page: Page, audit: Audit) -> None:
    bars = [Bar(e.cause.label, e.size, e.dp.low, e.dp.high, e.cause.role, e.dp.note) for e in audit.effects]
    page.figure(intervals("How far each cause moves the mean probability", "|dp|", bars, null=0.0))
    page.table("Causes, largest first",
               ("cause", "|dp|", "95 %", "p (Holm)", "swing", "flips", "95 %", "lesions", "verdict", "linked to"),
               [(e.cause.label, _two(e.size), _span(e.dp), _p(e.dp.p_holm), _two(e.swing), _share(e.flips.estimate),
                 _span(e.flips), e.lesions,
                 "cannot say" if audit.cannot_say else f"{e.verdict}: {_MEANING[e.verdict]}", ", ".join(e.links))
                for e in audit.effects])
    page.text("|dp| is the difference between the two points of a cause's curve that differ most, so a cause of many "
              "values shows some of it by noise alone. Interval and p-value know that the pair was picked: they "
              "come from the largest such difference in a bootstrap over lesions. p-values are "
              f"corrected over the causes (Holm). Strong is |dp| of {STRONG:g} or more, present {SMALL:g} or more, "
              f"both with p under {LEVEL:g}. Swing is the mean over lesions of the largest less the smallest "
              "probability. Flips is the share of lesions whose decision is not the same at all values.",
              "A nuisance should not move a diagnosis. A sign belongs to the lesion, and a model may follow it. Linked "
              "causes cannot be moved apart: read them together.")


def _cause(page: Page, effect: Effect) -> None:
    cause = effect.cause
    page.pictures(cause.label[0].upper() + cause.label[1:], [
        Picture(_read(path), f"one lesion, {cause.label}: {cause.said(value)}", cause.said(value))
        for path, value in zip(effect.strip, cause.values, strict=True)])
    low, high = (cause.said(cause.values[k]) for k in effect.pair)
    words = (f"The mean prediction is lowest at {low} and highest at {high}: |dp| {_said(effect.dp)}. "
             f"{100 * effect.flips.estimate:.0f} % of {effect.lesions} lesions flip.")
    if len(effect.by_truth) == 2:
        words += (f" Truly positive lesions move by {effect.by_truth['positive']:+.2f}, negative ones by "
                  f"{effect.by_truth['negative']:+.2f}.")
    if effect.left_out:
        words += f" {effect.left_out} lesions lack a picture and are left out."
    page.text(words, *(f"Linked to {other}: {why}." for other, why in effect.links.items()))
    page.figure(_curve(effect))
    reference = cause.said(cause.values[cause.reference])
    page.table(f"{cause.label}: decisions, and what else it moved",
               (cause.unit or "value", f"flips against {reference}", *effect.moved),
               [(cause.said(value), _share(flips), *(moved[k] for moved in effect.moved.values()))
                for k, (value, flips) in enumerate(zip(cause.values, effect.flips_at, strict=True))], digits=2)


def _curve(effect: Effect) -> Plot:
    """Mean with its interval: a curve where the values are numbers, points one below the other elsewhere."""
    cause, points = effect.cause, effect.curve
    title = f"Mean probability by {cause.label}"
    numbers = [float(value) for value in cause.values if isinstance(value, (int, float))]
    if len(numbers) < len(cause.values) or len(numbers) < 3:
        return intervals(title, "mean probability", [
            Bar(cause.said(value), point.estimate, point.low, point.high, note=point.note)
            for value, point in zip(cause.values, points, strict=True)])
    order = list(np.argsort(numbers))
    line = Line("mean", [numbers[k] for k in order], [points[k].estimate for k in order],
                [points[k].low for k in order], [points[k].high for k in order])
    return lines(title, cause.unit or cause.label, "mean probability", [line], y_limits=(0.0, 1.0))


def _worst(page: Page, audit: Audit) -> None:
    if not audit.worst:
        page.text("No decision flips.")
    causes = {effect.cause.name: effect.cause for effect in audit.effects}
    for number, flip in enumerate(audit.worst, 1):
        cause = causes[flip.cause]
        page.pictures(f"{number}. {cause.label}: {flip.diagnosis or 'unknown diagnosis'}, {flip.group}", [
            Picture(_read(path), f"the lesion, {cause.label}: {cause.said(value)}, probability {p:.2f}",
                    f"{cause.said(value)}: probability {p:.2f}")
            for path, value, p in zip(flip.pictures, flip.values, flip.probabilities, strict=True)])


def _read(path: str) -> NDArray[np.uint8]:
    return np.asarray(read_png(Path(path)), np.uint8)


def _span(interval: Interval) -> str:
    return "–" if interval.says_nothing else f"{interval.low:.2f} to {interval.high:.2f}"


def _said(interval: Interval) -> str:
    return f"{interval.estimate:.2f}" + ("" if interval.says_nothing else f" ({_span(interval)})")


def _two(value: float) -> str:
    return f"{value:.2f}"


def _p(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"
