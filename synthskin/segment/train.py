"""Training: the same command again continues, from a checkpoint (safetensors) that holds optimiser and step.

MODEL/training/  settings.json  what was asked for; another command is refused
                 cache.bin      the pictures at working size
                 state.safetensors   weights, running mean, optimiser; the step and log in its JSON metadata
MODEL/model.safetensors, card.json   when it is done; then training/ goes.
Order, augmentation and split follow from (seed, step) alone, so that a continued run gives the bytes of one in one go
(on one device with the same number of threads).
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from monai.losses.dice import DiceCELoss
from safetensors import safe_open
from torch import Tensor, nn

from synthskin import __version__
from synthskin.dataset.reader import Progress
from synthskin.files import LOCK, FolderLock, json_bytes, write_whole
from synthskin.segment import confidence as conf
from synthskin.segment.augment import augment
from synthskin.segment.data import (
    Cache,
    Collection,
    collect,
    data_card,
    files_digest,
    joined,
    read_item,
    rows_digest,
)
from synthskin.segment.errors import SegmentError
from synthskin.segment.network import (
    CARD,
    FORMAT,
    FORMAT_VERSION,
    WEIGHTS,
    build_network,
    half_weights,
    load_weights,
    logits,
    save_model,
    tensors_of,
)
from synthskin.segment.predict import Segmenter, load_segmenter, pick_device, tidy
from synthskin.segment.settings import TrainSettings
from synthskin.training_state import tensor_bytes

TRAINING: Final = "training"
STATE: Final = "state.safetensors"
CHECKPOINT_S: Final = 30.0
LOG_EVERY: Final = 50  # steps
ROUNDS: Final = 6  # augmented versions of each held-out picture that confidence is fitted on; the first is as it is
CLIP: Final = 3.0  # of the gradient's norm
_DIFFERENT: Final = {"start": "another --start", "data": "another set", "data_sha256": "other pictures or masks",
                     "rows_sha256": "another split or contrast of its rows",
                     "synthskin_version": "another version of synthskin"}
_LATER: Final = ("data_sha256", "rows_sha256")  # a training that began before these were told goes on without


@dataclass(frozen=True, slots=True)
class Trained:
    """Where the model is, its card, steps made in this call, and whether it was there already."""

    directory: Path
    card: dict[str, Any]
    made: int
    was_done: bool


@dataclass
class _State:
    network: nn.Module
    mean: dict[str, Tensor]
    optimiser: torch.optim.AdamW
    step: int
    log: list[dict[str, float]]


def train_segmenter(
    directories: Sequence[Path], out: Path, settings: TrainSettings, device: str = "auto", overwrite: bool = False,
    progress: Progress | None = None, reading: Progress | None = None, start: Segmenter | None = None,
) -> Trained:
    """Train on sets and write the model's folder `out`; raises SegmentError, DatasetError.

    `start` is a segmenter whose weights are gone on from; its channels are taken over, its data and licences named.
    KeyboardInterrupt leaves a checkpoint behind. `progress` counts pictures learnt from, `reading` pictures cached.
    """
    where = pick_device(device)
    if start is not None:
        settings = replace(settings, channels=tuple(start.card["settings"]["channels"]))
    collection = collect(directories, settings)
    wanted: dict[str, Any] = {
        "settings": settings.to_dict(), "data": data_card(collection), "data_sha256": files_digest(collection.items),
        "rows_sha256": rows_digest(collection), "synthskin_version": __version__,
        "start": None if start is None else {"weights_sha256": start.sha256, "data": start.card.get("data")}}
    with _folder(out, overwrite):
        if _is_done(out, wanted):
            return Trained(out, load_segmenter(out, "cpu").card, 0, True)
        folder = out / TRAINING
        folder.mkdir(exist_ok=True)
        _check_same(folder / "settings.json", wanted)
        cache = Cache(folder / "cache.bin", collection.items, wanted["data_sha256"], settings.size_px, reading)
        with _deterministic(where):
            state = _start(settings, where, folder / STATE, cache.digest, start)
            first = state.step
            spent = _learn(state, settings, collection, cache, folder / STATE, where, progress)
            weights = half_weights(state.mean)
            card = _card(wanted, collection, state, where, spent)
            if start is not None:
                for key in ("licences", "attribution"):
                    card[key] = joined([card[key], start.card[key]])
            network = build_network(settings.channels)
            load_weights(network, weights, str(folder))
            segmenter = Segmenter(network, {**card, "calibration": {"weights": []}, "weights_sha256": ""}, where)
            card["calibration"], card["metrics"] = _judge(segmenter, collection, cache, settings)
        save_model(out, weights, card)
        shutil.rmtree(folder)
    return Trained(out, load_segmenter(out, "cpu").card, settings.steps - first, False)


def _learn(state: _State, settings: TrainSettings, collection: Collection, cache: Cache, path: Path,
           device: torch.device, progress: Progress | None) -> float:
    """Take the steps that are missing; returns the seconds they took."""
    loss_of = DiceCELoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)
    weights = np.array([item.weight for item in collection.training])
    odds = weights / weights.sum()
    started = saved = time.monotonic()
    recent: list[float] = []
    if progress is not None:
        progress.start(settings.steps * settings.batch, state.step * settings.batch)
    try:
        while state.step < settings.steps:
            rng = np.random.default_rng([settings.seed, state.step])
            chosen = rng.choice(len(odds), settings.batch, p=odds)
            image, mask, aspect = cache.batch(chosen.tolist())
            image, mask = augment(image.to(device), (mask >= 0.5).float().to(device), aspect, rng)
            for group in state.optimiser.param_groups:
                group["lr"] = settings.lr * _schedule(state.step, settings)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                found = logits(state.network, image)
            loss = loss_of(found.float(), mask)
            state.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(state.network.parameters(), CLIP)
            state.optimiser.step()
            state.step += 1
            _average(state, settings)
            recent.append(float(loss.detach()))
            if not math.isfinite(recent[-1]):
                raise SegmentError(f"the loss is {recent[-1]} at step {state.step}; give a smaller --lr than "
                                   f"{settings.lr:g}")
            if state.step % LOG_EVERY == 0:
                state.log.append({"step": state.step, "loss": round(float(np.mean(recent[-LOG_EVERY:])), 5)})
            if progress is not None:
                progress.step(state.step * settings.batch)
            if time.monotonic() - saved > CHECKPOINT_S:
                _save(state, path, cache.digest)
                saved = time.monotonic()
    except KeyboardInterrupt:
        _save(state, path, cache.digest)
        raise
    finally:
        if progress is not None:
            progress.stop()
    _save(state, path, cache.digest)
    return time.monotonic() - started


def _schedule(step: int, settings: TrainSettings) -> float:
    """Share of the learning rate: linear over `warmup` steps, then a cosine to 0."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    through = (step - settings.warmup) / max(settings.steps - settings.warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * through))


@torch.no_grad()
def _average(state: _State, settings: TrainSettings) -> None:
    """Running mean of the weights; its memory grows from nothing, so early steps do not stay in it."""
    decay = min(settings.ema, state.step / (state.step + 10.0))
    for name, value in state.network.state_dict().items():
        state.mean[name].lerp_(value, 1 - decay)


def _start(settings: TrainSettings, device: torch.device, path: Path, digest: str, start: Segmenter | None) -> _State:
    torch.manual_seed(settings.seed)
    network = build_network(settings.channels)
    if start is not None:
        load_weights(network, {name: value.cpu() for name, value in start.network.state_dict().items()}, start.sha256)
    network = network.to(device).train()
    optimiser = torch.optim.AdamW(network.parameters(), settings.lr, weight_decay=settings.weight_decay)
    mean = {name: value.detach().clone() for name, value in network.state_dict().items()}
    state = _State(network, mean, optimiser, 0, [])
    if path.is_file():
        _load(state, path, digest)
    return state


def _save(state: _State, path: Path, digest: str) -> None:
    tensors = {f"network.{name}": value for name, value in state.network.state_dict().items()}
    tensors |= {f"mean.{name}": value for name, value in state.mean.items()}
    for number, (name, parameter) in enumerate(state.network.named_parameters()):
        for key, value in state.optimiser.state_dict()["state"].get(number, {}).items():
            assert parameter.shape == value.shape or value.ndim == 0
            tensors[f"optimiser.{key}.{name}"] = value
    note = {"synthskin": json.dumps({"step": state.step, "log": state.log, "data": digest})}
    write_whole(path, tensor_bytes(tensors, note), SegmentError)


def _load(state: _State, path: Path, digest: str) -> None:
    """Take up a checkpoint; raises SegmentError where it is damaged or of other pictures."""
    try:
        with safe_open(path, "pt") as handle:
            note = json.loads(handle.metadata()["synthskin"])
        tensors = tensors_of(path.read_bytes(), str(path))
        step, log = int(note["step"]), [dict(line) for line in note["log"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        if isinstance(error, SegmentError):
            raise
        raise SegmentError(f"{path}: is damaged: {error}; start anew with --overwrite") from None
    except Exception as error:  # safetensors' own error
        raise SegmentError(f"{path}: is damaged: {error}; start anew with --overwrite") from None
    if note.get("data") != digest:
        raise SegmentError(f"{path.parent}: the pictures have changed since this training began; give the same set, "
                           "another --out, or --overwrite to start anew")
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "mean": {}, "optimiser": {}}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        parts[kind][rest] = value
    load_weights(state.network, parts["network"], str(path))
    for name, value in state.mean.items():
        value.copy_(parts["mean"][name])
    saved: dict[int, dict[str, Tensor]] = {}
    for number, (name, _) in enumerate(state.network.named_parameters()):
        own = {key: parts["optimiser"][f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
               if f"{key}.{name}" in parts["optimiser"]}
        if own:
            saved[number] = own
    state.optimiser.load_state_dict({"state": saved, "param_groups": state.optimiser.state_dict()["param_groups"]})
    state.step, state.log = step, log


def _judge(segmenter: Segmenter, collection: Collection, cache: Cache,
           settings: TrainSettings) -> tuple[dict[str, Any], dict[str, Any]]:
    """(calibration, metrics) on the held-out groups: fitted on augmented versions, scored as they are."""
    positions = list(range(len(collection.training), len(collection.items)))
    values: list[Tensor] = []
    truths: list[float] = []
    for round_ in range(ROUNDS):
        for start in range(0, len(positions), settings.batch):
            image, mask, aspect = cache.batch(positions[start : start + settings.batch])
            mask = (mask >= 0.5).float()
            if round_:
                image, mask = augment(image, mask, aspect, np.random.default_rng([settings.seed, round_, start, 1]))
            flips = segmenter.flipped(image)
            clean = np.stack([tidy(p[0].numpy()) for p in flips.mean(0)]) > 0.5
            values.append(conf.signs(flips, torch.from_numpy(clean)[:, None].float()))
            truths += [conf.dice_score(a, b[0].numpy() > 0.5) for a, b in zip(clean, mask, strict=True)]
    fitted = conf.fit(torch.cat(values), torch.tensor(truths, dtype=torch.float64))
    segmenter.card["calibration"] = {"weights": fitted}
    rows = score_items(segmenter, collection.validation)
    return ({"signs": list(conf.SIGNS), "weights": fitted, "fitted_on": len(truths)}, conf.summary(rows))


def score_items(segmenter: Segmenter, items: Sequence[Any], progress: Progress | None = None) -> list[dict[str, Any]]:
    """One row a sample: index, diagnosis, ita_class, dice, iou, confidence; at the pictures' own size."""
    rows = []
    if progress is not None:
        progress.start(len(items), 0)
    try:
        for position, item in enumerate(items):
            image, truth, _ = read_item(item)
            (found,) = segmenter.predict([image])
            rows.append({
                "index": item.row["index"], "diagnosis": item.row["diagnosis"], "ita_class": item.row["ita_class"],
                "dice": round(conf.dice_score(found.mask, truth), 4),
                "iou": round(conf.iou_score(found.mask, truth), 4),
                "confidence": round(found.confidence, 4), "contrast": item.row["contrast"],
                "area": round(float(truth.mean()), 5),
            })
            if progress is not None:
                progress.step(position + 1)
    finally:
        if progress is not None:
            progress.stop()
    return rows


def _card(wanted: dict[str, Any], collection: Collection, state: _State, device: torch.device, spent_s: float
          ) -> dict[str, Any]:
    """What the model is; a time is in `run` alone, which comparisons leave out."""
    return {
        "format": FORMAT, "format_version": FORMAT_VERSION, **wanted,
        "network": "MONAI UNet, residual, group norm",
        "parameters": sum(p.numel() for p in state.network.parameters()),
        "samples": {"training": len(collection.training), "validation": len(collection.validation),
                    "validation_groups": len({item.group for item in collection.validation}),
                    "left_out": collection.left_out},
        "licences": joined([card.licences for card in collection.cards]),
        "attribution": joined([card.attribution for card in collection.cards]),
        "loss": "Dice + cross-entropy", "log": state.log,
        "limits": "Finds lesions in dermoscopic pictures; trained on what `data` lists. Not for diagnosis.",
        "run": {"device": str(device), "seconds": round(spent_s, 1), "torch": torch.__version__,
                "threads": torch.get_num_threads()},
    }


def _is_done(out: Path, wanted: dict[str, Any]) -> bool:
    """Is the model asked for there? Raises SegmentError where it is another one."""
    if not (out / CARD).is_file():
        return False
    card = load_segmenter(out, "cpu").card
    _refuse_other({key: card[key] for key in wanted if key in card}, wanted, out)
    return True


def _check_same(path: Path, wanted: dict[str, Any]) -> None:
    if path.is_file():
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
            assert isinstance(there, dict)
        except (OSError, ValueError, AssertionError):
            raise SegmentError(f"{path}: is damaged; start anew with --overwrite") from None
        _refuse_other(there, wanted, path.parent.parent)
    write_whole(path, json_bytes(wanted), SegmentError)


def _refuse_other(there: dict[str, Any], wanted: dict[str, Any], out: Path) -> None:
    same = json.loads(json.dumps(wanted))
    there = {key: same[key] for key in _LATER} | there
    if there == same:
        return
    found = there.get("settings")
    differs = [f"{key} = {found.get(key)}, {value} was asked for" for key, value in same["settings"].items()
               if isinstance(found, dict) and found.get(key) != value]
    differs += [name for key, name in _DIFFERENT.items() if there.get(key) != same[key]]
    raise SegmentError(f"{out}: holds a training with {[*differs, 'other settings'][0]}; give the same settings and "
                       "sets to continue it, another --out, or --overwrite to start anew")


@contextlib.contextmanager
def _folder(out: Path, overwrite: bool) -> Iterator[None]:
    """The model's folder, made and locked; raises SegmentError where it is another's."""
    ours = {CARD, WEIGHTS, TRAINING, LOCK}
    try:
        out.mkdir(parents=True, exist_ok=True)
        others = sorted(p.name for p in out.iterdir() if p.name not in ours and not p.name.startswith("."))
        if others:
            raise SegmentError(f"{out}: holds other files ({others[0]}); choose a new or empty --out")
        lock = FolderLock(out, SegmentError, f"{out}: another training writes there; wait for it, or choose another "
                                             "--out")
    except OSError as error:
        raise SegmentError(f"{out}: cannot be made or written: {error.strerror or error}; choose another --out") \
            from None
    with lock:
        if overwrite:
            for name in (CARD, WEIGHTS):
                (out / name).unlink(missing_ok=True)
            shutil.rmtree(out / TRAINING, ignore_errors=True)
        yield


@contextlib.contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = benchmark


__all__ = ["TrainSettings", "Trained", "score_items", "train_segmenter"]
