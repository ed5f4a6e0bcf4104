"""A trained classifier: its folder, calibrated probabilities of pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from synthskin.classify.card import CARD, WEIGHTS, ModelCard, read_card
from synthskin.classify.errors import ClassifyError
from synthskin.classify.networks import build_network, pick_device
from synthskin.classify.pictures import fitted, to_rgb
from synthskin.files import json_bytes, write_whole
from synthskin.training_state import read_tensors, tensor_bytes

F32 = NDArray[np.float32]


class Classifier:
    """A network with its card.

    classes      names, in the order of the columns of `predict`
    checkpoint   SHA-256 of the weights: the `checkpoint` of rows that were judged by it
    """

    def __init__(self, card: ModelCard, network: nn.Module, device: torch.device) -> None:
        self.card = card
        self.device = device
        self.network = network.to(device).eval()

    @property
    def classes(self) -> tuple[str, ...]:
        return self.card.classes

    @property
    def checkpoint(self) -> str:
        return self.card.weights_sha256

    def predict(self, images: Sequence[NDArray[np.uint8]], batch: int = 16) -> F32:
        """(n, k) float32 probabilities, each row adding up to 1; images are (h, w, 3) uint8 sRGB of any size.

        A picture is scaled to the network's size by its shorter side and cut to the middle square. Raises ClassifyError
        on other arrays.
        """
        if batch < 1:
            raise ClassifyError(f"batch={batch}: 1 or more is needed")
        logits = self.logits(images, batch) / self.card.temperature
        return torch.softmax(logits.double(), dim=1).float().numpy()

    def logits(self, images: Sequence[NDArray[np.uint8]], batch: int = 16) -> Tensor:
        """(n, k) before temperature and softmax, on the processor."""
        squares = [fitted(to_rgb(np.asarray(image), f"image {k}"), self.card.size_px) for k, image in enumerate(images)]
        if not squares:
            return torch.zeros(0, len(self.classes))
        parts = [logits_of(self.network, np.stack(squares[k:k + batch]), self.card.mean, self.card.std, self.device)
                 for k in range(0, len(squares), batch)]
        return torch.cat(parts)


def normalised(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(n, 3, h, w) in [0, 1] less mean, over standard deviation."""
    shape = (1, 3, 1, 1)
    return (images - images.new_tensor(mean).view(shape)) / images.new_tensor(std).view(shape)


def as_tensor(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """(n, h, w, 3) uint8 to (n, 3, h, w) float32 in [0, 1], channels last in memory."""
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().div_(255)


@torch.inference_mode()
def logits_of(network: nn.Module, images: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float],
              device: torch.device) -> Tensor:
    """(n, k) logits on the processor of (n, h, w, 3) uint8; the network is in evaluation mode."""
    found: Tensor = network(normalised(as_tensor(images, device), mean, std))
    return found.float().cpu()


def load_classifier(path: str | Path, device: str = "auto") -> Classifier:
    """The classifier in a folder written by training; raises ClassifyError saying what is wrong with it."""
    folder = Path(path)
    card = read_card(folder)
    place = pick_device(device)
    network = build_network(card.network, len(card.classes))
    load_weights(network, read_tensors(folder / WEIGHTS, ClassifyError, card.weights_sha256), str(folder / WEIGHTS))
    return Classifier(card, network, place)


def load_weights(network: nn.Module, tensors: dict[str, Tensor], name: str) -> None:
    """Every tensor of the network from `tensors`, and no other; raises ClassifyError."""
    own = network.state_dict()
    odd = sorted(set(own) ^ set(tensors)) or sorted(k for k in own if own[k].shape != tensors[k].shape)
    if odd:
        raise ClassifyError(f"{name}: does not fit the network its card names (first at {odd[0][:80]!r})")
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise ClassifyError(f"{name}: holds weights that are not finite")
    network.load_state_dict(tensors)


def save_classifier(folder: Path, network: nn.Module, card: dict[str, Any]) -> ModelCard:
    """Weights, then the card with their hash; a folder with a card is whole."""
    content = tensor_bytes(dict(network.state_dict()))
    found = ModelCard(**card, weights_sha256=hashlib.sha256(content).hexdigest())
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / WEIGHTS, content, ClassifyError)
    write_whole(folder / CARD, json_bytes(found.to_dict()), ClassifyError)
    return found
