"""Commands of the classifier: train, predict, evaluate, export. As in cli.py: no logic, imports inside the commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from synthskin.cli_interrupt import kept, nothing, on_interrupt
from synthskin.cli_options import JsonOption, TorchDeviceOption

ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="Folder written by `classifier train`.")]

classifier_app = typer.Typer(
    help="Train a classifier on sets, predict, evaluate, export to ONNX. Not for diagnosis.", no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def register_classifier(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.add_typer(classifier_app, name="classifier")


@classifier_app.command("train")
@on_interrupt(kept("the training up to here is", "training/state.json"))
def train(
    sets: Annotated[list[Path], typer.Argument(metavar="SET...", help="Folders of data sets, synthetic or real.")],
    out: Annotated[Path, typer.Option(help="Folder of the model.")],
    network: Annotated[str, typer.Option(help="densenet121, or small, which a processor trains.")] = "small",
    size: Annotated[int, typer.Option(help="Side in pixels of what the network sees.")] = 128,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 1500,
    batch: Annotated[int, typer.Option(help="Pictures a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 2e-3,
    weight_decay: Annotated[float, typer.Option(help="Weight decay of AdamW.")] = 0.05,
    label: Annotated[str, typer.Option(help="Learned: diagnosis, benign_malignant or ita_class.")] = "diagnosis",
    classes: Annotated[str | None, typer.Option(help="Values that are learned, such as MEL,NV; all that occur if "
                                                   "left out.", show_default=False)] = None,
    loss: Annotated[str, typer.Option(help="cross_entropy or focal.")] = "cross_entropy",
    label_smoothing: Annotated[float, typer.Option(help="Share of the target spread over all classes.")] = 0.05,
    class_weights: Annotated[str, typer.Option(help="none, or balanced for sets with rare classes.")] = "none",
    logit_pairing: Annotated[float, typer.Option(help="Weight of what siblings of a group (sweeps, counterfactuals) "
                                                    "differ in their logits; 0 is without.")] = 0.0,
    validation_share: Annotated[float, typer.Option(help="Share of the groups kept for validation, where no row has "
                                                       "split=val.")] = 0.15,
    no_augment: Annotated[bool, typer.Option("--no-augment", help="No flips, rotations, crops, colour.")] = False,
    seed: Annotated[int, typer.Option(help="Seed; 0 is a seed.")] = 0,
    save_every: Annotated[int, typer.Option(help="Steps between states a resumed run starts from.")] = 100,
    device: TorchDeviceOption = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew in a folder that holds a model.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a classifier. The same command again continues after an interruption, to the very same weights."""
    from synthskin.classify import TrainOptions, train_classifier
    from synthskin.progress import make_progress

    options = TrainOptions(
        network=network, size_px=size, steps=steps, batch=batch, learning_rate=learning_rate,
        weight_decay=weight_decay, label=label, loss=loss, label_smoothing=label_smoothing, class_weights=class_weights,
        logit_pairing=logit_pairing,
        classes=() if classes is None else tuple(name.strip() for name in classes.split(",")),
        validation_share=validation_share, augment=not no_augment, seed=seed, save_every=save_every, device=device)
    result = train_classifier(sets, out, options, make_progress(verb="training", unit="steps"), overwrite, tell=_say)
    own = result.card.metrics["validation"]
    if as_json:
        typer.echo(json.dumps({"model": str(out), "classes": list(result.card.classes), "steps": result.card.steps,
                               "made": result.made, "seconds": round(result.seconds, 2),
                               "temperature": result.card.temperature, "validation": own}))
        return
    made = f"{result.made} steps in {result.seconds:.0f} s" if result.made else "finished before"
    typer.echo(f"{made}; {own['n']} validation pictures: balanced accuracy {own['balanced_accuracy']:.3f}, "
               f"calibration error {own['ece']:.3f}")
    typer.echo(f"model   {out}")


@classifier_app.command("predict")
@on_interrupt(nothing)
def predict(
    model: ModelArgument,
    source: Annotated[Path, typer.Argument(metavar="DIR|SET", help="Data set, or folder of pictures.")],
    out: Annotated[Path, typer.Option(help="CSV file to write: a line a picture, a probability a class.")],
    batch: Annotated[int, typer.Option(help="Pictures at a time.")] = 16,
    device: TorchDeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Calibrated probabilities of every picture of a set or a folder, as CSV."""
    from synthskin.classify import ClassifyError, load_classifier
    from synthskin.classify.evaluation import csv_text, judge
    from synthskin.dataset.photo_folder import left_out_words
    from synthskin.files import write_whole
    from synthskin.progress import make_progress

    if out.is_dir() or not out.parent.is_dir():
        raise ClassifyError(f"--out {out}: a file in a folder that exists is needed")
    classifier = load_classifier(model, device)
    judged = judge(classifier, source, batch, make_progress(verb="judging", unit="pictures"))
    write_whole(out, csv_text(classifier, judged).encode(), ClassifyError)
    if judged.masks:
        _say(f"note: {left_out_words(judged.masks)}")
    if as_json:
        typer.echo(json.dumps({"out": str(out), "pictures": len(judged.names), "classes": list(classifier.classes)}))
    else:
        typer.echo(f"{len(judged.names)} pictures in {out}")


@classifier_app.command("evaluate")
@on_interrupt(nothing)
def evaluate(
    model: ModelArgument,
    directory: Annotated[Path, typer.Argument(metavar="SET", help="Data set with labels.")],
    split: Annotated[str | None, typer.Option(help="Only rows with this split, such as test.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file of all figures to write too.")] = None,
    batch: Annotated[int, typer.Option(help="Pictures at a time.")] = 16,
    device: TorchDeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Recall, precision, AUC a class, confusion, calibration; over all and by skin tone."""
    from synthskin.classify import ClassifyError, load_classifier
    from synthskin.classify import evaluate as judge_set
    from synthskin.classify.evaluation import table
    from synthskin.files import json_bytes, write_whole
    from synthskin.progress import make_progress

    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise ClassifyError(f"--out {out}: a file in a folder that exists is needed")
    progress = make_progress(verb="judging", unit="pictures")
    found = judge_set(load_classifier(model, device), directory, split, batch, progress)
    if found.trained_on:
        _say(f"note: {found.trained_on} of {found.overall['n']} pictures are of groups the model was trained on; these "
             "figures say little about new ones")
    for why, count in found.left_out.items():
        _say(f"note: {count} pictures left out: {why}")
    if out is not None:
        write_whole(out, json_bytes(found.to_dict()), ClassifyError)
    typer.echo(json.dumps(found.to_dict()) if as_json else table(found))


@classifier_app.command("export")
def export(
    model: ModelArgument,
    onnx: Annotated[Path, typer.Option("--onnx", help="File to write, FILE.onnx; FILE.json beside it says how pictures "
                                                    "are prepared.")],
    as_json: JsonOption = False,
) -> None:
    """Write the classifier as ONNX, with a file of what a picture goes through before it."""
    from synthskin.classify import export_onnx, load_classifier

    graph, beside = export_onnx(load_classifier(model, "cpu"), onnx)
    if as_json:
        typer.echo(json.dumps({"onnx": str(graph), "preprocess": str(beside)}))
    else:
        typer.echo(f"{graph}, {beside}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
