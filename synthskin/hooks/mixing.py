"""MixedDataset: real and synthetic samples in a stated ratio, balanced, with a schedule over the epochs.

    mixed = MixedDataset(real, synthetic, ratio=Linear(0.8, 0.2, epochs=30), balance="diagnosis")
    sampler = mixed.sampler(seed=0)
    loader = DataLoader(mixed, batch_size=16, sampler=sampler, collate_fn=collate, num_workers=4)
    for epoch in range(30):
        sampler.set_epoch(epoch)
        for batch in loader: ...
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset, IterableDataset, Sampler, Subset

from synthskin.hooks.shards import rank_and_world

BALANCES: Final = ("diagnosis", "ita_class")
Ratio = float | Sequence[float] | Callable[[int], float]


@dataclass(frozen=True, slots=True)
class Linear:
    """Ratio that goes from `first` (epoch 0) to `last` (epoch `epochs` - 1 and later) in equal steps."""

    first: float
    last: float
    epochs: int

    def __post_init__(self) -> None:
        for name, value in (("first", self.first), ("last", self.last)):
            if not _is_share(value):
                raise ValueError(f"Linear {name}={value!r}: a share of synthetic samples from 0 to 1 is needed")
        epochs: Any = self.epochs
        if isinstance(epochs, bool) or not isinstance(epochs, Integral) or int(epochs) < 1:
            raise ValueError(f"Linear epochs={self.epochs!r}: a whole number of 1 or more is needed")

    def __call__(self, epoch: int) -> float:
        share = min(epoch / max(self.epochs - 1, 1), 1.0)
        return self.first + (self.last - self.first) * share


class MixedDataset(Dataset[dict[str, Any]]):
    """Positions 0 ... len(real) - 1 are real, the rest synthetic; `sampler` decides how often each comes.

    real, synthetic   map-style data sets (SkinDataset, or any whose samples have meta_json; then each is read once)
    ratio             share of synthetic samples in an epoch, 0 to 1: a number, one number an epoch (the last stays), or
                      a function of the epoch such as Linear
    balance           None: each sample of a source comes equally often. "diagnosis" or "ita_class": the values of that
                      key come equally often over both sources together, as far as the ratio allows; null is a value,
                      but not the only one of a source

    Samples get the key `source`: "real" or "synthetic". Raises ValueError on settings that cannot be, and where the
    labels of the two (`label`, `classes`, also of what a Subset holds) differ.
    """

    def __init__(self, real: Any, synthetic: Any, ratio: Ratio = 0.5, balance: str | None = None) -> None:
        if balance is not None and balance not in BALANCES:
            raise ValueError(f"balance={balance!r}: allowed are {', '.join(BALANCES)} and None")
        for name, source in (("real", real), ("synthetic", synthetic)):
            if not _is_map_style(source):
                raise ValueError(f"{name}={source!r:.80}: a data set with a length and samples by position is needed, "
                                 "such as SkinDataset(directory)")
        if not callable(ratio) and not isinstance(ratio, Real) and not _is_list(ratio):
            raise ValueError(f"ratio={ratio!r:.80}: a number from 0 to 1, a list of one an epoch, or a function of the "
                             "epoch such as Linear is needed")
        labels = [_labels(source) for source in (real, synthetic)]
        if None not in labels and labels[0] != labels[1]:
            told = [f"{key}={classes!r:.300}" for key, classes in filter(None, labels)]
            raise ValueError(f"labels mean different things: real has {told[0]}, synthetic {told[1]}; give both the "
                             "same label and classes")
        self.real, self.synthetic, self.ratio, self.balance = real, synthetic, ratio, balance
        epochs: Any = ratio if _is_list(ratio) else (ratio,)
        for epoch in range(len(epochs)):
            self.ratio_at(epoch)
        self.groups = [None] * len(self) if balance is None else [
            *_values(real, balance, "real"), *_values(synthetic, balance, "synthetic")]

    def __len__(self) -> int:
        return len(self.real) + len(self.synthetic)

    def __getitem__(self, position: int) -> dict[str, Any]:
        split = len(self.real)
        is_real = position < split
        sample = self.real[position] if is_real else self.synthetic[position - split]
        return {**sample, "source": "real" if is_real else "synthetic"}

    def ratio_at(self, epoch: int) -> float:
        """Share of synthetic samples in an epoch; raises ValueError unless it is one, and both sources have samples."""
        ratio: Any = self.ratio
        if callable(ratio):
            value = ratio(epoch)
        else:
            value = ratio if isinstance(ratio, Real) else ratio[min(epoch, len(ratio) - 1)]
        if not _is_share(value):
            raise ValueError(f"ratio={value!r:.80} in epoch {epoch}: a share of synthetic samples from 0 to 1 is "
                             "needed")
        for share, source, name in ((value, self.synthetic, "synthetic"), (1 - value, self.real, "real")):
            if share > 0 and len(source) == 0:
                raise ValueError(f"ratio={value} in epoch {epoch}: the {name} data set is empty")
        return float(value)

    def sampler(self, samples: int | None = None, seed: int = 0, rank: int | None = None,
                world: int | None = None) -> MixedSampler:
        """Sampler of `samples` an epoch (all ranks together; by default as many as there are)."""
        return MixedSampler(self, samples, seed, rank, world)


class MixedSampler(Sampler[int]):
    """Positions of one epoch for one rank: exact counts of each source and group, seeded, without repeats until a group
    is used up. Every rank gets equally many; `set_epoch` moves ratio and order on, as with DistributedSampler."""

    def __init__(self, data: MixedDataset, samples: int | None = None, seed: int = 0, rank: int | None = None,
                 world: int | None = None) -> None:
        found_rank, found_world = rank_and_world()
        self.rank = found_rank if rank is None else rank
        self.world = found_world if world is None else world
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank {self.rank} of {self.world}: 0 to {self.world - 1} is needed")
        wanted = len(data) if samples is None else samples
        if wanted < 1:
            raise ValueError(f"samples={wanted}: at least 1 is needed")
        self.data, self.seed, self.epoch = data, seed, 0
        self.total = -(-wanted // self.world) * self.world
        keys = np.array([str(value) for value in data.groups])
        self.keys, codes = np.unique(keys, return_inverse=True)
        split = np.arange(len(data)) < len(data.real)
        self.members = [[np.flatnonzero(source & (codes == g)) for g in range(len(self.keys))]
                        for source in (split, ~split)]

    def __len__(self) -> int:
        return self.total // self.world

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(self.positions()[self.rank :: self.world].tolist())

    def positions(self) -> NDArray[np.int64]:
        """All ranks' positions of this epoch in their order."""
        data, total = self.data, self.total
        synthetic = round(data.ratio_at(self.epoch) * total)
        there = np.array([[len(group) for group in source] for source in self.members], np.float64)
        counts = quotas((total - synthetic, synthetic), there, data.balance is not None)
        chosen = [self._take(group, int(counts[s, g]), s, g) for s in (0, 1) for g, group in enumerate(self.members[s])]
        order = np.concatenate(chosen)
        return order[np.random.default_rng([self.seed, self.epoch, 1]).permutation(len(order))]

    def _take(self, group: NDArray[np.int64], count: int, source: int, number: int) -> NDArray[np.int64]:
        """`count` members: whole passes in shuffled order, the last one cut."""
        if count == 0:
            return np.zeros(0, np.int64)
        rng = np.random.default_rng([self.seed, self.epoch, 2, source, number])
        passes = [rng.permutation(group) for _ in range(-(-count // len(group)))]
        return np.concatenate(passes)[:count].astype(np.int64)


def quotas(sources: tuple[int, int], there: NDArray[np.float64], balanced: bool) -> NDArray[np.int64]:
    """Whole numbers (2, groups) that sum to `sources` over groups.

    Unbalanced: in proportion to `there`. Balanced: columns as equal as the rows allow (iterative proportional fitting
    on the cells that have samples), rows exact.
    """
    share = there.copy()
    rows = np.array(sources, np.float64)
    if balanced:
        share = (there > 0).astype(np.float64)
        columns = np.where(share[rows > 0].any(0), 1.0, 0.0)
        columns *= rows.sum() / max(columns.sum(), 1.0)
        for _ in range(200):
            total = (share * (rows > 0)[:, None]).sum(0)
            share *= np.where(total > 0, columns / np.where(total > 0, total, 1.0), 1.0)
            total = share.sum(1)
            share *= (rows / np.where(total > 0, total, 1.0))[:, None]
    counts = np.zeros(there.shape, np.int64)
    for s, wanted in enumerate(sources):
        total = share[s].sum()
        if wanted == 0 or total == 0:
            continue
        exact = share[s] / total * wanted
        counts[s] = np.floor(exact)
        rest = np.argsort(-(exact - counts[s]), kind="stable")[: wanted - counts[s].sum()]
        counts[s][rest] += 1
    return counts


def _is_share(value: Any) -> bool:
    try:
        return not isinstance(value, (bool, str)) and 0 <= float(value) <= 1
    except (TypeError, ValueError):
        return False


def _is_list(ratio: Any) -> bool:
    """One ratio an epoch, at least one."""
    return _is_map_style(ratio) and len(ratio) > 0


def _is_map_style(source: Any) -> bool:
    if isinstance(source, (str, bytes, Mapping, IterableDataset)):
        return False
    return hasattr(source, "__getitem__") and hasattr(source, "__len__")


def _labels(source: Any) -> tuple[str, list[Any]] | None:
    """(label, classes) of a SkinDataset, also inside Subsets; None of anything else."""
    while isinstance(source, Subset):
        source = source.dataset
    key, classes = getattr(source, "label", None), getattr(source, "classes", None)
    return (key, list(classes)) if isinstance(key, str) and isinstance(classes, (list, tuple)) else None


def _values(source: Any, key: str, name: str) -> list[Any]:
    """The key of every sample; raises ValueError where none has one, as ITA of imported photographs."""
    rows = getattr(source, "rows", None)
    if rows is not None and len(rows) == len(source):
        found = [row[key] for row in rows]
    else:
        found = [json.loads(source[i]["meta_json"]).get(key) for i in range(len(source))]
    if found and all(value is None for value in found):
        other = next(own for own in BALANCES if own != key)
        why = "; imports measure none" if key == "ita_class" else ""
        raise ValueError(f"balance={key!r}: none of the {len(found)} samples of {name} has a value of it{why}; balance "
                         f"by {other!r} or None, or write the values into its rows (docs/hooks.md)")
    return found
