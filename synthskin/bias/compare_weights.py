"""Which pictures of two sets bear weight: those of the diagnoses that both have, if they have any in common.

A set of melanomas is told from one of nevi whatever made them. So the two-sample tests, what gives a set away and the
distances weigh pictures to one mix of kinds (diagnoses), that of the first set; a kind that only one set has weighs 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from synthskin.bias.errors import BiasError

F64 = NDArray[np.float64]
Pair = tuple[int, int]

LEAST: Final = 20  # pictures of each set that bear weight
GROUPS_A_FOLD: Final = 2  # of each set; folds are not learnt from, nor intervals drawn, of fewer


def weights_of(first: Sequence[str], second: Sequence[str]) -> F64:
    """Weights (n first + n second) of kinds with which both sets weigh 1 and have the first's mix of shared kinds."""
    count = [Counter(first), Counter(second)]
    shared = set(count[0]) & set(count[1])
    weights: list[float] = []
    for own, kinds in zip(count, (first, second), strict=True):
        if not shared or shared == {""}:
            weights += [1.0 / len(kinds)] * len(kinds)
            continue
        mix = {kind: count[0][kind] / sum(count[0][k] for k in shared) for kind in shared}
        weights += [mix[kind] / own[kind] if kind in shared else 0.0 for kind in kinds]
    return np.array(weights, np.float64)


@dataclass(frozen=True, slots=True)
class Weighting:
    """What was weighted, as pairs of the first and the second set.

    kinds      diagnoses that both have, "" for unknown ones; () where nothing is weighted
    known      does either set have a diagnosis at all?
    pictures   in all        bearing   those that bear weight        groups   of those that bear weight
    like       pictures of equal weight that would be as sure: (sum w)^2 / sum w^2 (Kish 1965)
    """

    kinds: tuple[str, ...]
    known: bool
    pictures: Pair
    bearing: Pair
    groups: Pair
    like: tuple[float, float]

    @property
    def partial(self) -> bool:
        """Do some pictures bear no weight?"""
        return self.bearing != self.pictures

    @property
    def wants_words(self) -> bool:
        """Is it other than whoever asks for a comparison expects?"""
        return self.partial or (self.known and not self.kinds) or any(self.uneven)

    @property
    def uneven(self) -> tuple[bool, bool]:
        """Does a set's weight lie on so few of its pictures that less than half would tell as much?"""
        return self.like[0] < self.bearing[0] / 2, self.like[1] < self.bearing[1] / 2

    def to_dict(self) -> dict[str, object]:
        return {"kinds": [kind or "unknown" for kind in self.kinds], "pictures": list(self.pictures),
                "bearing": list(self.bearing), "groups": list(self.groups), "like": [round(n, 1) for n in self.like]}


def weighting_of(first: Sequence[str], second: Sequence[str], names: Sequence[str]) -> Weighting:
    """Of the kinds of both sets; `names` tells what each picture belongs to, first set first."""
    weights = weights_of(first, second)
    shared = set(first) & set(second)
    sides = (slice(0, len(first)), slice(len(first), None))
    own = [weights[side] for side in sides]
    groups = [len({name for name, w in zip(names[side], weights[side], strict=True) if w > 0}) for side in sides]
    return Weighting(
        () if shared <= {""} else tuple(sorted(shared)), any(first) or any(second), (len(first), len(second)),
        (int((own[0] > 0).sum()), int((own[1] > 0).sum())), (groups[0], groups[1]),
        (float(own[0].sum() ** 2 / (own[0] ** 2).sum()), float(own[1].sum() ** 2 / (own[1] ** 2).sum())))


def check_pictures(found: Weighting, names: tuple[str, str]) -> None:
    """Raise BiasError where fewer than LEAST pictures of a set bear weight."""
    for name, n, of in zip(names, found.bearing, found.pictures, strict=True):
        if n < LEAST:
            raise BiasError(f"{name}: {n} of its {of} pictures {'is' if n == 1 else 'are'} of a diagnosis that both "
                            f"sets have ({_listed(found.kinds)}); at least {LEAST} are needed. Give sets that share "
                            "more, or plain folders of their pictures, which are compared unweighted")


def check_groups(found: Weighting, names: tuple[str, str], folds: int) -> None:
    """Raise BiasError where too few groups bear weight to learn from some and be tested on others."""
    least = GROUPS_A_FOLD * folds
    for name, n in zip(names, found.groups, strict=True):
        if n < least:
            what = "its pictures of a diagnosis that both sets have" if found.partial else "its pictures"
            raise BiasError(f"{name}: {what} are of {n} group{'' if n == 1 else 's'} (one group_id, patient or lesion, "
                            f"or equal pixels); at least {least} are needed for {folds} folds that part none")


def weight_words(found: Weighting, real: str, synthetic: str) -> str:
    """What was weighted, and how many pictures bear weight."""
    if not found.kinds:
        if not found.known:
            return "No diagnosis is known in either set, so nothing is weighted."
        return ("The sets have no known diagnosis in common, so nothing is weighted: that their diagnoses differ is "
                "part of all that is found.")
    names = real, synthetic
    words = f"Both sets are weighted to the mix of diagnoses of {real} ({_listed(found.kinds)})"
    if found.partial:
        both = " and ".join(f"{n} of the {of} pictures of {name}" for n, of, name
                            in zip(found.bearing, found.pictures, names, strict=True))
        words += f", of those that both have: {both} bear weight, the others none"
    few = [f"the pictures of {name} tell no more than {n:.0f} of equal weight would"
           for n, name, uneven in zip(found.like, names, found.uneven, strict=True) if uneven]
    return f"{'; '.join([words, *few])}."


def _listed(kinds: Sequence[str]) -> str:
    return ", ".join(kind or "unknown" for kind in kinds)
