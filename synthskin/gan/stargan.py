"""StarGAN (Choi et al. 2018) over the six ITA classes: one generator told the tone, a critic that names it too."""

from __future__ import annotations

from typing import Any, Final

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from synthskin.gan.augment import symmetry
from synthskin.gan.distance import sliced_wasserstein
from synthskin.gan.domain import Domain
from synthskin.gan.losses import gradient_penalty
from synthskin.gan.method import Method, TrainOptions, frozen, random_key
from synthskin.gan.nets import ResnetBlock, initialised

TONES: Final = 6
CRITIC_STEPS: Final = 5  # of the critic for one of the generator
PENALTY: Final = 10.0
CLASS_WEIGHT: Final = 1.0
HALVINGS: Final = 6  # of the critic at 128 pixels; fewer for smaller pictures


class ToneGenerator(nn.Module):
    """(n, 3, s, s) and the wanted tones (n,), 1 to 6, as six planes of 0 and 1; 8.43 M parameters at width 64."""

    def __init__(self, width: int = 64, blocks: int = 6) -> None:
        super().__init__()

        def norm(c: int) -> nn.Module:
            return nn.InstanceNorm2d(c, affine=True, track_running_stats=False)

        layers: list[nn.Module] = [nn.Conv2d(3 + TONES, width, 7, 1, 3, bias=False), norm(width), nn.ReLU(True)]
        for c in (width, 2 * width):
            layers += [nn.Conv2d(c, 2 * c, 4, 2, 1, bias=False), norm(2 * c), nn.ReLU(True)]
        layers += [_AffineBlock(4 * width) for _ in range(blocks)]
        for c in (4 * width, 2 * width):
            layers += [nn.ConvTranspose2d(c, c // 2, 4, 2, 1, bias=False), norm(c // 2), nn.ReLU(True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 3, 7, 1, 3, bias=False), nn.Tanh())

    def forward(self, x: Tensor, tones: Tensor) -> Tensor:
        planes = F.one_hot(tones - 1, TONES).to(x)[:, :, None, None].expand(-1, -1, *x.shape[-2:])
        return self.layers(torch.cat([x, planes], 1))


class _AffineBlock(ResnetBlock):
    """Residual block with zero padding and norms that have weights, as StarGAN's."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        layers: list[nn.Module] = []
        for k in range(2):
            layers += [nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
                       nn.InstanceNorm2d(channels, affine=True, track_running_stats=False)]
            layers += [nn.ReLU(True)] if k == 0 else []
        self.body = nn.Sequential(*layers)


class ToneCritic(nn.Module):
    """Answers (n, 1, h', w') of patches and scores (n, 6) of tones."""

    def __init__(self, size_px: int = 128, width: int = 64) -> None:
        super().__init__()
        halvings = 1
        while halvings < HALVINGS and size_px % 2 ** (halvings + 1) == 0 and size_px >> (halvings + 1) >= 2:
            halvings += 1
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.01)]
        c = width
        for _ in range(1, halvings):
            layers += [nn.Conv2d(c, 2 * c, 4, 2, 1), nn.LeakyReLU(0.01)]
            c *= 2
        self.layers = nn.Sequential(*layers)
        self.answers = nn.Conv2d(c, 1, 3, 1, 1, bias=False)
        self.tones = nn.Conv2d(c, TONES, size_px >> halvings, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = self.layers(x)
        return self.answers(found), self.tones(found).flatten(1)


class StarGAN(Method):
    """SOURCE and TARGET together are learnt from, each tone equally often; rate 1e-4 is the paper's."""

    def __init__(self, options: TrainOptions, accelerator: Accelerator) -> None:
        super().__init__(options, accelerator)
        self.add("forward", initialised(self.build(options), random_key("weights", options.seed, "forward")))
        critic = ToneCritic(options.size_px, options.width)
        self.add("critic", initialised(critic, random_key("weights", options.seed, "critic")))
        self.optimise("generator", ["forward"])
        self.optimise("critic", ["critic"])

    @classmethod
    def build(cls, options: TrainOptions) -> ToneGenerator:
        return ToneGenerator(options.width, options.blocks)

    def draw(self, learn: tuple[Domain, ...], source: torch.Generator) -> tuple[Tensor, ...]:
        """Pictures, their tones, wanted tones: for each step of the critic and one of the generator."""
        places = by_tone(learn)
        tones = sorted(places)
        pictures, own, wanted = [], [], []
        for _ in range(CRITIC_STEPS * self.options.batch):
            tone = tones[int(torch.randint(0, len(tones), (), generator=source))]
            domain, position = places[tone][int(torch.randint(0, len(places[tone]), (), generator=source))]
            pictures.append(learn[domain].images([position])[0])
            own.append(tone)
            wanted.append(tones[int(torch.randint(0, len(tones), (), generator=source))])
        x = symmetry(torch.stack(pictures), source)
        return x.to(self.device), torch.tensor(own, device=self.device), torch.tensor(wanted, device=self.device)

    def step(self, batch: tuple[Tensor, ...], number: int, source: torch.Generator) -> dict[str, Tensor]:
        generator, critic, n = self.nets["forward"], self.nets["critic"], self.options.batch
        losses: dict[str, Tensor] = {}
        for k in range(CRITIC_STEPS):
            real, own, wanted = (part[k * n:(k + 1) * n] for part in batch)
            with self.accelerator.autocast():
                with torch.no_grad():
                    fake = generator(real, wanted)
                answers, scores = critic(self.augmented(real, source))
                fake_answers, _ = critic(self.augmented(fake, source))
                losses["critic_tone"] = CLASS_WEIGHT * F.cross_entropy(scores.float(), own - 1)
                losses["critic"] = fake_answers.float().mean() - answers.float().mean()
            share = torch.rand(n, 1, 1, 1, generator=source).to(real)
            losses["penalty"] = PENALTY * gradient_penalty(critic, real, fake.float(), share)  # in full precision
            self.update(("critic",), losses["critic"] + losses["critic_tone"] + losses["penalty"])
        with frozen(critic), self.accelerator.autocast():
            fake = generator(real, wanted)
            answers, scores = critic(self.augmented(fake, source))
            losses["adversarial"] = -answers.float().mean()
            losses["tone"] = CLASS_WEIGHT * F.cross_entropy(scores.float(), wanted - 1)
            losses["reconstruction"] = self.options.cycle * F.l1_loss(generator(fake, own), real)
            self.update(("generator",), losses["adversarial"] + losses["tone"] + losses["reconstruction"])
        return losses

    def validate(self, net: nn.Module, held_out: tuple[Domain, ...]) -> float:
        """Mean over tones: distance between all held-out pictures sent to the tone and those that have it."""
        places = by_tone(held_out)
        everything = [(d, k) for found in places.values() for d, k in found][:64]
        x = torch.cat([held_out[d].images([k]) for d, k in everything])
        total = 0.0
        for tone, found in places.items():
            have = torch.cat([held_out[d].images([k]) for d, k in found])
            wanted = torch.full((len(x),), tone, device=self.device)
            sent = torch.cat([net(a.to(self.device), b).float().cpu()
                              for a, b in zip(x.split(8), wanted.split(8), strict=True)])
            total += sliced_wasserstein(sent, have, random_key("validation", self.options.seed))
        return total / len(places)

    def grid(self, net: nn.Module, shown: tuple[Domain, ...]) -> list[Tensor]:
        """The pictures, then each of the six tones."""
        x = shown[0].images(range(min(len(shown[0]), 8)))
        return [x, *(net(x.to(self.device), torch.full((len(x),), tone, device=self.device)).float().cpu()
                     for tone in range(1, TONES + 1))]


def by_tone(domains: tuple[Domain, ...]) -> dict[int, list[tuple[int, int]]]:
    """{ITA class: [(domain, position)]} of the pictures that have one."""
    found: dict[int, list[Any]] = {}
    for number, domain in enumerate(domains):
        for position, row in enumerate(domain.rows):
            if row["ita_class"] is not None:
                found.setdefault(row["ita_class"], []).append((number, position))
    return dict(sorted(found.items()))
