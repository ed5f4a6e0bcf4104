"""`synthskin gan ...`: train, translate, balance, melanet. Parse, call, print; heavy imports inside the commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from synthskin.cli_interrupt import go_on, kept, on_interrupt, tell_interrupted
from synthskin.cli_options import JsonOption, SeedOption, TorchDeviceOption

gan_app = typer.Typer(help="Translate between classes and between skin tones, without pairs.", no_args_is_help=True)

OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Start anew in a folder that holds a result.")]
WHERE = "Filter of its samples: diagnosis=NV, or diagnosis=MEL|BCC,ita_class>=4."


def register_gan(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.add_typer(gan_app, name="gan")


@gan_app.command()
@on_interrupt(kept("the training up to here is", "state.safetensors",
                   default=lambda given: Path("out") / f"gan-{given['method']}"))
def train(
    source: Annotated[Path, typer.Argument(help="Set that pictures are translated from.")],
    target: Annotated[Path | None, typer.Argument(help="Set they are to look like; SOURCE again if left out (the same "
                                                       "folder narrowed, stargan, pix2pixhd).",
                                                  show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the model; out/gan-<method> if left out.",
                                             show_default=False)] = None,
    method: Annotated[str, typer.Option(help="cyclegan, cut, stargan (six tones) or pix2pixhd (pictures from masks).")]
    = "cyclegan",
    change: Annotated[str | None, typer.Option(help="class or tone: what the model may change, for good. Left out: "
                                                    "what the two domains differ in.", show_default=False)] = None,
    source_where: Annotated[str | None, typer.Option(help=WHERE, show_default=False)] = None,
    target_where: Annotated[str | None, typer.Option(help=WHERE, show_default=False)] = None,
    size: Annotated[int, typer.Option(help="Side of the pictures in pixels, a multiple of 16.")] = 256,
    steps: Annotated[int, typer.Option(help="Updates; the rate falls to 0 over the second half.")] = 20_000,
    batch: Annotated[int, typer.Option(help="Pictures a domain a step.")] = 1,
    rate: Annotated[float | None, typer.Option(help="Learning rate (2e-4; stargan 1e-4).", show_default=False)] = None,
    width: Annotated[int, typer.Option(help="Channels of the first layer; fewer are faster and learn less.")] = 64,
    blocks: Annotated[int | None, typer.Option(help="Residual blocks (9; stargan 6).", show_default=False)] = None,
    generator: Annotated[str, typer.Option(help="resnet or unet; cyclegan only.")] = "resnet",
    norm: Annotated[str, typer.Option(help="cyclegan, cut: instance, none, or auto (none for tones).")] = "auto",
    skip: Annotated[bool, typer.Option("--skip", help="cyclegan, cut: the resnet adds a mixture of each pixel's own "
                                                      "colours. Not in the papers; learns tones far faster.")] = False,
    cycle: Annotated[float, typer.Option(help="Weight of cycle or reconstruction.")] = 10.0,
    identity: Annotated[float, typer.Option(help="Weight of identity as a share of cycle: 1, 0.5, or 0.")] = 0.5,
    pool: Annotated[int, typer.Option(help="Pictures in the image pool of cyclegan.")] = 50,
    augment: Annotated[str, typer.Option(help="auto, none, or of colour,translation,cutout (DiffAugment).")] = "auto",
    ema: Annotated[float, typer.Option(help="Decay of the averaged weights.")] = 0.999,
    precision: Annotated[str, typer.Option(help="no, bf16 or fp16.")] = "no",
    every: Annotated[int, typer.Option(help="Steps between validations, sample grids and checkpoints; 0 is a 20th of "
                                            "the steps.")] = 0,
    patience: Annotated[int, typer.Option(help="Validations without gain before the early stop; 0 never stops and "
                                               "keeps the last weights, not the best.")] = 10,
    seed: SeedOption = 0,
    device: TorchDeviceOption = "auto",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a translator. The same command again continues; Ctrl-C stops after the step and saves."""
    from synthskin.gan import METHODS, GanError
    from synthskin.gan.domain import load_domain
    from synthskin.gan.where import parse_where

    if method not in METHODS:
        raise GanError(f"--method {method}: allowed are {', '.join(METHODS)}")
    _need_torch()
    from synthskin.gan.method import TrainOptions
    from synthskin.gan.train import settle_change
    from synthskin.gan.train import train as run
    from synthskin.progress import make_progress

    filters = parse_where(source_where, "--source-where"), parse_where(target_where, "--target-where")
    drawn = TrainOptions(
        method, "class", size, steps, batch, (1e-4 if method == "stargan" else 2e-4) if rate is None else rate, width,
        (6 if method == "stargan" else 9) if blocks is None else blocks, generator, norm, skip, cycle,
        identity, pool, augment, ema, precision, seed, every, patience)
    first = load_domain(source, filters[0], size, "SOURCE")
    alone = target is None and target_where is None
    second = first if alone else load_domain(target or source, filters[1], size, "TARGET")
    if alone and method in ("cyclegan", "cut"):
        raise GanError(f"{method} needs two domains: give a second folder, or narrow the one by --source-where and "
                       "--target-where, such as diagnosis=NV and diagnosis=MEL")
    from dataclasses import replace

    options = replace(drawn, change=settle_change(method, first, second, change))
    folder = out if out is not None else Path("out") / f"gan-{method}"
    result = run(first, second, options, folder, make_progress(verb="training", unit="steps"), device, overwrite)
    for remark in result.remarks:
        _say(f"warning: {remark}")
    card = result.card
    if as_json:
        typer.echo(json.dumps({
            "dir": str(folder), "method": method, "change": options.change, "steps": result.steps, "made": result.made,
            "seconds": round(result.seconds, 3), "ended": result.ended,
            "kept_step": None if card is None else card.steps, "sha256": None if card is None else card.sha256,
            "validation": None if card is None else card.validation}))
    if result.ended == "stopped":
        tell_interrupted(f"step {result.steps} of {steps} is kept in {folder}; {go_on(overwrite)}")
    if not as_json and card is not None:
        held = "" if card.validation is None else f", validation distance {card.validation:.4f}"
        early = " (stopped early)" if result.ended == "early" else ""
        typer.echo(f"{result.made} steps in {result.seconds:.1f} s{early}; weights of step {card.steps}{held}")
        typer.echo(f"folder  {folder}")


@gan_app.command()
@on_interrupt(kept("finished samples are", "dataset.json"))
def translate(
    model: Annotated[Path, typer.Argument(help="Folder of a model (gan train).")],
    data: Annotated[Path, typer.Argument(help="Set to translate.")],
    out: Annotated[Path, typer.Option(help="Folder of the set to write.")],
    where: Annotated[str | None, typer.Option(help="Filter of DATA's samples; the model's own SOURCE filter if left "
                                                   "out, all with ''.", show_default=False)] = None,
    n: Annotated[int | None, typer.Option("--n", "-n", help="Only the first n sources.", show_default=False)] = None,
    tone: Annotated[str | None, typer.Option(help="stargan: fst1 ... fst6 (ITA classes), several with commas, or all.",
                                             show_default=False)] = None,
    whole: Annotated[bool, typer.Option("--whole", help="No compositing: rulers, hair and background may change.")]
    = False,
    margin: Annotated[float, typer.Option(help="Class: dilation of the mask, as a share of the side.")] = 0.04,
    feather: Annotated[float, typer.Option(help="Class: width of the soft edge beyond it, as a share.")] = 0.06,
    device: TorchDeviceOption = "auto",
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Translate a set: masks inherited, lineage kept. A class model changes the lesion alone, a tone model all skin."""
    _need_torch()
    from synthskin.gan.translate import translate_set
    from synthskin.gan.where import parse_where
    from synthskin.progress import make_progress

    translator = _translator(model, tone, whole, margin, feather, device)
    result = translate_set(translator, data, out, None if where is None else parse_where(where), n, seed,
                           make_progress(verb="translating"), overwrite)
    if as_json:
        typer.echo(json.dumps({"dir": str(out), "samples": result.samples, "made": result.made,
                               "left_out": result.left_out, "seconds": round(result.seconds, 3),
                               "interrupted": result.interrupted}))
    for why, number in result.left_out.items():
        _say(f"left out: {number} samples: {why}")
    if result.interrupted:
        tell_interrupted(f"{result.samples} samples are in {out}; {go_on(overwrite)}")
    if not as_json:
        typer.echo(f"{result.made} samples made, {result.samples} in {out}, in {result.seconds:.1f} s")


@gan_app.command()
@on_interrupt(kept("finished samples are", "dataset.json"))
def balance(
    data: Annotated[Path, typer.Argument(help="Set whose classes are to be filled up.")],
    out: Annotated[Path, typer.Option(help="Folder of the additions; DATA and it together are balanced.")],
    model: Annotated[list[Path], typer.Option(help="Folder of a class model (gan train); several, one a class.")],
    to: Annotated[str, typer.Option(help="equal, or ratio with --ratio.")] = "equal",
    ratio: Annotated[float | None, typer.Option(help="Share of the largest class that every class is to reach.",
                                                show_default=False)] = None,
    gates: Annotated[str, typer.Option(help="Gates in order, of mask,class,near-duplicate,source-leak; none for no "
                                            "gate.")] = "mask,class,near-duplicate,source-leak",
    classifier: Annotated[Path | None, typer.Option(help="Folder of an independent classifier for the class gate.",
                                                    show_default=False)] = None,
    report: Annotated[Path | None, typer.Option(help="Folder of the report; OUT-report if left out.",
                                                show_default=False)] = None,
    whole: Annotated[bool, typer.Option("--whole", help="No compositing.")] = False,
    margin: Annotated[float, typer.Option(help="Dilation of the mask, as a share of the side.")] = 0.04,
    feather: Annotated[float, typer.Option(help="Width of the soft edge beyond it, as a share.")] = 0.06,
    device: TorchDeviceOption = "auto",
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fill minority classes with translations that pass the gates. Exit 0, or 3 if some are still short."""
    from synthskin.gan import GanError

    _need_torch()
    from synthskin.gan.balance import BalanceRequest, parse_goal
    from synthskin.progress import make_progress

    goal = parse_goal(to, ratio)
    models = [_translator(folder, None, whole, margin, feather, device) for folder in model]
    names = () if gates == "none" else tuple(part.strip() for part in gates.split(","))
    request = BalanceRequest(data, out, models, goal, names, classifier, seed, report, overwrite)
    result = request.run(make_progress(verb="balancing"))
    if result is None:
        raise GanError(f"DATA {data}: no class is under {goal:g} of the largest; there is nothing to balance")
    if as_json:
        typer.echo(json.dumps({"dir": str(out), "report": str(result.report), "added": result.added,
                               "missing": result.missing, "seconds": round(result.seconds, 3)}))
    else:
        added = ", ".join(f"{count} {name}" for name, count in sorted(result.added.items())) or "nothing"
        typer.echo(f"added {added} in {out}; report {result.report}")
    for name, count in sorted(result.missing.items()):
        _say(f"error: {name} is still {count} short: no model makes it, or its sources are used up; give another "
             "--model, other --gates or more data")
    if result.missing:
        raise typer.Exit(3)


@gan_app.command()
@on_interrupt(kept("finished translators and trainings are"))
def melanet(
    data: Annotated[Path, typer.Argument(help="Set of photographs with both diagnoses.")],
    out: Annotated[Path, typer.Option(help="Folder of the study; the same command again continues.")],
    physics: Annotated[Path | None, typer.Option(help="Renders of the positive class, for the arms with physics.",
                                                 show_default=False)] = None,
    positive: Annotated[str, typer.Option(help="Diagnosis to be found.")] = "MEL",
    negative: Annotated[str, typer.Option(help="The other one.")] = "NV",
    arms: Annotated[str, typer.Option(help="Of none,weights,augmentation,gan,physics,gan+physics.")]
    = "none,weights,augmentation,gan,physics,gan+physics",
    folds: Annotated[int, typer.Option(help="Folds of the cross-validation, by group.")] = 5,
    seeds: Annotated[int, typer.Option(help="Trainings of each arm and fold.")] = 3,
    size: Annotated[int, typer.Option(help="Side of the pictures in pixels.")] = 128,
    method: Annotated[str, typer.Option(help="cyclegan or cut.")] = "cyclegan",
    gan_steps: Annotated[int, typer.Option(help="Steps of each fold's translator.")] = 20_000,
    width: Annotated[int, typer.Option(help="Its width.")] = 64,
    blocks: Annotated[int, typer.Option(help="Its residual blocks.")] = 9,
    rate: Annotated[float, typer.Option(help="Its learning rate.")] = 2e-4,
    network: Annotated[str, typer.Option(help="Classifier: small or densenet121.")] = "small",
    steps: Annotated[int, typer.Option(help="Steps of each classifier.")] = 1500,
    batch: Annotated[int, typer.Option(help="Its pictures a step.")] = 32,
    gates: Annotated[str, typer.Option(help="Gates of the translations, as in balance.")]
    = "mask,near-duplicate,source-leak",
    whole: Annotated[bool, typer.Option("--whole", help="Translate without compositing.")] = False,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Does oversampling by translation help a classifier? Grouped cross-validation, six arms, intervals."""
    from synthskin.gan import GanError

    _need_torch()
    from synthskin.classify import TrainOptions as ClassifierOptions
    from synthskin.gan.melanet import Study, StudyOptions, table
    from synthskin.gan.method import TrainOptions
    from synthskin.progress import make_progress

    if method not in ("cyclegan", "cut"):
        raise GanError(f"--method {method}: allowed are cyclegan and cut")
    options = StudyOptions(
        positive, negative, folds, seeds, seed, tuple(part.strip() for part in arms.split(",")), whole,
        tuple(part.strip() for part in gates.split(",")),
        translator=TrainOptions(method, "class", size, gan_steps, rate=rate, width=width, blocks=blocks, patience=10),
        classifier=ClassifierOptions(network=network, size_px=size, steps=steps, batch=batch, loss="focal"))
    result = Study(data, out, options, physics, say=_say).run(make_progress(verb="study", unit="trainings"))
    typer.echo(json.dumps(result) if as_json else table(result), nl=as_json)


def _translator(model: Path, tone: str | None, whole: bool, margin: float, feather: float, device: str) -> Any:
    from synthskin.gan import GanError
    from synthskin.gan.composite import CompositeOptions
    from synthskin.gan.model import load_model
    from synthskin.gan.translate import Translator

    for name, value in (("--margin", margin), ("--feather", feather)):
        if not 0 <= value <= 0.5:
            raise GanError(f"{name} {value}: a share of the side from 0 to 0.5 is needed")
    loaded = load_model(model, device)
    card = loaded.card
    tones: tuple[int, ...] = ()
    if card.options.method == "stargan":
        known = {f"fst{k}": k for k in card.tones}
        names = list(known) if tone in (None, "all") else [part.strip() for part in str(tone).split(",")]
        for name in names:
            if name not in known:
                raise GanError(f"--tone {tone}: {name!r}: the model learnt {', '.join(known)}")
        tones = tuple(known[name] for name in dict.fromkeys(names))
    elif tone is not None:
        raise GanError(f"--tone {tone}: a {card.options.method} has one direction; --tone is for stargan")
    return Translator(loaded, CompositeOptions(margin, feather), whole, tones)


def _need_torch() -> None:
    from importlib.util import find_spec

    from synthskin.gan import GanError

    missing = [name for name in ("torch", "accelerate", "tensorboard", "safetensors") if find_spec(name) is None]
    if missing:
        raise GanError(f"{missing[0]} is not installed; pip install 'synthskin[gan]'")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
