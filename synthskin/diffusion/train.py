"""`train`: a LoRA on a base, from sets of the contract. Every random number follows from (seed, step), so that a
training that was killed goes on from its last checkpoint to the very same losses and weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from synthskin.diffusion.base import Base, encode_prompts, load_base
from synthskin.diffusion.data import (
    Latents,
    TrainingSet,
    load_training_set,
    mask_input,
    oriented,
    picks_of_step,
)
from synthskin.diffusion.devices import generator, keyed, pick_device, told_of_memory
from synthskin.diffusion.errors import DiffusionError
from synthskin.diffusion.lora import CARD, MASK_WEIGHTS, WEIGHTS, MaskInput, add_lora, lora_parameters, save_lora
from synthskin.diffusion.lora_card import lora_card, lora_readme
from synthskin.diffusion.metrics import measured
from synthskin.diffusion.noise import loss_of
from synthskin.diffusion.options import TrainOptions
from synthskin.diffusion.pipeline import make_pictures, quiet_diffusers, text_pipeline
from synthskin.diffusion.quickstart import Progress
from synthskin.diffusion.state import LOSSES, LossLog, load_training, open_folder, remember, told_of_data
from synthskin.files import json_bytes, write_whole
from synthskin.training_state import load_optimiser, optimiser_tensors, save_state

FLAGS: Final = ("--gradient-checkpointing, a smaller --batch (with --accumulate), a smaller --size or --rank, "
                "--precision bf16, --adam-8bit")
_OURS: Final = {"training", "README.md", CARD, WEIGHTS, MASK_WEIGHTS, "validation"}


@dataclass(frozen=True, slots=True)
class TrainResult:
    """`first`, `last`: mean losses of the first and last 50 steps; `metrics` as in the card; rows left out, by reason.
    """

    out: Path
    steps: int
    resumed_at: int
    first: float
    last: float
    metrics: dict[str, float]
    seconds: float
    left_out: dict[str, int] = field(default_factory=dict)


def train_lora(folders: Sequence[Path], base_name: str, out: Path, options: TrainOptions, progress: Any = None,
               stop_after: Callable[[int], bool] | None = None) -> TrainResult:
    """Train and write a LoRA to `out`. The same call again continues, a larger `steps` extends. Raises DiffusionError.

    stop_after   called with the step; True ends early, as an interruption would
    """
    start = time.monotonic()
    device = pick_device(options.device)
    with quiet_diffusers(), told_of_memory(FLAGS), ExitStack() as held:
        base = load_base(base_name, options.base_licence)
        size_px = options.size_px or base.native_size_px
        base.check_size(size_px)
        data = load_training_set(folders, size_px, options.instance_prompt)
        if options.mask_input and all(mask is None for mask in data.masks):
            raise DiffusionError(f"--mask-input: no picture of {', '.join(map(str, folders))} has a mask")
        state = held.enter_context(open_folder(out, options.overwrite, _OURS))
        run = _Run(base, data, replace(options, size_px=size_px), state, device)
        remember(state, folders, data)
        resumed_at = run.step
        shown = progress if progress is not None else Progress()
        shown.start(options.steps, run.step)
        try:
            while run.step < options.steps:
                run.advance()
                shown.step(run.step)
                if stop_after is not None and stop_after(run.step):
                    break
        except KeyboardInterrupt:
            run.save()
            raise
        finally:
            shown.stop()
        run.save()
        metrics = run.finish(out)
    losses = [line["loss"] for line in run.log.read()]
    return TrainResult(out, run.step, resumed_at, float(np.mean(losses[:50])), float(np.mean(losses[-50:])), metrics,
                       time.monotonic() - start, data.left_out)


class Trainee(nn.Module):
    """All that is trained, as one module with one forward: the loss of a batch. So several GPUs need no special care.
    """

    def __init__(self, base: Base, mask: MaskInput | None, options: TrainOptions) -> None:
        super().__init__()
        self.unet = base.unet
        self.encoders = nn.ModuleList(base.text_encoders)
        self.mask = mask
        self._base, self._options = [base], options  # in a list: not a submodule

    def forward(self, latents: Tensor, prompts: Sequence[str], masks: Tensor | None, known: Tensor | None,
                noise: torch.Generator) -> Tensor:
        options = self._options
        if self.mask is not None:
            self.mask.current = masks
        base = self._base[0]
        with torch.set_grad_enabled(options.text_encoder):
            text = encode_prompts(base, prompts)
        assert options.size_px is not None
        return loss_of(base, latents, text, noise, options.size_px, snr_gamma=options.snr_gamma,
                       noise_offset=options.noise_offset, known=known)


class _Run:
    def __init__(self, base: Base, data: TrainingSet, options: TrainOptions, folder: Path,
                 device: torch.device) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        self.base, self.data, self.options, self.folder = base, data, options, folder
        assert options.size_px is not None
        self.size_px: int = options.size_px
        AcceleratorState._reset_state(True)
        self.accelerator = Accelerator(mixed_precision=options.precision, cpu=device.type == "cpu")
        self.device = self.accelerator.device
        half = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[options.precision]
        base.to(self.device, half if self.device.type == "cuda" else torch.float32)
        self.prior = self._prior()
        self.mask = add_lora(base, options, keyed(options.seed, "lora"))
        self.params = lora_parameters(base, self.mask)
        for weight in self.params.values():
            weight.data = weight.data.float()
            weight.requires_grad_(True)
        self._memory()
        self.optimiser = self._optimiser()
        self.average = [p.detach().clone() for p in self.params.values()] if options.ema > 0 else []
        self.latents = Latents(base.vae, data.images)
        self.known_latents = Latents(base.vae, _without_lesion(data)) if base.inpainting else None
        self.prior_latents = None if self.prior is None else Latents(base.vae, self.prior)
        self.identity = options.identity() | {"base": base.fingerprint, **told_of_data(data),
                                              "processes": self.accelerator.num_processes}
        self.step = 0
        found = load_training(folder, self.identity)
        if found is not None:
            told, tensors = found
            self._load(told["step"], tensors)
        self.log = LossLog(folder / LOSSES, self.step)
        self.trainee = Trainee(base, self.mask, options)
        self.wrapped, self.optimiser = self.accelerator.prepare(self.trainee, self.optimiser)
        self.board: Any = None

    def advance(self) -> None:
        options = self.options
        torch.manual_seed(keyed(options.seed, "step", self.step, self.accelerator.process_index))
        base = self.base
        base.unet.train()
        if options.text_encoder:
            for encoder in base.text_encoders:
                encoder.train()
        factor = _schedule(options, self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self.optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for micro in range(options.accumulate):
            loss = self._loss(self.step * options.accumulate + micro)
            self.accelerator.backward(loss / options.accumulate)
            total += float(loss.detach()) / options.accumulate
        if not np.isfinite(total):
            raise DiffusionError(f"the loss is no longer finite at step {self.step + 1}; take a smaller "
                                 "--learning-rate or --precision bf16, and --overwrite")
        norm = float(self.accelerator.clip_grad_norm_(list(self.params.values()), options.max_grad_norm))
        self.optimiser.step()
        self.step += 1
        if self.average:
            with torch.no_grad():
                keep = min(options.ema, self.step / (10.0 + self.step))
                torch._foreach_lerp_(self.average, [p.detach() for p in self.params.values()], 1.0 - keep)
        if self.accelerator.is_main_process:
            self.log.add(self.step, loss=total)
            self._tell("loss", total)
            self._tell("gradient norm", norm)
            self._tell("learning rate", options.learning_rate * factor)
            if options.validate_every and self.step % options.validate_every == 0:
                self._validate()
        if self.step % options.save_every == 0:
            self.save()

    def _loss(self, micro: int) -> Tensor:
        """Of one micro-batch: picks, noise and dropped prompts follow from its number alone."""
        options, data = self.options, self.data
        place = micro * self.accelerator.num_processes + self.accelerator.process_index
        picks = picks_of_step(len(data), options.batch, place, options.seed, options.augment)
        noise = generator(options.seed, "noise", place)
        latents = self.latents.draw(picks, noise)
        prompts = ["" if keyed(options.seed, "drop", place, k) % 10_000 < 10_000 * options.drop_prompt
                   else data.prompts[picture] for k, (picture, _) in enumerate(picks)]
        cells = latents.shape[-1]
        masks = torch.stack([self._mask_of(picture, orientation, cells, place, k)
                             for k, (picture, orientation) in enumerate(picks)])
        known = None
        if self.known_latents is not None:
            drawn = self.known_latents.draw(picks, generator(options.seed, "known", place))
            known = torch.cat([(masks + 1.0) / 2.0, drawn], dim=1).to(self.device)
        n = len(picks)
        weights = torch.ones(n)
        if self.prior_latents is not None and self.prior is not None:
            extra = picks_of_step(len(self.prior), options.batch, place, options.seed, options.augment, "prior")
            latents = torch.cat([latents, self.prior_latents.draw(extra, noise)])
            prompts += [options.class_prompt or ""] * len(extra)
            masks = torch.cat([masks, torch.zeros_like(masks[:1]).repeat(len(extra), 1, 1, 1)])
            if known is not None:
                known = torch.cat([known, known[:1].repeat(len(extra), 1, 1, 1)])
            weights = torch.cat([weights, torch.full((len(extra),), options.prior_weight)])
        losses = self.wrapped(latents.to(self.device), prompts, masks.to(self.device), known, noise)
        return (losses * weights.to(losses)).sum() / n

    def _mask_of(self, picture: int, orientation: int, cells: int, place: int, k: int) -> Tensor:
        """The mask as an input; unknown where there is none, and for one picture in ten, so that text alone works too.
        """
        mask = self.data.masks[picture]
        dropped = not self.base.inpainting and keyed(self.options.seed, "drop mask", place, k) % 10 == 0
        return mask_input(None if mask is None or dropped else oriented(mask, orientation), cells)

    def _prior(self) -> NDArray[np.uint8] | None:
        """DreamBooth's class pictures, made once by the base before it has an adapter, kept as PNG."""
        options = self.options
        if options.class_prompt is None:
            return None
        from synthskin.dataset.encode import png_bytes, read_png

        folder = self.folder / "prior"
        folder.mkdir(exist_ok=True)
        pipe = text_pipeline(self.base)
        made = []
        for first in range(0, options.prior_n, options.batch):
            numbers = list(range(first, min(first + options.batch, options.prior_n)))
            paths = [folder / f"{keyed(options.class_prompt, options.seed, k, self.size_px):016x}.png" for k in numbers]
            if not all(path.is_file() for path in paths):
                seeds = [keyed(options.seed, "prior", k) for k in numbers]
                for path, image in zip(paths, make_pictures(pipe, [options.class_prompt] * len(seeds), seeds,
                                                            self.size_px), strict=True):
                    write_whole(path, png_bytes(image), DiffusionError)
            made += [read_png(path) for path in paths]
        return np.stack(made)

    def _memory(self) -> None:
        """Less memory where asked or at hand; PyTorch's own attention (SDPA) is the default."""
        if self.options.gradient_checkpointing:
            self.base.unet.enable_gradient_checkpointing()
            if self.options.text_encoder:
                for encoder in self.base.text_encoders:
                    encoder.gradient_checkpointing_enable()
        if self.device.type == "cuda":
            import importlib.util

            if importlib.util.find_spec("xformers") is not None:
                self.base.unet.enable_xformers_memory_efficient_attention()

    def _optimiser(self) -> Any:
        options = self.options
        text = [p for name, p in self.params.items() if name.startswith("text_encoder")]
        others = [p for name, p in self.params.items() if not name.startswith("text_encoder")]
        groups = [{"params": own, "lr": rate, "initial_lr": rate}
                  for own, rate in ((others, options.learning_rate), (text, options.text_learning_rate)) if own]
        if options.adam_8bit:
            try:
                from bitsandbytes.optim import AdamW8bit  # type: ignore[import-not-found]
            except ImportError:
                raise DiffusionError("--adam-8bit: needs bitsandbytes and a GPU; install it, or leave the flag out"
                                     ) from None
            return AdamW8bit(groups, weight_decay=options.weight_decay)
        return torch.optim.AdamW(groups, weight_decay=options.weight_decay)

    def _tell(self, name: str, value: float) -> None:
        """To TensorBoard, where it is installed."""
        if self.board is None:
            try:
                from torch.utils.tensorboard import SummaryWriter

                self.board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.step)
            except ImportError:
                self.board = False
        if self.board:
            self.board.add_scalar(name, value, self.step)

    def _validate(self) -> None:
        """Pictures of the commonest prompts, always from the same seeds, as a PNG and to TensorBoard."""
        from synthskin.dataset.encode import png_bytes

        prompts = sorted(set(self.data.prompts), key=lambda p: (-self.data.prompts.count(p), p))
        chosen = [prompts[k % len(prompts)] for k in range(self.options.validate_n)]
        self.base.unet.eval()
        if self.mask is not None:
            self.mask.show([None], self.size_px // self.base.vae_scale)
        made = make_pictures(text_pipeline(self.base), chosen,
                             [keyed(self.options.seed, "validate", k) for k in range(len(chosen))], self.size_px)
        sheet = np.concatenate(list(made), axis=1)
        (self.folder.parent / "validation").mkdir(exist_ok=True)
        write_whole(self.folder.parent / "validation" / f"step-{self.step:06d}.png", png_bytes(sheet), DiffusionError)
        if self.board:
            self.board.add_image("validation", sheet, self.step, dataformats="HWC")

    def save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        tensors: dict[str, Tensor] = {f"weights.{name}": p for name, p in self.params.items()}
        tensors |= {f"average.{k}": v for k, v in enumerate(self.average)}
        tensors |= optimiser_tensors(getattr(self.optimiser, "optimizer", self.optimiser))
        tensors["rng"] = torch.get_rng_state()
        save_state(self.folder, self.identity, self.step, tensors, DiffusionError)

    def _load(self, step: int, tensors: dict[str, Tensor]) -> None:
        self.step = step
        with torch.no_grad():
            for name, weight in self.params.items():
                weight.copy_(tensors[f"weights.{name}"])
            for k, average in enumerate(self.average):
                average.copy_(tensors[f"average.{k}"])
        load_optimiser(self.optimiser, tensors)
        torch.set_rng_state(tensors["rng"])

    def finish(self, out: Path) -> dict[str, float]:
        """Write weights (averaged ones with --ema), card and README; measure the losses that the card tells."""
        if self.board:
            self.board.flush()
        self.base.unet.eval()
        for encoder in self.base.text_encoders:
            encoder.eval()
        if self.average:
            with torch.no_grad():
                for weight, average in zip(self.params.values(), self.average, strict=True):
                    weight.copy_(average)
        metrics: dict[str, float] = {}
        if self.accelerator.is_main_process:
            sha256 = save_lora(self.base, self.mask, out, self.options.text_encoder)
            if not self.base.inpainting:
                metrics = measured(self.base, self.latents, self.data, self.mask, self.size_px, self.options.seed)
            losses = [line["loss"] for line in self.log.read()]
            card = lora_card(self.base, self.data, self.options, self.size_px, self.step, sha256, metrics, losses)
            write_whole(out / CARD, json_bytes(card), DiffusionError)
            write_whole(out / "README.md", lora_readme(card).encode(), DiffusionError)
        return metrics


def _schedule(options: TrainOptions, step: int) -> float:
    """Factor of the learning rate at a step."""
    warm = min(1.0, (step + 1) / (options.warmup + 1))
    if options.schedule == "constant":
        return 1.0
    if options.schedule == "constant_with_warmup":
        return warm
    left = max(0.0, 1.0 - step / max(1, options.steps))
    return warm * (left if options.schedule == "linear" else 0.5 * (1.0 - float(np.cos(np.pi * left))))


def _without_lesion(data: TrainingSet) -> NDArray[np.uint8]:
    """Pictures with the lesion greyed out: what a 9-channel base knows of them; wholly grey without a mask."""
    made = data.images.copy()
    for image, mask in zip(made, data.masks, strict=True):
        image[np.ones(image.shape[:2], bool) if mask is None else mask > 0] = 127
    return made
