"""Skin tone of a photograph: ITA of the healthy skin, its spread, and the contrast of a lesion; or "cannot say", why.

1. Healthy skin: what is left without lesion, hair, black surround, over-exposed pixels and whatever differs from the
   rest by far more than skin varies (ruler, ink, gel bubbles).
2. Uneven light: skin is taken to be of one tone, so that a smooth fall of its luminance from the middle of the picture
   to the corners is the lamp's and the lens's; the colour is referred to the middle, where the exposure is set.
3. ITA = atan2(L* - 50, b*) in CIE L*a*b* under D65, 2 degrees (Chardon et al. 1991), of the median skin colour;
   atan2 because atan is wrong by 180 degrees for b* < 0 and undefined at 0.

A camera is undone only where it is known (`camera`). Else white balance, tone curve and exposure change the ITA of the
picture, and with them this number (docs/tone.md has the errors by camera profile). ITA is a colour, not a Fitzpatrick
type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthskin.bias.errors import BiasError
from synthskin.conventions import DERMOSCOPIC_TYPES, ita_class

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]

LUMINANCE: Final = (0.2126729, 0.7151522, 0.0721750)  # IEC 61966-2-1
WCAG: Final = ("linear", "encoded")  # ways to take the contrast ratio
LEAST_SIDE_PX: Final = 32
LEAST_SKIN_PX: Final = 60
LEAST_SKIN: Final = 0.01  # share of the picture
CLIPPED: Final = 252  # 8-bit level from which a channel may be clipped
MOST_CLIPPED: Final = 0.25  # share of the skin with a clipped channel
LEAST_B: Final = 1.0  # b* of skin; under it the picture has a cast, or there is no skin
LEAST_RADIUS: Final = 3.0  # distance of (b*, L* - 50) from (0, 0), about which the angle turns
DARKEST_L: Final = 6.0
_OUTLIER_SIGMAS: Final = 4.0
_MOST_FALL: Final = 1.0  # each term of ln luminance from the middle to the corner that is taken for uneven light
_USUAL_FALL: Final = (-0.1, -0.1)  # of each term; by design, about what dermatoscopes lose
_FALL_SPREAD: Final = 0.1  # standard deviation of that
_PATCHES: Final = 50  # of skin in a picture whose melanin and blood differ from each other's

#: What a contact dermatoscope does to the colour of skin, against the reflectance by which ITA is defined (crossed
#: polarisers also reject light that has scattered little; gel and glass add glare; blood lies in vessels). Taken off:
#: L* by c0 + c1 t + c2 t^2 + c3 (a* - 10) / 5 with t = (L* - 50) / 20, b* by c4, for each `dermoscopic_type`. They are
#: fitted by benchmarks/tone_tool.py calibrate to 360 renders of the model as it is (60 a class, seed 1).
OPTICS: Final[dict[str | None, tuple[float, ...]]] = {
    "contact polarized": (-0.796, 2.008, 1.139, 0.136, 2.060),
    "contact non-polarized": (1.072, 1.566, -0.278, 0.297, 0.791),
}

#: Finds a lesion: picture (h, w, 3) to (mask (h, w), confidence 0..1).
Finder = Callable[[U8], tuple[Mask, float]]

#: Undoes a camera: picture (h, w, 3), 8-bit, to linear light over that of a white tile.
Camera = Callable[[U8], F64]


class MissingToolError(BiasError):
    """What would find the lesion or the hair is not installed."""


@dataclass(frozen=True, slots=True)
class Tone:
    """What was measured. Everything but `confidence` and `skin_fraction` may be None; `reason` then says why.

    ita_deg           individual typology angle of the healthy skin, degrees
    ita_class         1 (very light) to 6 (dark) (Chardon 1991, Del Bino 2013)
    spread_deg        half the distance between the 16th and 84th percentile of the skin's ITA over the picture
    contrast_delta_e  CIEDE2000 between mean lesion and mean skin; None without a lesion
    contrast_wcag     (lighter + 0.05) / (darker + 0.05) of their relative luminances, 1 to 21 (WCAG 2.1)
    confidence        0 to 1, 0 with a reason; how much skin, how even, how sure the lesion mask (docs/tone.md)
    reason            None, or why the tone cannot be said
    skin_fraction     share of the picture that was measured
    """

    ita_deg: float | None
    ita_class: int | None
    spread_deg: float | None
    contrast_delta_e: float | None
    contrast_wcag: float | None
    confidence: float
    reason: str | None
    skin_fraction: float

    def to_dict(self) -> dict[str, Any]:
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}


def measure_tone(
    image: U8, mask: NDArray[Any] | None = None, hair: NDArray[Any] | None = None, *,
    find_lesion: Finder | None = None, optics: str | None = None, camera: Camera | None = None, wcag: str = "linear",
) -> Tone:
    """Tone of a picture (h, w, 3), 8-bit sRGB.

    mask         lesion (h, w), not 0 inside; None: `find_lesion`, by default the segmenter that ships (needs torch)
    hair         hair (h, w); None: found by a rule for thin dark strands (needs torch)
    find_lesion  replaces the segmenter
    optics       one of conventions.DERMOSCOPIC_TYPES: takes off what a contact dermatoscope does to the skin's
                 lightness (`OPTICS`); None: a photograph, or unknown; nothing is taken off
    camera       where the camera is known: gives the linear light (h, w, 3) over a white tile's of its picture
                 (`physics.devices.undevelop`); the contrast stays that of the picture. None: sRGB, exposed by a tile
    wcag         `linear`: relative luminance as WCAG defines it, of linearised channels; `encoded`: the same weights on
                 the encoded channels, without linearisation, as the published DDI-CoCo scores are to be read

    Raises BiasError on arrays of another form.
    """
    _check(image, mask, hair, optics, wcag)
    sure = 1.0
    if mask is None:
        lesion, sure = (find_lesion or segmented)(image)
    else:
        lesion = np.asarray(mask) > 0
    strands = found_hair(image) if hair is None else np.asarray(hair) > 0
    skin, clipped, away = healthy_skin(image, lesion, strands)
    fraction = float(skin.mean())
    if skin.sum() < max(LEAST_SKIN_PX, LEAST_SKIN * skin.size):
        why = "over-exposed" if clipped > 0.5 else "too little healthy skin"
        return _cannot(f"{why}: {100 * fraction:.1f} % of the picture, {100 * LEAST_SKIN:g} % are needed", fraction)
    if clipped > MOST_CLIPPED:
        return _cannot(f"over-exposed: {100 * clipped:.0f} % of the skin is clipped", fraction)
    linear = _evenly_lit(_decode(image), skin)
    lab = _lab(_encode(linear if camera is None else _evenly_lit(camera(image), skin)))
    colour = _skin_colour(lab, skin)
    problem = _problem(colour)
    if problem is not None:
        return _cannot(problem, fraction)
    seen = colour if optics not in OPTICS else reflectance_colour(colour, OPTICS[optics])
    ita = math.degrees(math.atan2(seen[0] - 50.0, seen[2]))
    spread = _spread_deg(lab, skin)
    delta_e, ratio = _contrast(image, linear, lesion & ~_grown(strands, 1), skin, wcag)
    return Tone(ita, ita_class(ita), spread, delta_e, ratio,
                _confidence(fraction, away, _error_deg(lab, skin), sure, math.hypot(colour[0] - 50.0, colour[2])),
                None, fraction)


def segmented(image: U8) -> tuple[Mask, float]:
    """Lesion and confidence of the segmenter that ships; raises BiasError where it cannot be had."""
    try:
        from synthskin.segment import default_segmenter

        found = default_segmenter().predict([image])[0]
    except ImportError as error:
        raise MissingToolError(f"no mask was given, and finding the lesion needs the segmenter: {error}") from None
    return np.asarray(found.mask, np.bool_), float(found.confidence)


def found_hair(image: U8) -> Mask:
    """Thin dark strands by the rule of `synthskin.hooks.regions`."""
    try:
        import torch

        from synthskin.hooks import regions
    except ImportError:
        raise MissingToolError("no hair mask was given, and finding hair needs torch; "
                               "type: pip install 'synthskin[study]'") from None
    picture = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        small = regions.reduced(picture)
        strands = regions.enlarged(regions.hair(small, regions.closed(small)), picture)
    return np.asarray(strands[0, 0].numpy() > 0.4, np.bool_)


def healthy_skin(image: U8, lesion: Mask, hair: Mask) -> tuple[Mask, float, float]:
    """(skin (h, w), share of the candidates that is clipped, distance of the skin kept from the lesion in widths)."""
    side = min(image.shape[:2])
    free = ~_surround(image) & ~_grown(hair, max(1, side // 128))
    for width in (max(2, side // 16), max(2, side // 40)):  # further away, if there is enough
        skin = free & ~_grown(lesion, width)
        if skin.mean() >= 0.05:
            break
    clipped = np.asarray((image >= CLIPPED).any(axis=2), np.bool_)
    share = float(clipped[skin].mean()) if skin.any() else 0.0
    return _without_outliers(image, skin & ~clipped), share, width / side


def _without_outliers(image: U8, skin: Mask) -> Mask:
    """Skin without pixels whose colour lies far outside the rest (robust standard deviations of L*, a*, b*)."""
    if skin.sum() < LEAST_SKIN_PX:
        return skin
    lab = _lab(image)
    values = lab[skin]
    middle = np.median(values, axis=0)
    sigma = np.maximum(1.4826 * np.median(np.abs(values - middle), axis=0), 1.0)
    far = (np.abs(lab - middle) > _OUTLIER_SIGMAS * sigma).any(axis=2)
    return np.asarray(skin & ~_grown(far & skin, 1), np.bool_)


def _surround(image: U8) -> Mask:
    """Black surround of a round field of view: near-black pixels joined to the border, grown by a rim."""
    dark: Mask = np.asarray(image.max(axis=2)) < 41  # 0.16, as hooks.regions.SURROUND_LEVEL
    side = min(image.shape[:2])
    step = max(1, side // 64)  # on a coarse grid, where noise and dark skin do not join up
    h, w = dark.shape[0] // step * step, dark.shape[1] // step * step
    coarse = dark[:h, :w].reshape(h // step, step, w // step, step).mean(axis=(1, 3)) > 0.75
    labels, count = ndimage.label(coarse)
    result = np.zeros(dark.shape, np.bool_)
    if count == 0:
        return result
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    joined = np.isin(labels, edge[edge > 0])
    if joined.mean() > 0.7 or not _is_black(image, np.kron(joined, np.ones((step, step), np.bool_)), h, w):
        return result
    result[:h, :w] = np.kron(joined, np.ones((step, step), np.bool_))
    return _grown(result, max(2, side // 32))


def _is_black(image: U8, joined: Mask, h: int, w: int) -> bool:
    """Is the dark border a surround, and not dark skin? A surround is almost black and much darker than the rest."""
    if not joined.any():
        return False
    level = np.asarray(image[:h, :w].max(axis=2))
    rest = level[~joined]
    dark = float(np.median(level[joined]))
    return dark < 26 and (rest.size == 0 or float(np.median(rest)) > 2.0 * dark + 12)


def _light(linear: F64, skin: Mask) -> F64:
    """Illumination (h, w) over that of the middle: exp(p r^2 + q r^4), r = 1 in the corner, p and q at most 0.

    r^2 is the lamp's, r^4 the lens's. Robust least squares on the skin's ln luminance (Cauchy weights), pulled towards
    the usual fall the more, the less even the skin is.
    """
    from scipy.optimize import lsq_linear

    h, w = skin.shape
    y, x = np.mgrid[:h, :w]
    r2 = ((x - (w - 1) / 2) ** 2 + (y - (h - 1) / 2) ** 2) / (((h - 1) ** 2 + (w - 1) ** 2) / 4)
    where = np.flatnonzero(skin.ravel())[::max(1, int(skin.sum()) // 4000)]
    level = np.log(np.maximum(linear.reshape(-1, 3)[where] @ np.array(LUMINANCE), 1e-4))
    r = r2.ravel()[where]
    basis = np.stack([r, r**2, np.ones_like(r)], axis=1)
    bounds = ([-_MOST_FALL, -_MOST_FALL, -np.inf], [0.0, 0.0, np.inf])
    weight, pull = np.ones_like(r), 0.0
    for _ in range(6):
        found = lsq_linear(np.concatenate([basis * weight[:, None], pull * np.eye(2, 3)]),
                           np.concatenate([level * weight, pull * np.array(_USUAL_FALL)]), bounds).x
        rest = level - basis @ found
        sigma = max(1.4826 * float(np.median(np.abs(rest - np.median(rest)))), 1e-4)
        weight = 1 / np.sqrt(1 + (rest / (1.5 * sigma)) ** 2)
        pull = sigma / _FALL_SPREAD * math.sqrt(len(r) / _PATCHES)
    return np.asarray(np.exp(found[0] * r2 + found[1] * r2**2), np.float64)


def _evenly_lit(linear: F64, skin: Mask) -> F64:
    return linear / _light(linear, skin)[..., None]


def _skin_colour(lab: F64, skin: Mask) -> F64:
    return np.asarray(np.median(lab[skin], axis=0), np.float64)


def _problem(colour: F64) -> str | None:
    lightness, _, b = (float(v) for v in colour)
    if lightness < DARKEST_L:
        return f"under-exposed: L* of the skin is {lightness:.1f}, {DARKEST_L:g} is needed"
    if b < LEAST_B:
        return f"b* of the skin is {b:.1f}, near 0 or below: a colour cast, or no skin; {LEAST_B:g} is needed"
    if math.hypot(lightness - 50.0, b) < LEAST_RADIUS:
        return "b* near 0 at L* near 50, where the angle is not defined"
    return None


def _spread_deg(lab: F64, skin: Mask) -> float:
    """Half the distance between percentiles 16 and 84 of the ITA of skin blurred by 1/40 of the side (within skin)."""
    sigma = min(skin.shape) / 40
    weight = ndimage.gaussian_filter(skin.astype(np.float64), sigma)
    soft = [ndimage.gaussian_filter(np.where(skin, lab[..., c], 0.0), sigma) / np.maximum(weight, 1e-6) for c in (0, 2)]
    ita = np.degrees(np.arctan2(soft[0] - 50.0, soft[1]))[skin]
    low, high = np.percentile(ita, [16, 84])
    return float(high - low) / 2


def _error_deg(lab: F64, skin: Mask) -> float:
    """Standard error of the ITA from eight sectors around the middle: their spread over the root of their number."""
    h, w = skin.shape
    y, x = np.mgrid[:h, :w]
    sector = ((np.arctan2(y - h / 2, x - w / 2) / (2 * np.pi) + 0.5) * 8).astype(int) % 8
    values = [_skin_colour(lab, skin & (sector == k)) for k in range(8) if (skin & (sector == k)).sum() >= 20]
    if len(values) < 2:
        return 10.0
    ita = np.degrees([math.atan2(v[0] - 50.0, v[2]) for v in values])
    return float(ita.std(ddof=1) / math.sqrt(len(values)))


def _confidence(fraction: float, margin: float, error_deg: float, sure: float, radius: float) -> float:
    """Product of: enough skin, far enough from the lesion, even over the picture, sure mask, angle well defined."""
    enough = fraction / (fraction + 0.02)
    near = 1.0 if margin > 1 / 30 else 0.8
    even = math.exp(-error_deg / 6.0)
    return float(np.clip(enough * near * even * math.sqrt(max(sure, 0.0)) * radius / (radius + 2.0), 0.0, 1.0))


def _contrast(
    image: U8, linear: F64, lesion: Mask, skin: Mask, wcag: str
) -> tuple[float | None, float | None]:
    """CIEDE2000 and WCAG ratio between the mean colours of lesion and skin."""
    if lesion.sum() < 20:
        return None, None
    from skimage.color import deltaE_ciede2000

    means = np.stack([linear[lesion].mean(axis=0), linear[skin].mean(axis=0)])
    lab = _lab(_encode(means[None]))[0]
    if wcag == "encoded":
        means = np.stack([image[lesion].mean(axis=0), image[skin].mean(axis=0)]) / 255
    return float(deltaE_ciede2000(lab[0], lab[1])), wcag_ratio(*(means @ np.array(LUMINANCE)))


def wcag_ratio(first: float, second: float) -> float:
    """Contrast ratio of two relative luminances 0..1 (WCAG 2.1): 1 to 21."""
    low, high = sorted((float(first), float(second)))
    return (high + 0.05) / (low + 0.05)


def _decode(image: U8) -> F64:
    x = np.arange(256) / 255
    table = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return np.asarray(table[image], np.float64)


def _encode(linear: F64) -> F64:
    """sRGB 0..1, not clipped at 1: light taken off may lift a colour above it."""
    x = np.maximum(linear, 0.0)
    return np.asarray(np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-9) ** (1 / 2.4) - 0.055))


def _lab(srgb: NDArray[Any]) -> F64:
    from skimage.color import rgb2lab

    return np.asarray(rgb2lab(srgb), np.float64)


def _grown(mask: Mask, radius: int) -> Mask:
    if radius < 1 or not mask.any():
        return mask
    return np.asarray(ndimage.distance_transform_edt(~mask) <= radius, np.bool_)


def _cannot(reason: str, fraction: float) -> Tone:
    return Tone(None, None, None, None, None, 0.0, reason, fraction)


def reflectance_colour(lab: Sequence[float] | F64, coefficients: tuple[float, ...]) -> tuple[float, float, float]:
    """L*a*b* of the skin's reflectance from that seen through a dermatoscope; coefficients as in `OPTICS`."""
    lightness, a, b = (float(v) for v in lab)
    c0, c1, c2, c3, c4 = coefficients
    t = (lightness - 50.0) / 20.0
    return lightness - (c0 + c1 * t + c2 * t**2 + c3 * (a - 10.0) / 5.0), a, b - c4


def _check(image: Any, mask: Any, hair: Any, optics: str | None, wcag: str) -> None:
    good = isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
    if not good or min(image.shape[:2]) < LEAST_SIDE_PX:
        came = f"{image.shape} {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise BiasError(f"picture {came}: (height, width, 3) uint8 of at least {LEAST_SIDE_PX} pixels is needed")
    for name, value in (("mask", mask), ("hair", hair)):
        if value is not None and np.shape(value) != image.shape[:2]:
            raise BiasError(f"{name} {np.shape(value)} does not fit the picture {image.shape[:2]}")
    if optics is not None and optics not in DERMOSCOPIC_TYPES:
        raise BiasError(f"optics={optics!r}: {', '.join(DERMOSCOPIC_TYPES)} or None is allowed")
    if wcag not in WCAG:
        raise BiasError(f"wcag={wcag!r}: {' or '.join(WCAG)} is allowed")
