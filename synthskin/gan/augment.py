"""Differentiable augmentation for training with few pictures (Zhao et al. 2020), and symmetries of the square.

Real and generated pictures pass through the same kinds of change before the discriminator sees them, so that it cannot
learn the few real ones by heart, and the generator does not learn the changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from synthskin.gan import GanError

POLICIES: Final = ("colour", "translation", "cutout")


def parse_policy(text: str, change: str) -> tuple[str, ...]:
    """`auto`, `none`, or names joined by commas. auto leaves colour out for tones: the critic has to see it there."""
    if text == "auto":
        return POLICIES if change == "class" else POLICIES[1:]
    names = () if text == "none" else tuple(part.strip() for part in text.split(","))
    for name in names:
        if name not in POLICIES:
            raise GanError(f"--augment {text}: {name!r} is not known; allowed are auto, none, {', '.join(POLICIES)}")
    return names


def diff_augment(x: Tensor, policy: Sequence[str], source: torch.Generator) -> Tensor:
    """(n, 3, h, w) in [-1, 1], each picture changed on its own; the gradient passes through.

    colour        brightness +-0.5 (of the range 2), saturation times 0-2, contrast times 0.5-1.5
    translation   by up to an eighth of the side, zeros come in
    cutout        a square of half the side turns 0
    """
    n, _, h, w = x.shape

    def uniform(low: float, high: float) -> Tensor:
        return (torch.rand(n, 1, 1, 1, generator=source) * (high - low) + low).to(x)

    if "colour" in policy:
        x = x + uniform(-0.5, 0.5)
        grey = x.mean(1, keepdim=True)
        x = grey + (x - grey) * uniform(0.0, 2.0)
        mean = x.mean((1, 2, 3), keepdim=True)
        x = mean + (x - mean) * uniform(0.5, 1.5)
    rows, columns = torch.arange(h, device=x.device)[None, :], torch.arange(w, device=x.device)[None, :]
    if "translation" in policy:
        most = (max(h // 8, 1), max(w // 8, 1))
        down, right = (torch.randint(-m, m + 1, (n, 1), generator=source).to(x.device) for m in most)
        from_row, from_column = rows - down, columns - right
        inside = (((from_row >= 0) & (from_row < h))[:, :, None] & ((from_column >= 0) & (from_column < w))[:, None, :])
        index = torch.arange(n, device=x.device)[:, None, None]
        moved = x[index, :, from_row.clamp(0, h - 1)[:, :, None], from_column.clamp(0, w - 1)[:, None, :]]
        x = moved.permute(0, 3, 1, 2) * inside[:, None]
    if "cutout" in policy:
        top = torch.randint(-(h // 4), h - h // 4 + 1, (n, 1), generator=source).to(x.device)
        left = torch.randint(-(w // 4), w - w // 4 + 1, (n, 1), generator=source).to(x.device)
        cut = (((rows >= top) & (rows < top + h // 2))[:, :, None]
               & ((columns >= left) & (columns < left + w // 2))[:, None, :])
        x = x * ~cut[:, None]
    return x


def symmetry(x: Tensor, source: torch.Generator) -> Tensor:
    """Each picture turned or mirrored by one of the eight symmetries of the square; skin has no upright."""
    turns = torch.randint(0, 8, (len(x),), generator=source).tolist()
    return torch.stack([_turned(picture, turn) for picture, turn in zip(x, turns, strict=True)])


def _turned(picture: Tensor, turn: int) -> Tensor:
    turned = torch.rot90(picture, turn % 4, (-2, -1))
    return turned.flip(-1) if turn >= 4 else turned
