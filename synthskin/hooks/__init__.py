"""What a training loop imports: data sets, mixing, rendered streams, tone and artefact transforms (docs/hooks.md).

Names are loaded when they are first used, so that `from synthskin.hooks import ToneShift` needs PyTorch alone and the
dictionary transforms (`RandToneShiftd` ...) need MONAI.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "ArtefactOverlay": "overlay",
    "ArtefactOverlayd": "dictionary",
    "ColourSpaceShift": "baseline",
    "ColourSpaceShiftd": "dictionary",
    "HairOverlay": "overlay",
    "HairOverlayd": "dictionary",
    "InvarianceLoss": "invariance",
    "Linear": "mixing",
    "MixedDataset": "mixing",
    "MixedSampler": "mixing",
    "RandArtefactOverlayd": "dictionary",
    "RandColourSpaceShiftd": "dictionary",
    "RandHairOverlayd": "dictionary",
    "RandToneShiftd": "dictionary",
    "RenderedStream": "stream",
    "SkinDataset": "data",
    "ToneShift": "tone",
    "ToneShiftd": "dictionary",
    "collate": "data",
}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"synthskin.hooks has no {name!r}; there are {', '.join(sorted(_WHERE))}")
    try:
        module = import_module(f"synthskin.hooks.{_WHERE[name]}")
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "monai"):
            raise
        raise ImportError(f"synthskin.hooks.{name} needs {error.name}; type: pip install {error.name}") from None
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(_WHERE)
