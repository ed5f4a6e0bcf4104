"""One training of a study: an arm with a seed, a fixed number of steps, then its predictions.

No picture of a test or of validation decides anything here: the weights are those after the last step. Everything
follows from (arm, seed): the same call on the same machine gives the same numbers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from synthskin.bias.errors import BiasError
from synthskin.bias.study_data import Pictures
from synthskin.bias.study_file import Arm, Hook, StudySpec
from synthskin.dataset.reader import Progress

_GRADIENT_LIMIT: Final = 5.0
_WARM_UP: Final = 0.05  # share of the steps with a rising learning rate, then a cosine to 0 (Loshchilov 2017)
_MEAN, _SPREAD = 0.5, 0.25  # of sRGB values; the same scaling for real and synthetic pictures


@dataclass(frozen=True, slots=True)
class Source:
    """Pictures of one set in an arm and their share of a batch."""

    data: Pictures
    positions: NDArray[np.int64]
    share: float


def build(spec: StudySpec, seed: int) -> nn.Module:
    """The network with weights drawn from the seed: (n, 3, s, s) to (n, 1, s, s) or (n, classes) logits."""
    name = spec.training.network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if spec.task == "classification":
            from synthskin.classify.networks import build_network

            return build_network(name or "small", len(spec.classes), seed)
        if name in ("", "residual_unet"):  # that of synthskin.segment, narrower
            from synthskin.segment.network import build_network as residual

            return residual((16, 32, 64, 128, 192, 256) if spec.size_px > 96 else (16, 32, 64, 128, 192))
        from monai.networks.nets.attentionunet import AttentionUnet
        from monai.networks.nets.basic_unet import BasicUNet

        if name == "attention_unet":
            return AttentionUnet(2, 3, 1, (16, 32, 64, 128), (2, 2, 2))
        return BasicUNet(2, 3, 1, (16, 16, 32, 64, 128, 16), norm=("group", {"num_groups": 8}), upsample="nontrainable")


def train(spec: StudySpec, arm_name: str, sources: Sequence[Source], seed: int, progress: Progress | None = None
          ) -> nn.Module:
    """Fit the arm; raises BiasError where it cannot learn (a class without pictures, a loss that is no number)."""
    arm, t = spec.arms[arm_name], spec.training
    device = device_of(t.device)
    key = _key(spec.name, arm_name, seed)
    network = build(spec, key).to(device)
    weights = class_weights(spec, arm, arm_name, sources).to(device)
    optimiser = torch.optim.AdamW(network.parameters(), t.learning_rate, weight_decay=t.weight_decay)
    batches = Batches(spec, arm, sources, key)
    with _repeatable(t.threads, device):
        torch.manual_seed(key)
        if progress is not None:
            progress.start(t.steps, 0)
        try:
            for step in range(t.steps):
                for group in optimiser.param_groups:
                    group["lr"] = t.learning_rate * _schedule(step, t.steps)
                images, masks, labels, other = (x.to(device) for x in batches.take(step))
                network.train()
                loss = _loss(spec, arm, network, images, masks, labels, other, weights)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), _GRADIENT_LIMIT)
                optimiser.step()
                if not math.isfinite(float(loss.detach())):
                    raise BiasError(f"[arms.{arm_name}] seed {seed}: the loss is no number at step {step}; give a "
                                    "lower [training] learning_rate")
                if progress is not None:
                    progress.step(step + 1)
        finally:
            if progress is not None:
                progress.stop()
    return network.eval()


class Batches:
    """Pictures of step k: from each source its share, every picture once before any comes again."""

    def __init__(self, spec: StudySpec, arm: Arm, sources: Sequence[Source], key: int) -> None:
        self.spec, self.arm, self.sources = spec, arm, sources
        self.rng = np.random.default_rng([key, 1])
        self.queues: list[list[int]] = [[] for _ in sources]
        self.owed = np.zeros(len(sources))
        self.hooks = [_hook(hook, key + k) for k, hook in enumerate(arm.hooks)]
        self.invariant = _hook(Hook(name="tone_shift", prob=1.0), key - 1) if arm.invariance else None

    def take(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """images (n, 3, s, s) in [0, 1], masks (n, 1, s, s), labels (n,), the pictures in other tones or nothing."""
        self.owed += np.array([source.share for source in self.sources]) * self.spec.training.batch
        images, masks, labels, others = [], [], [], []
        for k in _portions(self.owed, self.spec.training.batch):
            data = self.sources[k].data
            if not self.queues[k]:
                self.queues[k] = self.rng.permutation(self.sources[k].positions).tolist()
            i = self.queues[k].pop()
            image = torch.from_numpy(data.images[i].astype(np.float32) / 255)
            mask = torch.from_numpy(data.masks[i].astype(np.float32))[None]
            known = {"mask": mask} if np.isfinite(data.measured["size"][i]) else {}  # without one a hook looks itself
            for hook in self.hooks:
                image = hook({"image": image, **known})["image"].to(torch.float32)
            other = image
            if self.invariant is not None:
                other = self.invariant({"image": image, **known})["image"].to(torch.float32)
            if self.spec.training.augment:
                image, mask, other = _augmented(image, mask, other, self.rng)
            images.append(image)
            masks.append(mask)
            others.append(other)
            labels.append(int(data.labels[i]))
        return torch.stack(images), torch.stack(masks), torch.tensor(labels), torch.stack(others)


def _portions(owed: NDArray[np.float64], batch: int) -> list[int]:
    """Which source each picture of the batch comes from: what is owed most goes first; `owed` is brought down."""
    result = []
    for _ in range(batch):
        k = int(np.argmax(owed))
        owed[k] -= 1
        result.append(k)
    return result


def _augmented(image: Tensor, mask: Tensor, other: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Mirrored and turned by right angles, brightness and balance of the channels changed by up to a tenth."""
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    image, mask, other = (torch.rot90(x, turns, (1, 2)) for x in (image, mask, other))
    if mirror:
        image, mask, other = (x.flip(2) for x in (image, mask, other))
    gain = torch.from_numpy((1 + rng.uniform(-0.07, 0.07) + rng.uniform(-0.03, 0.03, (3, 1, 1))).astype(np.float32))
    return (image * gain).clamp(0, 1), mask, (other * gain).clamp(0, 1)


def _hook(hook: Hook, seed: int) -> Any:
    from synthskin import hooks

    made: Any
    if hook.name == "tone_shift":
        made = hooks.RandToneShiftd("image", to=hook.to, prob=hook.prob)
    elif hook.name == "colour_space_shift":
        made = hooks.RandColourSpaceShiftd("image", to=hook.to, prob=hook.prob)
    elif hook.name == "hair":
        made = hooks.RandHairOverlayd("image", prob=hook.prob)
    else:
        made = hooks.RandArtefactOverlayd("image", prob=hook.prob, names=hook.names)
    made.set_random_state(seed=seed % 2**31)
    return made


def _loss(spec: StudySpec, arm: Arm, network: nn.Module, images: Tensor, masks: Tensor, labels: Tensor, other: Tensor,
          weights: Tensor) -> Tensor:
    if spec.task == "segmentation":
        found = network((images - _MEAN) / _SPREAD)
        p = torch.sigmoid(found)
        overlap = 2 * (p * masks).sum((1, 2, 3)) + 1
        soft_dice = 1 - overlap / (p.sum((1, 2, 3)) + masks.sum((1, 2, 3)) + 1)  # Milletari 2016
        return soft_dice.mean() + F.binary_cross_entropy_with_logits(found, masks)
    if not arm.invariance:
        return F.cross_entropy(network((images - _MEAN) / _SPREAD), labels, weights)
    from synthskin.hooks import InvarianceLoss

    features: list[Tensor] = []
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    handle = last.register_forward_pre_hook(lambda module, args: features.append(args[0]))
    try:
        found = network((images - _MEAN) / _SPREAD)
        network((other - _MEAN) / _SPREAD)
    finally:
        handle.remove()
    regulariser: Tensor = InvarianceLoss(arm.invariance)(features[0], features[1])
    return F.cross_entropy(found, labels, weights) + regulariser


def class_weights(spec: StudySpec, arm: Arm, name: str, sources: Sequence[Source]) -> Tensor:
    """Of the loss; raises BiasError where there is nothing to learn."""
    if spec.task == "segmentation":
        lesions = sum(int(source.data.masks[source.positions].any((1, 2)).sum()) for source in sources)
        if lesions == 0:
            raise BiasError(f"[arms.{name}]: no training picture has a lesion in its mask; give pictures that have")
        return torch.ones(1)
    counts = sum((source.share * np.bincount(source.data.labels[source.positions], minlength=len(spec.classes))
                  / len(source.positions) for source in sources), np.zeros(len(spec.classes)))
    for label, count in zip(spec.classes, counts, strict=True):
        if count == 0:
            raise BiasError(f"[arms.{name}]: no training picture of class {label}; give pictures of it or leave it out "
                            "of classes")
    if arm.class_weights == "none":
        return torch.ones(len(counts))
    return torch.tensor(counts.sum() / (len(counts) * counts), dtype=torch.float32)


@torch.inference_mode()
def predict(spec: StudySpec, network: nn.Module, images: NDArray[np.uint8], batch: int = 32) -> NDArray[np.float32]:
    """Probabilities: (n, s, s) of the lesion, or (n, classes)."""
    device = next(network.parameters()).device
    parts = []
    with _repeatable(spec.training.threads, device):
        for k in range(0, len(images), batch):
            some = torch.from_numpy(images[k:k + batch].astype(np.float32) / 255).to(device)
            found = network((some - _MEAN) / _SPREAD).double()
            p = torch.sigmoid(found)[:, 0] if spec.task == "segmentation" else found.softmax(1)
            parts.append(p.float().cpu())
    return torch.cat(parts).numpy()


def degraded(images: NDArray[np.uint8], noise: float, blur: float, key: str) -> NDArray[np.uint8]:
    """Blurred by a Gaussian of `blur` of the side, then noise of standard deviation `noise` (of 1) added, 8 bit."""
    if not noise and not blur:
        return images
    from scipy.ndimage import gaussian_filter

    result = np.empty_like(images)
    for i, image in enumerate(images):
        value = image.astype(np.float32) / 255
        if blur:
            value = gaussian_filter(value, (0, blur * image.shape[1], blur * image.shape[1]))
        if noise:
            value = value + noise * np.random.default_rng([_key(key), i]).standard_normal(value.shape)
        result[i] = np.clip(value * 255, 0, 255).round().astype(np.uint8)
    return result


def _schedule(step: int, steps: int) -> float:
    rise = max(int(_WARM_UP * steps), 1)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))


def _key(*parts: Any) -> int:
    return int.from_bytes(hashlib.sha256("|".join(map(str, parts)).encode()).digest()[:6], "big")


def device_of(name: str) -> torch.device:
    """Raises BiasError on a GPU that is not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise BiasError("[training] device = \"cuda\": no GPU was found; give auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def _repeatable(threads: int, device: torch.device) -> Iterator[None]:
    """Fixed number of threads, deterministic kernels, the global random state given back."""
    before, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(strict)
