"""sRGB, L*a*b* and ITA on tensors (..., 3, h, w); the same definitions as the rest of synthskin, in PyTorch.

IEC 61966-2-1 for sRGB, CIE 15:2018 for L*a*b* under D65, Chardon 1991 for ITA = atan2(L* - 50, b*).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

LINEAR_SRGB_TO_XYZ: Final = (  # IEC 61966-2-1
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
WHITE_XYZ: Final = (0.9504, 1.0, 1.0888)  # D65, 2 degrees
LUMINANCE: Final = (0.2126729, 0.7151522, 0.0721750)


def decode(srgb: Tensor) -> Tensor:
    """Linear sRGB of encoded values in [0, 1]; any shape."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb.clamp_min(0.0) + 0.055) / 1.055) ** 2.4)


def encode(linear: Tensor) -> Tensor:
    """Encoded sRGB of linear values of 0 or more; not clipped at 1; any shape."""
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(1e-8) ** (1 / 2.4) - 0.055)


def lab(linear: Tensor) -> Tensor:
    """L*a*b* (..., 3) of linear sRGB (..., 3)."""
    matrix = linear.new_tensor(LINEAR_SRGB_TO_XYZ)
    ratio = (linear @ matrix.T) / linear.new_tensor(WHITE_XYZ)
    delta = 6.0 / 29.0
    f = torch.where(ratio > delta**3, ratio.clamp_min(1e-8) ** (1 / 3), ratio / (3 * delta**2) + 4.0 / 29.0)
    return torch.stack(
        [116.0 * f[..., 1] - 16.0, 500.0 * (f[..., 0] - f[..., 1]), 200.0 * (f[..., 1] - f[..., 2])], dim=-1
    )


def linear_of_lab(values: Tensor) -> Tensor:
    """Linear sRGB (..., 3) of L*a*b* (..., 3); may leave [0, 1]."""
    fy = (values[..., 0] + 16.0) / 116.0
    f = torch.stack([fy + values[..., 1] / 500.0, fy, fy - values[..., 2] / 200.0], dim=-1)
    delta = 6.0 / 29.0
    ratio = torch.where(f > delta, f**3, 3 * delta**2 * (f - 4.0 / 29.0))
    matrix = torch.linalg.inv(torch.tensor(LINEAR_SRGB_TO_XYZ, dtype=torch.float64)).to(values)
    return (ratio * values.new_tensor(WHITE_XYZ)) @ matrix.T


def ita_deg(linear: Tensor) -> Tensor:
    """Individual typology angle (...) in degrees of linear sRGB (..., 3)."""
    values = lab(linear)
    return torch.rad2deg(torch.atan2(values[..., 0] - 50.0, values[..., 2]))


def mean_linear(srgb: Tensor, weight: Tensor) -> Tensor:
    """Mean linear colour (n, 3) of pictures (n, 3, h, w) under weights (n, 1, h, w)."""
    total = weight.flatten(1).sum(1).clamp_min(1e-6)
    return (decode(srgb) * weight).flatten(2).sum(2) / total[:, None]
