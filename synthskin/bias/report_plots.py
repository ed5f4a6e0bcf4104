"""Plots as small SVG drawings in black, told apart by shape and dash: intervals, lines, bars, histograms.

Each returns a Plot: the drawing, its title, a sentence that stands for it, and the table of all numbers in it.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from synthskin.bias.errors import BiasError

WIDTH: Final = 720
_FONT: Final = 'font-family="sans-serif" font-size="13" fill="#111"'
_DASHES: Final = ("", "7 4", "2 3", "9 3 2 3", "4 2", "12 4")
_FILLS: Final = ("#111", "#fff", "#8a8a8a", "#d5d5d5")
ID: Final = "@ID@"  # in a drawing; the page puts a number there


@dataclass(frozen=True, slots=True)
class Plot:
    """svg drawing; `columns` and `rows` are the numbers in it."""

    title: str
    svg: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """One estimate with its interval: `low` and `high` NaN where there is none, `note` says why. `kind` picks the
    marker, such as the arm."""

    label: str
    value: float
    low: float = math.nan
    high: float = math.nan
    kind: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One curve; low and high, if given, are its 95 % intervals."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def intervals(title: str, axis: str, bars: Sequence[Bar], null: float | None = None) -> Plot:
    """Points with whiskers, one below the other; a dotted line at `null`. Where no bar has a value each says so."""
    if not bars:
        raise BiasError(f"plot {title!r}: nothing to draw")
    kinds = list(dict.fromkeys(bar.kind for bar in bars))
    values = [v for bar in bars for v in (bar.value, bar.low, bar.high) if math.isfinite(v)]
    low, high, ticks = axis_of([*values, *([] if null is None else [null])])
    left, row = 20 + 7 * min(max(len(bar.label) for bar in bars), 34), 24
    legend = 22 if len(kinds) > 1 else 0
    height = row * len(bars) + 62 + legend
    place = scale(low, high, left, WIDTH - 20)
    parts = []
    bottom = row * len(bars) + 14
    for tick in ticks:
        parts.append(_line(place(tick), 8, place(tick), bottom, "#ccc")
                     + _text(place(tick), bottom + 16, tick_text(tick), "middle"))
    if null is not None:
        parts.append(_line(place(null), 4, place(null), bottom, "#111", "2 3", 1.5))
    for k, bar in enumerate(bars):
        y = row * k + 22
        label = bar.label if len(bar.label) <= 34 else bar.label[:33] + "…"
        parts.append(_text(left - 8, y + 4, label, "end"))
        if math.isfinite(bar.low):
            parts.append(_line(place(bar.low), y, place(bar.high), y, "#111", "", 1.6))
            parts += [_line(place(v), y - 4, place(v), y + 4, "#111", "", 1.6) for v in (bar.low, bar.high)]
        if math.isfinite(bar.value):
            parts.append(marker(kinds.index(bar.kind), place(bar.value), y))
        else:
            parts.append(_text(left + 4, y + 4, "no value", "start"))
    parts.append(_text((left + WIDTH - 20) / 2, bottom + 36, axis, "middle"))
    if legend:
        parts.append(_legend(kinds, height - 10, lambda i, x, y: marker(i, x, y)))
    noted = any(bar.note for bar in bars)
    kinded = len(kinds) > 1
    columns = ("name", *(("kind",) if kinded else ()), "value", "low", "high", *(("remark",) if noted else ()))
    rows = tuple((bar.label, *((bar.kind,) if kinded else ()), bar.value, bar.low, bar.high,
                  *((bar.note,) if noted else ())) for bar in bars)
    words = f"{len(bars)} values of {axis} with 95 % intervals" if values else f"no value of {axis} is known"
    return Plot(title, _svg(title, words, height, parts), columns, rows)


def lines(title: str, x_axis: str, y_axis: str, curves: Sequence[Line], y_limits: tuple[float, float] | None = None,
          diagonal: bool = False) -> Plot:
    """Curves told apart by dash and marker; bars where they have intervals; `diagonal`: the line y = x. Where no curve
    has a value the drawing says so."""
    if not curves:
        raise BiasError(f"plot {title!r}: nothing to draw")
    points = [(x, y) for c in curves for x, y in zip(c.x, c.y, strict=True) if math.isfinite(y)]
    ys = [y for _, y in points] + [v for c in curves for v in (*c.low, *c.high) if math.isfinite(v)]
    x_low, x_high, x_ticks = axis_of([x for x, _ in points] or [x for c in curves for x in c.x])
    y_low, y_high, y_ticks = axis_of(list(y_limits) if y_limits else ys)
    left, top, bottom = 70, 14, 330
    px, py = scale(x_low, x_high, left, WIDTH - 20), scale(y_low, y_high, bottom, top)
    parts = [_line(left, py(t), WIDTH - 20, py(t), "#ddd") + _text(left - 8, py(t) + 4, tick_text(t), "end")
             for t in y_ticks]
    parts += [_line(px(t), bottom, px(t), bottom + 5, "#111") + _text(px(t), bottom + 19, tick_text(t), "middle")
              for t in x_ticks]
    if diagonal:
        a, b = max(x_low, y_low), min(x_high, y_high)
        parts.append(_line(px(a), py(a), px(b), py(b), "#767676"))
    for k, curve in enumerate(curves):
        good = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if math.isfinite(y)]
        path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in good)
        if good:
            parts.append(f'<polyline points="{path}" fill="none" stroke="#111" stroke-width="1.6" '
                         f'stroke-dasharray="{_DASHES[k % len(_DASHES)]}"/>')
        for x, low, high in zip(curve.x, curve.low, curve.high, strict=False):
            if math.isfinite(low):
                parts.append(_line(px(x), py(low), px(x), py(high), "#111"))
        parts += [marker(k, px(x), py(y)) for x, y in good]
    parts.append(_text((left + WIDTH - 20) / 2, bottom + 40, x_axis, "middle"))
    parts.append(f'<text transform="rotate(-90 16 {(top + bottom) / 2})" x="16" y="{(top + bottom) / 2}" '
                 f'text-anchor="middle" {_FONT}>{_esc(y_axis)}</text>')
    height = bottom + 56 + (22 if len(curves) > 1 else 0)
    if len(curves) > 1:
        parts.append(_legend([c.name for c in curves], height - 8, lambda i, x, y: _line(
            x - 13, y, x + 13, y, "#111", _DASHES[i % len(_DASHES)], 1.6) + marker(i, x, y)))
    banded = any(len(c.low) for c in curves)
    rows = tuple((c.name, x, y, *((c.low[i], c.high[i]) if len(c.low) else (math.nan, math.nan) if banded else ()))
                 for c in curves for i, (x, y) in enumerate(zip(c.x, c.y, strict=True)))
    columns = ("curve", x_axis, y_axis, *(("low", "high") if banded else ()))
    words = f"{len(curves)} curve{'s' if len(curves) > 1 else ''} of {y_axis} against {x_axis}"
    if not points:
        words = f"no value of {y_axis} is known"
        parts.append(_text((left + WIDTH - 20) / 2, (top + bottom) / 2, "no value", "middle"))
    return Plot(title, _svg(title, words, height, parts), columns, rows)


def grouped_bars(title: str, axis: str, labels: Sequence[str], series: Sequence[tuple[str, Sequence[float]]]) -> Plot:
    """Columns from 0, a cluster a label, told apart by filling; also a histogram, with ranges as labels."""
    if not labels or not series:
        raise BiasError(f"plot {title!r}: nothing to draw")
    values = [v for _, vs in series for v in vs if math.isfinite(v)]
    low, high, ticks = axis_of([0.0, *values])
    left, top, bottom = 70, 14, 300
    py = scale(low, high, bottom, top)
    step = (WIDTH - 20 - left) / len(labels)
    each = 0.8 * step / len(series)
    turned = max(len(label) for label in labels) * 7 > step
    parts = [_line(left, py(t), WIDTH - 20, py(t), "#ddd") + _text(left - 8, py(t) + 4, tick_text(t), "end")
             for t in ticks]
    for i, label in enumerate(labels):
        for k, (_, vs) in enumerate(series):
            if math.isfinite(vs[i]):
                y0, y1 = sorted((py(vs[i]), py(0.0)))
                parts.append(f'<rect x="{left + i * step + 0.1 * step + k * each:.1f}" y="{y0:.1f}" width="{each:.1f}" '
                             f'height="{max(y1 - y0, 0.5):.1f}" fill="{_FILLS[k % len(_FILLS)]}" stroke="#111"/>')
        x = left + (i + 0.5) * step
        if turned:
            parts.append(f'<text transform="translate({x + 4:.1f} {bottom + 10}) rotate(-50)" text-anchor="end" '
                         f"{_FONT}>{_esc(label[:22])}</text>")
        else:
            parts.append(_text(x, bottom + 18, label, "middle"))
    parts.append(f'<text transform="rotate(-90 16 {(top + bottom) / 2})" x="16" y="{(top + bottom) / 2}" '
                 f'text-anchor="middle" {_FONT}>{_esc(axis)}</text>')
    below = min(6 * max(len(label[:22]) for label in labels), 130) if turned else 22
    height = bottom + below + 16 + (22 if len(series) > 1 else 0)
    if len(series) > 1:
        parts.append(_legend([name for name, _ in series], height - 8, lambda i, x, y: (
            f'<rect x="{x - 7}" y="{y - 7}" width="14" height="14" fill="{_FILLS[i % len(_FILLS)]}" stroke="#111"/>')))
    rows = tuple((label, *(vs[i] for _, vs in series)) for i, label in enumerate(labels))
    words = f"columns of {axis} for {len(labels)} values"
    return Plot(title, _svg(title, words, height, parts), ("name", *(name for name, _ in series)), rows)


def histogram(title: str, axis: str, edges: Sequence[float], series: Sequence[tuple[str, Sequence[float]]],
              share: bool = True) -> Plot:
    """How often values fall between `edges`; `share`: as shares of each series, so that sets of any size compare."""
    import numpy as np

    counted = []
    for name, values in series:
        counts = np.histogram(np.asarray(values, np.float64), np.asarray(edges, np.float64))[0].astype(float)
        counted.append((name, (counts / max(counts.sum(), 1) if share else counts).tolist()))
    labels = [f"{tick_text(a)} to {tick_text(b)}" for a, b in itertools.pairwise(edges)]
    return grouped_bars(title, f"{'share' if share else 'count'} ({axis})", labels, counted)


def axis_of(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """(low, high, ticks): 4 to 8 round numbers that enclose the values; 0 to 1 where there are none."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high - low < 1e-12:
        pad = max(abs(low) * 0.1, 0.05)
        low, high = low - pad, high + pad
    raw = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(raw))
    step = size * next(f for f in (1, 2, 2.5, 5, 10) if f * size >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [round(k * step, 12) for k in range(first, last + 1)]
    return ticks[0], ticks[-1], ticks


def scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def tick_text(value: float) -> str:
    return f"{value:.6g}"


def marker(kind: int, x: float, y: float) -> str:
    """Disc, hollow square, triangle, hollow diamond, cross, hollow disc ..."""
    k = kind % 6
    if k in (0, 5):
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.6" fill="{"#111" if k == 0 else "#fff"}" stroke="#111"/>'
    if k == 4:
        return (_line(x - 4, y - 4, x + 4, y + 4, "#111", "", 2) + _line(x - 4, y + 4, x + 4, y - 4, "#111", "", 2))
    shape = {1: ((-4, -4), (4, -4), (4, 4), (-4, 4)), 2: ((0, -5.5), (5, 4), (-5, 4)),
             3: ((0, -6), (6, 0), (0, 6), (-6, 0))}[k]
    path = " ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in shape)
    return f'<polygon points="{path}" fill="{"#111" if k == 2 else "#fff"}" stroke="#111"/>'


def _legend(names: Sequence[str], y: float, draw: Callable[[int, float, float], str]) -> str:
    room = (WIDTH - 20) / max(len(names), 1)
    most = max(int((room - 40) / 7), 4)
    return "".join(draw(i, 20 + i * room, y - 4) + _text(38 + i * room, y, name if len(name) <= most else
                   name[: most - 1] + "…", "start") for i, name in enumerate(names))


def _line(x0: float, y0: float, x1: float, y1: float, colour: str, dash: str = "", width: float = 1.0) -> str:
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="{colour}" '
            f'stroke-width="{width}"{dashes}/>')


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {_FONT}>{_esc(text)}</text>'


def _svg(title: str, words: str, height: float, parts: Sequence[str]) -> str:
    return (f'<svg role="img" aria-labelledby="{ID}t {ID}d" viewBox="0 0 {WIDTH} {height:.0f}" '
            f'width="{WIDTH}" xmlns="http://www.w3.org/2000/svg"><title id="{ID}t">{_esc(title)}</title>'
            f'<desc id="{ID}d">{_esc(words)}; the table after it holds the numbers.</desc>{"".join(parts)}</svg>')


def _esc(text: str) -> str:
    return html.escape("".join(c if c.isprintable() else " " for c in str(text)))
