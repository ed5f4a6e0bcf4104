"""Generators and discriminators that several methods share.

ResNet and U-Net generators and the 70-pixel PatchGAN as in Zhu et al. 2017 (CycleGAN; the ResNet after Johnson et al.
2016) and Isola et al. 2017 (pix2pix); down- and upsampling with binomial filters as in Zhang 2019 for CUT (Park et al.
2020). All take and give (n, c, h, w) with pictures in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORMS: Final = ("instance", "none")
SKIP_RATE: Final = 10.0  # of the nine weights of a skip, which else would move as slowly as one of many
_DEVIATION: Final = 0.02  # Radford et al. 2016


def initialised(net: nn.Module, key: int, norm: str = "instance") -> nn.Module:
    """The net with convolutions drawn from N(0, 0.02) and biases 0, keyed by `key` alone.

    Without norms signals of that size would die out: then sqrt(2 / inputs of a unit) (He et al. 2015), and a tenth of
    it at the end of residual blocks, which so begin near the identity.
    """
    source = torch.Generator().manual_seed(key)
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            deviation = _DEVIATION if norm == "instance" else (2.0 / _inputs(module)) ** 0.5
            with torch.no_grad():
                module.weight.normal_(0.0, deviation, generator=source)
                if module.bias is not None:
                    module.bias.zero_()
    if isinstance(net, ResnetGenerator) and net.skip is not None:
        last = net.layers[-2]
        assert isinstance(last, nn.Conv2d)
        with torch.no_grad():  # begins with the picture at half its contrast: else it may settle on the negative
            last.weight.mul_(0.1)
            net.skip.weight.copy_(0.5 / SKIP_RATE * torch.eye(3, net.skip.weight.shape[1])[:, :, None, None])
    if norm == "none":
        with torch.no_grad():
            for block in net.modules():
                if isinstance(block, ResnetBlock):
                    convolutions = [layer for layer in block.body if isinstance(layer, nn.Conv2d)]
                    convolutions[-1].weight.mul_(0.1)
    return net


def _inputs(module: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> float:
    """Numbers that one output adds up."""
    weight: Tensor = module.weight
    if isinstance(module, nn.ConvTranspose2d):
        return weight.shape[0] * weight[0, 0].numel() / (module.stride[0] * module.stride[1])
    return float(weight[0].numel())


def _norm(channels: int, norm: str = "instance") -> nn.Module:
    return nn.InstanceNorm2d(channels) if norm == "instance" else nn.Identity()


class BlurDown(nn.Module):
    """Half the size after the filter [1, 2, 1] (Zhang 2019)."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0])
        kernel = row[:, None] * row[None, :] / 16.0
        self.register_buffer("kernel", kernel.repeat(channels, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), self.kernel, stride=2, groups=x.shape[1])


class BlurUp(nn.Module):
    """Twice the size through the filter [1, 3, 3, 1] (Zhang 2019)."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 3.0, 3.0, 1.0])
        kernel = row[:, None] * row[None, :] / 16.0
        self.register_buffer("kernel", kernel.repeat(channels, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), "replicate")
        return F.conv_transpose2d(padded, self.kernel, stride=2, padding=3, groups=x.shape[1])


class ResnetBlock(nn.Module):
    def __init__(self, channels: int, norm: str = "instance") -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), _norm(channels, norm), nn.ReLU(True),
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), _norm(channels, norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class ResnetGenerator(nn.Module):
    """c7s1-w, d2w, d4w, `blocks` residual blocks, u2w, uw, c7s1-3: 11.378 M parameters with width 64 and 9 blocks.

    filtered   downsampling and upsampling through binomial filters (CUT's generator) instead of by stride
    norm       instance as published, which takes each picture's own lightness off; none keeps it, for tones
    skip       a mixture of each pixel's own colours is added before the tanh: fine structure and lightness need not
               pass the bottleneck and its norms. Not in the papers; a change of tone is learnt in far fewer steps
    Sizes must be multiples of 4. `features(x, layers)` gives the activations after the numbered layers.
    """

    def __init__(self, width: int = 64, blocks: int = 9, inputs: int = 3, filtered: bool = False,
                 norm: str = "instance", skip: bool = False) -> None:
        super().__init__()
        self.skip = nn.Conv2d(inputs, 3, 1, bias=False) if skip else None
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(inputs, width, 7), _norm(width, norm),
                                   nn.ReLU(True)]
        self.channels = [inputs, width, width, width]  # of the output of each layer
        for k in range(2):
            c = width * 2**k
            more: list[nn.Module] = [nn.Conv2d(c, 2 * c, 3, 1 if filtered else 2, 1), _norm(2 * c, norm),
                                     nn.ReLU(True)]
            layers += [*more, BlurDown(2 * c)] if filtered else more
            self.channels += [2 * c] * (4 if filtered else 3)
        layers += [ResnetBlock(4 * width, norm) for _ in range(blocks)]
        self.channels += [4 * width] * blocks
        for k in (2, 1):
            c = width * 2**k
            layers += ([BlurUp(c), nn.Conv2d(c, c // 2, 3, 1, 1)] if filtered
                       else [nn.ConvTranspose2d(c, c // 2, 3, 2, 1, output_padding=1)])
            layers += [_norm(c // 2, norm), nn.ReLU(True)]
        self.layers = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())

    def forward(self, x: Tensor, layers: Sequence[int] | None = None) -> Any:
        """(n, 3, h, w); with `layers` the list of their activations instead, and nothing after the last is computed."""
        if layers is None:
            if self.skip is None:
                return self.layers(x)
            return torch.tanh(self.layers[:-1](x) + SKIP_RATE * self.skip(x))
        found = []
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if number in layers:
                found.append(x)
            if number == max(layers):
                return found
        raise ValueError(f"layers {list(layers)}: the generator has {len(self.layers)}")


class UnetGenerator(nn.Module):
    """U-Net of `downs` halvings: 54.4 M parameters with width 64 and 8 of them, for pictures of 256 (Isola 2017)."""

    def __init__(self, width: int = 64, downs: int = 8, dropout: bool = True, norm: str = "instance") -> None:
        super().__init__()
        channels = [width * min(2**k, 8) for k in range(downs)]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for k, c in enumerate(channels):
            conv = nn.Conv2d(3 if k == 0 else channels[k - 1], c, 4, 2, 1)
            inner = k == downs - 1
            self.down.append(conv if k == 0 else nn.Sequential(
                nn.LeakyReLU(0.2), conv, *([] if inner else [_norm(c, norm)])))
            # upwards from the output of level k to level k - 1
            out = 3 if k == 0 else channels[k - 1]
            up: list[nn.Module] = [nn.ReLU(), nn.ConvTranspose2d(c if inner else 2 * c, out, 4, 2, 1)]
            up += [nn.Tanh()] if k == 0 else [_norm(out, norm)]
            if dropout and 4 <= k < downs - 1:
                up.append(nn.Dropout(0.5))
            self.up.append(nn.Sequential(*up))

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for layer in self.down:
            x = layer(x)
            found.append(x)
        for k in range(len(self.up) - 1, -1, -1):
            x = self.up[k](x)
            if k:
                x = torch.cat([found[k - 1], x], 1)
        return x


class PatchGAN(nn.Module):
    """Convolutional discriminator: with 3 halvings each answer sees 70 x 70 pixels; 2.765 M parameters at width 64.

    forward gives the answers (n, 1, h', w'); with `features` the activations of all layers, the answers last.
    norm   instance, as published; it takes each picture's mean off every channel, so the critic hardly sees how light
           the whole picture is. none: for tones, see ResnetGenerator
    """

    def __init__(self, width: int = 64, halvings: int = 3, inputs: int = 3, norm: str = "instance") -> None:
        super().__init__()
        self.stages = nn.ModuleList([nn.Sequential(nn.Conv2d(inputs, width, 4, 2, 1), nn.LeakyReLU(0.2))])
        c = width
        for k in range(1, halvings + 1):
            out = width * min(2**k, 8)
            stride = 1 if k == halvings else 2
            self.stages.append(nn.Sequential(nn.Conv2d(c, out, 4, stride, 1), _norm(out, norm), nn.LeakyReLU(0.2)))
            c = out
        self.stages.append(nn.Conv2d(c, 1, 4, 1, 1))

    def forward(self, x: Tensor, features: bool = False) -> Any:
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found if features else x


def make_generator(
    kind: str, width: int, blocks: int, size_px: int, norm: str = "instance", skip: bool = False
) -> nn.Module:
    """The generator by its name, `resnet` or `unet`; a U-Net halves down to one pixel as far as the size allows."""
    if kind == "resnet":
        return ResnetGenerator(width, blocks, norm=norm, skip=skip)
    downs = 0
    while downs < 8 and size_px % 2 ** (downs + 1) == 0:
        downs += 1
    return UnetGenerator(width, downs, norm=norm)


def count(net: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in net.parameters())
