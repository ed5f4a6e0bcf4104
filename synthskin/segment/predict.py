"""Segmenter: pictures in, masks with a calibrated confidence out; on any size, no data set needed.

  seg = load_segmenter()                      # the one that ships in the package; or load_segmenter(Path("model"))
  for found in seg.predict([picture]): found.mask, found.probability, found.confidence
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from synthskin.segment import confidence as conf
from synthskin.segment.data import scaled
from synthskin.segment.errors import SegmentError
from synthskin.segment.network import CARD, load_model, logits, working_shape

DEFAULT: Final = Path(__file__).parent / "default"
FLIPS: Final[tuple[tuple[int, ...], ...]] = ((), (-1,), (-2,), (-1, -2))  # picture and mirror images
LEAST_PIECE: Final = 0.08  # of the largest piece's summed probability; smaller ones are dropped
LEAST_SIDE_PX: Final = 8


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was found in one picture (h, w).

    mask         (h, w) bool          cleaned: small pieces dropped, holes filled; all False where no lesion was found
    probability  (h, w) float32       0..1, as the network gave it, mean over mirror images
    confidence   float                0..1, the Dice to expect of `mask` with a true one (docs/segmenter.md)
    """

    mask: NDArray[np.bool_]
    probability: NDArray[np.float32]
    confidence: float


class Segmenter:
    """A trained network with its card. Holds no other state; deterministic on one device.

    card        what it was trained on, with which settings, its figures and licences
    sha256      of the weights: what lineage (`checkpoint`) names
    """

    def __init__(self, network: nn.Module, card: dict[str, Any], device: torch.device) -> None:
        self.network = network.to(device).eval()
        self.card = card
        self.device = device

    @property
    def sha256(self) -> str:
        return str(self.card["weights_sha256"])

    @property
    def size_px(self) -> int:
        return int(self.card["settings"]["size_px"])

    def predict(self, images: Sequence[NDArray[np.uint8]], batch: int = 8) -> list[Prediction]:
        """Masks of pictures (h, w, 3) uint8 sRGB of any and of different sizes, in their order.

        Raises SegmentError on anything else.
        """
        if batch < 1:
            raise SegmentError(f"batch={batch}: at least 1 is needed")
        for position, image in enumerate(images):
            check_picture(image, position)
        result: list[Prediction | None] = [None] * len(images)
        for shape, places in self._by_shape(images).items():
            for start in range(0, len(places), batch):
                some = places[start : start + batch]
                found = self._predict([images[k] for k in some], shape)
                for place, one in zip(some, found, strict=True):
                    result[place] = one
        return [one for one in result if one is not None]

    def _by_shape(self, images: Sequence[NDArray[np.uint8]]) -> dict[tuple[int, int], list[int]]:
        shapes: dict[tuple[int, int], list[int]] = {}
        for position, image in enumerate(images):
            shapes.setdefault(working_shape(image.shape[0], image.shape[1], self.size_px), []).append(position)
        return shapes

    def _predict(self, images: Sequence[NDArray[np.uint8]], shape: tuple[int, int]) -> list[Prediction]:
        flips = self.flipped(torch.stack([scaled(image, shape) for image in images]))
        p = flips.mean(0)
        clean = torch.from_numpy(np.stack([tidy(one[0].numpy()) for one in p]))[:, None]
        sure = conf.confidence(conf.signs(flips, (clean > 0.5).float()), self.card["calibration"]["weights"])
        return [Prediction(_enlarged(c, image.shape) > 0.5, _enlarged(q, image.shape), float(s))
                for c, q, s, image in zip(clean, p, sure, images, strict=True)]

    @torch.inference_mode()
    def flipped(self, pictures: Tensor) -> Tensor:
        """(4, n, 1, h, w) float32 on the CPU: probabilities of the pictures and of their mirror images, turned back."""
        return torch.stack([
            torch.sigmoid(logits(self.network, pictures.to(self.device).flip(dims))).flip(dims).float().cpu()
            for dims in FLIPS])

    @torch.no_grad()
    def soft_masks(self, pictures: Tensor) -> Tensor:
        """(n, 1, h, w) probabilities of (n, 3, h, w) in [0, 1], without mirror images: quick, for training loops."""
        h, w = pictures.shape[-2:]
        small = F.interpolate(pictures, working_shape(h, w, self.size_px), mode="bilinear", antialias=True)
        p = torch.sigmoid(logits(self.network, small.to(self.device)))
        return F.interpolate(p, (h, w), mode="bilinear", align_corners=False).to(pictures)


def check_picture(image: Any, position: int) -> None:
    """Raises SegmentError unless it is (h, w, 3) uint8 of at least 8 x 8 pixels."""
    good = isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
    if not good or min(image.shape[:2]) < LEAST_SIDE_PX:
        came = f"{image.shape} {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise SegmentError(f"picture {position}: {came}; an array (height, width, 3) uint8 of at least "
                           f"{LEAST_SIDE_PX} x {LEAST_SIDE_PX} pixels is needed")


def tidy(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """The probabilities with small pieces pressed below 0.5 and holes lifted above it."""
    mask = probability > 0.5
    if not mask.any():
        return probability
    clean = probability.copy()
    labels, count = ndimage.label(ndimage.binary_dilation(mask))  # pieces a pixel apart belong together
    if count > 1:
        weight = ndimage.sum_labels(probability * mask, labels, np.arange(1, count + 1))
        small = np.flatnonzero(weight < LEAST_PIECE * weight.max()) + 1
        dropped = np.isin(labels, small)
        clean[dropped] = np.minimum(clean[dropped], 0.45)
    holes = ndimage.binary_fill_holes(clean > 0.5) & ~(clean > 0.5)
    clean[holes] = 0.55
    return clean


def _enlarged(value: Tensor, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """(1, h, w) at working size to (height, width) of the picture."""
    large = F.interpolate(value[None], shape[:2], mode="bilinear", align_corners=False)[0, 0]
    return np.ascontiguousarray(large.numpy(), np.float32)


def pick_device(name: str) -> torch.device:
    """auto: CUDA if there is one, else the CPU; raises SegmentError on a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu" or (name == "cuda" and torch.cuda.is_available()):
        return torch.device(name)
    there = "auto, cpu" + (", cuda" if torch.cuda.is_available() else "; CUDA is not available here")
    raise SegmentError(f"device={name!r}: allowed are {there}")


def load_segmenter(path: Path | None = None, device: str = "auto") -> Segmenter:
    """A segmenter from its folder; None: the small one that ships in the package. Raises SegmentError."""
    where = pick_device(device)
    if path is None and not has_default():
        raise SegmentError("no segmenter ships with this installation; train one with `synthskin segmenter train SET "
                           "--out MODEL` and give its folder instead of `default`")
    network, card = load_model(DEFAULT if path is None else Path(path))
    return Segmenter(network, card, where)


def has_default() -> bool:
    """Does this installation carry the shipped weights?"""
    return (DEFAULT / CARD).is_file()


@cache
def default_segmenter(device: str = "auto") -> Segmenter:
    """The shipped segmenter, loaded once a process."""
    return load_segmenter(None, device)
