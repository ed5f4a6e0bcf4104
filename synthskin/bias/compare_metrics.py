"""KID, FID, precision and recall, and nearest neighbours between two sets of embedded pictures."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from synthskin.bias.errors import BiasError

LEAST_FOR_FID: Final = 2048  # below, the covariance of 2048 Inception features has no full rank, and FID is biased up
KID_SUBSETS: Final = 100
KID_SUBSET: Final = 100  # pictures; fewer where a set is smaller
KID_HALVES: Final = 200  # random halves of the real set
_HALF: Final = 1000  # pictures of a half at most: more take long and hardly narrow its range
_EQUAL: Final = 1e-5  # of the real pictures' usual distance: what rounding makes of none
_LIMIT: Final = 5.0  # standard deviations
NEAREST: Final = 3  # neighbours that span the manifold (Kynkaanniemi et al. 2019)


@dataclass(frozen=True, slots=True)
class Distances:
    """What embeddings say about two sets.

    kid, kid_sd        kernel distance (Binkowski 2018), mean and SD over subsets of `subset` pictures
    kid_null           mean kernel distance between random halves of the real set that part no group: what no
                       difference looks like; kid_null_low, kid_null_high: 95 % of the halves lie between
    fid                Frechet distance, or None with `fid_reason`
    precision          share of synthetic pictures inside the real set's manifold (k = 3)
    recall             share of real pictures inside the synthetic set's manifold
    copies             share of synthetic pictures as near to a real one as only 1 % of real ones are to another,
                       real ones of one group or of equal pixels left out
    """

    kid: float
    kid_sd: float
    kid_null: float
    kid_null_low: float
    kid_null_high: float
    subset: int
    fid: float | None
    fid_reason: str | None
    precision: float
    recall: float
    copies: float


class _Given(nn.Module):
    """Hands embeddings through torchmetrics, which asks for a network."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, x: Tensor) -> Tensor:
        return x


def standardised(real: Tensor, synthetic: Tensor) -> tuple[Tensor, Tensor]:
    """Both by the means and standard deviations of the real set, limited to 5 of them: KID takes a third power, and
    a few odd pictures would be all it sees."""
    mean, sd = real.mean(0), real.std(0).clamp_min(1e-6)
    first, second = (((x - mean) / sd).clamp(-_LIMIT, _LIMIT) for x in (real, synthetic))
    return first, second


def distances(real: Tensor, synthetic: Tensor, groups: Sequence[str] | None = None, seed: int = 0) -> Distances:
    """Of embeddings (n, d) and (m, d), at least 20 each; raises BiasError.

    groups   who or what each real picture (n) shares with others, as `alike.together` tells; None: nothing
    """
    if min(len(real), len(synthetic)) < 20:
        raise BiasError(f"{len(real)} and {len(synthetic)} pictures; at least 20 of each set are needed")
    _, own = np.unique(np.arange(len(real)) if groups is None else np.array(groups), return_inverse=True)
    if own.max() < 3:
        raise BiasError(f"the real pictures are of {own.max() + 1} group{'s' if own.max() else ''} (patients, "
                        "lesions); at least 4 are needed to see how far they lie from each other")
    subset = min(KID_SUBSET, len(real) // 2, len(synthetic))
    kid = _kid(real, synthetic, subset, seed)
    null = _between_halves(real.double().numpy(), own, seed)
    fid, reason = _fid(real, synthetic)
    precision, recall = precision_recall(real, synthetic)
    copies = float((_apart(synthetic, real).min(1).values <= _as_near(real, own)).float().mean())
    return Distances(*kid, *null, subset, fid, reason, precision, recall, copies)


def _between_halves(real: NDArray[np.float64], own: NDArray[np.int64], seed: int) -> tuple[float, float, float]:
    """(mean, percentiles 2.5 and 97.5) of the kernel distance between random halves; a group lies in one half."""
    rng = np.random.default_rng(seed)
    sizes = np.bincount(own)
    found = []
    for _ in range(KID_HALVES):
        order = rng.permutation(len(sizes))
        before = np.cumsum(sizes[order])[1:-2]
        cut = 2 + int(np.abs(before - len(real) / 2).argmin())  # two groups at least on either side
        halves = [np.flatnonzero(np.isin(own, part)) for part in (order[:cut], order[cut:])]
        found.append(kernel_distance(*(real[rng.permutation(half)[:_HALF]] for half in halves)))
    low, high = np.percentile(found, [2.5, 97.5])
    return float(np.mean(found)), float(low), float(high)


def kernel_distance(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Unbiased squared MMD of (n, d) and (m, d), kernel (x.y / d + 1)^3 (Binkowski 2018): KID of all pictures."""
    def kernel(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((a @ b.T / a.shape[1] + 1) ** 3)

    n, m = len(x), len(y)
    within = [(k.sum() - np.trace(k)) / (size * (size - 1)) for k, size in ((kernel(x, x), n), (kernel(y, y), m))]
    return float(within[0] + within[1] - 2 * kernel(x, y).mean())


def _as_near(real: Tensor, own: NDArray[np.int64]) -> float:
    """The distance that 1 % of real pictures are within of one of another group, and what rounding adds to it."""
    apart = _apart(real, real)
    label = torch.from_numpy(own)
    apart[label[:, None] == label[None]] = torch.inf
    nearest = apart.min(1).values
    return float(torch.quantile(nearest, 0.01) + _EQUAL * nearest.median())


def _kid(real: Tensor, synthetic: Tensor, subset: int, seed: int) -> tuple[float, float]:
    from torchmetrics.image.kid import KernelInceptionDistance

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)  # it says that it keeps all features, which is so here anyway
        torch.manual_seed(seed)
        metric = KernelInceptionDistance(feature=_Given(real.shape[1]), subsets=KID_SUBSETS, subset_size=subset)
        metric.update(real, real=True)
        metric.update(synthetic, real=False)
        mean, sd = metric.compute()
    return float(mean), float(sd)


def _fid(real: Tensor, synthetic: Tensor) -> tuple[float | None, str | None]:
    few = min(len(real), len(synthetic))
    if few < LEAST_FOR_FID:
        return None, (f"{few} pictures in the smaller set, {LEAST_FOR_FID} are needed: FID of fewer is biased upward "
                      "by an amount that depends on their number; read KID")
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_Given(real.shape[1]))
    metric.update(real, real=True)
    metric.update(synthetic, real=False)
    return float(metric.compute()), None


def precision_recall(real: Tensor, synthetic: Tensor, k: int = NEAREST) -> tuple[float, float]:
    """(precision, recall): shares inside balls around the other set's pictures that reach their k-th neighbour."""
    return _inside(synthetic, real, k), _inside(real, synthetic, k)


def _inside(points: Tensor, around: Tensor, k: int) -> float:
    radius = _apart(around, around).kthvalue(k + 1, dim=1).values  # the first is the picture itself
    return float((_apart(points, around) <= radius[None]).any(1).float().mean())


def _apart(points: Tensor, among: Tensor) -> Tensor:
    """Distances (n, m) without the shortcut through products, by which equal points are not at 0."""
    return torch.cdist(points, among, compute_mode="donot_use_mm_for_euclid_dist")


@dataclass(frozen=True, slots=True)
class Neighbours:
    """For every picture of a set, its nearest in the other: distance and position."""

    distance: NDArray[np.float64]
    position: NDArray[np.int64]

    def shown(self, each: int = 3) -> list[int]:
        """Pictures to look at: the nearest `each`, the middle `each`, the farthest `each`."""
        order = np.argsort(self.distance, kind="stable")
        middle = max(len(order) // 2 - each // 2, 0)
        picked = [*order[:each], *order[middle:middle + each], *order[-each:]]
        return [int(k) for k in dict.fromkeys(picked)]


def neighbours(points: Tensor, among: Tensor) -> Neighbours:
    distance, position = _apart(points, among).min(1)
    return Neighbours(distance.double().numpy(), position.numpy())
