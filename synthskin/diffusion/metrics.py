"""Losses at fixed noise and times: with right captions, with those of another class, and of the base."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from synthskin.diffusion.base import Base, encode_prompts
from synthskin.diffusion.data import Latents, TrainingSet, mask_input
from synthskin.diffusion.devices import generator
from synthskin.diffusion.lora import MaskInput
from synthskin.diffusion.noise import loss_of


def measured(base: Base, latents: Latents, data: TrainingSet, mask: MaskInput | None, size_px: int, seed: int,
             most: int = 32) -> dict[str, float]:
    """What a LoRA's card tells, over up to `most` training pictures; a mask that is an input counts as unknown."""
    picks = sorted({int(k) for k in np.linspace(0, len(data) - 1, min(most, len(data)))})
    prompts = [data.prompts[k] for k in picks]
    swapped = [next((other for other in data.prompts[k:] + data.prompts[:k] if other != data.prompts[k]),
                    data.prompts[k]) for k in picks]
    if mask is not None:
        mask.current = mask_input(None, size_px // base.vae_scale)[None]
    right = fixed_losses(base, latents, picks, prompts, size_px, seed)
    other = fixed_losses(base, latents, picks, swapped, size_px, seed)
    adapted = [part for part in (base.unet, *base.text_encoders) if getattr(part, "peft_config", None)]
    if mask is not None:
        mask.current = None
    for part in adapted:
        part.disable_adapters()
    try:
        before = fixed_losses(base, latents, picks, prompts, size_px, seed)
    finally:
        for part in adapted:
            part.enable_adapters()
    return {"loss_right_prompts": round(float(right.mean()), 6), "loss_swapped_prompts": round(float(other.mean()), 6),
            "loss_base": round(float(before.mean()), 6), "pictures": float(len(picks))}


@torch.no_grad()
def fixed_losses(base: Base, latents: Latents, pictures: Sequence[int], prompts: Sequence[str], size_px: int,
                 seed: int, times: int = 4) -> NDArray[np.float64]:
    """(n,) unweighted loss of each picture under a prompt, mean over `times` fixed times and noises a picture."""
    found = []
    total = base.scheduler.config.num_train_timesteps
    for picture, prompt in zip(pictures, prompts, strict=True):
        drawn = latents.draw([(picture, 0)] * times, generator(seed, "fixed", picture)).to(base.unet.device,
                                                                                        base.unet.dtype)
        steps = torch.tensor([(2 * k + 1) * total // (2 * times) for k in range(times)])
        hidden, pooled = encode_prompts(base, [prompt] * times)
        loss = loss_of(base, drawn, (hidden, pooled), generator(seed, "fixed noise", picture), size_px, snr_gamma=0.0,
                       timesteps=steps)
        found.append(float(loss.mean()))
    return np.array(found)
