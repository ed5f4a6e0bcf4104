"""Colour and texture of one picture as a table of numbers: what tells two sets of pictures apart, and by how much.

Everything is measured on pictures of equal size (`fitted`) and equal JPEG coding, in CIE L*a*b* (D65, 2 degrees).
Lesion and skin are found by the same automatic rule on every picture (`find_lesion`), so that neither set has the
better masks. Scales are bands of a Laplacian pyramid without reduction: differences of Gaussians whose
standard deviations are half of the scale named.
"""

from __future__ import annotations

import io
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from synthskin.bias.errors import BiasError

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

BANDS: Final = ("1-2", "2-4", "4-8", "8-16")  # pixels
CHANNELS: Final = ("L", "a", "b")
SPECTRUM_BANDS: Final = 10  # of the radial power spectrum, even in log frequency
JPEG_QUALITY: Final = 90
_SIGMAS_PX: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
_DARK_L: Final = 20.0  # a black surround is darker than this


def is_colour(name: str) -> bool:
    """Is a statistic about colour, rather than texture?"""
    return not any(word in name for word in ("contrast.", "spectrum.", "gradient"))


def fitted(image: NDArray[np.uint8], size_px: int, jpeg_quality: int = JPEG_QUALITY) -> NDArray[np.uint8]:
    """(size_px, size_px, 3): the central square, resized by Lanczos with antialiasing, through JPEG (4:2:0)."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or min(image.shape[:2]) < 16:
        raise BiasError(f"picture {image.shape} of {image.dtype}: 8-bit RGB of at least 16 x 16 pixels is needed")
    square = Image.fromarray(image[_central(image.shape[0], image.shape[1])])
    small = square.resize((size_px, size_px), Image.Resampling.LANCZOS) if square.size[0] != size_px else square
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=jpeg_quality, subsampling="4:2:0")
    with Image.open(buffer) as coded:
        return np.array(coded.convert("RGB"), np.uint8)


def fitted_mask(mask: NDArray[Any], size_px: int) -> Mask:
    """(size_px, size_px) bool, fitted as the picture."""
    square = Image.fromarray(np.where(mask[_central(mask.shape[0], mask.shape[1])] > 0, np.uint8(255), np.uint8(0)))
    return np.asarray(square.resize((size_px, size_px), Image.Resampling.BOX)) > 127


def _central(height: int, width: int) -> tuple[slice, slice]:
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return slice(top, top + side), slice(left, left + side)


def to_lab(image: NDArray[np.uint8]) -> F64:
    """L*a*b* (..., 3) of 8-bit sRGB."""
    from skimage.color import rgb2lab

    return np.asarray(rgb2lab(image), np.float64)


def surround(lab: F64) -> Mask:
    """Black surround of a round field of view: dark pixels joined to the border through dark pixels, with a rim."""
    dark = lab[..., 0] < _DARK_L
    labels, count = ndimage.label(dark)
    if count == 0:
        return np.zeros(dark.shape, np.bool_)
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    joined = np.isin(labels, edge[edge > 0])
    return np.asarray(ndimage.binary_dilation(joined, iterations=max(2, dark.shape[0] // 40)), np.bool_)


def find_lesion(lab: F64) -> tuple[Mask, Mask]:
    """(lesion, skin) by Otsu (1979) on the first principal component of blurred L*a*b* within the field of view.

    Of the dark side's components the one that is large and near the middle, holes filled; skin is what lies away from
    it and from the surround. Where a lesion fills the frame the skin is empty.
    """
    from skimage.filters import threshold_otsu

    size = lab.shape[0]
    valid = ~surround(lab)
    if valid.sum() < 0.1 * valid.size:
        valid = np.ones_like(valid)
    soft = ndimage.gaussian_filter(lab, (size / 64, size / 64, 0))
    middle = soft[valid].mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov((soft[valid] - middle).T) + 1e-9 * np.eye(3))
    axis = vectors[:, -1] * (1.0 if vectors[0, -1] <= 0 else -1.0)  # darker is more
    value = (soft - middle) @ axis
    low, high = np.percentile(value[valid], [1, 99])
    if high - low < 1e-6:
        return np.zeros_like(valid), valid
    dark = (value > threshold_otsu(np.clip(value[valid], low, high))) & valid
    labels, count = ndimage.label(ndimage.binary_opening(dark, iterations=max(1, size // 64)))
    if count == 0:
        return np.zeros_like(valid), valid
    y, x = np.mgrid[:size, :size]
    near = np.exp(-((x - size / 2) ** 2 + (y - size / 2) ** 2) / (2 * (0.3 * size) ** 2))
    weights = np.bincount(labels.ravel(), near.ravel())
    weights[0] = 0.0
    lesion = np.asarray(ndimage.binary_fill_holes(labels == int(weights.argmax())), np.bool_)
    skin = valid & ~dark & ~np.asarray(ndimage.binary_dilation(lesion, iterations=max(2, size // 24)), np.bool_)
    return lesion, skin


def statistics(image: NDArray[np.uint8], mask: Mask | None = None) -> dict[str, float]:
    """Numbers of a fitted picture (s, s, 3); NaN where there is no lesion or no skin to measure.

    mask   measure lesion and skin by this mask (s, s) instead of the automatic one
    """
    lab = to_lab(image)
    valid = ~surround(lab)
    if valid.sum() < 0.1 * valid.size:
        valid = np.ones_like(valid)
    lesion, skin = find_lesion(lab)
    if mask is not None:
        lesion = mask & valid
        skin = valid & ~np.asarray(ndimage.binary_dilation(mask, iterations=max(2, lab.shape[0] // 24)), np.bool_)
    bands = _bands(lab)
    found: dict[str, float] = {}
    found |= _colour("whole", lab, valid, wide=True)
    found |= _colour("skin", lab, skin)
    found |= _colour("lesion", lab, lesion)
    found |= _relations(lab, valid, lesion, skin)
    for name, where in (("whole", valid), ("skin", skin), ("lesion", lesion)):
        found |= _contrast(name, bands, where)
    found |= _gradients(lab, valid, lesion)
    found |= _spectrum(lab)
    return found


def _colour(name: str, lab: F64, where: Mask, wide: bool = False) -> dict[str, float]:
    values = lab[where]
    found: dict[str, float] = {}
    enough = len(values) >= 20
    for c, channel in enumerate(CHANNELS):
        v = values[:, c] if enough else np.full(20, np.nan)
        found[f"{name}.{channel}.mean"] = float(v.mean())
        found[f"{name}.{channel}.sd"] = float(v.std())
        cuts = (1, 5, 25, 50, 75, 95, 99) if wide else (5, 95)
        for q, cut in zip(cuts, np.percentile(v, cuts), strict=True):
            found[f"{name}.{channel}.p{q}"] = float(cut)
        if wide:
            found[f"{name}.{channel}.skew"], found[f"{name}.{channel}.kurtosis"] = _shape(v)
    chroma = np.hypot(values[:, 1], values[:, 2]) if enough else np.full(20, np.nan)
    hue = np.rad2deg(np.arctan2(values[:, 2], values[:, 1])) if enough else np.full(20, np.nan)
    found[f"{name}.chroma.mean"], found[f"{name}.chroma.sd"] = float(chroma.mean()), float(chroma.std())
    found[f"{name}.hue.median"] = float(np.median(hue))
    return found


def _relations(lab: F64, valid: Mask, lesion: Mask, skin: Mask) -> dict[str, float]:
    values = lab[valid]
    found = {}
    for p, q in ((0, 1), (0, 2), (1, 2)):
        x, y = values[:, p], values[:, q]
        flat = x.std() < 1e-6 or y.std() < 1e-6
        found[f"whole.corr.{CHANNELS[p]}{CHANNELS[q]}"] = 0.0 if flat else float(np.corrcoef(x, y)[0, 1])
    both = lesion.sum() >= 20 and skin.sum() >= 20
    difference = lab[lesion].mean(axis=0) - lab[skin].mean(axis=0) if both else np.full(3, np.nan)
    for channel, value in zip(CHANNELS, difference, strict=True):
        found[f"lesion-skin.{channel}"] = float(value)
    found["lesion-skin.delta_e76"] = float(np.linalg.norm(difference))
    found["lesion.share"] = float(lesion.mean())
    found["surround.share"] = float(1 - valid.mean())
    size = lab.shape[0]
    y, x = np.mgrid[:size, :size]
    radius = np.hypot(x - size / 2, y - size / 2) / (size / 2)
    ring = (skin & (radius > 1.0), skin & (radius < 0.8))
    enough = ring[0].sum() >= 20 and ring[1].sum() >= 20
    for c, channel in enumerate(CHANNELS):
        found[f"skin.corner-middle.{channel}"] = (
            float(lab[ring[0]][:, c].mean() - lab[ring[1]][:, c].mean()) if enough else np.nan)
    found["whole.bright.share"] = float((values[:, 0] > 95).mean())
    found["whole.dark.share"] = float((values[:, 0] < 15).mean())
    return found


def _bands(lab: F64) -> list[F64]:
    """Differences of Gaussians, finest first: under 1, 1-2, 2-4, 4-8, 8-16 px."""
    blurred = [lab if s == 0 else ndimage.gaussian_filter(lab, (s, s, 0), mode="reflect") for s in _SIGMAS_PX]
    return [blurred[i] - blurred[i + 1] for i in range(len(blurred) - 1)]


def _contrast(name: str, bands: list[F64], where: Mask) -> dict[str, float]:
    """Standard deviation by scale and channel, its kurtosis in L*, and how chroma and lightness go together."""
    inner = np.asarray(ndimage.binary_erosion(where, iterations=2), np.bool_)
    found: dict[str, float] = {}
    enough = inner.sum() >= 50
    for label, band in zip(("<1", *BANDS), bands, strict=True):
        values = band[inner] if enough else np.full((50, 3), np.nan)
        spread = values.std(axis=0)
        for c, channel in enumerate(CHANNELS):
            found[f"{name}.contrast.{label}.{channel}"] = float(spread[c])
        found[f"{name}.contrast.{label}.ab/L"] = float(np.hypot(spread[1], spread[2]) / max(float(spread[0]), 1e-3)) \
            if enough else np.nan
        skew, tail = _shape(values[:, 0]) if enough else (np.nan, np.nan)
        found[f"{name}.contrast.{label}.kurtosis"] = float(np.log1p(max(tail + 2, 0.0))) if enough else np.nan
        found[f"{name}.contrast.{label}.skew"] = skew
        for c, channel in ((1, "a"), (2, "b")):
            good = enough and spread[0] > 1e-6 and spread[c] > 1e-6
            found[f"{name}.contrast.{label}.corr.L{channel}"] = (
                float(np.corrcoef(values[:, 0], values[:, c])[0, 1]) if good else (0.0 if enough else np.nan))
    return found


def _shape(values: F64) -> tuple[float, float]:
    """(skewness, excess kurtosis); 0 for a constant."""
    centred = values - values.mean()
    variance = float((centred**2).mean())
    if variance < 1e-12:
        return 0.0, 0.0
    return float((centred**3).mean() / variance**1.5), float((centred**4).mean() / variance**2 - 3.0)


def _gradients(lab: F64, valid: Mask, lesion: Mask) -> dict[str, float]:
    soft = ndimage.gaussian_filter(lab[..., 0], 1.0)
    size = np.hypot(ndimage.sobel(soft, 0), ndimage.sobel(soft, 1)) / 8.0
    v = size[ndimage.binary_erosion(valid, iterations=3)]
    v = v if v.size >= 20 else size.ravel()
    found = {f"whole.gradient.p{q}": float(cut) for q, cut in zip((50, 90, 99), np.percentile(v, (50, 90, 99)),
                                                                  strict=True)}
    rim = ndimage.binary_dilation(lesion, iterations=2) & ~ndimage.binary_erosion(lesion, iterations=2)
    found["lesion.border.gradient"] = float(size[rim].mean()) if rim.sum() >= 20 else np.nan
    found["lesion.border.gradient.sd"] = float(size[rim].std()) if rim.sum() >= 20 else np.nan
    return found


def radial_spectrum(channel: F64) -> F64:
    """log10 of the mean power (SPECTRUM_BANDS,) in rings even in log frequency, Hann window, mean taken off."""
    size = channel.shape[0]
    window = np.hanning(size)[:, None] * np.hanning(size)[None, :]
    power = np.abs(np.fft.fft2((channel - channel.mean()) * window)) ** 2 / (window**2).sum()
    fx = np.fft.fftfreq(size)
    radius = np.hypot(fx[:, None], fx[None, :])
    edges = np.geomspace(1.5 / size, 0.5, SPECTRUM_BANDS + 1)
    which = np.digitize(radius.ravel(), edges)
    total = np.bincount(which, power.ravel(), SPECTRUM_BANDS + 2)
    count = np.bincount(which, minlength=SPECTRUM_BANDS + 2)
    mean = total[1:SPECTRUM_BANDS + 1] / np.maximum(count[1:SPECTRUM_BANDS + 1], 1)
    return np.asarray(np.log10(mean + 1e-9), np.float64)


def _spectrum(lab: F64) -> dict[str, float]:
    found: dict[str, float] = {}
    for c, channel in enumerate(CHANNELS):
        bands = radial_spectrum(lab[..., c])
        found |= {f"spectrum.{channel}.{k}": float(v) for k, v in enumerate(bands)}
        found[f"spectrum.{channel}.slope"] = float(np.polyfit(np.arange(SPECTRUM_BANDS), bands, 1)[0])
    return found
