"""Settings of a training, and what a method must do: draw a batch, take a step, translate, judge by validation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from synthskin.draw import hash_uniform
from synthskin.gan import CHANGES, METHODS, GanError
from synthskin.gan.augment import diff_augment, parse_policy, symmetry
from synthskin.gan.distance import sliced_wasserstein
from synthskin.gan.domain import Domain
from synthskin.gan.nets import NORMS

GENERATORS: Final = ("resnet", "unet")
PRECISIONS: Final = ("no", "bf16", "fp16")
_MOST_JUDGED: Final = 64  # held-out pictures a domain that validation looks at


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What decides the weights, besides the pictures. Defaults are those of the papers unless a word says otherwise.

    method, change     cyclegan, cut, stargan or pix2pixhd; class, tone or picture
    size_px            side of the pictures, a multiple of 16 from 32
    steps              updates of the generator; the rate falls linearly to 0 over the second half
    batch, rate        pictures a domain a step; Adam's rate (betas 0.5, 0.999)
    width, blocks      channels of the first layer; residual blocks
    generator          resnet or unet (cyclegan)
    norm               of cyclegan and cut: instance as published, none, or auto: none for tones, because instance norms
                       forget how light a picture is
    skip               the resnet adds a mixture of each pixel's own colours (cyclegan, cut); not in the papers
    cycle, identity    weights: cycle (or reconstruction), and identity as a share of it; 1 or 0.5 in the literature
    pool               pictures in the image pool, 0 for none
    augment            auto, none, or policies of DiffAugment
    ema                decay of the averaged weights that are used afterwards
    precision          no, bf16 or fp16: mixed precision of accelerate
    every, patience    steps between validations (0: a twentieth of the steps); validations without gain before the
                       stop (0: never stop)
    """

    method: str = "cyclegan"
    change: str = "class"
    size_px: int = 256
    steps: int = 20_000
    batch: int = 1
    rate: float = 2e-4
    width: int = 64
    blocks: int = 9
    generator: str = "resnet"
    norm: str = "auto"
    skip: bool = False
    cycle: float = 10.0
    identity: float = 0.5
    pool: int = 50
    augment: str = "auto"
    ema: float = 0.999
    precision: str = "no"
    seed: int = 0
    every: int = 0
    patience: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (("method", METHODS), ("change", CHANGES), ("generator", GENERATORS),
                              ("norm", ("auto", *NORMS)), ("precision", PRECISIONS)):
            if getattr(self, name) not in allowed:
                raise GanError(f"--{name} {getattr(self, name)}: allowed are {', '.join(allowed)}")
        if self.size_px % 16 or not 32 <= self.size_px <= 2048:
            raise GanError(f"--size {self.size_px}: a multiple of 16 from 32 to 2048 is needed")
        bounds: dict[str, tuple[float, float]] = {
            "steps": (1, 10**8), "batch": (1, 256), "rate": (1e-7, 1.0), "width": (4, 256), "blocks": (1, 32),
            "cycle": (0, 1e3), "identity": (0, 1e3), "pool": (0, 1000), "ema": (0, 0.99999), "every": (0, 10**8),
            "patience": (0, 10**6), "seed": (0, 2**53)}
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise GanError(f"--{name} {getattr(self, name)}: {low:g} to {high:g} is needed")
        if self.skip and (self.method not in ("cyclegan", "cut") or self.generator != "resnet"):
            raise GanError("--skip: is for the resnet generator of cyclegan and cut; a U-Net has its own")
        parse_policy(self.augment, self.change)

    @property
    def norm_used(self) -> str:
        return ("none" if self.change == "tone" else "instance") if self.norm == "auto" else self.norm

    @property
    def interval(self) -> int:
        """Steps between two validations."""
        return self.every or max(1, self.steps // 20)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def random_source(*parts: str | int) -> torch.Generator:
    """A generator of random numbers keyed by the parts alone, so that step k draws the same however it is reached."""
    return torch.Generator().manual_seed(random_key(*parts))


def random_key(*parts: str | int) -> int:
    return int(hash_uniform(*parts) * 2**53)


class Method:
    """Base of the methods. A subclass fills `nets` and `optimisers` and names the net that is kept for translation.

    nets         {name: network} on the accelerator's device      optimisers   {name: (optimiser, its rate)}
    published    name of the network whose averaged weights make the model
    """

    published = "forward"
    beta_1 = 0.5
    beta_2 = 0.999

    def __init__(self, options: TrainOptions, accelerator: Accelerator) -> None:
        self.options, self.accelerator = options, accelerator
        self.policy = parse_policy(options.augment, options.change)
        self.nets: dict[str, nn.Module] = {}
        self.optimisers: dict[str, tuple[Any, float]] = {}

    # ---- what a subclass fills in
    @classmethod
    def build(cls, options: TrainOptions) -> nn.Module:
        """The published network, not initialised: what a model on disk holds the weights of."""
        raise NotImplementedError

    def step(self, batch: tuple[Tensor, ...], number: int, source: torch.Generator) -> dict[str, Tensor]:
        """One update of everything; the losses by name."""
        raise NotImplementedError

    def draw(self, learn: tuple[Domain, ...], source: torch.Generator) -> tuple[Tensor, ...]:
        """Pictures of SOURCE and of TARGET, each drawn on its own and turned by a symmetry of the square."""
        return tuple(symmetry(self.some(domain, source), source).to(self.device) for domain in learn)

    def validate(self, net: nn.Module, held_out: tuple[Domain, ...]) -> float:
        """Smaller is better: sliced Wasserstein distance between translated held-out sources and held-out targets."""
        images = [d.images(range(min(len(d), _MOST_JUDGED))) for d in held_out]
        translated = torch.cat([net(part.to(self.device)).float().cpu() for part in images[0].split(8)])
        return sliced_wasserstein(translated, images[1], random_key("validation", self.options.seed))

    def grid(self, net: nn.Module, shown: tuple[Domain, ...]) -> list[Tensor]:
        """Rows of pictures (n, 3, s, s) in [-1, 1] to be looked at: before, after."""
        before = shown[0].images(range(min(len(shown[0]), 8)))
        return [before, net(before.to(self.device)).float().cpu()]

    def extra(self) -> dict[str, Tensor]:
        """State besides weights and optimisers."""
        return {}

    def load_extra(self, state: dict[str, Tensor]) -> None:
        pass

    # ---- what subclasses use
    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    def add(self, name: str, net: nn.Module) -> nn.Module:
        self.nets[name] = net.to(self.device)
        return self.nets[name]

    def optimise(self, name: str, nets: list[str], rate: float | None = None) -> None:
        """Adam over the parameters of the named nets, kept under `name`."""
        parameters = [p for net in nets for p in self.nets[net].parameters()]
        rate = self.options.rate if rate is None else rate
        adam = torch.optim.Adam(parameters, rate, betas=(self.beta_1, self.beta_2))
        self.optimisers[name] = (self.accelerator.prepare_optimizer(adam), rate)

    def update(self, names: tuple[str, ...], loss: Tensor) -> None:
        """One step of the named optimisers down the loss."""
        chosen = [self.optimisers[name][0] for name in names]
        for optimiser in chosen:
            optimiser.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        for optimiser in chosen:
            optimiser.step()

    def some(self, domain: Domain, source: torch.Generator) -> Tensor:
        return domain.images(torch.randint(0, len(domain), (self.options.batch,), generator=source).tolist())

    def augmented(self, x: Tensor, source: torch.Generator) -> Tensor:
        return diff_augment(x, self.policy, source) if self.policy else x


@contextmanager
def frozen(*nets: nn.Module) -> Iterator[None]:
    """Without gradients for the parameters of the nets; gradients pass through them."""
    for net in nets:
        net.requires_grad_(False)
    try:
        yield
    finally:
        for net in nets:
            net.requires_grad_(True)


def make_method(options: TrainOptions, accelerator: Accelerator) -> Method:
    return method_class(options.method)(options, accelerator)


def method_class(name: str) -> type[Method]:
    from importlib import import_module

    found: type[Method] = getattr(import_module(f"synthskin.gan.{name}"), {
        "cyclegan": "CycleGAN", "cut": "CUT", "stargan": "StarGAN", "pix2pixhd": "Pix2pixHD"}[name])
    return found
