"""`quickstart`: a small latent diffusion trained from nothing on a set, so that the path runs with no download.

It shows the tool. It is no Stable Diffusion: it knows only what the set shows, at 128 pixels (256 on a GPU).
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from synthskin import __version__
from synthskin.diffusion.base import BASE_CARD, Base, encode_prompts, fingerprint
from synthskin.diffusion.data import (
    Latents,
    TrainingSet,
    load_training_set,
    oriented,
    picks_of_step,
    to_tensor,
)
from synthskin.diffusion.devices import generator, keyed, pick_device, told_of_memory
from synthskin.diffusion.errors import DiffusionError
from synthskin.diffusion.noise import loss_of
from synthskin.diffusion.options import QuickstartOptions
from synthskin.diffusion.pipeline import quiet_diffusers
from synthskin.diffusion.prompts import NEGATIVE_PROMPT, every_prompt
from synthskin.diffusion.small import build_small, save_base
from synthskin.diffusion.state import LOSSES, LossLog, load_training, open_folder, remember, told_of_data
from synthskin.files import json_bytes, write_whole
from synthskin.training_state import load_optimiser, optimiser_tensors, save_state

_OURS: Final = {"training", "README.md", BASE_CARD, "model_index.json", "vae", "unet", "text_encoder", "tokenizer",
                "scheduler"}
_FLAGS: Final = "a smaller --batch, --size or --width"
#: Weight of the divergence from a normal distribution; small, as in latent diffusion (Rombach et al. 2022).
_KL_WEIGHT: Final = 1e-6
_EMA: Final = 0.995


class Progress:
    """What `synthskin.progress` gives; a stand-in that says nothing."""

    def start(self, total: int, done: int) -> None: ...
    def step(self, done: int) -> None: ...
    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class QuickstartResult:
    """`vae_error` in units of [-1, 1]; `pictures_per_s` of the UNet's steps of this call; the peak of GPU memory; rows
    left out, by reason."""

    out: Path
    steps: int
    vae_steps: int
    loss: float
    vae_error: float
    seconds: float
    pictures_per_s: float
    gpu_memory_bytes: int | None
    left_out: dict[str, int] = field(default_factory=dict)


def train_base(folders: Sequence[Path], out: Path, options: QuickstartOptions, progress: Any = None,
               stop_after: Callable[[int], bool] | None = None) -> QuickstartResult:
    """Train and write a base in the layout of diffusers. The same call again continues; raises DiffusionError."""
    start = time.monotonic()
    device = pick_device(options.device)
    data = load_training_set(folders, options.size_px)
    identity = options.identity() | told_of_data(data)
    shown = progress if progress is not None else Progress()
    with open_folder(out, options.overwrite, _OURS) as state, quiet_diffusers(), told_of_memory(_FLAGS):
        base = build_small([*every_prompt(), NEGATIVE_PROMPT, *data.prompts], options.size_px, options.width,
                           vae_channels=None if options.vae_width is None else
                           tuple(options.vae_width * k for k in (1, 2, 4)), seed=keyed(options.seed, "weights"))
        run = _Run(base, data, options, state, identity, device)
        remember(state, folders, data)
        shown.start(options.vae_steps + options.steps, run.step)
        try:
            while run.step < options.vae_steps + options.steps:
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
        run.finish(out)
    log = run.log.read()
    last = [line["loss"] for line in log if "loss" in line][-100:]
    errors = [line["vae_error"] for line in log if "vae_error" in line][-50:]
    return QuickstartResult(out, options.steps, options.vae_steps, sum(last) / max(1, len(last)),
                            sum(errors) / max(1, len(errors)), time.monotonic() - start, run.pictures_per_s(),
                            torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None, data.left_out)


class _Run:
    """Both phases: the autoencoder, then UNet and text encoder on its latents, with an average of their weights."""

    def __init__(self, base: Base, data: TrainingSet, options: QuickstartOptions, folder: Path,
                 identity: dict[str, Any], device: torch.device) -> None:
        self.base, self.data, self.options = base, data, options
        self.folder, self.identity, self.device = folder, identity, device
        base.to(device, torch.float32)
        if device.type == "cuda":
            for part in (base.vae, base.unet):
                part.to(memory_format=torch.channels_last)
        self.vae_params = list(base.vae.parameters())
        self.params = [*base.unet.parameters(), *(p for e in base.text_encoders for p in e.parameters())]
        self.vae_optimiser = torch.optim.AdamW(self.vae_params, lr=options.vae_learning_rate, weight_decay=0.0)
        self.optimiser = torch.optim.AdamW(self.params, lr=options.learning_rate, weight_decay=0.01)
        self.average = [p.detach().clone() for p in self.params]
        self.latents: Latents | None = None
        self.step = 0
        self.unet_steps, self.unet_started = 0, 0.0
        found = load_training(folder, identity)
        if found is not None:
            told, tensors = found
            self.step = told["step"]
            self._load(tensors)
        self.log = LossLog(folder / LOSSES, self.step)

    def advance(self) -> None:
        torch.manual_seed(keyed(self.options.seed, "step", self.step))
        vae_phase = self.step < self.options.vae_steps
        if not vae_phase and self.latents is None:
            self._end_vae()
            self.unet_started = time.monotonic()
        self.unet_steps += not vae_phase
        value = self._vae_step() if vae_phase else self._unet_step(self.step - self.options.vae_steps)
        if not torch.isfinite(torch.tensor(value)):
            raise DiffusionError(f"the loss is no longer finite at step {self.step + 1}; take a smaller "
                                 "--learning-rate and --overwrite")
        self.step += 1
        self.log.add(self.step, **{"vae_error" if vae_phase else "loss": value})
        if self.step == self.options.vae_steps:
            self._normalise_vae()
        if self.step % self.options.save_every == 0 or self.step == self.options.vae_steps:
            self.save()

    def _vae_step(self) -> float:
        options, vae = self.options, self.base.vae
        vae.train()
        picks = picks_of_step(len(self.data), options.vae_batch, self.step, options.seed, True, "vae")
        side = min(options.vae_crop_px, options.size_px)
        crops = []
        for k, (picture, orientation) in enumerate(picks):
            image = oriented(self.data.images[picture], orientation)
            room = options.size_px - side + 1
            y, x = (keyed(options.seed, "crop", axis, self.step, k) % room for axis in ("y", "x"))
            crops.append(to_tensor(image[y:y + side, x:x + side]))
        images = torch.stack(crops).to(self.device)
        with self._autocast():
            found = vae.encode(images).latent_dist
            noise = torch.randn(found.mean.shape, generator=generator(options.seed, "vae noise", self.step))
            made = vae.decode(found.mean + found.std * noise.to(self.device)).sample.float()
        error = (made - images).abs().mean() + 0.5 * _edges(made - images)
        loss = error + _KL_WEIGHT * found.kl().float().mean()
        self._descend(loss, self.vae_optimiser, self.vae_params, options.vae_learning_rate, self.step,
                      options.vae_steps)
        return float((made.detach() - images).abs().mean())

    def _end_vae(self) -> None:
        vae = self.base.vae
        vae.eval()
        vae.requires_grad_(False)
        self.latents = Latents(vae, self.data.images)

    @torch.no_grad()
    def _normalise_vae(self) -> None:
        """Give latents mean 0 and standard deviation 1 in every channel, by weights of the layers next to them."""
        vae = self.base.vae
        vae.eval()
        some = [(k, 0) for k in sorted({k * len(self.data) // 64 for k in range(64)})]
        latents = Latents(vae, self.data.images).draw(some, generator(self.options.seed, "scale"))
        mean, std = latents.mean(dim=(0, 2, 3)).to(self.device), latents.std(dim=(0, 2, 3)).to(self.device)
        into, out = vae.quant_conv, vae.post_quant_conv
        n = len(mean)
        into.weight[:n] /= std[:, None, None, None]
        into.bias[:n] = (into.bias[:n] - mean) / std
        into.bias[n:] -= 2.0 * std.log()
        out.bias += (out.weight[:, :, 0, 0] * mean).sum(dim=1)
        out.weight *= std[None, :, None, None]

    def _unet_step(self, step: int) -> float:
        options, base = self.options, self.base
        assert self.latents is not None
        base.unet.train()
        for encoder in base.text_encoders:
            encoder.train()
        picks = picks_of_step(len(self.data), options.batch, step, options.seed, True)
        noise = generator(options.seed, "noise", step)
        latents = self.latents.draw(picks, noise).to(self.device)
        prompts = ["" if keyed(options.seed, "drop", step, k) % 10 == 0 else self.data.prompts[picture]
                   for k, (picture, _) in enumerate(picks)]
        with self._autocast():
            loss = loss_of(base, latents, encode_prompts(base, prompts), noise, options.size_px, snr_gamma=0.0).mean()
        self._descend(loss, self.optimiser, self.params, options.learning_rate, step, options.steps)
        with torch.no_grad():
            keep = min(_EMA, (1 + step) / (10 + step))
            torch._foreach_lerp_(self.average, [p.detach() for p in self.params], 1.0 - keep)
        return float(loss.detach())

    def _autocast(self) -> Any:
        half = self.options.precision == "bf16" and self.device.type == "cuda"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=half)

    def pictures_per_s(self) -> float:
        """Pictures the UNet learnt from a second, in this call; 0 where it took no step."""
        spent = time.monotonic() - self.unet_started
        return self.unet_steps * self.options.batch / spent if self.unet_steps else 0.0

    def _descend(self, loss: Tensor, optimiser: torch.optim.Optimizer, params: list[Any], rate: float, step: int,
                 total: int) -> None:
        left = 1.0 - step / total
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50, max(0.05, 3.0 * left))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimiser.step()

    def save(self) -> None:
        tensors = {f"vae.{k}": v for k, v in self.base.vae.state_dict().items()}
        tensors |= {f"weights.{k}": v for k, v in enumerate(self.params)}
        tensors |= {f"average.{k}": v for k, v in enumerate(self.average)}
        tensors |= optimiser_tensors(self.vae_optimiser, "vae_optimiser") if self.step < self.options.vae_steps else {}
        tensors |= optimiser_tensors(self.optimiser)
        tensors["rng"] = torch.get_rng_state()
        save_state(self.folder, self.identity, self.step, tensors, DiffusionError)

    def _load(self, tensors: dict[str, Tensor]) -> None:
        own = {k[4:]: v for k, v in tensors.items() if k.startswith("vae.")}
        self.base.vae.load_state_dict(own)
        with torch.no_grad():
            for k, (weight, average) in enumerate(zip(self.params, self.average, strict=True)):
                weight.copy_(tensors[f"weights.{k}"])
                average.copy_(tensors[f"average.{k}"])
        if self.step < self.options.vae_steps:
            load_optimiser(self.vae_optimiser, tensors, "vae_optimiser")
        load_optimiser(self.optimiser, tensors)
        torch.set_rng_state(tensors["rng"])

    def finish(self, out: Path) -> None:
        """Write the base with the averaged weights."""
        with torch.no_grad():
            held = [p.detach().clone() for p in self.params]
            for weight, average in zip(self.params, self.average, strict=True):
                weight.copy_(average)
            for part in self.base.parts():
                part.eval()
            self.base.fingerprint = fingerprint(self.base.unet)
            save_base(self.base, out)
            for weight, own in zip(self.params, held, strict=True):
                weight.copy_(own)
        card = {
            "format": 1, "kind": "synthskin quickstart", "synthskin_version": __version__,
            "fingerprint": self.base.fingerprint, "options": asdict(self.options), "pictures": len(self.data),
            "data_hash": self.data.hash(), "content": self.data.content(), "left_out": self.data.left_out,
            "patients": self.data.has_patients,
            "classes": dict(sorted(Counter(str(row["diagnosis"]) for row in self.data.rows).items())),
            "sets": [c.set_hash for c in self.data.cards], "licences": self.data.licences,
            "attribution": self.data.attribution, "steps_done": self.step,
            "parameters": {name: sum(p.numel() for p in part.parameters()) for name, part in (
                ("vae", self.base.vae), ("unet", self.base.unet), ("text_encoder", self.base.text_encoders[0]))},
        }
        write_whole(out / BASE_CARD, json_bytes(card), DiffusionError)
        write_whole(out / "README.md", _readme(card).encode(), DiffusionError)


def _edges(difference: Tensor) -> Tensor:
    """Mean absolute difference of neighbours: keeps hairs and network from being averaged away."""
    return F.l1_loss(difference[..., 1:], difference[..., :-1]) + F.l1_loss(difference[..., 1:, :],
                                                                           difference[..., :-1, :])


def _readme(card: dict[str, Any]) -> str:
    lines = [
        "# synthskin quickstart base", "",
        f"A small latent diffusion ({sum(card['parameters'].values()) / 1e6:.1f} million parameters), trained from "
        f"nothing on {card['pictures']} pictures of {card['options']['size_px']} pixels by `synthskin diffusion "
        "quickstart`. It shows the tool on a machine without a download; it is no Stable Diffusion, and it knows "
        "nothing but those pictures.", "",
        "Not for diagnosis. Pictures made with it are synthetic.", "", "## Licences of the training pictures",
        *(f"- {name}" for name in card["licences"]), "", "## Attribution",
        *(f"- {name}" for name in card["attribution"]), "", "## Settings", "```json",
        json.dumps({key: card[key] for key in ("options", "sets", "parameters", "steps_done")}, indent=1), "```", "",
    ]
    return "\n".join(lines)
