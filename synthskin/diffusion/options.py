"""What is asked of `quickstart` and `train`: frozen, checked once, and written into cards as it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from synthskin.diffusion.errors import DiffusionError

#: Attention projections of every UNet of the family (diffusers' names): what a LoRA changes by default.
TARGETS: Final = ("to_q", "to_k", "to_v", "to_out.0")
PRECISIONS: Final = ("no", "bf16", "fp16")
SCHEDULES: Final = ("constant", "constant_with_warmup", "cosine", "linear")


def _at_least(option: str, value: float, least: float) -> None:
    if not value >= least:
        raise DiffusionError(f"{option} {value:g}: {least:g} or more is needed")


@dataclass(frozen=True, slots=True)
class QuickstartOptions:
    """A small latent diffusion trained from nothing.

    size_px         side of its pictures, a multiple of 16
    steps           optimiser steps of the UNet and the text encoder
    vae_steps       optimiser steps of the autoencoder, which comes first
    vae_width       channels of its first level (then twice and four times as many); None: 16, under 64 pixels 8
    vae_crop_px     side of the random square an autoencoder step sees of each picture
    precision       no, or bf16 (on a GPU)
    """

    size_px: int = 128
    steps: int = 1200
    vae_steps: int = 400
    batch: int = 8
    vae_batch: int = 8
    learning_rate: float = 1e-3
    vae_learning_rate: float = 2e-3
    width: int = 32
    vae_width: int | None = None
    vae_crop_px: int = 64
    precision: str = "no"
    seed: int = 0
    save_every: int = 100
    device: str = "auto"
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.size_px % 16 or not 32 <= self.size_px <= 512:
            raise DiffusionError(f"--size {self.size_px}: a multiple of 16 from 32 to 512 is needed")
        if self.width % 16 or not 16 <= self.width <= 512:
            raise DiffusionError(f"--width {self.width}: a multiple of 16 from 16 to 512 is needed")
        if self.vae_width is not None and (self.vae_width % 4 or not 4 <= self.vae_width <= 256):
            raise DiffusionError(f"--vae-width {self.vae_width}: a multiple of 4 from 4 to 256 is needed")
        if self.vae_crop_px % 16 or not 16 <= self.vae_crop_px <= 512:
            raise DiffusionError(f"--vae-crop {self.vae_crop_px}: a multiple of 16 from 16 to 512 is needed")
        if self.precision not in ("no", "bf16"):
            raise DiffusionError(f"--precision {self.precision}: allowed are no and bf16")
        for option, value in (("--steps", self.steps), ("--vae-steps", self.vae_steps), ("--batch", self.batch),
                              ("--vae-batch", self.vae_batch), ("--save-every", self.save_every)):
            _at_least(option, value, 1)
        _at_least("--seed", self.seed, 0)

    def identity(self) -> dict[str, Any]:
        """What must be the same for a training to be continued."""
        told = asdict(self)
        for key in ("save_every", "device", "overwrite"):
            del told[key]
        return told


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """A LoRA. Defaults are those usual in the field (docs/diffusion.md names their sources).

    size_px               side of the pictures; None: what the base was made for
    rank, alpha           of the LoRA; alpha None: as rank
    targets               names of the layers that get one
    snr_gamma             min-SNR weighting (Hang et al. 2023); 0 switches it off
    drop_prompt           share of pictures trained without a prompt, for guidance
    text_encoder          a LoRA on the text encoder too
    mask_input            the mask is an input: a convolution of it is added to the UNet's first layer
    instance_prompt       DreamBooth: this prompt for every picture, instead of those from metadata
    class_prompt, prior_n, prior_weight   DreamBooth: prior preservation with `prior_n` pictures made by the base
    """

    size_px: int | None = None
    steps: int = 2000
    batch: int = 4
    accumulate: int = 1
    rank: int = 16
    alpha: float | None = None
    targets: tuple[str, ...] = TARGETS
    dropout: float = 0.0
    learning_rate: float = 1e-4
    text_learning_rate: float = 5e-5
    schedule: str = "constant_with_warmup"
    warmup: int = 100
    weight_decay: float = 1e-2
    max_grad_norm: float = 1.0
    snr_gamma: float = 5.0
    noise_offset: float = 0.0
    drop_prompt: float = 0.1
    augment: bool = True
    text_encoder: bool = False
    mask_input: bool = False
    instance_prompt: str | None = None
    class_prompt: str | None = None
    prior_n: int = 100
    prior_weight: float = 1.0
    ema: float = 0.0
    precision: str = "no"
    gradient_checkpointing: bool = False
    adam_8bit: bool = False
    seed: int = 0
    save_every: int = 100
    validate_every: int = 0
    validate_n: int = 4
    base_licence: str | None = None
    device: str = "auto"
    overwrite: bool = False

    def __post_init__(self) -> None:
        for option, value, least in (
            ("--steps", self.steps, 1), ("--batch", self.batch, 1), ("--accumulate", self.accumulate, 1),
            ("--rank", self.rank, 1), ("--save-every", self.save_every, 1),
            ("--validate-every", self.validate_every, 0), ("--warmup", self.warmup, 0),
            ("--snr-gamma", self.snr_gamma, 0), ("--learning-rate", self.learning_rate, 0),
            ("--seed", self.seed, 0), ("--noise-offset", self.noise_offset, 0), ("--prior-n", self.prior_n, 1),
            ("--prior-weight", self.prior_weight, 0), ("--weight-decay", self.weight_decay, 0),
        ):
            _at_least(option, value, least)
        for option, share in (("--drop-prompt", self.drop_prompt), ("--ema", self.ema), ("--dropout", self.dropout)):
            if not 0 <= share < 1:
                raise DiffusionError(f"{option} {share:g}: 0 to below 1 is allowed")
        if self.precision not in PRECISIONS:
            raise DiffusionError(f"--precision {self.precision}: allowed are {', '.join(PRECISIONS)}")
        if self.schedule not in SCHEDULES:
            raise DiffusionError(f"--schedule {self.schedule}: allowed are {', '.join(SCHEDULES)}")
        if self.class_prompt is not None and self.instance_prompt is None:
            raise DiffusionError("--class-prompt: is DreamBooth's; give --instance-prompt too")
        if not self.targets:
            raise DiffusionError(f"--targets: at least one layer name is needed, such as {','.join(TARGETS)}")

    def identity(self) -> dict[str, Any]:
        """What must be the same for a training to be continued; steps may grow."""
        told = asdict(self) | {"targets": list(self.targets)}
        for key in ("steps", "save_every", "validate_every", "validate_n", "device", "overwrite", "base_licence"):
            del told[key]
        if self.schedule in ("cosine", "linear"):
            told["steps"] = self.steps  # the learning rate follows from it
        return told
