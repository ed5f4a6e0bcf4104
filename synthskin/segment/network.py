"""The network and its folder: MODEL/model.safetensors (float16), MODEL/card.json. The only import of MONAI's nets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from monai.networks.nets.unet import UNet
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from synthskin.files import json_bytes, parse_json, write_whole
from synthskin.segment.errors import SegmentError
from synthskin.segment.settings import STRIDE
from synthskin.training_state import tensor_bytes

FORMAT: Final = "synthskin segmenter"
FORMAT_VERSION: Final = 1
WEIGHTS: Final = "model.safetensors"
CARD: Final = "card.json"
MAX_CARD_BYTES: Final = 4_000_000
MAX_WEIGHT_BYTES: Final = 1_000_000_000
MEAN: Final = 0.5  # of sRGB values in [0, 1]; the network sees (value - MEAN) / SPREAD
SPREAD: Final = 0.25


def build_network(channels: Sequence[int]) -> nn.Module:
    """MONAI's residual UNet (Kerfoot 2018) on blocks of 2 x 2 pixels: (n, 3, h, w) to logits (n, 1, h, w).

    h and w are multiples of 32. The blocks halve the time and cost no sharpness that an outline needs. Group norm keeps
    no running statistics, so another camera finds nothing of ours in it; the UNet norms its output too, hence the plain
    convolution behind it.
    """
    body = UNet(spatial_dims=2, in_channels=12, out_channels=16, channels=tuple(channels),
                strides=(2,) * (len(channels) - 1), num_res_units=2, norm=("GROUP", {"num_groups": 8}), act="PRELU")
    return nn.Sequential(nn.PixelUnshuffle(2), body, nn.Conv2d(16, 4, 1), nn.PixelShuffle(2))


def logits(network: nn.Module, images: Tensor) -> Tensor:
    """(n, 1, h, w) of pictures (n, 3, h, w) in [0, 1]."""
    result: Tensor = network((images - MEAN) / SPREAD)
    return result


def working_shape(height: int, width: int, size_px: int) -> tuple[int, int]:
    """Sides of the working picture: about size_px^2 pixels, aspect kept within rounding and 3:1, multiples of 32."""
    aspect = min(max(width / height, 1 / 3), 3.0)
    sides = (size_px / aspect**0.5, size_px * aspect**0.5)
    h, w = (max(round(side / STRIDE), 1) * STRIDE for side in sides)
    return h, w


def half_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights as they are shipped: float16, contiguous, on the CPU."""
    return {name: value.detach().to("cpu", torch.float16).contiguous() for name, value in sorted(state.items())}


def save_model(directory: Path, weights: Mapping[str, Tensor], card: dict[str, Any]) -> None:
    """Weights first, card last (it holds their SHA-256); raises SegmentError."""
    data = tensor_bytes(weights, {"format": "pt"})
    card = {**card, "weights_sha256": hashlib.sha256(data).hexdigest()}
    write_whole(directory / WEIGHTS, data, SegmentError)
    write_whole(directory / CARD, json_bytes(card), SegmentError)


def read_bytes(path: Path, most: int) -> bytes:
    try:
        if path.stat().st_size > most:
            raise SegmentError(f"{path}: larger than {most} bytes, so it is no segmenter of synthskin")
        return path.read_bytes()
    except OSError as error:
        raise SegmentError(f"{path}: cannot be read: {error.strerror or error}") from None


def load_model(directory: Path) -> tuple[nn.Module, dict[str, Any]]:
    """(network in float32, in evaluation mode; card) of a model's folder; raises SegmentError. Unpickles nothing."""
    if not (directory / CARD).is_file() or not (directory / WEIGHTS).is_file():
        left = "; its training is not finished, give its command again" if (directory / "training").is_dir() else ""
        raise SegmentError(f"{directory}: no {CARD} and {WEIGHTS} there{left or '; give the folder of a segmenter'}")
    card = parse_card(read_bytes(directory / CARD, MAX_CARD_BYTES), str(directory / CARD))
    data = read_bytes(directory / WEIGHTS, MAX_WEIGHT_BYTES)
    found = hashlib.sha256(data).hexdigest()
    if found != card["weights_sha256"]:
        raise SegmentError(f"{directory / WEIGHTS}: SHA-256 {found[:12]}..., the card says "
                           f"{card['weights_sha256'][:12]}...; the file is damaged or of another model")
    network = build_network(card["settings"]["channels"])
    load_weights(network, tensors_of(data, str(directory / WEIGHTS)), str(directory / WEIGHTS))
    return network.eval(), card


def tensors_of(data: bytes, name: str) -> dict[str, Tensor]:
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise SegmentError(f"{name}: is damaged: {error}") from None


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    wanted = network.state_dict()
    for key, value in wanted.items():
        if key not in weights or weights[key].shape != value.shape:
            came = tuple(weights[key].shape) if key in weights else "nothing"
            raise SegmentError(f"{name}: {key} has {came}, the network of its card needs {tuple(value.shape)}")
        if not torch.isfinite(weights[key]).all():
            raise SegmentError(f"{name}: {key} holds numbers that are not finite")
    network.load_state_dict({key: weights[key].to(torch.float32) for key in wanted})


def parse_card(data: bytes, name: str) -> dict[str, Any]:
    """card.json; raises SegmentError where it is none or lacks what prediction needs."""
    try:
        card = parse_json(data)
    except (ValueError, RecursionError) as error:
        raise SegmentError(f"{name}: not JSON: {error}") from None
    if not isinstance(card, dict) or card.get("format") != FORMAT or card.get("format_version") != FORMAT_VERSION:
        raise SegmentError(f"{name}: not the card of a segmenter (format '{FORMAT}', version {FORMAT_VERSION})")
    settings = card.get("settings")
    fit = card.get("calibration", {}).get("weights") if isinstance(card.get("calibration"), dict) else None
    size = settings.get("size_px") if isinstance(settings, dict) else None
    channels = settings.get("channels") if isinstance(settings, dict) else None
    good = (
        isinstance(card.get("weights_sha256"), str)
        and isinstance(size, int) and not isinstance(size, bool) and 64 <= size <= 1024 and size % STRIDE == 0
        and isinstance(channels, list) and len(channels) == 5
        and all(isinstance(c, int) and not isinstance(c, bool) and 8 <= c <= 1024 and c % 8 == 0 for c in channels)
        and isinstance(fit, list) and all(isinstance(w, (int, float)) and not isinstance(w, bool) for w in fit)
    )
    if not good:
        raise SegmentError(f"{name}: settings, calibration or weights_sha256 are missing or cannot be")
    return card
