"""CUT (Park et al. 2020): one generator, one PatchGAN, and patches that must be told apart by where they come from."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from synthskin.gan.losses import least_squares, patch_nce
from synthskin.gan.method import Method, TrainOptions, frozen, random_key
from synthskin.gan.nets import PatchGAN, ResnetGenerator, initialised

#: Layers of the generator: the pixels, both halvings, the first and the fifth residual block.
LAYERS: Final = (0, 4, 8, 12, 16)
PATCHES: Final = 256
TAU: Final = 0.07
PROJECTED: Final = 256


class PatchProjections(nn.Module):
    """A two-layer perceptron a layer, then length 1: (n, patches, 256) of (n, c, h, w) at the same places."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Linear(c, PROJECTED), nn.ReLU(), nn.Linear(PROJECTED, PROJECTED)) for c in channels)

    def forward(self, found: list[Tensor], places: list[Tensor]) -> list[Tensor]:
        return [F.normalize(project(layer.flatten(2).transpose(1, 2)[:, at]).float(), dim=-1, eps=1e-7)
                for project, layer, at in zip(self.projections, found, places, strict=True)]


class CUT(Method):
    """Adversarial loss and PatchNCE weigh 1 each; PatchNCE is also taken on TARGET (identity), as published."""

    def __init__(self, options: TrainOptions, accelerator: Accelerator) -> None:
        super().__init__(options, accelerator)
        net = self.build(options)
        self.layers = tuple(k for k in LAYERS if k < 12 + options.blocks)
        self.add("forward", initialised(net, random_key("weights", options.seed, "forward"), options.norm_used))
        critic = PatchGAN(options.width, norm=options.norm_used)
        self.add("critic", initialised(critic, random_key("weights", options.seed, "critic"), options.norm_used))
        channels = [net.channels[k] for k in self.layers]
        self.add("projections", initialised(PatchProjections(channels),
                                            random_key("weights", options.seed, "projections")))
        self.optimise("generator", ["forward"])
        self.optimise("critic", ["critic"])
        self.optimise("projections", ["projections"])

    @classmethod
    def build(cls, options: TrainOptions) -> ResnetGenerator:
        return ResnetGenerator(options.width, options.blocks, filtered=True, norm=options.norm_used, skip=options.skip)

    def step(self, batch: tuple[Tensor, ...], number: int, source: torch.Generator) -> dict[str, Tensor]:
        real, wanted = batch
        generator, critic = self.nets["forward"], self.nets["critic"]
        losses = {}
        with self.accelerator.autocast():
            both = generator(torch.cat([real, wanted]))
            fake, same = both.split(len(real))
            losses["critic"] = 0.5 * (least_squares(critic(self.augmented(wanted, source)), True)
                                      + least_squares(critic(self.augmented(fake.detach(), source)), False))
        self.update(("critic",), losses["critic"])
        with frozen(critic), self.accelerator.autocast():
            losses["adversarial"] = least_squares(critic(self.augmented(fake, source)), True)
            losses["nce"] = 0.5 * self._nce(real, fake, source)
            losses["nce_identity"] = 0.5 * self._nce(wanted, same, source)
            total = losses["adversarial"] + losses["nce"] + losses["nce_identity"]
        self.update(("generator", "projections"), total)
        return losses

    def _nce(self, before: Tensor, after: Tensor, source: torch.Generator) -> Tensor:
        """Mean over layers; the features of `before` are the keys."""
        generator, project = self.nets["forward"], self.nets["projections"]
        queries = generator(after, self.layers)
        with torch.no_grad():
            keys = generator(before, self.layers)
        places = [torch.randperm(layer[0, 0].numel(), generator=source)[:PATCHES].to(layer.device) for layer in queries]
        pairs = zip(project(queries, places), project(keys, places), strict=True)
        return torch.stack([patch_nce(q, k, TAU) for q, k in pairs]).mean()
