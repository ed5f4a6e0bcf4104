"""`synthskin segmenter`: train, predict, score. As in cli.py: no logic, and imports inside the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from synthskin.cli_interrupt import kept, nothing, on_interrupt
from synthskin.cli_options import JsonOption, TorchDeviceOption

segmenter_app = typer.Typer(help="Find lesions: train on sets, predict on pictures, score against true masks.",
                            no_args_is_help=True)
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL|default", help="Folder of a segmenter, or `default`, the "
                                                                            "one that ships with synthskin.")]


def register_segmenter(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.add_typer(segmenter_app, name="segmenter")


@segmenter_app.command()
@on_interrupt(kept("the training up to here is", "training/state.safetensors"))
def train(
    sets: Annotated[list[Path], typer.Argument(metavar="SET...", help="Folders of data sets with masks.")],
    out: Annotated[Path, typer.Option(help="Folder of the model.")],
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 3000,
    size: Annotated[int, typer.Option(help="Working size in pixels, a multiple of 32.")] = 192,
    batch: Annotated[int, typer.Option(help="Pictures a step.")] = 8,
    lr: Annotated[float, typer.Option(help="Learning rate after warm-up.")] = 2e-3,
    seed: Annotated[int, typer.Option(help="Seed; 0 is a seed.")] = 0,
    validation_share: Annotated[float, typer.Option(help="Share of the samples held out, whole groups at a time, "
                                                         "where the sets mark none.")] = 0.12,
    masks: Annotated[str, typer.Option(help="Values of mask_status that count as true.")] = "exact,human,inherited",
    start: Annotated[str | None, typer.Option(metavar="MODEL|default", help="Go on from the weights of a segmenter, "
                                              "such as to fit it to your camera.", show_default=False)] = None,
    device: TorchDeviceOption = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew in a folder that holds a model.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a segmenter. The same command again continues it, also after a kill."""
    from synthskin.progress import make_progress
    from synthskin.segment.settings import TrainSettings
    from synthskin.segment.train import train_segmenter

    settings = TrainSettings(size_px=size, steps=steps, batch=batch, lr=lr, seed=seed,
                             validation_share=validation_share,
                             masks=tuple(name.strip() for name in masks.split(",") if name.strip()))
    done = train_segmenter(sets, out, settings, device, overwrite, make_progress(verb="training on", unit="pictures"),
                           make_progress(verb="reading"), None if start is None else _load(start, device))
    metrics = done.card["metrics"]
    if as_json:
        typer.echo(json.dumps({"dir": str(out), "steps_made": done.made, "weights_sha256": done.card["weights_sha256"],
                               "samples": done.card["samples"], "metrics": metrics}))
        return
    typer.echo(f"{'was there already' if done.was_done else f'{done.made} steps made'}; on {metrics['n']} held-out "
               f"samples Dice {metrics['dice']:.3f}, IoU {metrics['iou']:.3f}, calibration error "
               f"{metrics['calibration_error']:.3f}")
    for reason, count in done.card["samples"]["left_out"].items():
        typer.echo(f"left out {count} samples with {reason}")
    typer.echo(f"model   {out}")


@segmenter_app.command()
@on_interrupt(kept("finished masks are", "predictions.jsonl", "dataset.json"))
def predict(
    model: ModelArgument,
    sources: Annotated[list[Path], typer.Argument(metavar="DIR|FILES|SET", help="A folder of pictures, picture files, "
                                                                               "or a data set.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    probability: Annotated[bool, typer.Option("--probability", help="Write probabilities too, 8-bit PNG.")] = False,
    batch: Annotated[int, typer.Option(help="Pictures at a time.")] = 8,
    device: TorchDeviceOption = "auto",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out pictures that cannot be read; each is "
                                                              "told.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Masks with a confidence for pictures: OUT/masks/NAME.png, OUT/predictions.jsonl, OUT/preview.png.

    The same command again continues. Exit 0, or 3 if pictures were left out.
    """
    import sys

    from synthskin.progress import make_progress
    from synthskin.segment.files import predict_files

    done = predict_files(_load(model, device), sources, out, batch, probability, skip_bad,
                         make_progress(verb="segmenting"))
    for name, why in done.left_out.items():
        print(f"left out: {name}: {why}", file=sys.stderr, flush=True)
    if as_json:
        typer.echo(json.dumps({"dir": str(out), "pictures": done.total, "made": done.made, "redone": done.redone,
                               "left_out": done.left_out}))
    else:
        kept = f", {done.total - done.made} kept" if done.total > done.made else ""
        again = f", {done.redone} of them again (their pictures were replaced, or not told)" if done.redone else ""
        typer.echo(f"{done.made} masks made{again}{kept} in {out}")
    if done.left_out:
        raise typer.Exit(3)


@segmenter_app.command()
@on_interrupt(nothing)
def score(
    model: ModelArgument,
    sets: Annotated[list[Path], typer.Argument(metavar="SET...", help="Data sets with true masks.")],
    out: Annotated[Path | None, typer.Option(help="JSON file to write, a row a sample.", show_default=False)] = None,
    masks: Annotated[str, typer.Option(help="Values of mask_status that count as true.")] = "exact,human,inherited",
    device: TorchDeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Dice, IoU and calibration against true masks: whole, by diagnosis and by tone."""
    from synthskin.files import json_bytes, write_whole
    from synthskin.progress import make_progress
    from synthskin.segment.errors import SegmentError
    from synthskin.segment.files import score_sets

    rows, figures = score_sets(_load(model, device), sets, tuple(masks.split(",")), make_progress(verb="scoring"))
    if out is not None:
        write_whole(out, json_bytes({"figures": figures, "rows": rows}), SegmentError)
    if as_json:
        typer.echo(json.dumps(figures))
        return
    typer.echo(f"{figures['n']} samples: Dice {figures['dice']:.3f} (median {figures['dice_median']:.3f}), IoU "
               f"{figures['iou']:.3f}, {figures['dice_below_0.5']} under Dice 0.5, calibration error "
               f"{figures['calibration_error']:.3f}")
    for key, title in (("by_diagnosis", "class"), ("by_tone", "tone")):
        for name, one in figures[key].items():
            typer.echo(f"{title} {name:8} n {one['n']:4}  Dice {one['dice']:.3f}  IoU {one['iou']:.3f}")


@segmenter_app.command()
def show(model: ModelArgument = "default", as_json: JsonOption = False) -> None:
    """The card of a segmenter: data, settings, figures, licences."""
    card = _load(model, "cpu").card
    if as_json:
        typer.echo(json.dumps(card))
        return
    for key in ("network", "parameters", "synthskin_version", "settings", "data", "samples", "metrics", "licences",
                "attribution", "limits", "weights_sha256"):
        typer.echo(f"{key:18} {card.get(key)}")


def _load(model: str, device: str) -> Any:
    from synthskin.segment.predict import load_segmenter

    return load_segmenter(None if model == "default" else Path(model), device)
