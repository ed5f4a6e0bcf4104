"""The training loss: noise added at a random time, predicted (or its velocity), weighted by min-SNR."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from synthskin.diffusion.base import Base, added_conditions


def loss_of(
    base: Base, latents: Tensor, text: tuple[Tensor, Tensor | None], noise: torch.Generator, size_px: int, *,
    snr_gamma: float = 5.0, noise_offset: float = 0.0, known: Tensor | None = None, unet: Any = None,
    timesteps: Tensor | None = None,
) -> Tensor:
    """(n,) loss of each picture. latents (n, 4, h, w), scaled.

    noise        draws the noise and the times, on the processor
    noise_offset adds a constant a picture and channel to the noise (Guttenberg 2023): lets means drift further
    known        (n, 5, h, w) mask and masked latents of a 9-channel base
    unet         instead of base.unet, such as accelerate's wrapping of it
    """
    n = latents.shape[0]
    total = base.scheduler.config.num_train_timesteps
    added = torch.randn(latents.shape, generator=noise)
    if noise_offset:
        added = added + noise_offset * torch.randn((n, latents.shape[1], 1, 1), generator=noise)
    if timesteps is None:
        timesteps = torch.randint(0, total, (n,), generator=noise)
    added, timesteps = added.to(latents), timesteps.to(latents.device)
    noisy = base.scheduler.add_noise(latents, added, timesteps)
    if known is not None:
        noisy = torch.cat([noisy, known.to(noisy)], dim=1)
    hidden, pooled = text
    network = base.unet if unet is None else unet
    found = network(noisy, timesteps, hidden, **added_conditions(base, pooled, n, size_px)).sample
    velocity = base.scheduler.config.prediction_type == "v_prediction"
    target = base.scheduler.get_velocity(latents, added, timesteps) if velocity else added
    loss = torch.nn.functional.mse_loss(found.float(), target.float(), reduction="none").mean(dim=(1, 2, 3))
    if snr_gamma > 0:
        loss = loss * snr_weight(base.scheduler, timesteps, snr_gamma, velocity).to(loss)
    return loss


def snr_weight(scheduler: Any, timesteps: Tensor, gamma: float, velocity: bool) -> Tensor:
    """(n,) min(SNR, gamma) / SNR for noise prediction, min(SNR, gamma) / (SNR + 1) for velocity (Hang et al. 2023)."""
    alphas = scheduler.alphas_cumprod.to(timesteps.device)[timesteps].float()
    snr = alphas / (1.0 - alphas)
    capped = snr.clamp(max=gamma)
    return capped / (snr + 1.0) if velocity else capped / snr
