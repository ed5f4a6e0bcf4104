"""Embeddings of pictures for KID, FID, precision and recall: modules that torchmetrics takes.

Built in: `FilterBank`, 94 hand-made numbers about colour and texture. It needs no weights and knows nothing about
lesions; its KID cannot be compared with published ones, which use Inception. Better, if you have it:

  --features FOLDER or a Hugging Face id   a vision model with safetensors (facebook/dinov2-small ...), by transformers
  --features FILE.onnx                     a network from pictures (n, 3, h, w) to (n, d), by onnxruntime

Neither form runs code that comes with the weights; pickled checkpoints are refused.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthskin.bias.errors import BiasError

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
DEFAULT_SIDE_PX: Final = 224
_LEVELS: Final = 4
_ANSWER_S: Final = 8.0  # that Hugging Face has for its answer


class Features(nn.Module):
    """uint8 (n, 3, h, w) to float32 (n, num_features). `name` says what it is, `remark` what it is worth."""

    name: str
    remark: str
    num_features: int
    #: scale by the real set's means and standard deviations before use: for numbers of unlike units
    standardised: bool = False


class FilterBank(Features):
    """94 numbers: a 3 x 3 grid of opponent colours, their spread, and log energies of oriented differences at 4 scales.

    Channels are intensity, red-green and yellow-blue of the encoded picture.
    """

    name = "filter bank"
    remark = ("94 hand-made numbers about colour and texture; needs no download; not comparable with published KID or "
              "FID, and blind to what makes a lesion plausible")
    num_features = 27 + 3 + _LEVELS * 16
    standardised = True

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        x = pictures.float() / 255
        r, g, b = x[:, 0], x[:, 1], x[:, 2]
        opponent = torch.stack([(r + g + b) / 3, r - g, (r + g) / 2 - b], dim=1)
        parts = [F.adaptive_avg_pool2d(opponent, 3).flatten(1), opponent.flatten(2).std(2)]
        level = opponent
        for _ in range(_LEVELS):
            parts.append(_energies(level))
            level = F.avg_pool2d(level, 2)
        return torch.cat(parts, dim=1)


def _energies(x: Tensor) -> Tensor:
    """(n, 16): log mean magnitude of four directions by channel, and their variation in intensity."""
    steps = [x[..., 1:, 1:] - x[..., 1:, :-1], x[..., 1:, 1:] - x[..., :-1, 1:], x[..., 1:, 1:] - x[..., :-1, :-1],
             x[..., 1:, :-1] - x[..., :-1, 1:]]
    size = torch.stack([step.abs() for step in steps], dim=1)  # (n, 4, 3, h, w)
    mean = size.flatten(3).mean(3)
    spread = size[:, :, 0].flatten(2).std(2)
    return torch.log(torch.cat([mean.flatten(1), spread], dim=1) + 1e-3)


class TransformersFeatures(Features):
    """A vision model of a folder or a Hugging Face id: its pooled output, else its first token."""

    remark = "the user's model"

    def __init__(self, where: str) -> None:
        super().__init__()
        self.name = where
        try:
            from transformers import AutoModel
            from transformers.utils import cached_file
        except ImportError:
            raise BiasError(f"--features {where}: needs transformers; "
                            "type: pip install 'synthskin[diffusion]'") from None
        folder = _on_this_machine(where)
        try:
            self.model = AutoModel.from_pretrained(folder, use_safetensors=True, trust_remote_code=False).eval()
            found = cached_file(folder, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise BiasError(f"--features {where}: cannot be loaded ({_line(error)}); give a folder or id of a vision "
                            "model with safetensors that transformers knows, or a .onnx file") from None
        config = json.loads(Path(found).read_text(encoding="utf-8")) if found else {}
        self.side_px = _side_of(config, getattr(self.model.config, "image_size", None))
        self._mean = _triple(config.get("image_mean"), IMAGENET_MEAN)
        self._std = _triple(config.get("image_std"), IMAGENET_STD)
        self.num_features = int(self(torch.zeros((1, 3, 32, 32), dtype=torch.uint8)).shape[1])

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        out = self.model(pixel_values=_normalised(pictures, self.side_px, self._mean, self._std))
        pooled = getattr(out, "pooler_output", None)
        if pooled is None:
            pooled = getattr(out, "last_hidden_state", None)
            if pooled is None:
                raise BiasError(f"--features {self.name}: the model gives no pooled output and no tokens")
            pooled = pooled[:, 0] if pooled.ndim == 3 else pooled
        return pooled.flatten(1).float()


class OnnxFeatures(Features):
    """A network in ONNX: pictures (n, 3, h, w), scaled as for ImageNet, to (n, d)."""

    remark = "the user's network; pictures were normalised by the means and deviations of ImageNet"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.name = path.name
        try:
            import onnxruntime
        except ImportError:
            raise BiasError(f"--features {path}: needs onnxruntime; type: pip install 'synthskin[study]'") from None
        try:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no base class
            raise BiasError(f"--features {path}: is no network onnxruntime can run: {_line(error)}") from None
        takes = self.session.get_inputs()
        if len(takes) != 1 or len(takes[0].shape) != 4 or takes[0].shape[1] != 3:
            shapes = ", ".join(str(one.shape) for one in takes)
            raise BiasError(f"--features {path}: takes {shapes}; one input (n, 3, height, width) is needed")
        self._input = takes[0].name
        self._fixed_one = takes[0].shape[0] == 1
        side = takes[0].shape[2]
        self.side_px = side if isinstance(side, int) and side > 0 else DEFAULT_SIDE_PX
        self.num_features = int(self(torch.zeros((1, 3, 32, 32), dtype=torch.uint8)).shape[1])

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        x = _normalised(pictures, self.side_px, IMAGENET_MEAN, IMAGENET_STD).numpy()
        batches = [x[k:k + 1] for k in range(len(x))] if self._fixed_one else [x]
        try:
            found = [self.session.run(None, {self._input: batch})[0] for batch in batches]
        except Exception as error:
            raise BiasError(f"--features {self.name}: fails on pictures {x.shape}: {_line(error)}") from None
        return torch.from_numpy(np.concatenate(found)).flatten(1).float()


def _on_this_machine(where: str) -> str:
    """Folder of the model, also of one that was fetched before; else the id, once its hub has answered.

    One short question without repeats: without a network transformers asks for most of a minute.
    """
    if Path(where).is_dir():
        return where
    from huggingface_hub import HfApi, try_to_load_from_cache  # transformers brings it
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        kept = try_to_load_from_cache(where, "config.json")
        if isinstance(kept, str) and _has_weights(Path(kept).parent):
            return str(Path(kept).parent)
        HfApi().model_info(where, timeout=_ANSWER_S)
    except HFValidationError:
        why = "and it is no Hugging Face id"
    except RepositoryNotFoundError:
        why = "and Hugging Face has no such model, or keeps it private"
    except Exception as error:  # of whatever HTTP library the hub uses
        why = f"no such model was fetched before, and Hugging Face cannot be reached ({type(error).__name__})"
    else:
        return where
    raise BiasError(f"--features {where}: cannot be loaded: there is no such folder, {why}; give a folder with the "
                    "config.json and safetensors of a vision model, or a .onnx file")


def _has_weights(folder: Path) -> bool:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return (folder / "model.safetensors").is_file()
    return all((folder / name).is_file() for name in set(json.loads(index.read_bytes())["weight_map"].values()))


def load_features(spec: str | None) -> Features:
    """The module of `--features`: None is the filter bank. Raises BiasError."""
    if spec is None:
        return FilterBank()
    path = Path(spec)
    if path.suffix.lower() in (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".ts"):
        raise BiasError(f"--features {spec}: such files can run code when they are opened; give a .onnx file, or a "
                        "folder or Hugging Face id with safetensors")
    if path.suffix.lower() == ".onnx":
        if not path.is_file():
            raise BiasError(f"--features {spec}: there is no such file")
        return OnnxFeatures(path)
    return TransformersFeatures(spec)


def embed(features: Features, images: np.ndarray, batch: int = 32) -> Tensor:
    """(n, d) float32 of pictures (n, s, s, 3) uint8; raises BiasError on values that are not finite."""
    pictures = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    found = torch.cat([features(some) for some in pictures.split(batch)])
    if not torch.isfinite(found).all():
        raise BiasError(f"--features {features.name}: gives values that are not finite")
    return found


def _normalised(pictures: Tensor, side: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    x = F.interpolate(pictures.float() / 255, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    return (x - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def _side_of(config: Mapping[str, Any], fallback: Any) -> int:
    for size in (config.get("crop_size"), config.get("size"), fallback):
        value = size.get("height", size.get("shortest_edge")) if isinstance(size, Mapping) else size
        if isinstance(value, int) and 16 <= value <= 1024:
            return value
    return DEFAULT_SIDE_PX


def _triple(values: Any, fallback: tuple[float, ...]) -> tuple[float, ...]:
    good = isinstance(values, list) and len(values) == 3 and all(isinstance(v, (int, float)) for v in values)
    return tuple(float(v) for v in values) if good else fallback


def _line(error: BaseException) -> str:
    """The message in one line; a long one ends at a whole word."""
    return textwrap.shorten(str(error), 160, placeholder=" ...")
