"""Everything that decides a training run, and nothing else. Written into the model's card; compared when it goes on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from synthskin.conventions import MASK_STATUS
from synthskin.segment.errors import SegmentError

#: Masks that count as true; `predicted` ones would teach a segmenter its own mistakes.
USABLE_MASKS: Final = ("exact", "human", "inherited")
STRIDE: Final = 32  # sides of the working picture are multiples of it: blocks of 2 x 2, then four halvings

_LIMITS: Final[dict[str, tuple[float, float]]] = {
    "size_px": (64, 1024), "steps": (1, 10_000_000), "batch": (1, 1024), "lr": (1e-7, 1.0), "weight_decay": (0.0, 1.0),
    "ema": (0.0, 0.99999), "warmup": (0, 1_000_000), "seed": (0, 2**63 - 1), "validation_share": (0.02, 0.5),
}


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """A training run.

    size_px            working size: pictures are scaled to about size_px^2 pixels, sides multiples of 32
    steps, batch       optimiser steps; pictures a step
    lr, weight_decay   AdamW's, cosine to 0 after `warmup` steps
    ema                decay of the running mean of the weights, which is what is kept
    seed               of initial weights, order, augmentation and split
    validation_share   share of the samples held out, whole groups (group_id) at a time
    masks              values of mask_status that are used
    channels           of the network's five levels, each half as large as the one before
    """

    size_px: int = 192
    steps: int = 3000
    batch: int = 8
    lr: float = 2e-3
    weight_decay: float = 1e-2
    ema: float = 0.995
    warmup: int = 100
    seed: int = 0
    validation_share: float = 0.12
    masks: tuple[str, ...] = USABLE_MASKS
    channels: tuple[int, ...] = (24, 48, 96, 128, 160)

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise SegmentError(f"{name}={value!r}: allowed is {low:g} to {high:g}")
            if name not in ("lr", "weight_decay", "ema", "validation_share") and not isinstance(value, int):
                raise SegmentError(f"{name}={value!r}: a whole number is needed")
        if self.size_px % STRIDE:
            raise SegmentError(f"size_px={self.size_px}: a multiple of {STRIDE} is needed")
        wrong = [name for name in self.masks if name not in MASK_STATUS or name == "none"]
        if wrong or not self.masks:
            raise SegmentError(f"masks={','.join(self.masks) or 'nothing'}: allowed are "
                               f"{', '.join(name for name in MASK_STATUS if name != 'none')}")
        if len(self.channels) != 5 or any(not 8 <= c <= 1024 or c % 8 for c in self.channels):
            raise SegmentError(f"channels={self.channels}: five multiples of 8 from 8 to 1024 are needed")

    def to_dict(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
