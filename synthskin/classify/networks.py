"""The two networks, both MONAI's, with weights drawn from a seed."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from synthskin.classify.errors import ClassifyError
from synthskin.classify.options import NETWORKS


def build_network(name: str, classes: int, seed: int = 0) -> nn.Module:
    """(n, 3, h, w) normalised pictures to (n, classes) logits. The global random state is left as it was."""
    from monai.networks.nets.densenet import DenseNet121
    from monai.networks.nets.resnet import ResNet

    if name not in NETWORKS:
        raise ClassifyError(f"network={name!r}: allowed are {', '.join(NETWORKS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "densenet121":
            network: Any = DenseNet121(spatial_dims=2, in_channels=3, out_channels=classes)
        else:
            network = ResNet("basic", [1, 1, 1, 1], [24, 48, 96, 192], spatial_dims=2, n_input_channels=3,
                             num_classes=classes, conv1_t_size=5, conv1_t_stride=2)
    made: nn.Module = network.to(memory_format=torch.channels_last)
    return made


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """For AdamW: matrices and kernels decay, norms and biases do not."""
    own = list(network.parameters())
    return [{"params": [p for p in own if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in own if p.ndim <= 1], "weight_decay": 0.0}]


def pick_device(name: str) -> torch.device:
    """auto: cuda where there is one. Raises ClassifyError if cuda is asked for and missing."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise ClassifyError(f"device={name!r}: allowed are auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ClassifyError("device=cuda: no GPU that PyTorch can use is here; give cpu or auto")
    return torch.device(name)
