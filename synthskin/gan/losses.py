"""Losses of the four methods and of the study's classifier, each with the paper it comes from. Means over the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def least_squares(answers: Tensor, real: bool) -> Tensor:
    """Mean squared distance of the answers from 1 (real) or 0 (Mao et al. 2017, a = 0, b = c = 1)."""
    return ((answers - (1.0 if real else 0.0)) ** 2).mean()


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """Mean of (|gradient of the critic's answer| - 1)^2 at share * real + (1 - share) * fake (Gulrajani et al. 2017).

    share   (n, 1, 1, 1) in [0, 1]. The critic's answer, or the first of several, is summed over its patches.
    """
    between = (share * real.detach() + (1.0 - share) * fake.detach()).requires_grad_(True)
    answer = critic(between)
    answer = answer[0] if isinstance(answer, tuple) else answer
    (gradient,) = torch.autograd.grad(answer.sum(), between, create_graph=True)
    return ((gradient.flatten(1).norm(2, dim=1) - 1.0) ** 2).mean()


def patch_nce(queries: Tensor, keys: Tensor, tau: float = 0.07) -> Tensor:
    """InfoNCE over patches of one picture (Park et al. 2020, eq. 3): query s belongs to key s, not to the others.

    queries, keys   (n, patches, channels), of length 1; keys carry no gradient. Mean over patches and pictures.
    """
    logits = queries @ keys.detach().transpose(1, 2) / tau
    wanted = torch.arange(queries.shape[1], device=queries.device).expand(queries.shape[0], -1)
    return F.cross_entropy(logits.flatten(0, 1), wanted.flatten())


def feature_matching(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """Mean absolute difference of the critics' activations, answers left out (Wang et al. 2018, eq. 4).

    The mean is over each critic's layers and then over critics, so it does not grow with their number.
    """
    per_critic = [torch.stack([F.l1_loss(f, r.detach()) for r, f in zip(rs[:-1], fs[:-1], strict=True)]).mean()
                  for rs, fs in zip(real, fake, strict=True)]
    return torch.stack(per_critic).mean()


def focal(logits: Tensor, labels: Tensor, gamma: float = 2.0, weights: Tensor | None = None) -> Tensor:
    """-w (1 - p)^gamma log p of the true class, averaged over the batch (Lin et al. 2017); logits (n, classes).

    With gamma 0 and no weights this is cross-entropy. Weights are the paper's alpha, one a class.
    """
    log_p = F.log_softmax(logits, 1).gather(1, labels[:, None])[:, 0]
    loss = -((1.0 - log_p.exp()) ** gamma) * log_p
    return (loss if weights is None else loss * weights[labels]).mean()
