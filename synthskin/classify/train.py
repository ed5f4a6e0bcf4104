"""Training: everything about step k follows from (seed, k), so a killed run goes on to the very same weights.

MODEL/
  classifier.json, weights.safetensors   the finished classifier (card.py); not there before
  training/state.json, state-*.safetensors   weights, averaged weights, optimiser of the last saved step
"""

from __future__ import annotations

import hashlib
import math
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from synthskin import __version__
from synthskin.classify.augment import augment
from synthskin.classify.card import CARD, WEIGHTS, ModelCard, read_card
from synthskin.classify.errors import ClassifyError
from synthskin.classify.metrics import figures, fit_temperature
from synthskin.classify.model import as_tensor, logits_of, normalised, save_classifier
from synthskin.classify.networks import build_network, parameter_groups, pick_device
from synthskin.classify.options import TrainOptions
from synthskin.classify.pictures import Labelled, Pictures, data_hash, labelled, open_sets, training_split
from synthskin.dataset.reader import Progress
from synthskin.files import LOCK, FolderLock
from synthskin.training_state import STATE, check_same, load_optimiser, load_state, optimiser_tensors, save_state

TRAINING: Final = "training"
_MEAN_FROM: Final = 512  # pictures of which mean and deviation are taken
_GRADIENT_LIMIT: Final = 5.0
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Where the model is, its card, steps made in this run (0: it was finished before) and their seconds."""

    folder: Path
    card: ModelCard
    made: int
    seconds: float


def train_classifier(
    sets: str | Path | Sequence[str | Path],
    out: str | Path,
    options: TrainOptions | None = None,
    progress: Progress | None = None,
    overwrite: bool = False,
    tell: Tell | None = None,
) -> TrainResult:
    """Train on one set or several, write the classifier to the folder `out`. The same call again continues.

    Rows with split=test, and their groups, are never looked at. Raises ClassifyError where the sets or options cannot
    be trained on or `out` holds something else, DatasetError where a set cannot be read.
    """
    options = options or TrainOptions()
    out = Path(out)
    directories = [sets] if isinstance(sets, str | Path) else list(sets)
    device = pick_device(options.device)
    data = labelled(open_sets(directories), options.label, options.classes)
    train, validation = training_split(data, options.validation_share, options.seed)
    identity = options.identity() | {"data": data_hash(data)}
    finished = _prepare(out, identity, overwrite)
    if finished is not None:
        return TrainResult(out, finished, 0, 0.0)
    with _locked(out), _repeatable(device):
        run = _Run(data, train, validation, options, device, identity, out)
        started = time.monotonic()
        made = run.to_end(progress, tell or (lambda text: None))
        card = run.finish()
    shutil.rmtree(out / TRAINING)
    return TrainResult(out, card, made, time.monotonic() - started)


def _prepare(out: Path, identity: dict[str, Any], overwrite: bool) -> ModelCard | None:
    """The card if this very training is finished; None if it is to be made. Deletes an old model only on overwrite."""
    if out.exists() and not out.is_dir():
        raise ClassifyError(f"{out}: is a file; give a folder for the model")
    if overwrite:
        for name in (CARD, WEIGHTS):
            (out / name).unlink(missing_ok=True)
        if (out / TRAINING / STATE).exists():
            shutil.rmtree(out / TRAINING)
    if (out / CARD).exists():
        card = read_card(out)
        check_same({**card.options, "data": card.data.get("hash")}, identity, out, ClassifyError)
        return card
    known = {TRAINING, WEIGHTS, f".{WEIGHTS}.part", f".{CARD}.part", LOCK}
    strange = sorted(p.name for p in out.iterdir() if p.name not in known) if out.is_dir() else []
    if strange:
        raise ClassifyError(f"{out}: holds {strange[0][:60]!r}, which is no part of a classifier; choose another --out")
    return None


class _Run:
    """A training between its steps."""

    def __init__(self, data: Labelled, train: list[int], validation: list[int], options: TrainOptions,
                 device: torch.device, identity: dict[str, Any], out: Path) -> None:
        self.data, self.train, self.validation = data, train, validation
        self.options, self.device, self.identity, self.out = options, device, identity, out
        self.pictures = Pictures(data, options.size_px)
        self.labels = torch.from_numpy(data.labels)
        self.network = build_network(options.network, len(data.classes), options.seed).to(device)
        self.averaged = AveragedModel(self.network, multi_avg_fn=_average(options.ema_decay), use_buffers=True)
        self.optimiser = torch.optim.AdamW(parameter_groups(self.network, options.weight_decay), options.learning_rate)
        self.mean, self.std = self._moments()
        self.loss = _loss(options, np.bincount(data.labels[train], minlength=len(data.classes)), device)
        self.siblings = siblings(data, train) if options.logit_pairing else {}
        self.step = 0
        self.history: list[dict[str, Any]] = []
        self._order: tuple[int, np.ndarray] | None = None
        found = load_state(out / TRAINING, identity, out, ClassifyError)
        if found is not None:
            told, tensors = found
            if not isinstance(told.get("history"), list):
                raise ClassifyError(f"{out / TRAINING / STATE}: is damaged; --overwrite starts anew")
            self.step, self.history = told["step"], told["history"]
            self._load(tensors)

    def _moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        some = self.train[:: max(1, len(self.train) // _MEAN_FROM)]
        values = self.pictures.get(some).reshape(-1, 3).astype(np.float32) / 255
        mean, std = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
        return tuple(round(float(v), 4) for v in mean), tuple(round(max(float(v), 0.02), 4) for v in std)

    def to_end(self, progress: Progress | None, tell: Tell) -> int:
        """All steps that are left; the state is saved every `save_every`, and when the user interrupts."""
        first = self.step
        if progress is not None:
            progress.start(self.options.steps, first)
        try:
            with _interrupts() as asked:
                while self.step < self.options.steps:
                    loss = self._one_step(self.step)
                    self.step += 1
                    if self.step % self.options.save_every == 0 or self.step == self.options.steps:
                        self._note(loss, tell)
                        self._save()
                    if progress is not None:
                        progress.step(self.step)
                    if asked:
                        self._save()
                        raise KeyboardInterrupt
        finally:
            if progress is not None:
                progress.stop()
        return self.step - first

    def _one_step(self, step: int) -> float:
        generator = torch.Generator().manual_seed(_key(self.options.seed, "step", step))
        torch.manual_seed(_key(self.options.seed, "network", step))  # whatever the network itself draws
        for group in self.optimiser.param_groups:
            group["lr"] = _learning_rate(self.options, step)
        batch = self._batch(step)
        images = as_tensor(self.pictures.get(batch), self.device)
        if self.options.augment:
            images = augment(images, generator)
        images = normalised(images, self.mean, self.std).contiguous(memory_format=torch.channels_last)
        self.network.train()
        logits = self.network(images)
        loss = self.loss(logits, self.labels[batch].to(self.device))
        if self.options.logit_pairing:
            loss = loss + self.options.logit_pairing * pairing_loss(logits)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), _GRADIENT_LIMIT)
        self.optimiser.step()
        self.averaged.update_parameters(self.network)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ClassifyError(f"the loss is {value} at step {step}; give a lower --learning-rate")
        return value

    def _batch(self, step: int) -> list[int]:
        """Every picture once an epoch, in an order of (seed, epoch); a batch may lie across two epochs.

        With logit pairing the second half are siblings of the first, drawn anew at each step.
        """
        n, paired = len(self.train), self.options.logit_pairing > 0
        size = self.options.batch // 2 if paired else self.options.batch
        places = range(step * size, (step + 1) * size)
        batch = [self.train[self._epoch(place // n)[place % n]] for place in places]
        if not paired:
            return batch
        rng = np.random.Generator(np.random.Philox(key=_key(self.options.seed, "siblings", step)))
        return [*batch, *(int(rng.choice(self.siblings.get(k, [k]))) for k in batch)]

    def _epoch(self, epoch: int) -> np.ndarray:
        if self._order is None or self._order[0] != epoch:
            rng = np.random.Generator(np.random.Philox(key=_key(self.options.seed, "epoch", epoch)))
            self._order = (epoch, rng.permutation(len(self.train)))
        return self._order[1]

    def _logits(self) -> Tensor:
        network = self.averaged.module.eval()
        parts = [logits_of(network, self.pictures.get(self.validation[k:k + 64]), self.mean, self.std, self.device)
                 for k in range(0, len(self.validation), 64)]
        return torch.cat(parts)

    def _note(self, loss: float, tell: Tell) -> None:
        logits, labels = self._logits().double(), self.labels[self.validation]
        own = figures(labels.numpy(), torch.softmax(logits, 1).numpy(), self.data.classes)
        self.history.append({"step": self.step, "loss": round(loss, 4), "validation_nll": own["nll"],
                             "validation_balanced_accuracy": own["balanced_accuracy"]})
        tell(f"step {self.step}: loss {loss:.3f}, validation nll {own['nll']:.3f}, "
             f"balanced accuracy {own['balanced_accuracy']:.3f}")

    def _save(self) -> None:
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"averaged.{k}": v for k, v in self.averaged.state_dict().items()}
        tensors |= optimiser_tensors(self.optimiser)
        (self.out / TRAINING).mkdir(exist_ok=True)
        save_state(self.out / TRAINING, self.identity, self.step, tensors, ClassifyError, {"history": self.history})

    def _load(self, tensors: dict[str, Tensor]) -> None:
        try:
            for head, module in (("network.", self.network), ("averaged.", self.averaged)):
                module.load_state_dict({k.removeprefix(head): v for k, v in tensors.items() if k.startswith(head)})
            load_optimiser(self.optimiser, tensors)
        except (RuntimeError, ValueError, KeyError) as error:
            raise ClassifyError(f"{self.out / TRAINING}: does not fit this training ({str(error)[:120]}); "
                                "--overwrite starts anew") from None

    def finish(self) -> ModelCard:
        """Temperature on the validation pictures, figures, and the model on disk."""
        logits, labels = self._logits().double().numpy(), self.labels[self.validation].numpy()
        temperature = round(fit_temperature(logits, labels), 6)
        before, after = (figures(labels, torch.softmax(torch.from_numpy(logits / t), 1).numpy(), self.data.classes)
                         for t in (1.0, temperature))
        classes = self.data.classes
        return save_classifier(self.out, self.averaged.module, {
            "network": self.options.network, "classes": classes, "label": self.options.label,
            "size_px": self.options.size_px, "mean": self.mean, "std": self.std, "temperature": temperature,
            "threshold": 0.5 if len(classes) == 2 else None, "steps": self.step,
            "licences": tuple(dict.fromkeys(v for own in self.data.sets for v in own.card.licences)),
            "attribution": tuple(dict.fromkeys(v for own in self.data.sets for v in own.card.attribution)),
            "data": {
                "hash": self.identity["data"],
                "training": _counts(self.data, self.train), "validation": _counts(self.data, self.validation),
                "left_out": self.data.left_out,
                "sets": [{"generator": own.card.generator, "preset": own.card.preset, "set_hash": own.card.set_hash,
                          "seed": own.card.seed, "samples": len(own.rows), "licences": own.card.licences}
                         for own in self.data.sets],
                "groups": sorted({short_hash(self.data.entries[k].group) for k in [*self.train, *self.validation]}),
            },
            "metrics": {"validation": after, "validation_ece_before_temperature": before["ece"],
                        "validation_nll_before_temperature": before["nll"]},
            "options": self.options.to_dict(), "history": tuple(self.history), "synthskin_version": __version__,
        })


def pairing_loss(logits: Tensor) -> Tensor:
    """Scalar: mean squared difference of the centred logits of siblings; (2 n, k), row i and row n + i are a pair.

    Garg et al. 2019 (counterfactual logit pairing); what is added to all logits of a picture alike is no difference.
    """
    first, second = (logits - logits.mean(1, keepdim=True)).chunk(2)
    return (first - second).square().mean()


def siblings(data: Labelled, positions: Sequence[int]) -> dict[int, list[int]]:
    """Of each position the others of its group that have its label; those without any are not named.

    Raises ClassifyError if nobody has a sibling.
    """
    own: dict[tuple[str, int], list[int]] = {}
    for k in positions:
        own.setdefault((data.entries[k].group, data.entries[k].label), []).append(k)
    found = {k: [other for other in group if other != k] for group in own.values() if len(group) > 1 for k in group}
    if not found:
        raise ClassifyError("logit_pairing: no two pictures of a group have the same label; give a set of sweeps or "
                            "counterfactuals, or leave --logit-pairing out")
    return found


def short_hash(group: str) -> str:
    """A group in the card's list: enough to find out that a picture was trained on."""
    return hashlib.sha256(group.encode()).hexdigest()[:12]


def _counts(data: Labelled, positions: list[int]) -> dict[str, int]:
    counts = np.bincount(data.labels[positions], minlength=len(data.classes))
    return {name: int(count) for name, count in zip(data.classes, counts, strict=True)}


def _key(seed: int, what: str, number: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}|{what}|{number}".encode(), digest_size=7).digest(), "big")


def _learning_rate(options: TrainOptions, step: int) -> float:
    warm = max(1, round(options.warmup_share * options.steps))
    if step < warm:
        return options.learning_rate * (step + 1) / warm
    return options.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, options.steps - warm)))


def _loss(options: TrainOptions, counts: np.ndarray, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    weight = None
    if options.class_weights == "balanced":
        weight = torch.tensor(counts.sum() / (len(counts) * counts), dtype=torch.float32, device=device)
    if options.loss == "cross_entropy":
        return nn.CrossEntropyLoss(weight=weight, label_smoothing=options.label_smoothing)
    from monai.losses.focal_loss import FocalLoss

    focal = FocalLoss(to_onehot_y=True, use_softmax=True, gamma=options.focal_gamma, weight=weight)
    return lambda logits, labels: focal(logits, labels[:, None]) * len(counts)  # its mean is over classes too


def _average(decay: float) -> Any:
    """Exponential average; in the first steps its decay is (1 + n) / (10 + n), or it would keep the first weights."""
    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], number: Any) -> None:
        n = float(number)
        share = 1 - min(decay, (1 + n) / (10 + n))
        for old, new in zip(averaged, current, strict=True):
            if old.is_floating_point():
                old.lerp_(new.to(old), share)
            else:
                old.copy_(new)

    return update


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Ctrl-C fills the list instead of breaking a step half-way; a second one breaks off at once."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _repeatable(device: torch.device) -> Iterator[None]:
    """Deterministic algorithms, and the global random state as before when it ends."""
    before, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device.type == "cuda" else []):
        torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
        torch.backends.cudnn.benchmark = False
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warn)
            torch.backends.cudnn.benchmark = benchmark


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """One training at a time in a folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(out, ClassifyError, f"{out}: another training is writing into this folder; wait for it, or "
                                              "choose another --out")
    except OSError as error:
        raise ClassifyError(f"{out}: cannot be written: {error.strerror}") from None
    with lock:
        yield
