"""What may change in a picture. Class: the dilated, feathered lesion. Tone: all skin. The rest stays bit for bit.

Hair, rulers, ink, stickers, glare and the black surround stay in both, wherever they lie: none of them may become a cue
of a class, and none of them has a skin tone. Gel bubbles and blur let the skin be seen, so they change with it. A set
that knows nothing of hair (photographs) has it found by synthskin.hooks.regions, simple image rules that miss some.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthskin.gan.domain import U8, Picture

#: Artefacts through which the skin is seen.
CLEAR: Final = ("blur", "gel_bubble")
_SOFT_PX: Final = 2.0  # width of the edge around hair and artefacts


@dataclass(frozen=True, slots=True)
class CompositeOptions:
    """Shares of the picture's side. margin: dilation of the lesion mask; feather: width of the soft edge beyond it."""

    margin: float = 0.04
    feather: float = 0.06

    def to_dict(self) -> dict[str, float]:
        return {"margin": self.margin, "feather": self.feather}


def standing(picture: Picture) -> NDArray[np.bool_]:
    """(s, s) pixels of hair, artefacts and surround: what stands between camera and skin."""
    import torch

    from synthskin.hooks import regions

    x = torch.from_numpy(np.array(picture.image)).permute(2, 0, 1)[None].float().div(255)
    found = regions.surround(x)[0, 0].numpy() > 0.5
    if picture.hair is not None:
        found |= picture.hair > 0
    elif picture.row["hair_file_name"] is None and picture.row["generator"] != "physics":
        small = regions.reduced(x)
        found |= regions.enlarged(regions.hair(small, regions.closed(small)), x)[0, 0].numpy() > 0.5
    for name, mask in picture.artefacts.items():
        if name not in CLEAR:
            found |= mask > 0
    return found


def may_change(picture: Picture, change: str, options: CompositeOptions) -> NDArray[np.float32]:
    """(s, s) weight of the translated picture, 0 to 1; exactly 0 where the source has to stay."""
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
    stays = standing(picture)
    if stays.any():
        weight = weight * np.clip(distance_transform_edt(~stays) / _SOFT_PX, 0.0, 1.0).astype(np.float32)
    weight[stays] = 0.0
    return weight


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
    encoded = image[where].astype(np.float64) / 255.0
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4).mean(0)
    mean = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(rgb2lab(mean[None, None])[0, 0], np.float64)
