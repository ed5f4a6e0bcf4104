"""The classifier of skin pictures: trained on sets of the contract, calibrated, independent of every generator.

    from synthskin.classify import load_classifier
    c = load_classifier("models/seven")          # a folder written by `synthskin classifier train`
    c.classes                                    # ("MEL", "NV", ...)
    c.predict(images)                            # (n, k) float32, calibrated; images are (h, w, 3) uint8 of any size

Names are loaded when they are first used, so that this import needs no PyTorch. See docs/classifier.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from synthskin.classify.errors import ClassifyError

if TYPE_CHECKING:
    from synthskin.classify.evaluation import Evaluation, evaluate
    from synthskin.classify.export import export_onnx
    from synthskin.classify.model import Classifier, load_classifier
    from synthskin.classify.options import TrainOptions
    from synthskin.classify.train import TrainResult, train_classifier

_WHERE = {
    "Classifier": "model",
    "Evaluation": "evaluation",
    "TrainOptions": "options",
    "TrainResult": "train",
    "evaluate": "evaluation",
    "export_onnx": "export",
    "load_classifier": "model",
    "train_classifier": "train",
}
__all__ = ["Classifier", "ClassifyError", "Evaluation", "TrainOptions", "TrainResult", "evaluate", "export_onnx",
           "load_classifier", "train_classifier"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"synthskin.classify has no {name!r}; there are {', '.join(__all__)}")
    try:
        module = import_module(f"synthskin.classify.{_WHERE[name]}")
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "monai", "safetensors", "sklearn"):
            raise
        raise ClassifyError(f"the classifier needs {error.name}; type: pip install 'synthskin[classify]'") from None
    return getattr(module, name)
