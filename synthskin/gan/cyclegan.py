"""CycleGAN (Zhu et al. 2017): two generators, two 70-pixel PatchGANs, least squares, cycle and identity losses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from synthskin.gan.losses import least_squares
from synthskin.gan.method import Method, TrainOptions, frozen, random_key
from synthskin.gan.nets import PatchGAN, initialised, make_generator


class ImagePool:
    """The last generated pictures: with even odds an older one is shown to the critic (Shrivastava et al. 2017)."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.kept: list[Tensor] = []

    def exchange(self, fresh: Tensor, source: torch.Generator) -> Tensor:
        """(n, 3, h, w) to show; without gradient."""
        fresh = fresh.detach().float()
        if self.size == 0:
            return fresh
        shown = []
        for picture in fresh:
            if len(self.kept) < self.size:
                self.kept.append(picture.clone())
            elif torch.rand((), generator=source) < 0.5:
                place = int(torch.randint(0, self.size, (), generator=source))
                picture, self.kept[place] = self.kept[place], picture.clone()
            shown.append(picture)
        return torch.stack(shown)


class CycleGAN(Method):
    def __init__(self, options: TrainOptions, accelerator: Accelerator) -> None:
        super().__init__(options, accelerator)
        for name in ("forward", "backward"):
            net = self.build(options)
            self.add(name, initialised(net, random_key("weights", options.seed, name), options.norm_used))
        for name in ("critic_target", "critic_source"):
            critic = PatchGAN(options.width, norm=options.norm_used)
            self.add(name, initialised(critic, random_key("weights", options.seed, name), options.norm_used))
        self.optimise("generators", ["forward", "backward"])
        self.optimise("critics", ["critic_target", "critic_source"])
        self.pools = {name: ImagePool(options.pool) for name in ("target", "source")}

    @classmethod
    def build(cls, options: TrainOptions) -> nn.Module:
        return make_generator(options.generator, options.width, options.blocks, options.size_px, options.norm_used,
                              options.skip)

    def step(self, batch: tuple[Tensor, ...], number: int, source: torch.Generator) -> dict[str, Tensor]:
        real = {"source": batch[0], "target": batch[1]}
        to_target, to_source = self.nets["forward"], self.nets["backward"]
        critics = {"target": self.nets["critic_target"], "source": self.nets["critic_source"]}
        weight, share = self.options.cycle, self.options.identity
        with frozen(*critics.values()), self.accelerator.autocast():
            fake = {"target": to_target(real["source"]), "source": to_source(real["target"])}
            losses = {f"adversarial_{name}": least_squares(critics[name](self.augmented(fake[name], source)), True)
                      for name in fake}
            losses["cycle"] = weight * (F.l1_loss(to_source(fake["target"]), real["source"])
                                        + F.l1_loss(to_target(fake["source"]), real["target"]))
            if share > 0:
                losses["identity"] = weight * share * (F.l1_loss(to_target(real["target"]), real["target"])
                                                       + F.l1_loss(to_source(real["source"]), real["source"]))
            self.update(("generators",), torch.stack(list(losses.values())).sum())
        for name, critic in critics.items():
            shown = self.pools[name].exchange(fake[name], source)
            with self.accelerator.autocast():
                losses[f"critic_{name}"] = 0.5 * (
                    least_squares(critic(self.augmented(real[name], source)), True)
                    + least_squares(critic(self.augmented(shown, source)), False))
        self.update(("critics",), losses["critic_target"] + losses["critic_source"])
        return losses

    def extra(self) -> dict[str, Tensor]:
        return {f"pool_{name}": torch.stack(pool.kept) for name, pool in self.pools.items() if pool.kept}

    def load_extra(self, state: dict[str, Tensor]) -> None:
        for name, pool in self.pools.items():
            if f"pool_{name}" in state:
                pool.kept = [picture.to(self.device).clone() for picture in state[f"pool_{name}"]]
