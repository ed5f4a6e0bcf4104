"""The page of a report: escaped, self-contained, and opened in a browser that checks accessibility basics."""

import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthskin.bias import report_plots as plots
from synthskin.bias.errors import BiasError
from synthskin.bias.report import Page, Picture, outlined, shown, table_html


def example():
    page = Page("Study of <tone> & size", "What it is.")
    page.note("Made on synthetic pictures: not clinical evidence.")
    page.heading("Results")
    page.text("Words & <b>signs</b>.")
    page.table("Dice by arm", ("arm", "Dice", "cases"), [("real", 0.81234, 50), ("mixed", math.nan, None)])
    page.figure(plots.intervals("Dice", "Dice", [plots.Bar("real, dark", 0.7, 0.6, 0.8, "real"), plots.Bar(
        "mixed, dark", 0.75, math.nan, math.nan, "mixed", "too small")], null=0.5))
    page.figure(plots.lines("Curve", "melanin", "p", [plots.Line("a", [0, 1, 2], [0.1, 0.4, 0.9]), plots.Line(
        "b", [0, 1, 2], [0.2, math.nan, 0.3], [0.1, math.nan, 0.2], [0.3, math.nan, 0.4])]), closed=True)
    tones = [("real", [10, 20, 40]), ("renders", [-5])]
    page.figure(plots.histogram("Tones", "ITA in degrees", [-60, 0, 30, 60], tones))
    page.heading("Pictures")
    grey = np.full((40, 60, 3), 128, np.uint8)
    mask = np.zeros((40, 60), bool)
    mask[10:20, 20:40] = True
    alt = "case 3: a lesion, found too small"
    page.pictures("Worst cases", [Picture(grey, "case 1, plain grey", "Dice 0.1"), Picture(
        outlined(grey, [(mask, "solid"), (mask, "dashed")], alt), alt, "Dice 0.2")])
    page.heading("Settings")
    page.facts("Settings", {"seed": 0, "training": {"steps": 100, "arms": ["a", "b"]}, "none": None})
    return page


class Outline(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_structure():
    text = example().html()
    outline = Outline()
    outline.feed(text)
    levels = [int(tag[1]) for tag, _ in outline.tags if tag in ("h1", "h2", "h3")]
    assert levels == [1, 2, 2, 3, 2]
    assert "<b>" not in text and "&lt;b&gt;" in text
    assert not re.search(r"<script|https?://(?!www\.w3\.org/2000/svg)|url\(|@import", text)
    tables = sum(tag == "table" for tag, _ in outline.tags)
    assert tables == sum(tag == "caption" for tag, _ in outline.tags) == 5
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in outline.tags if tag == "th")
    assert all(attrs.get("alt") for tag, attrs in outline.tags if tag == "img")
    ids = [attrs["id"] for _, attrs in outline.tags if "id" in attrs]
    assert len(ids) == len(set(ids)) and "@ID@" not in text
    assert example().html() == text


def test_every_number_of_a_plot_stands_in_its_table():
    text = example().html()
    for number in ("0.812", "0.700", "0.600", "0.800", "0.100", "0.900"):
        assert f">{number}<" in text
    assert ">too small<" in text and ">–<" in text


def test_refused():
    page = Page("a")
    with pytest.raises(BiasError, match="none is left out"):
        page.heading("b", 3)
    with pytest.raises(BiasError, match="2 cells under 1"):
        page.table("t", ("a",), [(1, 2)])
    page.heading("b")
    with pytest.raises(BiasError, match="alt"):
        page.pictures("c", [Picture(np.zeros((4, 4), np.uint8), " ")])
    with pytest.raises(BiasError, match="nothing to draw"):
        plots.intervals("empty", "x", [])
    with pytest.raises(BiasError, match="cannot be written"):
        page.write(Path(__file__) / "report.html")


def test_cells():
    assert [shown(v) for v in (None, math.nan, True, 3, 0.12345, 1e-5, "x")] == [
        "–", "–", "yes", "3", "0.123", "1.0e-05", "x"]


@given(st.text(), st.text())
def test_text_cannot_become_markup(a, b):
    outline = Outline()
    outline.feed(table_html(a, (b,), [(a,), (b,)]))
    assert [tag for tag, _ in outline.tags] == [
        "div", "table", "caption", "thead", "tr", "th", "tbody", "tr", "th", "tr", "th"]


def test_nothing_but_gaps_is_drawn_and_said():
    bars = [plots.Bar(name, math.nan, kind=name, note="too small") for name in ("a", "b")]
    for null in (None, 0.5):
        plot = plots.intervals("Dice", "Dice", bars, null)
        assert plot.svg.count(">no value<") == 2 and "no value of Dice is known" in plot.svg
    plot = plots.lines("Trend", "x", "Dice", [plots.Line("a", [0, 5], [math.nan] * 2, [math.nan] * 2, [math.nan] * 2)])
    assert ">no value<" in plot.svg and "no value of Dice is known" in plot.svg and "polyline" not in plot.svg
    assert plot.rows[1][:2] == ("a", 5) and "nan" not in plot.svg
    assert plots.axis_of([]) == (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    with pytest.raises(BiasError, match="nothing to draw"):
        plots.lines("empty", "x", "y", [])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8))
def test_axis_encloses_the_values(values):
    low, high, ticks = plots.axis_of(values)
    room = 1e-8 * (high - low)
    assert low - room <= min(values) and max(values) <= high + room
    assert 2 <= len(ticks) <= 9 and ticks == sorted(set(ticks))


CHECK = """() => {
  const seen = document.documentElement, out = [];
  const bad = (what, list) => { for (const e of list) out.push(what + ': ' + e.outerHTML.slice(0, 80)); };
  if (!seen.lang) out.push('no lang');
  if (!document.title) out.push('no title');
  bad('picture without text', [...document.images].filter(i => !i.alt));
  bad('broken picture', [...document.images].filter(i => !i.naturalWidth));
  bad('drawing without name', [...document.querySelectorAll('svg')].filter(s => s.getAttribute('role') !== 'img' ||
    !(s.getAttribute('aria-label') || (s.getAttribute('aria-labelledby') || '').split(' ').every(
      n => document.getElementById(n) && document.getElementById(n).textContent.trim()))));
  bad('table without caption', [...document.querySelectorAll('table')].filter(t => !t.caption));
  bad('head cell without scope', [...document.querySelectorAll('th')].filter(t => !t.scope));
  bad('link to nowhere', [...document.querySelectorAll('a')].filter(
    a => !document.querySelector(a.getAttribute('href'))));
  let level = 0;
  for (const h of document.querySelectorAll('h1,h2,h3,h4')) {
    const now = +h.tagName[1];
    if (now > level + 1) out.push('heading level left out: ' + h.textContent);
    level = now;
  }
  for (const name of ['h1', 'main']) if (document.querySelectorAll(name).length !== 1) out.push('not one ' + name);
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = c => { const l = parse(c).slice(0, 3).map(v => linear(v / 255));
    return .2126 * l[0] + .7152 * l[1] + .0722 * l[2]; };
  for (const e of document.querySelectorAll('p,td,th,h1,h2,h3,a,li,caption,figcaption')) {
    let b = e, back = 'rgba(0, 0, 0, 0)';
    while (b && (back = getComputedStyle(b).backgroundColor) === 'rgba(0, 0, 0, 0)') b = b.parentElement;
    const [x, y] = [light(getComputedStyle(e).color), b ? light(back) : 1].sort((p, q) => q - p);
    if ((x + .05) / (y + .05) < 4.5) out.push('contrast under 4.5: ' + e.outerHTML.slice(0, 60));
  }
  if (seen.scrollWidth > seen.clientWidth + 1) out.push('the page is wider than the window: ' + seen.scrollWidth);
  return out;
}"""


def look_at(path, picture=None, width=1000):
    """Faults that a browser finds on a page; None where there is no browser (the caller skips)."""
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    browser_path = next((p for p in ("/usr/bin/chromium", shutil.which("chromium"), shutil.which("chromium-browser"),
                                     shutil.which("google-chrome")) if p and Path(p).exists()), None)
    if browser_path is None:
        pytest.skip("no Chromium on this machine")
    with sync.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport={"width": width, "height": 900})
            said, asked = [], []
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            page.goto(path.resolve().as_uri())
            faults = page.evaluate(CHECK)
            faults += [f"console: {text}" for text in said]
            faults += [f"asks for {url[:60]}" for url in asked if not url.startswith(("file:", "data:"))]
            page.set_viewport_size({"width": 380, "height": 800})
            if page.evaluate("document.documentElement.scrollWidth > 381"):
                faults.append("wider than a telephone")
            if picture is not None:
                page.set_viewport_size({"width": width, "height": 900})
                page.screenshot(path=str(picture), full_page=True)
            page.emulate_media(media="print")
            printed = page.pdf() if hasattr(page, "pdf") else b"%PDF"
            if not printed.startswith(b"%PDF"):
                faults.append("cannot be printed")
        finally:
            browser.close()
    return faults


def test_in_a_browser(tmp_path):
    path = example().write(tmp_path / "report.html")
    assert look_at(path) == []


def test_the_browser_test_finds_faults(tmp_path):
    text = example().html().replace("<caption>Dice by arm</caption>", "").replace('alt="case 1, plain grey"', "")
    path = tmp_path / "bad.html"
    path.write_text(text.replace("color:#111", "color:#bbb"), encoding="utf-8")
    faults = " ".join(look_at(path))
    assert "without caption" in faults and "without text" in faults and "contrast" in faults
