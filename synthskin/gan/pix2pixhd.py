"""pix2pixHD (Wang et al. 2018): pictures from masks, coarse to fine, several critics, feature matching.

The input is no colour map but planes: lesion, its outline, hair, other artefacts, the skin's ITA / 90, and one plane a
diagnosis. The published loss on VGG features is left out: it needs weights that cannot be had here.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from synthskin.conventions import DIAGNOSES, HEALTHY
from synthskin.gan.augment import symmetry
from synthskin.gan.domain import Domain, Picture
from synthskin.gan.losses import feature_matching, least_squares
from synthskin.gan.method import Method, TrainOptions, frozen, random_key
from synthskin.gan.nets import PatchGAN, ResnetBlock, initialised

LABELS: Final = (*DIAGNOSES, HEALTHY)
PLANES: Final = 5 + len(LABELS)
CRITICS: Final = 2  # at full and half size; the paper has a third for 2048 pixels
LOCAL_BLOCKS: Final = 3
HALVINGS: Final = 4
MATCHING: Final = 10.0


class CoarseToFine(nn.Module):
    """The global generator at half the size, and the local enhancer around it.

    width    channels of the enhancer's first layer; the global generator has twice as many
    blocks   residual blocks of the global generator (9); the enhancer has 3
    `coarse` gives the global generator's own picture at half the size.
    """

    def __init__(self, width: int = 32, blocks: int = 9, inputs: int = PLANES, halvings: int = HALVINGS) -> None:
        super().__init__()
        wide = 2 * width
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(inputs, wide, 7), *_normed(wide)]
        for k in range(halvings):
            layers += [nn.Conv2d(wide * 2**k, wide * 2 ** (k + 1), 3, 2, 1), *_normed(wide * 2 ** (k + 1))]
        layers += [ResnetBlock(wide * 2**halvings) for _ in range(blocks)]
        for k in range(halvings, 0, -1):
            layers += [_up(wide * 2**k), *_normed(wide * 2 ** (k - 1))]
        self.whole = nn.Sequential(*layers)
        self.whole_end = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(wide, 3, 7), nn.Tanh())
        self.inwards = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(inputs, width, 7), *_normed(width),
                                     nn.Conv2d(width, wide, 3, 2, 1), *_normed(wide))
        self.outwards = nn.Sequential(*(ResnetBlock(wide) for _ in range(LOCAL_BLOCKS)), _up(wide), *_normed(width),
                                      nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())

    def forward(self, planes: Tensor, coarse: bool = False) -> Tensor:
        half = self.whole(halved(planes))
        return self.whole_end(half) if coarse else self.outwards(self.inwards(planes) + half)


def _normed(channels: int) -> list[nn.Module]:
    return [nn.InstanceNorm2d(channels), nn.ReLU(True)]


def _up(channels: int) -> nn.Module:
    return nn.ConvTranspose2d(channels, channels // 2, 3, 2, 1, output_padding=1)


def halved(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)


class Critics(nn.Module):
    """PatchGANs over planes and picture at full size, half size ...; each gives its activations."""

    def __init__(self, width: int, halvings: int = 3, inputs: int = PLANES + 3, number: int = CRITICS) -> None:
        super().__init__()
        self.critics = nn.ModuleList(PatchGAN(width, halvings, inputs) for _ in range(number))

    def forward(self, planes: Tensor, x: Tensor) -> list[list[Tensor]]:
        both, found = torch.cat([planes, x], 1), []
        for critic in self.critics:
            found.append(critic(both, features=True))
            both = halved(both)
        return found


class Pix2pixHD(Method):
    """The first half of the steps trains the global generator at half the size, the second both together."""

    def __init__(self, options: TrainOptions, accelerator: Accelerator) -> None:
        super().__init__(options, accelerator)
        self.add("forward", initialised(self.build(options), random_key("weights", options.seed, "forward")))
        smallest = options.size_px // 4  # what the second critic sees while the global generator learns alone
        critics = Critics(options.width, 3 if smallest >= 24 else 2 if smallest >= 12 else 1)
        self.add("critics", initialised(critics, random_key("weights", options.seed, "critics")))
        self.optimise("generator", ["forward"])
        self.optimise("critics", ["critics"])

    @classmethod
    def build(cls, options: TrainOptions) -> CoarseToFine:
        halvings = min(HALVINGS, (options.size_px & -options.size_px).bit_length() - 3)
        return CoarseToFine(max(options.width // 2, 2), options.blocks, halvings=halvings)

    def draw(self, learn: tuple[Domain, ...], source: torch.Generator) -> tuple[Tensor, ...]:
        """Planes and pictures of TARGET, turned together."""
        domain = learn[-1]
        chosen = torch.randint(0, len(domain), (self.options.batch,), generator=source).tolist()
        both = symmetry(torch.cat([planes_of(domain, chosen), domain.images(chosen)], 1), source).to(self.device)
        return both[:, :PLANES], both[:, PLANES:]

    def is_coarse(self, number: int) -> bool:
        return number < self.options.steps // 2

    def step(self, batch: tuple[Tensor, ...], number: int, source: torch.Generator) -> dict[str, Tensor]:
        planes, real = batch
        generator, critics, coarse = self.nets["forward"], self.nets["critics"], self.is_coarse(number)
        with self.accelerator.autocast():
            fake = generator(planes, coarse=coarse)
            if coarse:
                planes, real = halved(planes), halved(real)
            shown = [critics(planes, x) for x in (real, fake.detach())]
            losses = {"critics": torch.stack([
                0.5 * (least_squares(r[-1], True) + least_squares(f[-1], False)) for r, f in zip(*shown, strict=True)
            ]).sum()}
        self.update(("critics",), losses["critics"])
        with frozen(critics), self.accelerator.autocast():
            found = critics(planes, fake)
            with torch.no_grad():
                wanted = critics(planes, real)
            losses["adversarial"] = torch.stack([least_squares(f[-1], True) for f in found]).sum()
            losses["matching"] = MATCHING * len(found) * feature_matching(wanted, found)
            self.update(("generator",), losses["adversarial"] + losses["matching"])
        return losses

    def validate(self, net: nn.Module, held_out: tuple[Domain, ...]) -> float:
        """Mean absolute difference from the true pictures of the held-out masks."""
        domain = held_out[-1]
        chosen = list(range(min(len(domain), 64)))
        made = torch.cat([net(part.to(self.device)).float().cpu() for part in planes_of(domain, chosen).split(8)])
        return float((made - domain.images(chosen)).abs().mean())

    def grid(self, net: nn.Module, shown: tuple[Domain, ...]) -> list[Tensor]:
        """Lesion masks, made pictures, true pictures."""
        domain = shown[-1]
        chosen = list(range(min(len(domain), 8)))
        planes = planes_of(domain, chosen)
        return [planes[:, :1].repeat(1, 3, 1, 1) * 2 - 1, net(planes.to(self.device)).float().cpu(),
                domain.images(chosen)]


def planes_of(domain: Domain, chosen: list[int]) -> Tensor:
    return torch.stack([planes(domain.picture(k)) for k in chosen])


def planes(picture: Picture) -> Tensor:
    """(13, s, s) float32 of a picture's masks and row; no mask, no tone, no label: zeros."""
    size = picture.image.shape[0]
    row: dict[str, Any] = picture.row
    made = np.zeros((PLANES, size, size), np.float32)
    if picture.mask is not None:
        inside = np.pad(picture.mask > 0, 1, mode="edge")
        core = inside[1:-1, 1:-1].copy()
        made[0] = core
        for moved in (inside[:-2, 1:-1], inside[2:, 1:-1], inside[1:-1, :-2], inside[1:-1, 2:]):
            made[1] = np.maximum(made[1], core & ~moved)
    if picture.hair is not None:
        made[2] = picture.hair > 0
    for name, mask in picture.artefacts.items():
        if name != "blur":
            made[3] = np.maximum(made[3], mask > 0)
    ita = row["ita_deg"] if row["ita_deg"] is not None else row["ita_image_deg"]
    made[4] = 0.0 if ita is None else ita / 90.0
    if row["diagnosis"] is not None:
        made[5 + LABELS.index(row["diagnosis"])] = 1.0
    return torch.from_numpy(made)
