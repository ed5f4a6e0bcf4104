"""Training: the loop around a method. Exact resume: step k draws what its number says, however it was reached."""

from __future__ import annotations

import copy
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from synthskin import __version__
from synthskin.dataset.reader import Progress
from synthskin.files import FolderLock, write_whole
from synthskin.gan import GanError
from synthskin.gan.checkpoint import STATE, load_state, read_told, save_state
from synthskin.gan.domain import FEW, Domain, Split, content_hash, fingerprint, refuse_overlap, split_domains
from synthskin.gan.lesions import SEVERAL, several
from synthskin.gan.method import Method, TrainOptions, make_method, random_key, random_source
from synthskin.gan.model import CARD, WEIGHTS, ModelCard, read_model_card, save_model

LOCK: Final = ".synthskin.lock"
_FILES: Final = "files of "  # what a checkpoint's identity calls the content of a domain
_OURS: Final = (CARD, WEIGHTS, STATE, LOCK, "samples", "tensorboard")


@dataclass(frozen=True, slots=True)
class Trained:
    """card of the model; steps in all and of this call, its seconds; how it ended: done, early or stopped."""

    card: ModelCard | None
    steps: int
    made: int
    seconds: float
    ended: str
    remarks: tuple[str, ...]


def settle_change(method: str, source: Domain, target: Domain, wanted: str | None) -> str:
    """class, tone or picture: as asked, or what the domains differ in. Raises GanError where that is not clear."""
    fixed = {"stargan": "tone", "pix2pixhd": "picture"}.get(method)
    if fixed is not None:
        if wanted not in (None, fixed):
            raise GanError(f"--change {wanted}: {method} changes the {fixed} and nothing else")
        return fixed
    if wanted is not None:
        if wanted not in ("class", "tone"):
            raise GanError(f"--change {wanted}: allowed are class and tone")
        return wanted
    for key, name in (("diagnosis", "class"), ("ita_class", "tone")):
        values = [{row[key] for row in d.rows} for d in (source, target)]
        if None not in values[0] | values[1] and not values[0] & values[1]:
            return name
    raise GanError("SOURCE and TARGET share diagnoses and tones, so it is not clear what the model is to change; give "
                   "--change class or --change tone, or narrow them by --source-where and --target-where")


def one_lesion(domain: Domain, role: str) -> tuple[Domain, list[str]]:
    """The pictures of one lesion at most, as a class is one lesion's, and a remark on those left out."""
    keep = [k for k, row in enumerate(domain.rows) if not several(row)]
    without = len(domain) - len(keep)
    if not without:
        return domain, []
    if not keep:
        raise GanError(f"{role} {domain.directory}: all {without} pictures have {SEVERAL}; a model of classes learns "
                       "from pictures of one")
    return domain.subset(keep), [f"{without} of {len(domain)} pictures of {role} left out: {SEVERAL}"]


def check_domains(options: TrainOptions, source: Domain, target: Domain) -> list[str]:
    """Refuse domains that cannot be learnt from (GanError); gives remarks on those that hardly can."""
    if options.method in ("cyclegan", "cut"):
        refuse_overlap(source, target)
    if options.change == "class":
        found = {row["diagnosis"] for row in target.rows}
        if len(found) != 1 or None in found:
            raise GanError(f"TARGET {target.directory}: its samples are {', '.join(sorted(map(str, found)))}; a class "
                           "model needs one diagnosis there, such as --target-where diagnosis=MEL")
    if options.method == "stargan":
        from synthskin.gan.stargan import by_tone

        tones = by_tone((source, target))
        if len(tones) < 2:
            raise GanError(f"stargan: the pictures are of {len(tones)} ITA classes; at least 2 are needed, and rows "
                           "whose ita_class is null do not count")
    if options.method == "pix2pixhd" and all(row["mask_file_name"] is None for row in target.rows):
        raise GanError(f"TARGET {target.directory}: has no masks, and pix2pixhd learns pictures from masks; give a set "
                       "with masks, or predict them first")
    return [f"{role} has {len(d)} pictures ({d.directory}, '{d.where}'): with fewer than {FEW} a generator learns them "
            "by heart and nothing can be held out to see it; good for trying out, not for use"
            for role, d in (("SOURCE", source), ("TARGET", target)) if len(d) < FEW]


def train(
    source: Domain, target: Domain, options: TrainOptions, out: Path, progress: Progress | None = None,
    device: str = "auto", overwrite: bool = False,
) -> Trained:
    """Train a model into `out`; the same call again continues, with the same weights as without a stop.

    Raises GanError before anything is written: unusable domains or settings, a folder that holds something else, a
    checkpoint of other settings (which one differs), a second run in the folder.
    """
    alone = source is target
    told: list[str] = []
    if options.change == "class":
        source, told = one_lesion(source, "SOURCE")
        target, more = (source, []) if alone else one_lesion(target, "TARGET")
        told += more
    remarks = told + check_domains(options, source, target)
    domains = (source,) if source is target else (source, target)
    split = split_domains(domains, options.seed)
    if len(domains) == 1:
        split = Split(split.learn * 2, split.held_out * 2)
    if any(not len(d) for d in split.held_out):
        remarks.append("no pictures are held out (too few groups): the last weights are kept, and there is no early "
                       "stop")
    identity = {"synthskin version": __version__, **{f"--{k}": v for k, v in options.to_dict().items()},
                "SOURCE": fingerprint(source), "TARGET": fingerprint(target)}
    files = [content_hash([learn, held]) for learn, held in zip(split.learn, split.held_out, strict=True)]
    identity |= {f"{_FILES}SOURCE": files[0], f"{_FILES}TARGET": files[1]}
    accelerator = _accelerator(options, device)
    started = time.monotonic()
    with _opened(out, identity, overwrite):
        loop = _Loop(options, make_method(options, accelerator), split, out, identity)
        loop.card = _card(options, source, target, files, remarks)
        ended, first = loop.run(progress)
    return Trained(loop.saved, loop.step, loop.step - first, time.monotonic() - started, ended, tuple(remarks))


class _Loop:
    def __init__(
        self, options: TrainOptions, method: Method, split: Split, out: Path, identity: dict[str, Any]
    ) -> None:
        self.options, self.method, self.split, self.out, self.identity = options, method, split, out, identity
        self.averaged = copy.deepcopy(method.nets[method.published]).eval().requires_grad_(False)
        self.step, self.score, self.without_gain = 0, math.inf, 0
        self.best: dict[str, Tensor] = {}
        self.best_step = 0
        self.over = ""
        self.card: ModelCard | None = None
        self.saved: ModelCard | None = None
        if (out / STATE).is_file():
            self.best, told = load_state(out, method, self.averaged)
            self.step, self.without_gain, self.over = told["step"], told["without_gain"], told["over"]
            self.score = math.inf if told["score"] is None else told["score"]
            self.best_step = told["best_step"]

    def ended(self) -> bool:
        return bool(self.over)

    def run(self, progress: Progress | None) -> tuple[str, int]:
        """(how it ended: done, early or stopped; the step it began with)."""
        first, options = self.step, self.options
        if self.ended():  # finished before: nothing is written
            self.saved = read_model_card(self.out)
            return self.over, first
        if progress is not None:
            progress.start(options.steps, first)
        with ExitStack() as stack:
            asked = stack.enter_context(_stop_asked())
            board = stack.enter_context(_board(self.out, first))
            if progress is not None:
                stack.callback(progress.stop)
            while not self.ended():
                losses = self._one()
                if self.step % max(1, options.interval // 10) == 0:
                    self._tell(board, losses)
                if self.step % options.interval == 0 or self.step == options.steps:
                    self._judge(board)
                if progress is not None:
                    progress.step(self.step)
                if asked() and not self.ended():
                    self._save()
                    return "stopped", first
        return self.over, first

    def _one(self) -> dict[str, Tensor]:
        options, method = self.options, self.method
        source = random_source("gan step", options.seed, self.step)
        factor = min(1.0, 2.0 * (1.0 - self.step / options.steps))  # constant, then linear to 0
        for optimiser, rate in method.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = rate * factor
        devices = [method.device] if method.device.type == "cuda" else []
        with torch.random.fork_rng(devices):  # dropout draws from the global generator
            torch.manual_seed(random_key("gan dropout", options.seed, self.step))
            losses = method.step(method.draw(self.split.learn, source), self.step, source)
        decay = min(options.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            now = method.nets[method.published].state_dict()
            for name, value in self.averaged.state_dict().items():
                value.lerp_(now[name], 1.0 - decay) if value.is_floating_point() else value.copy_(now[name])
        self.step += 1
        return losses

    def _tell(self, board: Any, losses: dict[str, Tensor]) -> None:
        for name, value in losses.items():
            number = float(value.detach())
            if not math.isfinite(number):
                raise GanError(f"step {self.step}: the loss {name} is no finite number; take a smaller --rate, or "
                               "--precision no; the last checkpoint is kept")
            board.add_scalar(f"loss/{name}", number, self.step)

    @torch.no_grad()
    def _judge(self, board: Any) -> None:
        """Validate, keep what is best, decide on stopping, save, and draw the sample grid."""
        options, held = self.options, self.split.held_out
        if len(held[0]):
            score = self.method.validate(self.averaged, held)
            board.add_scalar("validation/distance", score, self.step)
            if score < self.score:
                self.score, self.without_gain, self.best_step = score, 0, self.step
                if options.patience:
                    self.best = {k: v.clone() for k, v in self.averaged.state_dict().items()}
            else:
                self.without_gain += 1
                if options.patience and self.without_gain >= options.patience:
                    self.over = "early"
        if self.step >= options.steps:
            self.over = "done"
        shown = held if len(held[0]) else self.split.learn
        grid = _grid(self.method.grid(self.averaged, shown))
        board.add_image("samples", grid, self.step)
        (self.out / "samples").mkdir(exist_ok=True)
        from synthskin.dataset.encode import png_bytes

        write_whole(self.out / "samples" / f"{self.step:07d}.png", png_bytes(grid.permute(1, 2, 0).numpy()), GanError)
        self._publish()  # a model is there from the first validation on
        self._save()

    def _save(self) -> None:
        told = {"step": self.step, "without_gain": self.without_gain, "over": self.over, "best_step": self.best_step,
                "score": self.score if math.isfinite(self.score) else None, "identity": self.identity}
        save_state(self.out, self.method, self.averaged, self.best, told)

    def _publish(self) -> None:
        assert self.card is not None
        weights = self.best or self.averaged.state_dict()
        card = replace(self.card, steps=self.best_step if self.best else self.step,
                       validation=self.score if math.isfinite(self.score) else None)
        self.saved = save_model(self.out, card, weights)


def _card(options: TrainOptions, source: Domain, target: Domain, files: Sequence[str], remarks: list[str]
          ) -> ModelCard:
    def told(domain: Domain, content: str) -> dict[str, Any]:
        return {"set": domain.directory.name, "set_hash": domain.card.set_hash, "where": str(domain.where),
                "pictures": len(domain), "fingerprint": fingerprint(domain), "content": content}

    licences = list(dict.fromkeys([*source.card.licences, *target.card.licences]))
    names = list(dict.fromkeys([*source.card.attribution, *target.card.attribution]))
    diagnoses = sorted({str(row["diagnosis"]) for row in source.rows})
    learnt = target.rows if options.method != "stargan" else (*source.rows, *target.rows)
    tones = sorted({row["ita_class"] for row in learnt if row["ita_class"] is not None})
    diagnosis = target.rows[0]["diagnosis"] if options.change == "class" else None
    return ModelCard(options, told(source, files[0]), told(target, files[1]), diagnosis, diagnoses, tones, licences,
                     names, 0, None, remarks=list(remarks))


def _accelerator(options: TrainOptions, device: str) -> Any:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if device not in ("auto", "cpu", "cuda"):
        raise GanError(f"--device {device}: allowed are auto, cpu and cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise GanError("--device cuda: no GPU that PyTorch can use was found; take --device cpu")
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    if options.precision == "fp16" and on_cpu:
        raise GanError("--precision fp16: works on a GPU only; take bf16 or no")
    AcceleratorState._reset_state()  # it remembers the precision of an earlier training in this process
    return Accelerator(mixed_precision=options.precision, cpu=on_cpu)


@contextmanager
def _opened(out: Path, identity: dict[str, Any], overwrite: bool) -> Iterator[None]:
    """The folder, checked, made and locked; raises GanError without having touched anything."""
    if out.exists() and not out.is_dir():
        raise GanError(f"--out {out}: is not a folder; choose another")
    if out.is_dir():
        others = sorted(p.name for p in out.iterdir() if p.name not in _OURS and not p.name.startswith("."))
        if others:
            raise GanError(f"--out {out}: holds other files ({others[0]}); choose an empty or new folder")
        told = None if overwrite else read_told(out)
        if told is None and not overwrite and (out / CARD).exists():
            raise GanError(f"--out {out}: holds a model without its checkpoint; choose another folder, or --overwrite")
        for name, wanted in identity.items() if told is not None else ():
            found = told["identity"].get(name) if told is not None else None
            if name.startswith(_FILES):
                if found not in (wanted, None):  # None: it began before this was told, and goes on without
                    raise GanError(f"--out {out}: {name.removeprefix(_FILES)} has other pictures, masks, labels or "
                                   "splits than when the training there began; give the same to continue it, another "
                                   "--out, or --overwrite to start anew")
            elif found != wanted:
                raise GanError(f"--out {out}: holds a training with {name} = {found}, {wanted} came; give the same to "
                               "continue it, another --out, or --overwrite to start anew")
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(out, GanError, f"--out {out}: another run is training into this folder; wait for it, or "
                                         "choose another", LOCK)
    except OSError as error:
        raise GanError(f"--out {out}: cannot be written: {error.strerror}; choose another") from None
    with lock:
        if overwrite:
            _delete_ours(out)
        yield


def _delete_ours(out: Path) -> None:
    for path in [out / STATE, out / CARD, out / WEIGHTS, *out.glob("samples/*.png"), *out.glob("tensorboard/events.*")]:
        path.unlink(missing_ok=True)


@contextmanager
def _board(out: Path, step: int) -> Iterator[Any]:
    from torch.utils.tensorboard import SummaryWriter

    board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1 if step else None)
    try:
        yield board
    finally:
        board.close()


@contextmanager
def _stop_asked() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM only raise a flag, so that a step is never cut; outside the main thread there is none."""
    flags: list[int] = []
    old: dict[signal.Signals, Any] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            old[number] = signal.signal(number, lambda n, _: flags.append(n))
    except ValueError:
        pass
    try:
        yield lambda: bool(flags)
    finally:
        for kind, handler in old.items():
            signal.signal(kind, handler)


def _grid(rows: list[Tensor]) -> Tensor:
    """(3, h, w) uint8: a row of pictures each."""
    lines = [torch.cat(list(row.clamp(-1, 1)), dim=2) for row in rows]
    return torch.cat(lines, dim=1).add(1).mul(127.5).round().to(torch.uint8)


