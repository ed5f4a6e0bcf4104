"""The classifier as ONNX beside a preprocess file, for whoever has no PyTorch (`synthskin bias audit` takes both).

The graph is fed (n, 3, size, size) float32 that is scaled to [0, 1] and normalised as the file says, and returns logits
divided by the temperature: a softmax gives calibrated probabilities.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from synthskin.classify.errors import ClassifyError
from synthskin.classify.model import Classifier
from synthskin.files import json_bytes, replacing, write_whole


class _Calibrated(nn.Module):
    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, images: Tensor) -> Tensor:
        return torch.as_tensor(self.network(images)) / self.temperature


def preprocess(classifier: Classifier) -> dict[str, Any]:
    """What a picture goes through before the graph, and its logits after it."""
    card = classifier.card
    return {
        "format": 1, "size": card.size_px, "resize": "shorter side, bilinear with antialiasing, then the middle square",
        "scale": 1 / 255, "mean": list(card.mean), "std": list(card.std), "layout": "NCHW", "channels": "RGB",
        "dtype": "float32", "input": "image", "output": "logits", "activation": "softmax",
        "classes": list(card.classes), "label": card.label, "threshold": card.threshold,
        "weights_sha256": card.weights_sha256,
    }


def export_onnx(classifier: Classifier, out: str | Path) -> tuple[Path, Path]:
    """Write FILE.onnx and FILE.json (the preprocess file) beside it; returns both. Raises ClassifyError."""
    out = Path(out)
    if out.suffix != ".onnx":
        raise ClassifyError(f"{out}: a name that ends in .onnx is needed")
    try:
        import onnx
    except ModuleNotFoundError:
        raise ClassifyError("export needs onnx; type: pip install 'synthskin[classify]'") from None
    size = classifier.card.size_px
    own: Any = classifier.network
    network = _Calibrated(own.to("cpu", memory_format=torch.contiguous_format), classifier.card.temperature)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out, ClassifyError) as temporary:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the exporter's own notices
                torch.onnx.export(network.eval(), (torch.zeros(2, 3, size, size),), str(temporary), dynamo=False,
                                  input_names=["image"], output_names=["logits"], opset_version=17,
                                  dynamic_axes={"image": {0: "n"}, "logits": {0: "n"}})
            onnx.checker.check_model(str(temporary))
    except OSError as error:
        raise ClassifyError(f"{out}: cannot be written: {error.strerror}") from None
    finally:
        own.to(classifier.device, memory_format=torch.channels_last)
    beside = out.with_suffix(".json")
    write_whole(beside, json_bytes(preprocess(classifier)), ClassifyError)
    return out, beside
