"""Distance of translated pictures from the true counterfactual, which only a renderer can give: CIEDE2000 by region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthskin.gan.domain import U8, Domain, Picture


@dataclass(frozen=True, slots=True)
class Truth:
    """Mean CIEDE2000 over pictures of the mean over lesion pixels, and over skin (no lesion, hair, artefacts)."""

    lesion: float
    skin: float
    pictures: int


def ciede2000(a: U8, b: U8) -> NDArray[np.float64]:
    """(h, w) colour differences of two sRGB pictures (h, w, 3) (Sharma et al. 2005, as in scikit-image)."""
    from skimage.color import deltaE_ciede2000, rgb2lab

    return np.asarray(deltaE_ciede2000(rgb2lab(a), rgb2lab(b)), np.float64)


def regions(picture: Picture) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Lesion and free skin of a sample that has a mask."""
    assert picture.mask is not None
    lesion = picture.mask > 0
    covered = np.zeros_like(lesion) if picture.hair is None else picture.hair > 0
    for name, mask in picture.artefacts.items():
        if name != "blur":
            covered = covered | (mask > 0)
    return lesion & ~covered, ~lesion & ~covered


def against_truth(translated: Sequence[U8], truth: Sequence[Picture]) -> Truth:
    """Distances of pictures from their counterfactuals, in the same order; a region without pixels is left out."""
    found: dict[str, list[float]] = {"lesion": [], "skin": []}
    for made, true in zip(translated, truth, strict=True):
        difference = ciede2000(made, true.image)
        for name, region in zip(("lesion", "skin"), regions(true), strict=True):
            if region.any():
                found[name].append(float(difference[region].mean()))
    return Truth(float(np.mean(found["lesion"])), float(np.mean(found["skin"])), len(truth))


def pairs(domain: Domain, tones: tuple[str, str]) -> list[tuple[int, int]]:
    """Positions (source, target) of siblings in a set of `synthskin counterfactual --tones a,b`.

    Sample g * k + v of such a set is sibling v of lesion g (docs/variation.md); siblings share their group_id.
    """
    by_group: dict[Any, dict[int, int]] = {}
    for position, row in enumerate(domain.rows):
        by_group.setdefault(row["group_id"], {})[row["index"] % len(tones)] = position
    return [(found[0], found[1]) for _, found in sorted(by_group.items()) if len(found) == 2]
