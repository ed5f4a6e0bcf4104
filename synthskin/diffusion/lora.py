"""LoRA on a base: adapters put on, saved in the layout of diffusers, checked against a base and loaded again.

Also the mask as an input: a convolution of the mask, zero at first, added to what the UNet's first layer gives. It
works with every pipeline and leaves the base's weights alone; a 9-channel base has its own way for a mask too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from synthskin.diffusion.base import Base
from synthskin.diffusion.data import mask_input
from synthskin.diffusion.errors import DiffusionError
from synthskin.diffusion.options import TrainOptions
from synthskin.diffusion.pipeline import text_pipeline
from synthskin.files import read_json, write_whole
from synthskin.training_state import ordered_header, read_tensors, tensor_bytes

WEIGHTS: Final = "pytorch_lora_weights.safetensors"  # diffusers' name
MASK_WEIGHTS: Final = "mask_input.safetensors"
CARD: Final = "synthskin_lora.json"
_TEXT_TARGETS: Final = ("q_proj", "k_proj", "v_proj", "out_proj")


class MaskInput(nn.Module):
    """(n, 1, h, w) mask of 1 in the lesion, -1 on skin, 0 unknown, to what is added to the UNet's first layer."""

    def __init__(self, channels: int, hidden: int = 16) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, hidden, 3, padding=1)
        self.last = nn.Conv2d(hidden, channels, 3, padding=1)
        self.current: Tensor | None = None

    def reset(self, seed: int) -> None:
        """Random first layer from `seed`, zero last layer: the base is unchanged at first."""
        noise = torch.Generator("cpu").manual_seed(seed)
        with torch.no_grad():
            self.first.weight.copy_(torch.randn(self.first.weight.shape, generator=noise) / 3.0)
            for zero in (self.first.bias, self.last.weight, self.last.bias):
                assert zero is not None
                zero.zero_()

    def forward(self, mask: Tensor) -> Tensor:
        found: Tensor = self.last(nn.functional.silu(self.first(mask)))
        return found

    def attach(self, unet: Any) -> None:
        """Add from now on, whenever `current` is set; guidance doubles the batch, and so the mask."""

        def add(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            if self.current is None:
                return output
            mask = self.current.to(output.device, next(self.parameters()).dtype)
            if mask.shape[0] != output.shape[0]:
                mask = mask.repeat(output.shape[0] // mask.shape[0], 1, 1, 1)
            return output + self(mask).to(output.dtype)

        unet.conv_in.register_forward_hook(add)

    def show(self, masks: Sequence[NDArray[np.uint8] | None], cells: int) -> None:
        """Set the masks of the next batch, (h, w) uint8 each."""
        self.current = torch.stack([mask_input(mask, cells) for mask in masks])


def add_lora(base: Base, options: TrainOptions, seed: int) -> MaskInput | None:
    """Put fresh adapters on the base, weights from `seed`; raises DiffusionError where no layer has such a name."""
    from peft import LoraConfig

    alpha = options.rank if options.alpha is None else options.alpha
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        base.unet.add_adapter(LoraConfig(r=options.rank, lora_alpha=alpha, lora_dropout=options.dropout,
                                         init_lora_weights="gaussian", target_modules=list(options.targets)))
        if options.text_encoder:
            for encoder in base.text_encoders:
                encoder.add_adapter(LoraConfig(r=options.rank, lora_alpha=alpha, lora_dropout=options.dropout,
                                               init_lora_weights="gaussian", target_modules=list(_TEXT_TARGETS)))
    except ValueError as error:
        raise DiffusionError(f"--targets {','.join(options.targets)}: no such layers in {base.name} "
                             f"({' '.join(str(error).split())[:100]}); usual are to_q, to_k, to_v, to_out.0, "
                             "ff.net.0.proj, ff.net.2, conv1, conv2") from None
    finally:
        torch.set_rng_state(state)
    if not options.mask_input:
        return None
    made = MaskInput(base.unet.conv_in.out_channels)
    made.reset(seed)
    made.to(base.unet.device)
    made.attach(base.unet)
    return made


def lora_parameters(base: Base, mask: MaskInput | None) -> dict[str, nn.Parameter]:
    """Everything that is trained, by name."""
    found: dict[str, nn.Parameter] = {}
    for prefix, module in (("unet", base.unet), *((f"text_encoder_{k}", e) for k, e in enumerate(base.text_encoders))):
        found |= {f"{prefix}.{name}": p for name, p in module.named_parameters() if "lora_" in name}
    if mask is not None:
        found |= {f"mask.{name}": p for name, p in mask.named_parameters()}
    return found


def save_lora(base: Base, mask: MaskInput | None, folder: Path, with_text: bool) -> str:
    """Write the weights as `pipe.load_lora_weights(folder)` reads them; gives their SHA-256."""
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    pipe = text_pipeline(base)
    layers = {"unet_lora_layers": convert_state_dict_to_diffusers(get_peft_model_state_dict(base.unet)),
              "unet_lora_adapter_metadata": _metadata(base.unet)}
    if with_text:
        for k, encoder in enumerate(base.text_encoders):
            name = "text_encoder" if k == 0 else "text_encoder_2"
            layers[f"{name}_lora_layers"] = convert_state_dict_to_diffusers(get_peft_model_state_dict(encoder))
            layers[f"{name}_lora_adapter_metadata"] = _metadata(encoder)
    type(pipe).save_lora_weights(str(folder), safe_serialization=True, **layers)
    content = ordered_header((folder / WEIGHTS).read_bytes())
    write_whole(folder / WEIGHTS, content, DiffusionError)
    if mask is not None:
        extra = tensor_bytes(dict(mask.state_dict()))
        write_whole(folder / MASK_WEIGHTS, extra, DiffusionError)
        content += extra
    return hashlib.sha256(content).hexdigest()


def _metadata(module: Any) -> dict[str, Any]:
    told = module.peft_config["default"].to_dict()
    return {key: sorted(value) if isinstance(value, set) else value for key, value in told.items()}


def read_lora_card(folder: Path) -> dict[str, Any]:
    """The card of a LoRA written by `train`; raises DiffusionError."""
    if not (folder / CARD).is_file():
        raise DiffusionError(f"{folder}: holds no LoRA of `synthskin diffusion train` ({CARD} is missing)")
    card = read_json(folder / CARD, DiffusionError)
    for key, kind in (("base", str), ("kind", str), ("fingerprint", str), ("weights_sha256", str), ("size_px", int),
                      ("mask_input", bool), ("licences", list), ("attribution", list), ("data_hash", str)):
        if not isinstance(card.get(key), kind):
            raise DiffusionError(f"{folder / CARD}: is damaged: {key} is missing or of the wrong type")
    return card


def load_lora(base: Base, folder: Path, scale: float = 1.0) -> MaskInput | None:
    """Load into the base; raises DiffusionError where shapes show that it is the LoRA of another base."""
    card = read_lora_card(folder)
    tensors = read_tensors(folder / WEIGHTS, DiffusionError)
    check_fits(base, tensors, folder)
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes())
    if card["mask_input"]:
        mask_tensors = read_tensors(folder / MASK_WEIGHTS, DiffusionError)
        digest.update((folder / MASK_WEIGHTS).read_bytes())
    if digest.hexdigest() != card["weights_sha256"]:
        raise DiffusionError(f"{folder}: its weights are not those its card names (SHA-256 differs)")
    pipe = text_pipeline(base)
    pipe.load_lora_weights(str(folder), weight_name=WEIGHTS, adapter_name="default")
    if scale != 1.0:
        pipe.set_adapters(["default"], adapter_weights=[scale])
    if not card["mask_input"]:
        return None
    mask = MaskInput(base.unet.conv_in.out_channels)
    try:
        mask.load_state_dict(mask_tensors)
    except RuntimeError:
        raise DiffusionError(f"{folder / MASK_WEIGHTS}: was made for another base than {base.name}") from None
    mask.to(base.unet.device).requires_grad_(False)
    mask.attach(base.unet)
    return mask


def check_fits(base: Base, tensors: dict[str, Tensor], folder: Path) -> None:
    """Every adapter has a layer of its shape in the base; else DiffusionError names layer and shapes."""
    networks = {"unet": base.unet, "text_encoder": base.text_encoders[0], "text_encoder_2": base.text_encoders[-1]}
    for key, value in tensors.items():
        head, _, rest = key.partition(".")
        layer, _, side = rest.removesuffix(".weight").rpartition(".lora")
        if head not in networks or not layer:
            continue
        own = dict(networks[head].named_modules())
        module = own.get(layer) or own.get(layer.removeprefix("text_model."))
        if module is None or getattr(module, "weight", None) is None:
            raise DiffusionError(f"{folder}: is a LoRA of another base: {head}.{layer} is not in {base.name}; give the "
                                 "base it was trained on with --base")
        shape = tuple(module.weight.shape)
        down = "down" in side or side.startswith("_A")
        there, here = (value.shape[1], shape[1]) if down else (value.shape[0], shape[0])
        if there != here:
            raise DiffusionError(f"{folder}: is a LoRA of another base: {head}.{layer} has {there} "
                                 f"{'inputs' if down else 'outputs'} in the LoRA, {here} in {base.name} "
                                 f"(weight {shape}); give the base it was trained on with --base")
