"""The optics of ToneShift as a table: colour of skin of any tone with any pigment and blood, and back.

`tone_table.npz` comes from benchmarks/hooks_tone_table.py (adding-doubling of synthskin.physics, axes explained there).
Positions on the tone and pigment axes are real-valued node numbers; values are read by linear interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

DOMAIN: Final = 1.25  # largest encoded value of the inverse cube
_SCALE_UM: Final = 0.3  # of the pigment axis


@dataclass(frozen=True)
class ToneTable:
    """log_rgb (1, 3, tones, pigments, bloods) of linear sRGB; inverse (tones, 2, n, n, n): pigment position, log blood.

    `bare` is the pigment position of skin without anything added; below it lie shares of the tone's own melanin.
    """

    ita_deg: Tensor
    melanin_um: Tensor
    log_ratio: Tensor
    log_blood: tuple[float, float]
    top_um: float
    log_rgb: Tensor
    inverse: Tensor

    @property
    def bare(self) -> int:
        return len(self.log_ratio)

    @property
    def tones(self) -> int:
        return len(self.ita_deg)

    @property
    def nodes(self) -> int:
        """Nodes a side of the inverse cube."""
        return int(self.inverse.shape[-1])

    def colour(self, tone: Tensor, pigment: Tensor, log_blood: Tensor) -> Tensor:
        """log linear sRGB (..., 3) at broadcast positions (...)."""
        tone, pigment, log_blood = torch.broadcast_tensors(tone, pigment, log_blood)
        low, high = self.log_blood
        _, _, tones, pigments, _ = self.log_rgb.shape
        at = torch.stack(
            [
                2 * (log_blood - low) / (high - low) - 1,
                2 * pigment / (pigments - 1) - 1,
                2 * tone / (tones - 1) - 1,
            ],
            dim=-1,
        )
        found = F.grid_sample(self.log_rgb, at.reshape(1, -1, 1, 1, 3), padding_mode="border", align_corners=True)
        return found[0, :, :, 0, 0].T.reshape(*tone.shape, 3)

    def explain(self, tone: Tensor) -> tuple[Tensor, Tensor]:
        """Pigment position and log blood (n, nodes^3) of the inverse cube's colours on skin of `tone` (n,)."""
        low = tone.floor().long().clamp(0, self.tones - 2)
        part = (tone - low).clamp(0, 1)[:, None, None]
        flat = self.inverse.flatten(2)
        both = flat[low] * (1 - part) + flat[low + 1] * part
        return both[:, 0], both[:, 1]

    def melanin(self, tone: Tensor) -> Tensor:
        """Melanin column in um of pure melanosome of bare skin at positions (...); log-linear between nodes."""
        low = tone.floor().long().clamp(0, self.tones - 2)
        part = (tone - low).clamp(0, 1)
        logs = self.melanin_um.log()
        return torch.exp(logs[low] * (1 - part) + logs[low + 1] * part)

    def split(self, pigment: Tensor) -> tuple[Tensor, Tensor]:
        """(log ratio <= 0, added um >= 0) of pigment positions; at most one of them is not 0."""
        last = self.bare
        ratios = torch.cat([self.log_ratio, self.log_ratio.new_zeros(1)])
        low = pigment.floor().long().clamp(0, last - 1)
        part = (pigment - low).clamp(0, 1)
        ratio = ratios[low] * (1 - part) + ratios[low + 1] * part
        steps = self.log_rgb.shape[3] - 1 - last
        unit = float(np.log1p(self.top_um / _SCALE_UM)) / steps
        added = _SCALE_UM * torch.expm1((pigment - last).clamp_min(0) * unit)
        return ratio, added

    def join(self, log_ratio: Tensor, added_um: Tensor) -> Tensor:
        """Inverse of `split`."""
        last = self.bare
        ratios = torch.cat([self.log_ratio, self.log_ratio.new_zeros(1)])
        low = (torch.searchsorted(ratios, log_ratio.contiguous(), right=True) - 1).clamp(0, last - 1)
        below = low + ((log_ratio - ratios[low]) / (ratios[low + 1] - ratios[low])).clamp(0, 1)
        steps = self.log_rgb.shape[3] - 1 - last
        unit = float(np.log1p(self.top_um / _SCALE_UM)) / steps
        return below + torch.log1p(added_um.clamp_min(0) / _SCALE_UM) / unit


@cache
def load_table(device: str = "cpu") -> ToneTable:
    """The shipped table on a device; read once a process."""
    path = resources.files(__package__).joinpath("tone_table.npz")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
        arrays = {name: torch.from_numpy(data[name].astype(np.float32)).to(device) for name in data.files}
    blood = arrays["log_blood"]
    return ToneTable(
        ita_deg=arrays["ita_deg"],
        melanin_um=arrays["melanin_um"],
        log_ratio=arrays["ratio"].log(),
        log_blood=(float(blood[0]), float(blood[-1])),
        top_um=float(arrays["added_um"][-1]),
        log_rgb=arrays["log_rgb"].permute(3, 0, 1, 2)[None].contiguous(),
        inverse=torch.stack([arrays["pigment"], arrays["pixel_log_blood"]], 1).contiguous(),
    )
