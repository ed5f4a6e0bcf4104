"""The page of a comparison, and the sheet of nearest neighbours."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw

from synthskin.bias import compare_statistics as cs
from synthskin.bias.compare import Comparison
from synthskin.bias.compare_load import Loaded
from synthskin.bias.compare_metrics import KID_HALVES, Neighbours
from synthskin.bias.compare_weights import weight_words
from synthskin.bias.report import Page, Picture
from synthskin.bias.report_plots import Bar, Line, grouped_bars, intervals, lines

_TOP: Final = 25  # statistics in the page; results.json has all
_TILE: Final = 112


def page_of(c: Comparison) -> Page:
    real, synthetic = c.real.name, c.synthetic.name
    page = Page(f"{synthetic} against {real}",
                f"Are {len(c.synthetic)} pictures of {synthetic} like {len(c.real)} of {real}, and in what not?")
    _answer(page, c)
    _two_sample(page, c)
    _colour(page, c)
    _texture(page, c)
    _shape(page, c)
    _counts(page, c)
    _embedding(page, c)
    page.heading("Settings")
    results = c.results()
    page.facts("Settings", results["settings"] | {"synthskin": results["synthskin"], "real": results["real"],
                                                  "synthetic": results["synthetic"]})
    return page


def _answer(page: Page, c: Comparison) -> None:
    page.heading("In short")
    best = max((a for a in (c.linear, c.cnn) if a is not None), key=lambda a: a.auc)
    words = ("told apart almost always" if best.auc > 0.95 else "mostly told apart" if best.auc > 0.8
             else "often told apart" if best.auc > 0.65 else "hardly told apart")
    page.text(
        f"The sets are {words}: the better of the two-sample tests reaches an AUC of {best.auc:.2f} "
        f"({best.low:.2f} to {best.high:.2f}) on pictures it has not seen; 0.5 is a coin, 1 is certainty.",
        f"KID by {c.features} is {c.embedded.kid:.4f}; random halves of {c.real.name} are {c.embedded.kid_null:.4f} "
        f"apart, 95 % of them {c.embedded.kid_null_low:.4f} to {c.embedded.kid_null_high:.4f}. "
        f"Precision {c.embedded.precision:.2f}, recall {c.embedded.recall:.2f}.")
    if c.weighting.wants_words:
        page.note(weight_words(c.weighting, c.real.name, c.synthetic.name))
    top = c.ranked[:3]
    page.text("What gives it away first: " + "; ".join(
        f"{g.name} ({'higher' if g.effect > 0 else 'lower'} by {abs(g.effect):.1f} SD)" for g in top) + ".")
    page.note("Being told apart does not mean being of no use in training, and not being told apart does not mean "
              "being true: a test finds only what it looks at. Nothing here is clinical evidence.")


def _two_sample(page: Page, c: Comparison) -> None:
    page.heading("Two-sample test")
    page.text("A classifier learns to tell the sets apart, on folds that keep what belongs together; its AUC on the "
              f"held-out pictures is the figure. {weight_words(c.weighting, c.real.name, c.synthetic.name)}")
    if c.shared_groups:
        page.note(shared_words(c.shared_groups))
    bars = [Bar("linear, all statistics", c.linear.auc, c.linear.low, c.linear.high),
            Bar("linear, colour alone", c.colour.auc, c.colour.low, c.colour.high),
            Bar("linear, texture alone", c.texture.auc, c.texture.low, c.texture.high)]
    if c.cnn is not None:
        bars.append(Bar("small network on pixels", c.cnn.auc, c.cnn.low, c.cnn.high))
    page.figure(intervals("AUC of the two-sample tests", "AUC", bars, null=0.5))
    page.table(f"What gives it away: the {_TOP} most telling of {len(c.ranked)} statistics "
               "(effect in standard deviations of the real set)",
               ("statistic", "real mean", "real SD", "synthetic mean", "synthetic SD", "effect", "AUC alone"),
               [(g.name, g.first, g.first_sd, g.second, g.second_sd, g.effect, g.auc) for g in c.ranked[:_TOP]])


def shared_words(n: int) -> str:
    """That the sets are not apart."""
    return (f"{n} group{'s are' if n > 1 else ' is'} in both sets (the same group, patient or lesion, or equal "
            "pictures): the sets are not independent. Each was kept whole, in one fold.")


def _colour(page: Page, c: Comparison) -> None:
    page.heading("Colour")
    page.text(f"Lesion and skin: {c.masks_why}. L*a*b* under D65.")
    by = {g.name: g for g in c.ranked}
    names = [f"{part}.{ch}.mean" for part in ("skin", "lesion") for ch in cs.CHANNELS]
    page.table("Mean colour of skin and lesion", ("statistic", "real", "SD", "synthetic", "SD ", "Wasserstein-1"),
               [(n, by[n].first, by[n].first_sd, by[n].second, by[n].second_sd, c.apart.get(n.replace("mean", "w1")))
                for n in names if n in by], digits=2)
    if c.groups:
        page.table("By group: CIEDE2000 between the mean colours", (
            "group", "n real", "n synthetic", "skin", "lesion", "remark"),
            [(f"{g['by']} {g['value']}", g["n_real"], g["n_synthetic"], g["skin_delta_e"], g["lesion_delta_e"],
              "too few to say anything" if g["says_nothing"] else "") for g in c.groups], digits=1)


def _texture(page: Page, c: Comparison) -> None:
    page.heading("Texture")
    by = {g.name: g for g in c.ranked}
    for channel in ("L", "b"):
        names = [f"spectrum.{channel}.{k}" for k in range(cs.SPECTRUM_BANDS)]
        if all(n in by for n in names):
            x = list(range(cs.SPECTRUM_BANDS))
            page.figure(lines(f"Radial power spectrum of {channel}*, coarse to fine", "band", "log10 power", [
                Line("real", x, [by[n].first for n in names]),
                Line("synthetic", x, [by[n].second for n in names])]), closed=True)
    rows = []
    for part in ("skin", "lesion"):
        for band in ("<1", *cs.BANDS):
            g = by.get(f"{part}.contrast.{band}.L")
            if g is not None:
                rows.append((f"{part}, {band} px", g.first, g.second, g.effect, g.auc))
    page.table("Local contrast of L* (standard deviation) by scale", ("where", "real", "synthetic", "effect", "AUC"),
               rows, digits=2)


def _shape(page: Page, c: Comparison) -> None:
    page.heading("Size, place and shape of lesions")
    if not c.shapes:
        page.text(f"Not compared: {c.masks_why}.")
        return
    page.table("Masks", ("statistic", "real mean", "SD", "synthetic mean", "SD ", "effect", "AUC alone"),
               [(g.name, g.first, g.first_sd, g.second, g.second_sd, g.effect, g.auc) for g in c.shapes])


def _counts(page: Page, c: Comparison) -> None:
    page.heading("Classes and skin tones")
    for title, counts in (("Diagnoses", c.classes), ("ITA classes, measured on the pictures", c.tones)):
        labels = list(counts)
        page.figure(grouped_bars(title, "share of the set", labels, [
            ("real", [counts[k][0] / len(c.real) for k in labels]),
            ("synthetic", [counts[k][1] / len(c.synthetic) for k in labels])]), closed=True)


def _embedding(page: Page, c: Comparison) -> None:
    e = c.embedded
    page.heading("Embedding")
    page.text(f"By {c.features}: {c.features_remark}. All pictures, of whatever diagnosis and not weighted. As "
              "halves are smaller than their set, sets that do not differ lie, if anything, nearer to 0 than they do.")
    page.table(f"Distances between embeddings (KID over subsets of {e.subset})", ("figure", "value", "meaning"), [
        ("KID", e.kid, f"SD over subsets {e.kid_sd:.4f}"),
        ("KID between halves of the real set", e.kid_null,
         f"mean of {KID_HALVES} random halves, 95 % of them {e.kid_null_low:.4f} to {e.kid_null_high:.4f}: what no "
         "difference looks like"),
        ("FID", e.fid, e.fid_reason or ""),
        ("precision", e.precision, "share of synthetic pictures within the real ones' neighbourhood"),
        ("recall", e.recall, "share of real pictures within the synthetic ones' neighbourhood"),
        ("copies", e.copies, "share of synthetic pictures as near to a real one as only 1 % of real ones are to "
         "another, their own group and equal pictures left out"),
    ], digits=4)
    page.pictures("Synthetic pictures and the real one nearest to each",
                  _pairs(c.synthetic, c.real, c.to_real, "synthetic", "real"))
    page.pictures("Real pictures and the synthetic one nearest to each",
                  _pairs(c.real, c.synthetic, c.to_synthetic, "real", "synthetic"))


def _pairs(own: Loaded, other: Loaded, near: Neighbours, one: str, two: str) -> list[Picture]:
    found = []
    for k in near.shown():
        n = int(near.position[k])
        pair = np.concatenate([own.images[k], np.full((own.images.shape[1], 4, 3), 255, np.uint8), other.images[n]], 1)
        found.append(Picture(pair, f"left {one} {own.items[k].name}, right its nearest {two}, {other.items[n].name}",
                             f"{own.items[k].name}: {other.items[n].name}, distance {near.distance[k]:.2f}"))
    return found


def neighbour_sheet(c: Comparison) -> Image.Image:
    """Nearest, middle and farthest pairs of both directions as one picture."""
    rows: list[tuple[Any, ...]] = []
    for own, other, near, title in ((c.synthetic, c.real, c.to_real, "synthetic, below it the nearest real"),
                                    (c.real, c.synthetic, c.to_synthetic, "real, below it the nearest synthetic")):
        rows.append((own, other, near, title))
    picks = [near.shown() for _, _, near, _ in rows]
    width = max(len(p) for p in picks) * (_TILE + 4) + 4
    height = len(rows) * (2 * (_TILE + 4) + 22) + 4
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    y = 4
    for (own, other, near, title), picked in zip(rows, picks, strict=True):
        draw.text((4, y), f"{title}; from nearest to farthest", fill="black")
        for column, k in enumerate(picked):
            for row, image in enumerate((own.images[k], other.images[int(near.position[k])])):
                tile = Image.fromarray(image).resize((_TILE, _TILE), Image.Resampling.LANCZOS)
                sheet.paste(tile, (4 + column * (_TILE + 4), y + 18 + row * (_TILE + 4)))
        y += 2 * (_TILE + 4) + 22
    return sheet
