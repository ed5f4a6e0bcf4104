"""The one segmenter: a small MONAI network trained on renders (docs/segmenter.md). Hooks, gates and studies use it.

Names are loaded when they are first used, so that importing this package loads no PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "Prediction": "predict",
    "SegmentError": "errors",
    "Segmenter": "predict",
    "TrainSettings": "settings",
    "default_segmenter": "predict",
    "has_default": "predict",
    "load_segmenter": "predict",
    "train_segmenter": "train",
}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"synthskin.segment has no {name!r}; there are {', '.join(sorted(_WHERE))}")
    try:
        module = import_module(f"synthskin.segment.{_WHERE[name]}")
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "monai", "safetensors"):
            raise
        raise ImportError(f"synthskin.segment.{name} needs {error.name}; type: pip install 'synthskin[segment]'") \
            from None
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(_WHERE)
