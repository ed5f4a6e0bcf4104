"""A report as one HTML file that needs nothing else: headings, tables, plots with their numbers, pictures.

    page = Page("Title", "One sentence that says what this is.")
    page.heading("Results")
    page.note("Made on synthetic pictures: not clinical evidence.")
    page.table("Dice by arm", ("arm", "Dice", "95 % interval"), [("real", 0.81, "0.78 to 0.84")])
    page.figure(intervals("Dice by arm", "Dice", [Bar("real", 0.81, 0.78, 0.84)]))
    page.pictures("Worst cases", [Picture(image, "case 3: the lesion, missed on its left side", "Dice 0.21")])
    page.facts("Settings", {"seed": 0})
    page.write(path)

Readable on paper, without colour and with a screen reader: one h1, headings in order, a list of contents, captions and
scopes in every table, a text for every picture, every plot followed by the table of what it shows, differences told by
shape and dash. No script, nothing loaded from elsewhere (the page's own policy forbids both). Text is escaped; only
what `synthskin.bias.report_plots` and this module draw goes in as markup.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthskin.bias.errors import BiasError
from synthskin.bias.report_plots import ID, Plot
from synthskin.files import write_whole

MAX_PICTURE_PX: Final = 384  # longest side of a picture in the page; larger ones are reduced
Cell = str | int | float | None

_STYLE: Final = """
:root{color-scheme:light}
body{font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif;color:#111;background:#fff;
margin:0 auto;padding:1.5rem;max-width:70rem}
h1{font-size:1.9rem;line-height:1.2}h2{font-size:1.4rem;border-bottom:2px solid #111;margin-top:2.5rem}
h3{font-size:1.15rem;margin-top:1.8rem}p{max-width:46rem}
a{color:#003d99}a:focus-visible,[tabindex]:focus-visible,summary:focus-visible{outline:3px solid #003d99}
.skip{position:absolute;left:-99rem}.skip:focus{position:static}
.note{border:2px solid #111;border-left-width:.6rem;padding:.4rem 1rem;margin:1rem 0;max-width:44rem}
.note p{margin:.3rem 0}
.scroll{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;font-size:.92rem}
caption{text-align:left;font-weight:600;padding:.3rem 0}
th,td{border:1px solid #767676;padding:.2rem .55rem;text-align:left;vertical-align:top;overflow-wrap:break-word}
thead th{background:#eee}td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.lines td{white-space:pre-wrap;overflow-wrap:anywhere}
figure{margin:1.2rem 0;break-inside:avoid}figcaption{font-weight:600;max-width:46rem}
figure svg{max-width:100%;height:auto}
.pictures{display:flex;flex-wrap:wrap;gap:1rem;list-style:none;padding:0}
.pictures li{max-width:15rem;font-size:.88rem;break-inside:avoid}
.pictures img,.pictures svg{width:14rem;height:auto;border:1px solid #767676;display:block}
footer{margin-top:3rem;border-top:1px solid #767676;font-size:.9rem}
@media print{body{max-width:none;padding:0;font-size:10.5pt}a{color:#111;text-decoration:none}.scroll{overflow:visible}
nav{break-after:avoid}h2,h3,caption{break-after:avoid}tr{break-inside:avoid}thead{display:table-header-group}
.skip{display:none}}
"""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with the text that stands for it.

    image     (h, w, 3) or (h, w) 8-bit, or SVG markup of `report_plots.outlined`
    alt       what a reader who does not see it must know
    words     caption under it
    """

    image: NDArray[np.uint8] | str
    alt: str
    words: str = ""


class Page:
    """Collects the parts in order; `html()` or `write(path)` gives the file. Heading levels are 2 and 3."""

    def __init__(self, title: str, lead: str = "", language: str = "en") -> None:
        self.title, self.lead, self.language = title, lead, language
        self._parts: list[str] = []
        self._contents: list[tuple[str, str]] = []
        self._level = 1
        self._plots = 0

    def heading(self, text: str, level: int = 2) -> None:
        if level not in (2, 3) or level > self._level + 1:
            raise BiasError(f"heading {text!r} of level {level} after one of {self._level}: levels go 2, 3, none is "
                            "left out")
        self._level = level
        name = f"s{len(self._contents) + 1}"
        if level == 2:
            self._contents.append((name, text))
            self._parts.append(f'<h2 id="{name}">{esc(text)}</h2>')
        else:
            self._parts.append(f"<h3>{esc(text)}</h3>")

    def text(self, *paragraphs: str) -> None:
        self._parts += [f"<p>{esc(paragraph)}</p>" for paragraph in paragraphs]

    def note(self, *paragraphs: str, label: str = "Note") -> None:
        """A framed remark that must not be missed."""
        inside = "".join(f"<p>{esc(paragraph)}</p>" for paragraph in paragraphs)
        self._parts.append(f'<div class="note" role="note" aria-label="{esc(label)}">{inside}</div>')

    def table(
        self, caption: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], digits: int = 3, headed: bool = True
    ) -> None:
        """`headed`: the first cell of a row names it. Numbers are rounded to `digits`; None and NaN show as a dash."""
        self._parts.append(table_html(caption, columns, rows, digits, headed))

    def figure(self, plot: Plot, digits: int = 3, closed: bool = False) -> None:
        """A plot and, after it, its numbers; `closed` folds a long table away on screen (it stays in the file)."""
        self._plots += 1
        svg = plot.svg.replace(ID, f"p{self._plots}")
        numbers = table_html(f"Numbers of the plot: {plot.title}", plot.columns, plot.rows, digits)
        if closed:
            numbers = f"<details><summary>Numbers of the plot: {esc(plot.title)}</summary>{numbers}</details>"
        self._parts.append(f"<figure>{svg}<figcaption>{esc(plot.title)}</figcaption></figure>{numbers}")

    def pictures(self, heading: str, pictures: Sequence[Picture]) -> None:
        """A row of pictures under a heading of its own."""
        self.heading(heading, 3)
        items = "".join(f"<li>{_picture(p)}{f'<span>{esc(p.words)}</span>' if p.words else ''}</li>" for p in pictures)
        self._parts.append(f'<ul class="pictures">{items}</ul>')

    def facts(self, caption: str, facts: Mapping[str, Any]) -> None:
        """A table of names and values; mappings inside are written as name.key."""
        rows = [(key, value) for key, value in flat(facts)]
        self._parts.append(table_html(caption, ("name", "value"), rows, 6, kind="lines"))

    def html(self) -> str:
        links = "".join(f'<li><a href="#{name}">{esc(text)}</a></li>' for name, text in self._contents)
        lead = f"<p>{esc(self.lead)}</p>" if self.lead else ""
        nav = f'<nav aria-label="Contents"><ol>{links}</ol></nav>' if links else ""
        policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        return (
            f'<!DOCTYPE html>\n<html lang="{esc(self.language)}"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
            f"<title>{esc(self.title)}</title><style>{_STYLE}</style></head>\n<body>"
            f'<a class="skip" href="#main">Skip to the content</a>\n<header><h1>{esc(self.title)}</h1>{lead}{nav}'
            f'</header>\n<main id="main">\n' + "\n".join(self._parts) + "\n</main>\n"
            "<footer><p>Made by synthskin. Not for diagnosis.</p></footer></body></html>\n"
        )

    def write(self, path: Path) -> Path:
        """Whole or not at all; raises BiasError if it cannot be written."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BiasError(f"{path}: cannot be written: {error.strerror or error}") from None
        write_whole(path, self.html().encode(), BiasError)
        return path


def esc(text: Any) -> str:
    """Text for HTML, also inside attributes; control characters that XML forbids become spaces."""
    clean = "".join(c if c.isprintable() or c in "\n\t" else " " for c in str(text))
    return html.escape(clean, quote=True)


def shown(value: Cell, digits: int = 3) -> str:
    """A cell as text: numbers rounded to `digits` decimals (small ones in powers of ten), a dash for nothing."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)):
        return f"{value:d}"
    if isinstance(value, (float, np.floating)):
        small = value != 0 and abs(value) < 0.5 * 10.0**-digits
        return f"{value:.1e}" if small else f"{value:.{digits}f}"
    return str(value)


def table_html(
    caption: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], digits: int = 3, headed: bool = True,
    kind: str = "",
) -> str:
    """<table> with caption and scopes, in a part that scrolls by itself where it is wide."""
    head = "".join(f'<th scope="col">{esc(column)}</th>' for column in columns)
    body = []
    for row in rows:
        if len(row) != len(columns):
            raise BiasError(f"table {caption!r}: a row of {len(row)} cells under {len(columns)} columns")
        cells = []
        for position, value in enumerate(row):
            if position == 0 and headed:
                cells.append(f'<th scope="row">{esc(shown(value, digits))}</th>')
                continue
            number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
            cells.append(f"<td{' class=n' if number else ''}>{esc(shown(value, digits))}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    style = f' class="{kind}"' if kind else ""
    return (f'<div class="scroll" role="region" tabindex="0" aria-label="{esc(caption)}"><table{style}>'
            f"<caption>{esc(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>")


def flat(facts: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Cell]]:
    """Nested mappings as name.key; lists joined by commas."""
    for key, value in facts.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            yield from flat(value, f"{name}.")
        elif isinstance(value, (list, tuple)):
            yield name, ", ".join(str(item) for item in value)
        elif isinstance(value, (str, int, float)) or value is None:
            yield name, value
        else:
            yield name, str(value)


def png_uri(image: NDArray[np.uint8], longest_px: int = MAX_PICTURE_PX) -> str:
    """data:image/png of an 8-bit picture, reduced to `longest_px`."""
    from PIL import Image

    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise BiasError(f"picture {image.shape} {image.dtype}: 8-bit grey or RGB is needed")
    drawn = Image.fromarray(image)
    drawn.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def outlined(
    image: NDArray[np.uint8], outlines: Sequence[tuple[NDArray[np.bool_], str]], alt: str
) -> str:
    """SVG of a picture with masks (h, w) as outlines, "solid" or "dashed", white on black: told without colour."""
    from skimage.measure import find_contours

    height, width = image.shape[:2]
    marks = []
    unit = max(height, width) / 100
    for mask, dash in outlines:
        padded = np.pad(np.asarray(mask, float), 1)
        path = "".join("M" + "L".join(f"{x - 0.5:.1f} {y - 0.5:.1f}" for y, x in contour) + "Z"
                       for contour in find_contours(padded, 0.5))
        if path:
            dashes = f' stroke-dasharray="{3 * unit:.2f} {2.5 * unit:.2f}"' if dash == "dashed" else ""
            marks.append(f'<path d="{path}" fill="none" stroke="#000" stroke-width="{2.0 * unit:.2f}"{dashes}/>'
                         f'<path d="{path}" fill="none" stroke="#fff" stroke-width="{0.9 * unit:.2f}"{dashes}/>')
    return (f'<svg role="img" aria-label="{esc(alt)}" viewBox="0 0 {width} {height}" '
            f'xmlns="http://www.w3.org/2000/svg"><image href="{png_uri(image)}" width="{width}" height="{height}"/>'
            f"{''.join(marks)}</svg>")


def _picture(picture: Picture) -> str:
    if not picture.alt.strip():
        raise BiasError("a picture without a text that stands for it: give its alt")
    if isinstance(picture.image, str):
        return picture.image
    return f'<img alt="{esc(picture.alt)}" src="{png_uri(picture.image)}">'
