"""What a picture is made of besides healthy skin: black surround, hair, and (without a mask) the lesion.

Simple image rules on batches (n, 3, h, w) in [0, 1]; all answers are soft weights (n, 1, h, w). They are meant for
dermoscopic pictures; `docs/hooks.md` says where they fail. The lesion is found by the segmenter that ships in the
package (`synthskin.segment`), or by `otsu_lesion` where MONAI is not installed. A mask that is given is better.
"""

from __future__ import annotations

import math
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

SURROUND_LEVEL: Final = 0.16  # encoded; a black surround is darker than this in its brightest channel
HAIR_ANGLES: Final = 6
HAIR_LENGTH: Final = 11  # pixels of a reduced picture along which a strand is straight
SIDE: Final = 128  # regions are found on pictures reduced to this short side


def _side(image: Tensor) -> int:
    return min(image.shape[-2:])


def dilate(x: Tensor, radius: int) -> Tensor:
    """Grey dilation by a square of 2 radius + 1 pixels (maxima of maxima, so wide squares cost little)."""
    for dim in (-1, -2):
        x = _running_max(x, radius, dim)
    return x


def _running_max(x: Tensor, radius: int, dim: int) -> Tensor:
    if radius < 1:
        return x
    length, width = x.shape[dim], 2 * radius + 1
    edge = [1] * x.ndim
    edge[dim] = radius
    first, last = x.narrow(dim, 0, 1).repeat(edge), x.narrow(dim, length - 1, 1).repeat(edge)
    x = torch.cat([first, x, last], dim)
    reach = 1
    while reach < width:
        step = min(reach, width - reach)
        size = x.shape[dim] - step
        x = torch.maximum(x.narrow(dim, 0, size), x.narrow(dim, step, size))
        reach += step
    return x


def erode(x: Tensor, radius: int) -> Tensor:
    return -dilate(-x, radius)


def blur(x: Tensor, times: int = 2) -> Tensor:
    """Binomial filter of 3 pixels in both directions: a Gaussian of standard deviation sqrt(times / 2) pixels."""
    for _ in range(times):
        for dim in (-1, -2):
            length = x.shape[dim]
            left = torch.cat([x.narrow(dim, 0, 1), x.narrow(dim, 0, length - 1)], dim)
            right = torch.cat([x.narrow(dim, 1, length - 1), x.narrow(dim, length - 1, 1)], dim)
            x = (left + right) * 0.25 + x * 0.5
    return x


def surround(image: Tensor) -> Tensor:
    """Black surround of a round field of view: near-black pixels joined to the border through near-black pixels."""
    dark = (image.amax(1, keepdim=True) < SURROUND_LEVEL).to(image)
    small = F.interpolate(dark, (64, 64), mode="area").gt(0.5).to(image)
    seed = torch.zeros_like(small)
    seed[..., 0, :], seed[..., -1, :], seed[..., 0], seed[..., -1] = 1, 1, 1, 1
    reached = seed * small
    if not reached.any():
        return torch.zeros_like(dark)
    for _ in range(64):
        grown = F.max_pool2d(reached, 3, 1, 1) * small
        if torch.equal(grown, reached):
            break
        reached = grown
    around = F.interpolate(F.max_pool2d(reached, 3, 1, 1), image.shape[-2:], mode="nearest")
    return dark * around


def reduced(x: Tensor, side: int = SIDE) -> Tensor:
    """Area means with a short side of `side` pixels; pictures that are small already are left alone."""
    short = _side(x)
    if short <= side:
        return x
    factor = short // side
    if factor * side == short and x.shape[-2] % factor == 0 and x.shape[-1] % factor == 0:
        parts = [x[..., i::factor, j::factor] for i in range(factor) for j in range(factor)]
        return torch.stack(parts).mean(0) if len(parts) > 4 else sum(parts[1:], parts[0]) / len(parts)
    size = (max(round(x.shape[-2] * side / short), 8), max(round(x.shape[-1] * side / short), 8))
    return F.interpolate(x, size, mode="area")


def enlarged(x: Tensor, like: Tensor) -> Tensor:
    return x if x.shape[-2:] == like.shape[-2:] else F.interpolate(x, like.shape[-2:], mode="bilinear")


def closed(image: Tensor) -> Tensor:
    """The picture with dark structures thinner than about 1/25 of its side filled by their surroundings."""
    radius = max(_side(image) // 50, 1)
    return erode(dilate(image, radius), radius)


def hair(small: Tensor, filled: Tensor) -> Tensor:
    """Dark strands on a reduced picture: thin (filled by `closed`) and straight for a twelfth of it (Lee 1997's idea).

    The pigment network is thin too but turns within a mesh, so no line of that length stays on it.
    """
    depth = (filled - small).mean(1, keepdim=True) / filled.mean(1, keepdim=True).clamp_min(0.25)
    along = F.conv2d(depth.clamp_max(0.5), _line_kernels(HAIR_LENGTH, depth), stride=2, padding=HAIR_LENGTH // 2)
    best, _ = along.max(1, keepdim=True)
    # a strand is much deeper along its line than across it: compare with the mean over all directions
    average = along.mean(1, keepdim=True).clamp_min(1e-3)
    contrast = best - average
    found = ((contrast - 0.035) / 0.025).clamp(0, 1) * ((best / average - 1.6) / 0.4).clamp(0, 1)
    return dilate(F.interpolate(found, small.shape[-2:]), 1)


def _line_kernels(length: int, like: Tensor) -> Tensor:
    half = length // 2
    axis = torch.arange(-half, half + 1, dtype=torch.float32)
    kernels = []
    for k in range(HAIR_ANGLES):
        angle = math.pi * k / HAIR_ANGLES
        across = (axis[None, :] * math.sin(angle) - axis[:, None] * math.cos(angle)).abs()
        kernel = (1 - across).clamp_min(0) * ((axis[None, :] ** 2 + axis[:, None] ** 2) <= (half + 0.5) ** 2)
        kernels.append(kernel / kernel.sum())
    return torch.stack(kernels)[:, None].to(like)


def lesion(image: Tensor, valid: Tensor) -> Tensor:
    """Soft lesion (n, 1, h, w) of pictures without a mask: the shipped segmenter's, else `otsu_lesion`'s."""
    found = segmented_lesion(image)
    return otsu_lesion(image, valid) if found is None else found * valid


def segmented_lesion(image: Tensor) -> Tensor | None:
    """Probability (n, 1, h, w) by the shipped segmenter, steepened; None where MONAI or the weights are missing."""
    try:
        from synthskin.segment import default_segmenter, has_default
    except ImportError:
        return None
    if not has_default():
        return None
    found: Tensor = default_segmenter("cuda" if image.is_cuda else "cpu").soft_masks(image)
    return (0.5 + 2.0 * (found - 0.5)).clamp(0, 1)


def otsu_lesion(image: Tensor, valid: Tensor) -> Tensor:
    """Fallback without a mask: Otsu's threshold (Otsu 1979) on blurred green + blue, where melanin shows most.

    Only dark pixels of `valid` count; if the two classes are not clearly apart (less than 60 % of the variance between
    them, or under 0.06 in value) the picture counts as lesion-free. Finds pigmented lesions on lighter skin; amelanotic
    lesions, shadows and dark hair mislead it.
    """
    n = image.shape[0]
    value = blur(0.5 * (image[:, 1:2] + image[:, 2:]))
    bins = 64
    at = (value * bins).long().clamp(0, bins - 1) + bins * torch.arange(n, device=image.device)[:, None, None, None]
    counts = torch.bincount(at.flatten(), valid.flatten(), n * bins).reshape(n, bins)
    share = counts / counts.sum(1, keepdim=True).clamp_min(1)
    level = (torch.arange(bins, device=image.device, dtype=image.dtype) + 0.5) / bins
    below, mean_below = share.cumsum(1), (share * level).cumsum(1)
    mean = mean_below[:, -1:]
    between = (mean * below - mean_below) ** 2 / (below * (1 - below)).clamp_min(1e-6)
    variance = (share * (level - mean) ** 2).sum(1).clamp_min(1e-9)
    best, where = between[:, :-1].max(1)
    threshold = (where + 1).to(image.dtype) / bins
    low = mean_below.gather(1, where[:, None])[:, 0] / below.gather(1, where[:, None])[:, 0].clamp_min(1e-6)
    high = (mean[:, 0] - mean_below.gather(1, where[:, None])[:, 0]) / (
        1 - below.gather(1, where[:, None])[:, 0]
    ).clamp_min(1e-6)
    clear = ((best / variance > 0.6) & (high - low > 0.06)).to(image.dtype)
    width = (0.1 * (high - low)).clamp_min(0.01)
    # a little above Otsu's threshold: the faded border belongs to the lesion
    raised = threshold + 0.15 * (high - low)
    soft = (0.5 + 0.25 * (raised[:, None, None, None] - value) / width[:, None, None, None]).clamp(0, 1)
    return soft * clear[:, None, None, None] * valid
