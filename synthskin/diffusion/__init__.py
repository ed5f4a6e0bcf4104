"""Diffusion: a LoRA on the Stable Diffusion family, and sets with masks written by it. See docs/diffusion.md.

    from synthskin.diffusion import TrainOptions, train_lora, GenerateRequest, generate_set

Names are loaded when they are first used, so that this import needs no PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from synthskin.diffusion.errors import DiffusionError, ShortfallError

if TYPE_CHECKING:
    from synthskin.diffusion.generate import generate_set
    from synthskin.diffusion.options import QuickstartOptions, TrainOptions
    from synthskin.diffusion.quickstart import train_base
    from synthskin.diffusion.request import GenerateRequest, GenerateResult
    from synthskin.diffusion.train import TrainResult, train_lora

_WHERE = {
    "GenerateRequest": "request", "GenerateResult": "request", "generate_set": "generate",
    "QuickstartOptions": "options", "TrainOptions": "options",
    "train_base": "quickstart",
    "TrainResult": "train", "train_lora": "train",
}
__all__ = ["DiffusionError", "GenerateRequest", "GenerateResult", "QuickstartOptions", "ShortfallError", "TrainOptions",
           "TrainResult", "generate_set", "train_base", "train_lora"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"synthskin.diffusion has no {name!r}; there are {', '.join(__all__)}")
    try:
        module = import_module(f"synthskin.diffusion.{_WHERE[name]}")
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "diffusers", "transformers", "peft", "accelerate", "safetensors", "tokenizers"):
            raise
        raise DiffusionError(f"diffusion needs {error.name}; type: pip install 'synthskin[diffusion]'") from None
    return getattr(module, name)
