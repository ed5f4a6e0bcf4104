"""Augmentation of a batch on its device: flips, any rotation, crops, mild colour; all follows from a generator."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SCALE = (0.70, 1.10)  # side of the crop over that of the picture, under 1: nearer
SHIFT = 0.10  # of the side
BRIGHTNESS, CONTRAST, SATURATION, BALANCE = 0.15, 0.15, 0.15, 0.05  # largest relative change


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """(n, 3, h, w) in [0, 1] to the same; `generator` is one of the processor, whatever the device of the images."""
    n = len(images)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        drawn = torch.rand(*(shape or (n,)), generator=generator)
        return (low + (high - low) * drawn).to(images.device)

    angle = uniform(-math.pi, math.pi)
    scale, mirror = uniform(*SCALE), torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    matrix = torch.stack([
        torch.stack([scale * angle.cos() * mirror, -scale * angle.sin(), uniform(-SHIFT, SHIFT)], 1),
        torch.stack([scale * angle.sin() * mirror, scale * angle.cos(), uniform(-SHIFT, SHIFT)], 1),
    ], 1)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    gain = 1 + uniform(-BRIGHTNESS, BRIGHTNESS, n, 1, 1, 1) + uniform(-BALANCE, BALANCE, n, 3, 1, 1)
    moved = moved * gain
    mean = moved.mean(dim=(1, 2, 3), keepdim=True)
    moved = mean + (moved - mean) * (1 + uniform(-CONTRAST, CONTRAST, n, 1, 1, 1))
    grey = moved.mean(dim=1, keepdim=True)
    moved = grey + (moved - grey) * (1 + uniform(-SATURATION, SATURATION, n, 1, 1, 1))
    return moved.clamp(0, 1)
