"""Are two sets of pictures alike? A two-sample test by classifiers, and which statistics give the difference away.

A classifier that learns to tell two samples apart is a two-sample test (Lopez-Paz & Oquab 2017): an AUC of 0.5 on
pictures it has not seen means that it found nothing, 1 that the sets do not overlap. Folds never cut a group, one that
both sets share neither, and never part equal pictures. Pictures are weighted so that both sets have the same mix of
kinds (diagnoses), if they have any in common; those of other kinds weigh nothing (compare_weights).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthskin.bias.compare_statistics import CHANNELS, SPECTRUM_BANDS, statistics
from synthskin.bias.compare_weights import LEAST as LEAST
from synthskin.bias.compare_weights import Weighting, check_groups, weighting_of, weights_of
from synthskin.bias.errors import BiasError
from synthskin.bias.groups import connected

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

FOLDS: Final = 5
_RIDGE_C: Final = 0.02  # inverse strength of the ridge: about 240 correlated numbers of some hundred pictures
_BOOTSTRAP: Final = 500
_CNN_EPOCHS: Final = 12


@dataclass(frozen=True, slots=True)
class Group:
    """Pictures of one set, all fitted to one size.

    images      (n, s, s, 3) uint8
    statistics  one table of numbers a picture (compare_statistics.statistics)
    groups      who or what a picture shares with others, of either set; folds do not cut it
    kinds       diagnosis or "" where unknown
    """

    images: U8
    statistics: tuple[dict[str, float], ...]
    groups: tuple[str, ...]
    kinds: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.groups)

    def table(self, names: Sequence[str]) -> F64:
        """(n, names) of the statistics."""
        return np.array([[row[name] for name in names] for row in self.statistics], np.float64)


@dataclass(frozen=True, slots=True)
class Auc:
    """AUC of held-out pictures, its 95 % interval (bootstrap over groups) and each picture's score, first set first."""

    auc: float
    low: float
    high: float
    scores: tuple[float, ...]

    def to_dict(self) -> dict[str, float]:
        return {"auc": round(self.auc, 4), "low": round(self.low, 4), "high": round(self.high, 4)}


@dataclass(frozen=True, slots=True)
class Giveaway:
    """One statistic: how far it alone tells the sets apart.

    auc      of the statistic alone, 0.5 to 1
    effect   mean of the second set minus mean of the first, in standard deviations of the first
    first, first_sd, second, second_sd   means and standard deviations
    """

    name: str
    auc: float
    effect: float
    first: float
    first_sd: float
    second: float
    second_sd: float


def make_group(images: Sequence[U8], groups: Sequence[str], kinds: Sequence[str],
               step: Callable[[int], None] | None = None) -> Group:
    """Measure fitted pictures (s, s, 3); raises BiasError when there are fewer than LEAST or sizes differ."""
    if len(images) < LEAST:
        raise BiasError(f"{len(images)} pictures; at least {LEAST} of each set are needed to compare them")
    if len({image.shape for image in images}) > 1:
        raise BiasError("pictures of different sizes; fit them to one size first")
    found = []
    for number, image in enumerate(images, start=1):
        found.append(statistics(image))
        if step is not None:
            step(number)
    return Group(np.stack(images), tuple(found), tuple(groups), tuple(kinds))


def balance(first: Group, second: Group) -> F64:
    """Weights (n first + n second) with which both sets weigh 1 and have the first set's mix of shared kinds."""
    return weights_of(first.kinds, second.kinds)


def weighting(first: Group, second: Group) -> Weighting:
    """How many pictures and groups bear weight in `balance`."""
    return weighting_of(first.kinds, second.kinds, together(first, second))


def together(*sets: Group) -> list[str]:
    """For every picture, first set first, the name of what it belongs to: pictures of one group, in whichever set, or
    of equal pixels, however indirectly."""
    groups = [name for own in sets for name in own.groups]
    pixels = [sha256(image.tobytes()).hexdigest() for own in sets for image in own.images]
    roots = connected([(f"group {name}", f"pixels {digest}") for name, digest in zip(groups, pixels, strict=True)])
    least: dict[int, str] = {}
    for name, root in zip(groups, roots, strict=True):
        least[root] = min(name, least.get(root, name))
    return [least[root] for root in roots]


def _parts(names: Sequence[str], first: int, bears: NDArray[np.bool_]) -> list[list[str]]:
    """Names with pictures that bear weight in the first set alone (its number is `first`), the second alone, both."""
    one, two = ({name for name, w in zip(names[side], bears[side], strict=True) if w}
                for side in (slice(0, first), slice(first, None)))
    return [sorted(one - two), sorted(two - one), sorted(one & two)]


def shared_groups(first: Group, second: Group) -> int:
    """How many groups have pictures in both sets."""
    names = together(first, second)
    return len(set(names[:len(first)]) & set(names[len(first):]))


def _folds(first: Group, second: Group, folds: int) -> NDArray[np.int64]:
    """Fold (n) of every picture; a group lies in one fold, in both sets, and what bears weight is spread evenly."""
    own = together(first, second)
    parts = _parts(own, len(first), balance(first, second) > 0)
    place: dict[str, int] = {}
    for salt, names in enumerate([*parts, sorted(set(own).difference(*parts))]):
        order = np.random.default_rng([7, salt]).permutation(len(names))
        place |= {names[k]: int(i) % folds for i, k in enumerate(order)}
    return np.array([place[name] for name in own], np.int64)


def linear_auc(first: Group, second: Group, names: Sequence[str] | None = None, folds: int = FOLDS) -> Auc:
    """Cross-validated AUC of a ridge logistic regression on the standardised statistics (medians for NaN).

    Raises BiasError where too few groups bear weight.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    check_groups(weighting(first, second), ("the first set", "the second set"), folds)
    names = list(first.statistics[0]) if names is None else list(names)
    x = np.concatenate([first.table(names), second.table(names)])
    y = np.repeat([0, 1], [len(first), len(second)])
    weights, which = balance(first, second), _folds(first, second, folds)
    scores = np.zeros(len(y))
    for fold in range(folds):
        train = (which != fold) & (weights > 0)
        model = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler(),
                              LogisticRegression(C=_RIDGE_C, max_iter=2000))
        scale = weights[train] / weights[train].mean()
        model.fit(x[train], y[train], logisticregression__sample_weight=scale)
        scores[which == fold] = model.decision_function(x[which == fold])
    return _auc(first, second, scores, weights)


def cnn_auc(first: Group, second: Group, folds: int = 3, epochs: int = _CNN_EPOCHS,
            step: Callable[[int], None] | None = None) -> Auc:
    """Cross-validated AUC of a small convolutional network on the pictures themselves (mirrored at random).

    Raises BiasError where too few groups bear weight.
    """
    import torch

    check_groups(weighting(first, second), ("the first set", "the second set"), folds)
    pictures = torch.from_numpy(np.concatenate([first.images, second.images])).permute(0, 3, 1, 2)
    y = torch.repeat_interleave(torch.tensor([0.0, 1.0]), torch.tensor([len(first), len(second)]))
    weights, which = balance(first, second), torch.from_numpy(_folds(first, second, folds))
    w = torch.from_numpy(weights / weights.mean()).float()
    generator = torch.Generator().manual_seed(0)
    scores = torch.zeros(len(y))
    for fold in range(folds):
        train, held = (torch.nonzero(some).flatten() for some in ((which != fold) & (w > 0), which == fold))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fold)  # of the first weights and of dropout
            model = _trained_cnn(pictures, y, w, train, epochs, generator, step, fold * epochs)
        with torch.no_grad():
            scores[held] = torch.cat([model(pictures[some].float() / 127.5 - 1).flatten() for some in held.split(64)])
    return _auc(first, second, scores.double().numpy(), weights)


def _trained_cnn(pictures: Any, y: Any, w: Any, train: Any, epochs: int, generator: Any,
                 step: Callable[[int], None] | None, before: int) -> Any:
    import torch
    from torch import nn

    model = _small_cnn()
    steps = epochs * (len(train) // 32 + 1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=steps)
    loss_of = nn.BCEWithLogitsLoss(reduction="none")
    for epoch in range(epochs):
        order = train[torch.randperm(len(train), generator=generator)]
        for some in order.tensor_split(len(train) // 32 + 1):
            batch = pictures[some].float() / 127.5 - 1
            if torch.rand((), generator=generator) < 0.5:
                batch = batch.flip(-1)
            if torch.rand((), generator=generator) < 0.5:
                batch = batch.flip(-2)
            optimiser.zero_grad()
            (loss_of(model(batch).flatten(), y[some]) * w[some]).mean().backward()
            optimiser.step()
            schedule.step()
        if step is not None:
            step(before + epoch + 1)
    return model.eval()


def _small_cnn() -> Any:
    from torch import nn

    def block(before: int, after: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]

    return nn.Sequential(*block(3, 16), *block(16, 32), *block(32, 64), *block(64, 64), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 1))


def _auc(first: Group, second: Group, scores: F64, weights: F64) -> Auc:
    y = np.repeat([0, 1], [len(first), len(second)])
    _, rank = np.unique(scores, return_inverse=True)
    value = _weighted_auc(rank, y, weights)
    rng = np.random.default_rng(0)
    own = together(first, second)
    parts = _parts(own, len(first), weights > 0)
    places: dict[str, list[int]] = {}
    for k in np.flatnonzero(weights > 0):  # a draw of others alone would have no AUC
        places.setdefault(own[k], []).append(int(k))
    members = [[np.array(places[name], np.int64) for name in sorted(names, key=lambda name: places[name][0])]
               for names in parts if names]
    drawn = []
    for _ in range(_BOOTSTRAP):
        take = np.concatenate([np.concatenate([part[k] for k in rng.integers(0, len(part), len(part))])
                               for part in members])
        drawn.append(_weighted_auc(rank[take], y[take], weights[take]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Auc(value, float(low), float(high), tuple(float(s) for s in scores))


def _weighted_auc(rank: NDArray[np.int64], y: NDArray[np.int64], weights: F64) -> float:
    """AUC with weights from dense ranks: the weight of pairs in order, ties by half."""
    low, high = (np.bincount(rank[y == k], weights[y == k], int(rank.max()) + 1) for k in (0, 1))
    return float((high * (np.cumsum(low) - 0.5 * low)).sum() / (low.sum() * high.sum()))


def giveaways(first: Group, second: Group) -> list[Giveaway]:
    """Every statistic, the most telling first."""
    names = list(first.statistics[0])
    x, z = first.table(names), second.table(names)
    weights = balance(first, second)
    found = []
    for k, name in enumerate(names):
        here, there = np.isfinite(x[:, k]), np.isfinite(z[:, k])
        w, v = weights[:len(first)][here], weights[len(first):][there]
        a, b = x[here, k], z[there, k]
        if w.sum() <= 0 or v.sum() <= 0 or (w > 0).sum() < 10 or (v > 0).sum() < 10:
            continue
        mean, other = float(np.average(a, weights=w)), float(np.average(b, weights=v))
        sd, other_sd = (float(np.sqrt(np.average((q - m) ** 2, weights=r)))
                        for q, m, r in ((a, mean, w), (b, other, v)))
        labels = np.repeat([0, 1], [len(a), len(b)])
        both = np.concatenate([w / w.sum(), v / v.sum()])
        _, rank = np.unique(np.concatenate([a, b]), return_inverse=True)
        auc = _weighted_auc(rank, labels, both)
        found.append(Giveaway(name, max(auc, 1 - auc), (other - mean) / max(sd, 1e-9), mean, sd, other, other_sd))
    return sorted(found, key=lambda g: (-round(g.auc, 3), -abs(g.effect)))


def distances(first: Group, second: Group) -> dict[str, float]:
    """Distances between distributions: L*a*b* of skin and lesion, and the mean radial spectrum.

    `skin.L.w1` ... Wasserstein-1 between the pictures' means, in units of L*a*b*; `skin.energy` the energy distance of
    the three together (square root of Szekely & Rizzo's statistic); `spectrum.L.rms_db` root mean square over the
    bands of the difference between mean log spectra, in dB.
    """
    from scipy.stats import wasserstein_distance

    weights = balance(first, second)
    found: dict[str, float] = {}
    for part in ("skin", "lesion"):
        names = [f"{part}.{c}.mean" for c in CHANNELS]
        x, z = first.table(names), second.table(names)
        here, there = np.isfinite(x).all(axis=1), np.isfinite(z).all(axis=1)
        w, v = weights[:len(first)] * here, weights[len(first):] * there
        if w.sum() <= 0 or v.sum() <= 0:
            continue
        for c, channel in enumerate(CHANNELS):
            found[f"{part}.{channel}.w1"] = float(wasserstein_distance(x[here, c], z[there, c], w[here], v[there]))
        found[f"{part}.energy"] = _energy(x[here], z[there], w[here], v[there])
    for channel in CHANNELS:
        names = [f"spectrum.{channel}.{k}" for k in range(SPECTRUM_BANDS)]
        x, z = first.table(names), second.table(names)
        difference = np.average(z, axis=0, weights=weights[len(first):]) - \
            np.average(x, axis=0, weights=weights[:len(first)])
        found[f"spectrum.{channel}.rms_db"] = float(10 * np.sqrt((difference**2).mean()))
    return found


def _energy(x: F64, z: F64, w: F64, v: F64) -> float:
    from scipy.spatial.distance import cdist

    w, v = w / w.sum(), v / v.sum()
    squared = 2 * w @ cdist(x, z) @ v - w @ cdist(x, x) @ w - v @ cdist(z, z) @ v
    return float(np.sqrt(max(float(squared), 0.0)))
