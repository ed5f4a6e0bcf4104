"""Sliced Wasserstein distance between two sets of pictures: what validation looks at, without a pretrained network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_PATCH_PX = 5
_PATCHES_A_PICTURE = 64
_DIRECTIONS = 128


def sliced_wasserstein(a: Tensor, b: Tensor, key: int = 0, levels: int = 3) -> float:
    """Mean 1-D Wasserstein distance of 5 x 5 patches along random directions, averaged over pyramid levels.

    a, b   (n, 3, h, w) and (m, 3, h, w), same scale. After Rabin et al. 2011 and the patch form of Karras et al. 2018,
    but with plain area means instead of Laplacian bands, so that the mean colour counts. 0 for equal sets of patches.
    """
    source = torch.Generator().manual_seed(key)
    directions = F.normalize(torch.randn(3 * _PATCH_PX**2, _DIRECTIONS, generator=source), dim=0)
    total, used = 0.0, 0
    for level in range(levels):
        small_a, small_b = (F.avg_pool2d(x.detach().float().cpu(), 2**level) for x in (a, b))
        if min(*small_a.shape[-2:], *small_b.shape[-2:]) < 2 * _PATCH_PX:
            break
        quantiles = torch.linspace(0, 1, 257)[None].expand(_DIRECTIONS, -1)
        found = []
        for x in (small_a, small_b):
            along = _patches(x, source) @ directions
            ordered = along.sort(0).values
            at = (quantiles[0] * (len(ordered) - 1)).round().long()
            found.append(ordered[at])
        total += float((found[0] - found[1]).abs().mean())
        used += 1
    return total / max(used, 1)


def _patches(x: Tensor, source: torch.Generator) -> Tensor:
    """(n * patches, 75) patches at random places of each picture."""
    n = len(x)
    patches = x.unfold(2, _PATCH_PX, 1).unfold(3, _PATCH_PX, 1)  # n, 3, h', w', 5, 5
    where = torch.randint(0, patches.shape[2] * patches.shape[3], (n, _PATCHES_A_PICTURE), generator=source)
    flat = patches.permute(0, 2, 3, 1, 4, 5).reshape(n, -1, 3 * _PATCH_PX**2)
    return flat.gather(1, where[:, :, None].expand(-1, -1, flat.shape[2])).flatten(0, 1)
