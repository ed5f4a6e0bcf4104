"""Commands of `synthskin diffusion`: quickstart, train, generate. As in cli.py: no logic, imports inside the commands.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from synthskin.cli_interrupt import go_on, kept, on_interrupt, tell_interrupted
from synthskin.cli_options import JsonOption, SeedOption, TorchDeviceOption

diffusion_app = typer.Typer(
    help="Diffusion: train a LoRA on Stable Diffusion, write sets with masks. Not for diagnosis.", no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Start anew in a folder that holds one.")]
DataArgument = Annotated[list[Path], typer.Argument(metavar="DATA...", help="Folders of data sets: real, synthetic or "
                                                    "both.")]


def register_diffusion(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.add_typer(diffusion_app, name="diffusion")


@diffusion_app.command("quickstart")
@on_interrupt(kept("the training up to here is", "training/state.json"))
def quickstart_command(
    data: DataArgument,
    out: Annotated[Path, typer.Option(help="Folder of the base, in the layout of diffusers.")],
    steps: Annotated[int, typer.Option(help="Optimiser steps of the UNet and the text encoder.")] = 1200,
    vae_steps: Annotated[int, typer.Option(help="Optimiser steps of the autoencoder, before that.")] = 400,
    size: Annotated[int, typer.Option(help="Side of the pictures in pixels, a multiple of 16.")] = 128,
    batch: Annotated[int, typer.Option(help="Pictures a step.")] = 8,
    width: Annotated[int, typer.Option(help="Channels of the UNet's first level.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate of UNet and text encoder.")] = 1e-3,
    vae_batch: Annotated[int, typer.Option(help="Pictures a step of the autoencoder.")] = 8,
    vae_width: Annotated[int | None, typer.Option(help="Channels of the autoencoder's first level; 16 if left out.",
                                                  show_default=False)] = None,
    vae_crop: Annotated[int, typer.Option(help="Side in pixels of what an autoencoder step sees of a picture.")] = 64,
    precision: Annotated[str, typer.Option(help="no or bf16 (on a GPU).")] = "no",
    seed: SeedOption = 0,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 100,
    device: TorchDeviceOption = "auto",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a small latent diffusion from nothing: no download, no Stable Diffusion. The same command continues."""
    from synthskin.diffusion import QuickstartOptions, train_base
    from synthskin.progress import make_progress

    options = QuickstartOptions(size, steps, vae_steps, batch, vae_batch, learning_rate, width=width,
                                vae_width=vae_width, vae_crop_px=vae_crop, precision=precision, seed=seed,
                                save_every=save_every, device=device, overwrite=overwrite)
    result = train_base(data, out, options, make_progress(verb="training", unit="steps"))
    _say_left_out(result.left_out)
    if as_json:
        typer.echo(json.dumps({"dir": str(out), "steps": result.steps, "loss": result.loss,
                               "vae_error": result.vae_error, "seconds": round(result.seconds, 1),
                               "pictures_per_s": round(result.pictures_per_s, 1),
                               "gpu_memory_bytes": result.gpu_memory_bytes, "left_out": result.left_out}))
    else:
        memory = "" if result.gpu_memory_bytes is None else f", {result.gpu_memory_bytes / 2**30:.1f} GiB of GPU memory"
        typer.echo(f"loss {result.loss:.3f}, autoencoder off by {127.5 * result.vae_error:.1f} grey levels, "
                   f"{result.seconds:.0f} s, {result.pictures_per_s:.0f} pictures/s{memory}\nbase    {out}")


@diffusion_app.command("train")
@on_interrupt(kept("the training up to here is", "training/state.json"))
def train_command(
    data: DataArgument,
    base: Annotated[str, typer.Option(help="Base of the Stable Diffusion family 1.x, 2.x or XL: folder or hub id.")],
    out: Annotated[Path, typer.Option(help="Folder of the LoRA.")],
    rank: Annotated[int, typer.Option(help="Rank of the LoRA.")] = 16,
    alpha: Annotated[float | None, typer.Option(help="Its alpha; the rank if left out.", show_default=False)] = None,
    targets: Annotated[str, typer.Option(help="Layers that get one, by name.")] = "to_q,to_k,to_v,to_out.0",
    dropout: Annotated[float, typer.Option(help="Dropout inside the LoRA.")] = 0.0,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 2000,
    batch: Annotated[int, typer.Option(help="Pictures a step and GPU.")] = 4,
    accumulate: Annotated[int, typer.Option(help="Batches added up for one step.")] = 1,
    size: Annotated[int | None, typer.Option(help="Side of the pictures in pixels; the base's own if left out.",
                                             show_default=False)] = None,
    learning_rate: Annotated[float, typer.Option(help="Learning rate.")] = 1e-4,
    text_learning_rate: Annotated[float, typer.Option(help="Of the text encoder's LoRA.")] = 5e-5,
    schedule: Annotated[str, typer.Option(help="constant, constant_with_warmup, cosine or linear.")
                        ] = "constant_with_warmup",
    warmup: Annotated[int, typer.Option(help="Steps until the full learning rate.")] = 100,
    weight_decay: Annotated[float, typer.Option(help="Weight decay of AdamW.")] = 1e-2,
    max_grad_norm: Annotated[float, typer.Option(help="Gradients are cut to this norm.")] = 1.0,
    snr_gamma: Annotated[float, typer.Option(help="Min-SNR weighting; 0 switches it off.")] = 5.0,
    noise_offset: Annotated[float, typer.Option(help="Noise that is constant over a picture; for dark or light ones."
                                                )] = 0.0,
    drop_prompt: Annotated[float, typer.Option(help="Share of pictures trained without a prompt.")] = 0.1,
    no_augment: Annotated[bool, typer.Option("--no-augment", help="No mirroring and quarter turns.")] = False,
    text_encoder: Annotated[bool, typer.Option("--text-encoder", help="A LoRA on the text encoder too.")] = False,
    mask_input: Annotated[bool, typer.Option("--mask-input", help="Make the mask an input of the model.")] = False,
    instance_prompt: Annotated[str | None, typer.Option(help="DreamBooth: this prompt for every picture.")] = None,
    class_prompt: Annotated[str | None, typer.Option(help="DreamBooth: keep what the base draws for this prompt."
                                                     )] = None,
    prior_n: Annotated[int, typer.Option(help="DreamBooth: pictures of the class prompt.")] = 100,
    prior_weight: Annotated[float, typer.Option(help="DreamBooth: their weight.")] = 1.0,
    ema: Annotated[float, typer.Option(help="Decay of the running mean of the weights, such as 0.999; 0: none.")] = 0.0,
    precision: Annotated[str, typer.Option(help="no, bf16 or fp16 (on a GPU).")] = "no",
    gradient_checkpointing: Annotated[bool, typer.Option("--gradient-checkpointing", help="Less memory, a third slower."
                                                         )] = False,
    adam_8bit: Annotated[bool, typer.Option("--adam-8bit", help="8-bit AdamW of bitsandbytes.")] = False,
    seed: SeedOption = 0,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 100,
    validate_every: Annotated[int, typer.Option(help="Steps between validation pictures; 0: none.")] = 0,
    validate_n: Annotated[int, typer.Option(help="Validation pictures.")] = 4,
    base_licence: Annotated[str | None, typer.Option(help="The base's licence, if not the usual one.")] = None,
    device: TorchDeviceOption = "auto",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a LoRA. The same command again continues after an interruption, to the very same weights."""
    from synthskin.diffusion import TrainOptions, train_lora
    from synthskin.progress import make_progress

    options = TrainOptions(
        size_px=size, steps=steps, batch=batch, accumulate=accumulate, rank=rank, alpha=alpha,
        targets=tuple(name.strip() for name in targets.split(",") if name.strip()), dropout=dropout,
        learning_rate=learning_rate, text_learning_rate=text_learning_rate, schedule=schedule, warmup=warmup,
        weight_decay=weight_decay, max_grad_norm=max_grad_norm, snr_gamma=snr_gamma, noise_offset=noise_offset,
        drop_prompt=drop_prompt, augment=not no_augment, text_encoder=text_encoder, mask_input=mask_input,
        instance_prompt=instance_prompt, class_prompt=class_prompt, prior_n=prior_n, prior_weight=prior_weight, ema=ema,
        precision=precision, gradient_checkpointing=gradient_checkpointing, adam_8bit=adam_8bit, seed=seed,
        save_every=save_every, validate_every=validate_every, validate_n=validate_n, base_licence=base_licence,
        device=device, overwrite=overwrite)
    result = train_lora(data, base, out, options, make_progress(verb="training", unit="steps"))
    _say_left_out(result.left_out)
    if as_json:
        typer.echo(json.dumps({"dir": str(out), "steps": result.steps, "resumed_at": result.resumed_at,
                               "loss_first": result.first, "loss_last": result.last, "metrics": result.metrics,
                               "seconds": round(result.seconds, 1), "left_out": result.left_out}))
    else:
        typer.echo(f"loss {result.first:.4f} at first, {result.last:.4f} at last; {result.seconds:.0f} s")
        typer.echo(f"LoRA    {out}")


@diffusion_app.command("generate")
@on_interrupt(kept("finished samples are", "dataset.json"))
def generate_command(
    model: Annotated[Path, typer.Argument(metavar="LORA", help="Folder of `train`, or of `quickstart`.")],
    out: Annotated[Path, typer.Option(help="Folder of the data set to write.")],
    n: Annotated[int, typer.Option("--n", "-n", help="Samples of the set.")] = 100,
    diagnosis: Annotated[str | None, typer.Option(help="Weights such as MEL=1,NV=3.")] = None,
    tone: Annotated[str | None, typer.Option(help="Weights of tone classes such as fst5=1,fst6=1.")] = None,
    from_: Annotated[Path | None, typer.Option("--from", metavar="SET", help="Start from the pictures of this set "
                                               "(renders); the masks are inherited.")] = None,
    mask_from: Annotated[str | None, typer.Option(help="Set whose masks are given to the model, or `drawn`.")] = None,
    base: Annotated[str | None, typer.Option(help="Another base than the card names.")] = None,
    redo: Annotated[str, typer.Option(help="--from: whole, or by inpainting lesion or skin.")] = "whole",
    strength: Annotated[float | None, typer.Option(help="--from: how far from the render, 0 to 1 (default 0.2).",
                                                   show_default=False)] = None,
    steps: Annotated[int, typer.Option(help="Steps of the sampler.")] = 25,
    guidance: Annotated[float, typer.Option(help="Guidance by the prompt; 1 and less: none.")] = 5.0,
    lora_scale: Annotated[float, typer.Option(help="How much of the LoRA counts.")] = 1.0,
    size: Annotated[int | None, typer.Option(help="Side of the pictures in pixels; the LoRA's if left out.",
                                             show_default=False)] = None,
    batch: Annotated[int, typer.Option(help="Pictures made at once.")] = 8,
    seed: SeedOption = 0,
    tries: Annotated[int, typer.Option(help="Candidates a sample before it is given up.")] = 8,
    min_iou: Annotated[float, typer.Option(help="Gate mask: least IoU with the mask asked for.")] = 0.6,
    min_confidence: Annotated[float, typer.Option(help="Gate mask, free text: least confidence of the mask found."
                                                  )] = 0.6,
    max_tone_error: Annotated[float, typer.Option(help="Gate tone: degrees of ITA it may miss by.")] = 10.0,
    classifier: Annotated[Path | None, typer.Option(help="Gate class: folder of `classifier train`; without it there "
                                                    "is no such gate.")] = None,
    min_probability: Annotated[float, typer.Option(help="Gate class: least probability of the class asked for."
                                                   )] = 0.25,
    segmenter: Annotated[Path | None, typer.Option(help="Another segmenter than the one that ships.")] = None,
    train_data: Annotated[list[Path] | None, typer.Option(help="Gate near-duplicate: the training sets; remembered "
                                                          "from `train` where they still lie there.")] = None,
    skip_gate: Annotated[list[str] | None, typer.Option(help="Leave out blur, mask, tone, class or near-duplicate."
                                                        )] = None,
    explain: Annotated[Path | None, typer.Option(help="Folder for a report of what was refused and why.")] = None,
    modality: Annotated[str, typer.Option(help="dermoscopic or clinical, where no render says it.")] = "dermoscopic",
    precision: Annotated[str, typer.Option(help="no, bf16 or fp16 (on a GPU).")] = "no",
    offload: Annotated[bool, typer.Option("--offload", help="Keep on the GPU only the part in use.")] = False,
    device: TorchDeviceOption = "auto",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a set: from renders (--from), from masks (--mask-from), or from text. The same command again continues.

    Exit 0, or 3 where fewer pictures passed the gates than were asked for.
    """
    from synthskin.diffusion import GenerateRequest, generate_set
    from synthskin.progress import make_progress

    extra: dict[str, Any] = {} if strength is None else {"strength": strength}
    request = GenerateRequest(
        model, out, n, diagnosis, tone, from_, mask_from, base, redo, steps=steps, guidance=guidance,
        lora_scale=lora_scale, size_px=size, batch=batch, seed=seed, tries=tries, min_iou=min_iou,
        min_confidence=min_confidence, max_tone_error_deg=max_tone_error, min_probability=min_probability,
        classifier=classifier, segmenter=segmenter, train_data=tuple(train_data or ()),
        skip_gates=tuple(skip_gate or ()), explain=explain, modality=modality, precision=precision, offload=offload,
        device=device, overwrite=overwrite, **extra)
    result = generate_set(request, make_progress(verb="generating"))
    for remark in result.remarks:
        _say(f"note: {remark}")
    _say_left_out(result.left_out)
    if as_json:
        typer.echo(json.dumps({
            "dir": str(out), "n": n, "kept": result.kept, "made": result.made, "counts": result.counts,
            "shortfall": result.shortfall, "explain": None if result.page is None else str(result.page),
            "interrupted": result.interrupted, "seconds": round(result.seconds, 1), "left_out": result.left_out}))
    if result.interrupted:
        tell_interrupted(f"{result.kept} of {n} samples are in {out}; {go_on(overwrite)}")
    if not as_json:
        counts = result.counts
        refused = ", ".join(f"{gate} {count}" for gate, count in counts["refused"].items()) or "none"
        typer.echo(f"{counts['judged']} pictures judged, {counts['kept']} kept, refused: {refused}; "
                   f"{result.seconds:.0f} s")
        if result.page is not None:
            typer.echo(f"report  {result.page}")
        typer.echo(f"folder  {out}")
    if result.shortfall:
        _say(f"error: {result.shortfall}")
        raise typer.Exit(3)


def _say_left_out(left_out: dict[str, int]) -> None:
    for why, number in left_out.items():
        _say(f"left out: {number} samples: {why}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
