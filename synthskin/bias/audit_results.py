"""An audit as results.json, results.csv, curves.csv and predictions.csv."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthskin import __version__
from synthskin.bias.audit import LEAST_AUC, LEVEL, SMALL, STRONG, Audit, Effect, Flip
from synthskin.bias.audit_causes import Cause
from synthskin.bias.audit_model import Model
from synthskin.bias.audit_pictures import Judged
from synthskin.bias.errors import BiasError
from synthskin.bias.statistics import Interval
from synthskin.files import json_bytes, write_whole


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked, for the report: the model, the sets as judged, the command's other settings."""

    model: Model
    plain: Judged | None
    varied: tuple[tuple[Cause, Judged], ...]
    seed: int
    asked: dict[str, Any]

    @property
    def sets(self) -> list[tuple[str, Judged]]:
        own = [("plain", self.plain)] if self.plain is not None else []
        return [*own, *((cause.name, judged) for cause, judged in self.varied)]


def to_dict(audit: Audit, settings: Settings) -> dict[str, Any]:
    """Plain JSON; NaN is null."""
    model = settings.model
    return {
        "format": 1, "synthskin_version": __version__,
        "note": "synthetic pictures: shows what moves the model's prediction; not clinical evidence",
        "model": {"name": model.name, "kind": model.kind, "sha256": model.sha256, "device": model.device},
        "preprocess": model.preprocess.model_dump(mode="json"),
        "positive": list(model.preprocess.followed), "threshold": model.preprocess.decides_at,
        "unswept": {"pictures": audit.unswept, "n": audit.n, "positive": audit.positive,
                    "auc": None if audit.auc is None else of_interval(audit.auc),
                    "sensitivity": _number(audit.sensitivity), "specificity": _number(audit.specificity)},
        "verdict": "cannot say" if audit.cannot_say else "says", "reason": audit.cannot_say or None,
        "notes": list(audit.notes),
        "rules": {"least_auc": LEAST_AUC, "strong_dp": STRONG, "small_dp": SMALL, "p_below": LEVEL},
        "ranking": [effect.cause.name for effect in audit.effects],
        "causes": [of_effect(effect, audit.verdict_of(effect)) for effect in audit.effects],
        "worst": [of_flip(flip) for flip in audit.worst],
        "sets": [{"set": name, "folder": str(judged.directory), "n": len(judged.rows),
                  "pictures_sha256": judged.data_hash} for name, judged in settings.sets],
        "settings": {**settings.asked, "bootstrap_seed": settings.seed},
    }


def of_effect(effect: Effect, verdict: str) -> dict[str, Any]:
    cause = effect.cause
    low, high = effect.pair
    return {
        "cause": cause.name, "label": cause.label, "fields": list(cause.fields), "unit": cause.unit, "role": cause.role,
        "values": list(cause.values), "reference": cause.values[cause.reference], "lesions": effect.lesions,
        "left_out": effect.left_out, "verdict": verdict, "dp": of_interval(effect.dp),
        "lowest_at": cause.values[low], "highest_at": cause.values[high], "swing": _number(effect.swing),
        "flips": of_interval(effect.flips), "dp_by_truth": {k: _number(v) for k, v in effect.by_truth.items()},
        "curve": [of_interval(point) for point in effect.curve], "flips_at": list(effect.flips_at),
        "moved": {key: list(values) for key, values in effect.moved.items()}, "linked": effect.links,
    }


def of_interval(interval: Interval) -> dict[str, Any]:
    found = {"estimate": interval.estimate, "low": interval.low, "high": interval.high, "p_holm": interval.p_holm}
    return {key: _number(value) for key, value in found.items() if key != "p_holm" or math.isfinite(value)} | (
        {"note": interval.note} if interval.note else {})


def of_flip(flip: Flip) -> dict[str, Any]:
    return {"cause": flip.cause, "group": flip.group, "diagnosis": flip.diagnosis, "values": list(flip.values),
            "probabilities": [_number(p) for p in flip.probabilities], "pictures": list(flip.pictures)}


def write_results(folder: Path, audit: Audit, settings: Settings) -> dict[str, Any]:
    """Write the four files whole into a folder that exists; returns the JSON. Raises BiasError."""
    data = to_dict(audit, settings)
    threshold = settings.model.preprocess.decides_at
    write_whole(folder / "results.json", json_bytes(data, 2), BiasError)
    write_whole(folder / "results.csv", _csv(
        ("cause", "role", "verdict", "dp", "dp_low", "dp_high", "p_holm", "lowest_at", "highest_at", "swing",
         "flips", "flips_low", "flips_high", "lesions", "linked"),
        ((e.cause.name, e.cause.role, audit.verdict_of(e), *_three(e.dp), _number(e.dp.p_holm),
          e.cause.values[e.pair[0]], e.cause.values[e.pair[1]], _number(e.swing), *_three(e.flips), e.lesions,
          " ".join(e.links))
         for e in audit.effects)), BiasError)
    write_whole(folder / "curves.csv", _csv(
        ("cause", "value", "unit", "p", "p_low", "p_high", "flips_against_reference", "lesions"),
        ((e.cause.name, value, e.cause.unit, *_three(point), _number(flips), e.lesions) for e in audit.effects
         for value, point, flips in zip(e.cause.values, e.curve, e.flips_at, strict=True))), BiasError)
    write_whole(folder / "predictions.csv", _csv(
        ("set", "value", "group", "diagnosis", "picture", "p", "decision"), _predictions(settings, threshold)),
                BiasError)
    return data


def _predictions(settings: Settings, threshold: float) -> Iterable[tuple[Any, ...]]:
    causes = {cause.name: cause for cause, _ in settings.varied}
    for name, judged in settings.sets:
        cause = causes.get(name)
        for row, p in zip(judged.rows, judged.probabilities, strict=True):
            value = "" if cause is None else cause.values[row["index"] % len(cause.values)]
            yield (name, value, row["group_id"], row["diagnosis"], row["file_name"], _number(float(p)),
                   int(p >= threshold))


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if value is None else value for value in row] for row in rows)
    return out.getvalue().encode()


def _three(interval: Interval) -> tuple[float | None, float | None, float | None]:
    return _number(interval.estimate), _number(interval.low), _number(interval.high)


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
