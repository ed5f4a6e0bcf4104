"""`synthskin compare REAL SYNTHETIC`: are two sets of pictures alike, and in what are they not?

Everything is measured alike on both sides: pictures cut to the central square, resized and JPEG-coded the same way,
lesions found by one method, tone by `synthskin.bias.tone`. Results go to OUT/report.html and OUT/results.json.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from synthskin import __version__
from synthskin.bias import alike
from synthskin.bias import compare_statistics as cs
from synthskin.bias.compare_load import Loaded, agree_on_masks, chosen, find_items, load, with_group
from synthskin.bias.compare_metrics import Distances, Neighbours, distances, neighbours, standardised
from synthskin.bias.compare_weights import Weighting, check_groups, check_pictures, weighting_of
from synthskin.bias.errors import BiasError
from synthskin.bias.features import embed, load_features
from synthskin.bias.folders import check_folder, new_folder
from synthskin.conventions import DIAGNOSES, HEALTHY
from synthskin.dataset.photo_folder import left_out_words
from synthskin.files import json_bytes, read_json, write_whole
from synthskin.laws import nearest, one_line

LEAST_OF_A_GROUP: Final = 10
OURS: Final = ("results.json", "neighbours.png", "report.html")  # in the order in which they are written


class Progress(Protocol):
    def start(self, total: int, done: int) -> None: ...
    def step(self, done: int) -> None: ...
    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Options:
    """size_px of the fitted pictures; diagnoses to keep (() for all); pictures of each set at most; masks: auto, own,
    segmenter or none; features: see synthskin.bias.features; cnn: train the network of the two-sample test too."""

    size_px: int = 128
    kinds: tuple[str, ...] = ()
    limit: int | None = None
    masks: str = "auto"
    features: str | None = None
    cnn: bool = True

    def checked(self) -> Options:
        if not 32 <= self.size_px <= 512:
            raise BiasError(f"--size {self.size_px}: 32 to 512 pixels are allowed")
        if self.limit is not None and self.limit < alike.LEAST:
            raise BiasError(f"--limit {self.limit}: at least {alike.LEAST} pictures of each set are needed")
        for kind in self.kinds:
            if kind not in (allowed := (*DIAGNOSES, HEALTHY)):
                raise BiasError(f"--diagnosis {one_line(kind)}: unknown{nearest(kind, allowed)}; allowed are "
                                f"{', '.join(allowed)}")
        return self


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that was found; `results()` is the JSON. real and synthetic hold the measured pictures."""

    real: Loaded
    synthetic: Loaded
    options: Options
    masks: str
    masks_why: str
    linear: alike.Auc
    colour: alike.Auc
    texture: alike.Auc
    cnn: alike.Auc | None
    shared_groups: int
    weighting: Weighting
    ranked: tuple[alike.Giveaway, ...]
    apart: dict[str, float]
    shapes: tuple[alike.Giveaway, ...]
    classes: dict[str, tuple[int, int]]
    tones: dict[str, tuple[int, int]]
    groups: tuple[dict[str, Any], ...]
    features: str
    features_remark: str
    embedded: Distances
    to_real: Neighbours
    to_synthetic: Neighbours

    def results(self) -> dict[str, Any]:
        e = self.embedded
        return {
            "synthskin": __version__,
            "real": _about(self.real), "synthetic": _about(self.synthetic),
            "settings": {"size_px": self.options.size_px, "jpeg_quality": cs.JPEG_QUALITY,
                         "kinds": list(self.options.kinds), "limit": self.options.limit, "masks": self.masks,
                         "masks_why": self.masks_why, "features": self.features,
                         "features_remark": self.features_remark},
            "two_sample": {"linear": self.linear.to_dict(), "linear_colour": self.colour.to_dict(),
                           "linear_texture": self.texture.to_dict(),
                           "cnn": None if self.cnn is None else self.cnn.to_dict(),
                           "shared_groups": self.shared_groups, "weighting": self.weighting.to_dict()},
            "distances": _rounded(self.apart),
            "embedding": {"kid": _r(e.kid), "kid_sd": _r(e.kid_sd), "kid_real_halves": _r(e.kid_null),
                          "kid_real_halves_95": [_r(e.kid_null_low), _r(e.kid_null_high)], "kid_subset": e.subset,
                          "fid": None if e.fid is None else _r(e.fid), "fid_reason": e.fid_reason,
                          "precision": _r(e.precision), "recall": _r(e.recall), "copies": _r(e.copies)},
            "classes": {k: list(v) for k, v in self.classes.items()},
            "ita_classes": {k: list(v) for k, v in self.tones.items()},
            "groups": list(self.groups),
            "shapes": [_giveaway(g) for g in self.shapes],
            "statistics": [_giveaway(g) for g in self.ranked],
        }


def compare_sets(real: Path, synthetic: Path, out: Path, options: Options, progress: Progress | None = None) -> \
        Comparison:
    """Compare and write OUT/report.html, OUT/results.json and OUT/neighbours.png; raises BiasError, DatasetError."""
    options.checked()
    check_folder(out, OURS, "a comparison", _strange)
    features = load_features(options.features)  # refused before anything is read
    aside: tuple[list[Path], list[Path]] = [], []
    items = [chosen(find_items(folder, masks), options.kinds, options.limit)
             for folder, masks in zip((real, synthetic), aside, strict=True)]
    for folder, some, left_out in zip((real, synthetic), items, aside, strict=True):
        if len(some) < alike.LEAST:
            kept = f" of {', '.join(options.kinds)}" if options.kinds else ""
            but = f" ({left_out_words(left_out)})" if left_out else ""
            raise BiasError(f"{folder}: {len(some)} pictures{kept}{but}; at least {alike.LEAST} are needed")
    _check_weights(real, synthetic, *[([i.kind for i in some], [i.group for i in some]) for some in items])
    masks, why = agree_on_masks(options.masks, *items)
    total = len(items[0]) + len(items[1])
    if progress is not None:
        progress.start(total, 0)
    try:
        first = load(real, items[0], options.size_px, masks, step=_steps(progress, 0))
        second = load(synthetic, items[1], options.size_px, masks, step=_steps(progress, len(items[0])))
    finally:
        if progress is not None:
            progress.stop()
    a, b = first.group, second.group  # again: some could not be read, some are equal
    names = alike.together(a, b)
    _check_weights(real, synthetic, (a.kinds, names[:len(a)]), (b.kinds, names[len(a):]))
    first, second = (replace(one, mask_files=tuple(left)) for one, left in zip((first, second), aside, strict=True))
    result = _compared(first, second, options, masks, why, features)
    _write(result, out)
    return result


def _check_weights(real: Path, synthetic: Path, *sides: tuple[Sequence[str], Sequence[str]]) -> None:
    """Raise BiasError where too few pictures or groups bear weight; sides: kinds and groups of a set's pictures."""
    (kinds, groups), (others, their_groups) = sides
    found = weighting_of(kinds, others, [*groups, *their_groups])
    check_pictures(found, (str(real), str(synthetic)))
    check_groups(found, (str(real), str(synthetic)), alike.FOLDS)


def _strange(out: Path) -> str | None:
    """The first of our names in the folder, where results.json is none of a comparison."""
    with contextlib.suppress(BiasError):
        if "two_sample" in read_json(out / "results.json", BiasError):
            return None
    return next((name for name in OURS if (out / name).exists()), None)


def _steps(progress: Progress | None, before: int) -> Callable[[int], None] | None:
    return None if progress is None else lambda number: progress.step(before + number)


def _compared(first: Loaded, second: Loaded, options: Options, masks: str, why: str, features: Any) -> Comparison:
    a, b = first.group, second.group
    names = list(a.statistics[0])
    points = embed(features, first.images), embed(features, second.images)
    if features.standardised:
        points = standardised(*points)
    shapes: list[alike.Giveaway] = []
    if first.shapes and second.shapes:
        shapes = alike.giveaways(with_group(first, first.shapes), with_group(second, second.shapes))
    return Comparison(
        first, second, options, masks, why,
        alike.linear_auc(a, b), alike.linear_auc(a, b, [n for n in names if cs.is_colour(n)]),
        alike.linear_auc(a, b, [n for n in names if not cs.is_colour(n)]),
        alike.cnn_auc(a, b) if options.cnn else None, alike.shared_groups(a, b), alike.weighting(a, b),
        tuple(alike.giveaways(a, b)), alike.distances(a, b), tuple(shapes),
        _counts([a.kinds, b.kinds], "unknown"),
        _counts([[str(t.ita_class) if t.ita_class else "cannot say" for t in s.tones] for s in (first, second)], ""),
        tuple(_by_group(first, second)), features.name, features.remark,
        distances(*points, alike.together(a)),
        neighbours(points[1], points[0]), neighbours(points[0], points[1]))


def _counts(both: Sequence[Sequence[str]], blank: str) -> dict[str, tuple[int, int]]:
    first, second = (Counter(value or blank for value in values) for values in both)
    return {key: (first[key], second[key]) for key in sorted(set(first) | set(second))}


def _by_group(first: Loaded, second: Loaded) -> list[dict[str, Any]]:
    """Mean skin and lesion colour of each diagnosis and tone class in both sets, and CIEDE2000 between them."""
    from skimage.color import deltaE_ciede2000

    found = []
    labels: list[tuple[str, list[list[str]]]] = [
        ("diagnosis", [list(s.group.kinds) for s in (first, second)]),
        ("ITA class", [[str(t.ita_class or "") for t in s.tones] for s in (first, second)])]
    for by, both in labels:
        for value in sorted((set(both[0]) & set(both[1])) - {""}):
            picks = [np.array([v == value for v in values]) for values in both]
            row: dict[str, Any] = {"by": by, "value": value, "n_real": int(picks[0].sum()),
                                   "n_synthetic": int(picks[1].sum())}
            for part in ("skin", "lesion"):
                means = [_mean_lab(s, part, pick) for s, pick in zip((first, second), picks, strict=True)]
                both_there = means[0] is not None and means[1] is not None
                row[f"{part}_real"], row[f"{part}_synthetic"] = (
                    None if m is None else [round(float(v), 2) for v in m] for m in means)
                row[f"{part}_delta_e"] = round(float(deltaE_ciede2000(means[0], means[1])), 2) if both_there else None
            row["says_nothing"] = min(row["n_real"], row["n_synthetic"]) < LEAST_OF_A_GROUP
            found.append(row)
    return found


def _mean_lab(loaded: Loaded, part: str, pick: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    values = loaded.group.table([f"{part}.{c}.mean" for c in cs.CHANNELS])[pick]
    values = values[np.isfinite(values).all(axis=1)]
    return None if len(values) == 0 else np.asarray(values.mean(axis=0))


def _write(result: Comparison, out: Path) -> None:
    from synthskin.bias.compare_page import neighbour_sheet, page_of

    page, sheet = page_of(result), io.BytesIO()
    neighbour_sheet(result).save(sheet, "PNG")
    with new_folder(out):
        write_whole(out / "results.json", json_bytes(result.results()), BiasError)  # by it the folder is known as ours
        write_whole(out / "neighbours.png", sheet.getvalue(), BiasError)
        page.write(out / "report.html")


def _about(loaded: Loaded) -> dict[str, Any]:
    return {"name": loaded.name, "n": len(loaded), "left_out": dict(loaded.left_out),
            "masks_left_out": len(loaded.mask_files)}


def _giveaway(g: alike.Giveaway) -> dict[str, Any]:
    return {"name": g.name, "auc": _r(g.auc), "effect": _r(g.effect), "real": [_r(g.first), _r(g.first_sd)],
            "synthetic": [_r(g.second), _r(g.second_sd)]}


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {key: _r(value) for key, value in values.items()}


def _r(value: float) -> float:
    return round(float(value), 5)
