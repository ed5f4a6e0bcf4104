"""ColourSpaceShift: the cheap way to another skin tone, to be compared with ToneShift."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from synthskin.hooks.colour import encode, ita_deg, mean_linear
from synthskin.hooks.tone import FEW, ToneShift, find_regions
from synthskin.hooks.tone_table import load_table

MOST_TURN: Final = 0.08  # of a whole turn; a camera's cast can put the hue of skin anywhere
MOST_SATURATION: Final = 2.5  # factor; nearly grey skin would become a riot of colours


def rgb_to_hsv(rgb: Tensor) -> Tensor:
    """Hue in turns, saturation, value (n, 3, h, w) of encoded colours (Smith 1978)."""
    value, where = rgb.max(1)
    chroma = value - rgb.amin(1)
    safe = chroma.clamp_min(1e-8)
    red, green, blue = rgb.unbind(1)
    turns = torch.stack([(green - blue) / safe % 6, (blue - red) / safe + 2, (red - green) / safe + 4], 1) / 6
    hue = turns.gather(1, where[:, None])[:, 0]
    return torch.stack([torch.where(chroma > 0, hue, torch.zeros_like(hue)), chroma / value.clamp_min(1e-8), value], 1)


def hsv_to_rgb(hsv: Tensor) -> Tensor:
    hue, saturation, value = hsv.unbind(1)
    channels = []
    for n in (5, 3, 1):
        k = (n + hue * 6) % 6
        channels.append(value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, 1)


class ColourSpaceShift(ToneShift):
    """HSV of every pixel changed alike so that the healthy skin's mean gets the colour of the tone asked for.

    Called as ToneShift and returns the same. Hue is turned, saturation and value are scaled, as in the colour space
    augmentation of the Mpox Skin Lesion Dataset v2.0 (Ali et al. 2023) after Xu et al. 2022 (Color Invariant Skin
    Segmentation), who take fixed or random steps where this aims at a tone. It has no idea of pigment: lesion, hair,
    rulers and black surround are recoloured with the skin. Turn and saturation are limited, so that pictures with a
    strong cast do not reach the tone.
    """

    def _shift_batch(self, batch: Tensor, lesion: Tensor | None, goal: Tensor) -> tuple[Tensor, ...]:
        found = find_regions(batch, lesion)
        table = load_table(str(batch.device))
        healthy = torch.nn.functional.interpolate(found.healthy, FEW)

        def mean(image: Tensor) -> Tensor:
            return mean_linear(torch.nn.functional.interpolate(image, FEW), healthy)

        def hsv(linear: Tensor) -> Tensor:
            return rgb_to_hsv(encode(linear)[:, :, None, None])

        tone = (table.ita_deg[0] - goal) / 5.0
        target = table.colour(tone, goal.new_tensor(float(table.bare)), goal.new_tensor(0.0)).exp()
        now, then, pixels = hsv(mean(batch)), hsv(target), rgb_to_hsv(batch)
        turn = (then[:, :1] - now[:, :1] + 0.5) % 1.0 - 0.5
        turned = (pixels[:, :1] + turn.clamp(-MOST_TURN, MOST_TURN)) % 1.0
        factor = then[:, 1:] / now[:, 1:].clamp_min(1e-3)
        factor[:, :1] = factor[:, :1].clamp(1 / MOST_SATURATION, MOST_SATURATION)
        scaled = pixels[:, 1:] * factor
        shifted = hsv_to_rgb(torch.cat([turned, scaled.clamp(0, 1)], 1)).clamp(0, 1)
        return shifted, ita_deg(mean(shifted)), ita_deg(mean(batch)), torch.zeros_like(goal)

    def __repr__(self) -> str:
        return f"ColourSpaceShift(to={self.to})"
