"""KID, FID, precision and recall, and nearest neighbours between two sets of embedded pictures."""

from __future__ import annotations

import warnings
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
_LIMIT: Final = 5.0  # standard deviations
NEAREST: Final = 3  # neighbours that span the manifold (Kynkaanniemi et al. 2019)


@dataclass(frozen=True, slots=True)
class Distances:
    """What embeddings say about two sets.

    kid, kid_sd        kernel distance (Binkowski 2018), mean and SD over subsets of `subset` pictures
    kid_null           the same between two random halves of the real set: what no difference looks like
    fid                Frechet distance, or None with `fid_reason`
    precision          share of synthetic pictures inside the real set's manifold (k = 3)
    recall             share of real pictures inside the synthetic set's manifold
    copies             share of synthetic pictures nearer to a real one than 99 % of real ones are to each other
    """

    kid: float
    kid_sd: float
    kid_null: float
    kid_null_sd: float
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


def distances(real: Tensor, synthetic: Tensor, seed: int = 0) -> Distances:
    """Of embeddings (n, d) and (m, d), at least 20 each; raises BiasError."""
    if min(len(real), len(synthetic)) < 20:
        raise BiasError(f"{len(real)} and {len(synthetic)} pictures; at least 20 of each set are needed")
    generator = torch.Generator().manual_seed(seed)
    subset = min(KID_SUBSET, len(real) // 2, len(synthetic))
    order = torch.randperm(len(real), generator=generator)
    kid = _kid(real, synthetic, subset, seed)
    null = _kid(real[order[: len(real) // 2]], real[order[len(real) // 2:]], subset, seed)
    fid, reason = _fid(real, synthetic)
    precision, recall = precision_recall(real, synthetic)
    own = _nearest(real, real, itself=True)[0]
    copies = float((_nearest(synthetic, real)[0] < torch.quantile(own, 0.01)).float().mean())
    return Distances(*kid, *null, subset, fid, reason, precision, recall, copies)


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
    own = torch.cdist(around, around)
    radius = own.kthvalue(k + 1, dim=1).values  # the first is the picture itself
    return float((torch.cdist(points, around) <= radius[None]).any(1).float().mean())


def _nearest(points: Tensor, among: Tensor, itself: bool = False) -> tuple[Tensor, Tensor]:
    apart = torch.cdist(points, among)
    if itself:
        apart.fill_diagonal_(torch.inf)
    return apart.min(1).values, apart.min(1).indices


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
    distance, position = _nearest(points, among)
    return Neighbours(distance.double().numpy(), position.numpy())
