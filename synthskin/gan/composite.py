"""What may change in a picture. Class: the dilated, feathered lesion. Tone: all skin. The rest stays bit for bit.

Hair, rulers, ink, stickers, glare and the black surround stay in both, wherever they lie: none of them may become a cue
of a class, and none of them has a skin tone. Gel bubbles and blur let the skin be seen, so they change with it. A hair
is thinner than most pixels: where the tone changes, what it takes of the old skin's light is taken of the new one's. A
set that knows nothing of hair (photographs) has it found by synthskin.hooks.regions, simple image rules that miss some.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthskin.gan.domain import U8, Picture

#: Artefacts through which the skin is seen.
CLEAR: Final = ("blur", "gel_bubble")
#: Shortest diagonal of a hair's box, share of the picture's side, where hair is found by rule.
STRAND: Final = 0.12
_SOFT_PX: Final = 2.0  # width of the edge around hair and artefacts


@dataclass(frozen=True, slots=True)
class CompositeOptions:
    """Shares of the picture's side. margin: dilation of the lesion mask; feather: width of the soft edge beyond it."""

    margin: float = 0.04
    feather: float = 0.06

    def to_dict(self) -> dict[str, float]:
        return {"margin": self.margin, "feather": self.feather}


def hair_of(picture: Picture) -> NDArray[np.bool_]:
    """(s, s) pixels that a hair crosses: the set's, or found."""
    if picture.hair is not None:
        return np.asarray(picture.hair > 0)
    if picture.row["hair_file_name"] is not None or picture.row["generator"] == "physics":
        return np.zeros(picture.image.shape[:2], np.bool_)
    from synthskin.hooks import regions

    x = _tensor(picture)
    small = regions.reduced(x)
    return _strands(regions.enlarged(regions.hair(small, regions.closed(small)), x)[0, 0].numpy() > 0.5)


def _strands(found: NDArray[Any]) -> NDArray[np.bool_]:
    """What is long enough for a hair: a dark globule is none, and kept it would lie in the new lesion."""
    from skimage.measure import label, regionprops

    pieces = label(found, connectivity=2)
    long = [piece.label for piece in regionprops(pieces)
            if np.hypot(piece.bbox[2] - piece.bbox[0], piece.bbox[3] - piece.bbox[1]) >= STRAND * found.shape[0]]
    return np.asarray(np.isin(pieces, long))


def standing(picture: Picture, hair: bool = True) -> NDArray[np.bool_]:
    """(s, s) pixels of hair (unless that is left out), artefacts and surround: what stands between camera and skin."""
    from synthskin.hooks import regions

    found = regions.surround(_tensor(picture))[0, 0].numpy() > 0.5
    if hair:
        found |= hair_of(picture)
    for name, mask in picture.artefacts.items():
        if name not in CLEAR:
            found |= mask > 0
    return np.asarray(found)


def under_hair(picture: Picture, translated: U8) -> U8:
    """The translated picture with the source's hair over its skin, not over the source's.

    Skin under a hair is that of the nearest pixel without one, before and after; what the hair leaves of the old skin's
    linear light it leaves of the new one's. Where nothing is darker than the skin beside it, the translation stands.
    """
    from scipy.ndimage import binary_dilation, distance_transform_edt

    near = binary_dilation(hair_of(picture), iterations=1)
    if not near.any() or near.all():
        return translated
    rows, columns = distance_transform_edt(near, return_distances=False, return_indices=True)
    at = rows[near], columns[near]
    seen, old, new = (_linear(image) for image in (picture.image[near], picture.image[at], translated[at]))
    left = seen / np.maximum(old, 1e-3)
    covered = np.rint(255 * _encoded(np.minimum(left, 1) * new))
    made = translated.copy()
    made[near] = np.where(left.mean(-1, keepdims=True) < 1, covered, translated[near]).astype(np.uint8)
    return made


def may_change(picture: Picture, change: str, options: CompositeOptions) -> NDArray[np.float32]:
    """(s, s) weight of the translated picture, 0 to 1; exactly 0 where the source has to stay.

    Where the tone changes, hair is not among that: see `under_hair`.
    """
    from scipy.ndimage import distance_transform_edt

    size = picture.image.shape[0]
    weight = np.ones((size, size), np.float32)
    if change == "class":
        assert picture.mask is not None
        if not picture.mask.any():
            return np.zeros((size, size), np.float32)
        away = distance_transform_edt(picture.mask == 0)
        beyond = (away - options.margin * size) / max(options.feather * size, 1e-6)
        weight = (0.5 + 0.5 * np.cos(np.pi * np.clip(beyond, 0.0, 1.0))).astype(np.float32)
    stays = standing(picture, hair=change == "class")
    if stays.any():
        weight = weight * np.clip(distance_transform_edt(~stays) / _SOFT_PX, 0.0, 1.0).astype(np.float32)
    weight[stays] = 0.0
    return weight


def in_its_light(picture: Picture, translated: U8, weight: NDArray[np.float32]) -> U8:
    """The translated picture in its source's light: the skin around the lesion keeps its mean colour.

    A generator moves the colour of all skin towards the target's. Left in, that is a halo around the lesion and tells
    the class: it is taken back, a factor for each channel of linear light. Where the source has too little skin around
    the lesion to say, the translation stands.
    """
    assert picture.mask is not None
    ring = (weight > 0) & (picture.mask == 0)
    if ring.sum() < 20:
        return translated
    old, new = (_linear(image[ring]).mean(0) for image in (picture.image, translated))
    factor = np.clip(old / np.maximum(new, 1e-3), 0.4, 2.5)
    return np.rint(255 * _encoded(np.minimum(_linear(translated) * factor, 1))).astype(np.uint8)


def composite(source: U8, translated: U8, weight: NDArray[np.float32]) -> U8:
    """The translated picture over the source; bytes of the source where the weight is 0."""
    mixed = source + weight[..., None] * (translated.astype(np.float32) - source)
    return np.where(weight[..., None] > 0, np.rint(mixed), source).astype(np.uint8)


def measured(image: U8, picture: Picture) -> dict[str, Any]:
    """{ita_image_deg, contrast} of a finished picture: mean colours of free skin and lesion; None where too little."""
    from scipy.ndimage import binary_dilation
    from skimage.color import deltaE_ciede2000, rgb2lab

    stays = binary_dilation(standing(picture), iterations=1)
    lesion = np.zeros(image.shape[:2], np.bool_) if picture.mask is None else picture.mask > 0
    free = ~binary_dilation(lesion, iterations=max(2, image.shape[0] // 32)) & ~stays
    if free.sum() < max(50, 0.01 * free.size):
        return {"ita_image_deg": None, "contrast": None}
    skin = _mean_lab(image, free, rgb2lab)
    ita = float(np.degrees(np.arctan2(skin[0] - 50.0, skin[2])))
    inside = lesion & ~stays
    contrast = float(deltaE_ciede2000(_mean_lab(image, inside, rgb2lab), skin)) if inside.sum() >= 20 else None
    return {"ita_image_deg": round(ita, 4), "contrast": None if contrast is None else round(contrast, 4)}


def _mean_lab(image: U8, where: NDArray[np.bool_], rgb2lab: Any) -> NDArray[np.float64]:
    """L*a*b* of the mean linear colour under `where`."""
    return np.asarray(rgb2lab(_encoded(_linear(image[where]).mean(0))[None, None])[0, 0], np.float64)


def _tensor(picture: Picture) -> Any:
    import torch

    return torch.from_numpy(np.array(picture.image)).permute(2, 0, 1)[None].float().div(255)


def _linear(image: NDArray[Any]) -> NDArray[np.float64]:
    """Linear light 0..1 of 8-bit sRGB."""
    encoded = image.astype(np.float64) / 255.0
    return np.asarray(np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4))


def _encoded(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))
