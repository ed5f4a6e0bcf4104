"""A base model of the Stable Diffusion family (1.x, 2.x, XL): loaded part by part from a folder or the hub.

Weights are read from safetensors only. A base with 9 input channels (inpainting) is understood too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from synthskin.diffusion.errors import DiffusionError
from synthskin.files import read_json

#: What model_index.json calls pipelines this package can train and sample.
_FAMILIES: Final = {
    "StableDiffusionPipeline": "sd", "StableDiffusionImg2ImgPipeline": "sd", "StableDiffusionInpaintPipeline": "sd",
    "StableDiffusionXLPipeline": "sdxl", "StableDiffusionXLImg2ImgPipeline": "sdxl",
    "StableDiffusionXLInpaintPipeline": "sdxl",
}
#: Licence of the published weights of each kind (their model cards); --base-licence says otherwise.
_LICENCES: Final = {"sd1": "CreativeML Open RAIL-M", "sd2": "CreativeML Open RAIL++-M",
                    "sdxl": "CreativeML Open RAIL++-M"}
#: Written by `quickstart` beside the base: its honest name, licences and attribution.
BASE_CARD: Final = "synthskin_base.json"


@dataclass
class Base:
    """The parts of a base, in evaluation mode and frozen.

    name            hub id or folder, as given
    kind            "sd1" (1.x), "sd2" (2.x) or "sdxl"
    fingerprint     SHA-256 over the shapes of the UNet's weights and a sample of their values
    licences        of the weights
    """

    name: str
    kind: str
    tokenizers: list[Any]
    text_encoders: list[Any]
    vae: Any
    unet: Any
    scheduler: Any
    fingerprint: str
    licences: list[str]
    attribution: list[str]

    @property
    def is_xl(self) -> bool:
        return self.kind == "sdxl"

    @property
    def vae_scale(self) -> int:
        """Pixels a latent cell."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def native_size_px(self) -> int:
        return int(self.unet.config.sample_size) * self.vae_scale

    @property
    def inpainting(self) -> bool:
        return int(self.unet.config.in_channels) == 9

    def parts(self) -> list[Any]:
        return [self.vae, self.unet, *self.text_encoders]

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move all parts; XL's autoencoder stays float32, because it overflows in fp16."""
        for part in self.parts():
            part.to(device, torch.float32 if part is self.vae and self.is_xl else dtype)

    def check_size(self, size_px: int) -> None:
        step = self.vae_scale * 2 ** (len(self.unet.config.block_out_channels) - 1)
        if size_px % step or size_px < 2 * self.vae_scale:
            raise DiffusionError(f"--size {size_px}: {self.name} needs a multiple of {step}")


def load_base(name: str, licence: str | None = None) -> Base:
    """Load from a local folder or, by id, from the hub; raises DiffusionError saying what is wrong with it."""
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    local = Path(name).exists()
    index = _model_index(name, local)
    cls = str(index.get("_class_name"))
    family = _FAMILIES.get(cls)
    if family is None:
        raise DiffusionError(f"{name}: is a {cls}; supported is the Stable Diffusion family 1.x, 2.x and XL "
                             f"({', '.join(sorted(_FAMILIES))})")
    count = 2 if family == "sdxl" else 1
    named = [("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")][:count]
    tokenizers, text_encoders = [], []
    for k, (tokenizer, encoder) in enumerate(named):
        tokenizers.append(_part(CLIPTokenizer, name, tokenizer, local))
        cls_text = CLIPTextModelWithProjection if k == 1 else CLIPTextModel
        text_encoders.append(_part(cls_text, name, encoder, local, weights=True))
    vae = _part(AutoencoderKL, name, "vae", local, weights=True)
    unet = _part(UNet2DConditionModel, name, "unet", local, weights=True)
    scheduler = _part(DDPMScheduler, name, "scheduler", local)
    if unet.config.in_channels not in (4, 9):
        raise DiffusionError(f"{name}: its UNet takes {unet.config.in_channels} channels; 4 (text) or 9 (inpainting) "
                             "are supported")
    if scheduler.config.prediction_type not in ("epsilon", "v_prediction"):
        raise DiffusionError(f"{name}: prediction type {scheduler.config.prediction_type}; epsilon and v_prediction "
                             "are supported")
    width = text_encoders[0].config.hidden_size
    kind = "sdxl" if family == "sdxl" else "sd2" if width >= 1024 else "sd1"
    licences, attribution = _licences(name, local, licence, kind)
    base = Base(name, kind, tokenizers, text_encoders, vae, unet, scheduler, fingerprint(unet), licences, attribution)
    for part in base.parts():
        part.requires_grad_(False)
        part.eval()
    return base


def fingerprint(unet: Any) -> str:
    """SHA-256 of names, shapes and every 1009th value of the UNet's weights: tells bases apart, and is cheap."""
    digest = hashlib.sha256()
    for key, value in sorted(unet.state_dict().items()):
        digest.update(f"{key}{tuple(value.shape)}".encode())
        digest.update(value.detach().flatten()[::1009].to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def encode_prompts(base: Base, prompts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
    """(n, 77, d) hidden states, and for XL (n, p) the pooled text; gradients flow if the encoders' weights ask."""
    hidden: list[Tensor] = []
    pooled: Tensor | None = None
    for tokenizer, encoder in zip(base.tokenizers, base.text_encoders, strict=True):
        tokens = tokenizer(list(prompts), padding="max_length", truncation=True,
                           max_length=tokenizer.model_max_length, return_tensors="pt").input_ids
        out = encoder(tokens.to(encoder.device), output_hidden_states=base.is_xl)
        if base.is_xl:
            hidden.append(out.hidden_states[-2])
            pooled = out[0]
        else:
            hidden.append(out[0])
    return torch.cat(hidden, dim=-1), pooled


def added_conditions(base: Base, pooled: Tensor | None, n: int, size_px: int) -> dict[str, Any]:
    """XL's further inputs of the UNet: pooled text and the six numbers of original size, crop and target size."""
    if not base.is_xl:
        return {}
    assert pooled is not None
    ids = torch.tensor([[size_px, size_px, 0, 0, size_px, size_px]], device=pooled.device, dtype=pooled.dtype)
    return {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids.repeat(n, 1)}}


def _model_index(name: str, local: bool) -> dict[str, Any]:
    if local:
        path = Path(name) / "model_index.json"
        if not path.is_file():
            raise DiffusionError(f"{name}: is not a diffusers folder (no model_index.json); give the folder that "
                                 "`save_pretrained` or `synthskin diffusion quickstart` wrote")
        return read_json(path, DiffusionError)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise DiffusionError(f"{name}: there is no such folder, and it is no hub id (OWNER/NAME); give a local folder, "
                             "or make one with `synthskin diffusion quickstart`")
    from diffusers import DiffusionPipeline

    try:
        return dict(DiffusionPipeline.load_config(name))
    except Exception as error:
        raise _unreachable(name, error) from None


def _part(cls: Any, name: str, subfolder: str, local: bool, weights: bool = False) -> Any:
    extra: dict[str, Any] = {"use_safetensors": True} if weights else {}
    try:
        return cls.from_pretrained(name, subfolder=subfolder, local_files_only=local, **extra)
    except MemoryError:
        raise
    except Exception as error:
        if not local:
            raise _unreachable(f"{name} ({subfolder})", error) from None
        raise DiffusionError(f"{name}/{subfolder}: cannot be loaded as {cls.__name__}: "
                             f"{' '.join(str(error).split())[:160]}") from None


def _unreachable(name: str, error: Exception) -> DiffusionError:
    return DiffusionError(f"{name}: the hub cannot be reached, or has no such model ({type(error).__name__}); download "
                          "the model where there is a network, and give its folder instead of the id")


def _licences(name: str, local: bool, licence: str | None, kind: str) -> tuple[list[str], list[str]]:
    card = Path(name) / BASE_CARD
    if local and card.is_file():
        told = read_json(card, DiffusionError)
        try:
            licences, attribution = list(map(str, told["licences"])), list(map(str, told["attribution"]))
        except (KeyError, TypeError) as error:
            raise DiffusionError(f"{card}: is damaged: {str(error)[:120]}") from None
        return licences + ([licence] if licence and licence not in licences else []), attribution
    return [licence or _LICENCES[kind]], [f"base model {Path(name).name if local else name}"]
