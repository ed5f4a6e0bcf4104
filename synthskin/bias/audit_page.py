"""The audit's page: one HTML file without scripts or links to elsewhere, numbers beside every figure."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from PIL import Image

from synthskin.bias.audit import Audit, Effect, Flip
from synthskin.bias.audit_causes import Cause
from synthskin.bias.statistics import Interval

_TILE_PX: Final = 112
_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;color:#111;background:#fff;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1,h2,h3{line-height:1.2}h2{margin-top:2.5rem;border-bottom:1px solid #999}
table{border-collapse:collapse;margin:.5rem 0}th,td{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #ccc}
th:first-child,td:first-child{text-align:left}td.w,th.w{text-align:left}
.box{border:2px solid #111;padding:.6rem 1rem;margin:1rem 0}.strip{display:flex;flex-wrap:wrap;gap:.5rem}
figure{margin:.5rem 0}.strip figure{margin:0;width:112px}figcaption{font-size:.85rem}
img{image-rendering:auto;display:block;width:112px;height:112px;object-fit:contain;background:#eee}
.cause{break-inside:avoid;margin-bottom:2rem}svg{max-width:100%;height:auto}pre{white-space:pre-wrap;font-size:.8rem}
.wide{overflow-x:auto}
@media print{body{max-width:none;margin:0;font-size:11pt}.cause{page-break-inside:avoid}}
"""
_VERDICTS: Final = {
    "strong": "the model leans on it", "present": "moves the prediction", "small": "under 0.05 on average",
    "unclear": "not told from chance", "too few lesions": "too few lesions",
}


def page_of(audit: Audit, data: dict[str, Any]) -> str:
    """The page; `data` is the JSON of audit_results.to_dict. Pictures are embedded."""
    model = data["model"]
    followed = " + ".join(data["positive"])
    parts = [
        f"<h1>What moves {_e(model['name'])}</h1>",
        "<p><strong>Not clinical evidence.</strong> The pictures are renders; each row of pictures below shows one "
        "lesion in which a single cause was changed and everything else is the same. The curves are the mean "
        f"probability of <strong>{_e(followed)}</strong>; the decision is taken at {data['threshold']:g}.</p>",
        _headline(audit, data),
        *(f"<p>Note: {_e(note)}.</p>" for note in audit.notes),
        "<h2>Ranking</h2>", _bars(audit), _ranking(audit),
        "<p>|dp| is the largest difference between two points of a cause's curve, its interval from a bootstrap over "
        "lesions, p-values corrected over the causes (Holm). The two points are those that differ most, so a cause of "
        "many values shows some |dp| by noise alone. Flips: share of lesions whose decision is not the same at all "
        "values. Nuisances should not move a diagnosis; signs belong to the lesion, and a model may follow them. "
        "Linked causes cannot be moved apart: they are read together.</p>",
        "<h2>Cause by cause</h2>", *(_cause(effect, audit) for effect in audit.effects),
        "<h2>Worst flips</h2>", _worst(audit.worst),
        "<h2>Settings</h2>", _settings(data),
    ]
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width, initial-scale=1"><title>Audit of {_e(model["name"])}</title>'
            f"<style>{_STYLE}</style></head><body><main>\n" + "\n".join(parts) + "\n</main></body></html>\n")


def _headline(audit: Audit, data: dict[str, Any]) -> str:
    auc = "" if audit.auc is None else (
        f"On {audit.n} unswept renders ({audit.positive} positive) its AUC is {_said(audit.auc)}, sensitivity "
        f"{audit.sensitivity:.2f}, specificity {audit.specificity:.2f}.")
    if audit.cannot_say:
        return f'<div class="box"><strong>Cannot say:</strong> {_e(audit.cannot_say)}. {_e(auc)}</div>'
    strong = [e for e in audit.effects if e.verdict == "strong"]
    if strong:
        first = "; ".join(f"{e.cause.label} (|dp| {_said(e.dp)}, {100 * e.flips.estimate:.0f} % of lesions flip)"
                          for e in strong)
        words = f"The model leans on: {first}."
        pairs = [(e.cause.label, other, why) for e in strong for other, why in e.links.items()
                 if other in {s.cause.name for s in strong} and e.cause.name < other]
        words += "".join(f" {label} and {other} are linked: {why}." for label, other, why in pairs)
    else:
        words = "No cause moves the mean prediction by 0.2 or more."
    return f'<div class="box"><p>{_e(words)}</p><p>{_e(auc)}</p></div>'


def _bars(audit: Audit) -> str:
    row, left, width = 22, 150, 420
    high = 14 + row * len(audit.effects)
    top = max(0.25, *(e.size for e in audit.effects))
    items = []
    for k, e in enumerate(audit.effects):
        y, x = 10 + row * k, width * e.size / top
        fill = "#111" if e.cause.role == "nuisance" else "#fff"
        items.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{_e(e.cause.name)}</text>'
                     f'<rect x="{left}" y="{y + 2}" width="{x:.1f}" height="14" fill="{fill}" stroke="#111"/>'
                     f'<text x="{left + x + 6:.1f}" y="{y + 14}">{e.size:.2f}</text>')
    line = left + width * 0.2 / top
    items.append(f'<line x1="{line:.1f}" x2="{line:.1f}" y1="6" y2="{high}" stroke="#111" stroke-dasharray="4 3"/>')
    told = ", ".join(f"{e.cause.name} {e.size:.2f}" for e in audit.effects)
    return (f'<figure><svg viewBox="0 0 {left + width + 60} {high + 4}" width="{left + width + 60}" role="img" '
            f'aria-label="Bars of |dp|: {_e(told)}" font-size="13">{"".join(items)}</svg>'
            "<figcaption>|dp| of each cause; black bars are nuisances, white ones signs of the lesion; dashed: 0.2."
            "</figcaption></figure>")


def _ranking(audit: Audit) -> str:
    rows = [[_e(e.cause.label), e.cause.role, f"{e.size:.3f}", _span(e.dp), f"{e.swing:.3f}",
             f"{100 * e.flips.estimate:.0f} %", _span(e.flips), str(e.lesions),
             "cannot say" if audit.cannot_say else f"{e.verdict}: {_VERDICTS[e.verdict]}", _e(", ".join(e.links))]
            for e in audit.effects]
    return _table(["cause", "role", "|dp|", "95 %", "swing", "flips", "95 %", "lesions", "verdict", "linked to"], rows)


def _cause(effect: Effect, audit: Audit) -> str:
    cause = effect.cause
    low, high = (cause.values[k] for k in effect.pair)
    words = (f"The mean prediction is lowest at {_value(low)} and highest at {_value(high)}: |dp| {_said(effect.dp)}. "
             f"{100 * effect.flips.estimate:.0f} % of {effect.lesions} lesions flip.")
    if len(effect.by_truth) == 2:
        words += (f" Truly positive lesions move by {effect.by_truth['positive']:+.2f}, negative ones by "
                  f"{effect.by_truth['negative']:+.2f}.")
    if effect.left_out:
        words += f" {effect.left_out} lesions lack a picture and are left out."
    links = "".join(f" Linked to {other}: {why}." for other, why in effect.links.items())
    rows = [[_e(_value(value)), f"{point.estimate:.3f}", _span(point), f"{100 * flips:.0f} %",
             *(f"{moved[k]:g}" for moved in effect.moved.values())]
            for k, (value, point, flips) in enumerate(zip(cause.values, effect.curve, effect.flips_at, strict=True))]
    heads = [cause.unit or "value", "mean p", "95 %", f"flips against {_value(cause.values[cause.reference])}",
             *effect.moved]
    strip = "".join(_picture(path, _value(value), f"{cause.label} at {_value(value)}")
                    for path, value in zip(effect.strip, cause.values, strict=True))
    return (f'<section class="cause"><h3>{_e(cause.label)}</h3><p>{_e(words + links)}</p>'
            f'<div class="strip">{strip}</div>{_curve(effect)}{_table(heads, rows)}</section>')


def _curve(effect: Effect) -> str:
    """Mean with its band over the values: to scale where they are numbers, evenly spaced elsewhere."""
    width, height, left, bottom = 520, 220, 50, 40
    xs = _places(effect.cause)
    px = [left + 20 + x * (width - left - 50) for x in xs]

    def py(p: float) -> float:
        return 10 + (1 - p) * (height - bottom - 10)

    parts = [f'<line x1="{left}" x2="{width}" y1="{py(t):.1f}" y2="{py(t):.1f}" stroke="#ccc"/>'
             f'<text x="{left - 6}" y="{py(t) + 4:.1f}" text-anchor="end">{t:g}</text>'
             for t in (0, 0.25, 0.5, 0.75, 1)]
    points = effect.curve
    if all(not point.says_nothing for point in points):
        upper = [f"{x:.1f},{py(point.high):.1f}" for x, point in zip(px, points, strict=True)]
        lower = [f"{x:.1f},{py(point.low):.1f}" for x, point in zip(px, points, strict=True)]
        parts.append(f'<polygon points="{" ".join(upper + lower[::-1])}" fill="#bbb" fill-opacity=".6"/>')
    line = " ".join(f"{x:.1f},{py(point.estimate):.1f}" for x, point in zip(px, points, strict=True))
    parts.append(f'<polyline points="{line}" fill="none" stroke="#111" stroke-width="2"/>')
    last = -1e9
    for x, value, point in zip(px, effect.cause.values, points, strict=True):
        parts.append(f'<circle cx="{x:.1f}" cy="{py(point.estimate):.1f}" r="3.5" fill="#111"/>')
        label = _value(value)[:14]
        if x - last > 6.5 * len(label):
            parts.append(f'<text x="{x:.1f}" y="{height - 20}" text-anchor="middle">{_e(label)}</text>')
            last = x
    parts.append(f'<text x="{(left + width) / 2}" y="{height - 3}" text-anchor="middle">'
                 f'{_e(effect.cause.unit or effect.cause.label)}</text>')
    told = ", ".join(f"{_value(v)}: {point.estimate:.2f}" for v, point in zip(effect.cause.values, points, strict=True))
    return (f'<figure><svg viewBox="0 0 {width} {height}" width="{width}" role="img" font-size="12" aria-label="Mean '
            f'probability by {_e(effect.cause.label)}: {_e(told)}">{"".join(parts)}</svg></figure>')


def _places(cause: Cause) -> list[float]:
    numbers = [value for value in cause.values if isinstance(value, (int, float))]
    if len(numbers) < len(cause.values):
        return [k / (len(cause.values) - 1) for k in range(len(cause.values))]
    low, high = min(numbers), max(numbers)
    return [(value - low) / (high - low) for value in numbers]


def _worst(flips: Sequence[Flip]) -> str:
    if not flips:
        return "<p>No decision flips.</p>"
    items = []
    for flip in flips:
        pair = "".join(_picture(path, f"{_value(value)}: p {p:.2f}", f"{flip.cause} at {_value(value)}, p {p:.2f}")
                       for path, value, p in zip(flip.pictures, flip.values, flip.probabilities, strict=True))
        items.append(f'<figure class="cause"><figcaption>{_e(flip.cause)}, {_e(flip.diagnosis or "?")}, '
                     f'{_e(flip.group)}</figcaption><div class="strip">{pair}</div></figure>')
    return "".join(items)


def _settings(data: dict[str, Any]) -> str:
    sets = _table(["set", "pictures", "SHA-256 of the pictures"],
                  [[_e(own["set"]), str(own["n"]), own["pictures_sha256"]] for own in data["sets"]])
    rest = {key: data[key] for key in ("synthskin_version", "model", "preprocess", "rules", "settings")}
    return f"{sets}<pre>{_e(json.dumps(rest, indent=1, ensure_ascii=False))}</pre>"


def _picture(path: str, caption: str, alt: str) -> str:
    with Image.open(path, formats=("PNG",)) as image:
        small = image.convert("RGB")
        if max(small.size) > 2 * _TILE_PX:
            small.thumbnail((2 * _TILE_PX, 2 * _TILE_PX))
        out = io.BytesIO()
        small.save(out, "PNG")
    code = base64.b64encode(out.getvalue()).decode()
    return (f'<figure><img alt="{_e(alt)}" src="data:image/png;base64,{code}"><figcaption>{_e(caption)}</figcaption>'
            "</figure>")


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells of `rows` are HTML already."""
    head = "".join(f'<th scope="col">{_e(text)}</th>' for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _span(interval: Interval) -> str:
    return "-" if interval.says_nothing else f"{interval.low:.2f} to {interval.high:.2f}"


def _said(interval: Interval) -> str:
    return f"{interval.estimate:.2f}" + ("" if interval.says_nothing else f" ({_span(interval)})")


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _e(text: object) -> str:
    return html.escape(str(text))
