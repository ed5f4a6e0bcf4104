"""The command that audits a user's model: parse, call, print. Heavy imports inside the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from synthskin.cli_interrupt import go_on, kept, on_interrupt, tell_interrupted
from synthskin.cli_options import JsonOption
from synthskin.conventions import default_spp


def _list_causes(value: bool) -> None:
    if not value:
        return
    from synthskin.bias.audit_causes import CAUSES, linked

    for cause in CAUSES:
        also = f"; linked to {', '.join(linked(cause.name))}" if linked(cause.name) else ""
        typer.echo(f"{cause.name:14} {cause.role:9} {', '.join(map(str, cause.values))}{' ' * bool(cause.unit)}"
                   f"{cause.unit}  ({', '.join(cause.fields)}{also})")
    raise typer.Exit


@on_interrupt(kept("finished renders and answers are"))
def audit(
    model: Annotated[str, typer.Argument(help="FILE.onnx; with --trust-code also TorchScript or FILE.py:function.")],
    preprocess: Annotated[Path, typer.Option(help="JSON or TOML: size, mean, std, layout, activation, classes, "
                                                  "threshold.")],
    out: Annotated[Path, typer.Option(help="Folder for the report, the results and the renders.")],
    preset: Annotated[str, typer.Option(help="Preset that the lesions are drawn from.")] = "base",
    renders: Annotated[list[Path] | None, typer.Option(help="Sets that are already rendered (a folder `renders` of an "
                                                            "audit, a plain set, a sweep); several times.")] = None,
    causes: Annotated[str | None, typer.Option(help="Which causes, melanin,ink; all if left out.",
                                               show_default=False)] = None,
    cause: Annotated[list[str] | None, typer.Option(help="A cause of your own, skin.oxygenation=0.4,0.6,0.8; several "
                                                         "times.")] = None,
    lesions: Annotated[int, typer.Option(help="Lesions a cause; 10 or more for intervals.")] = 24,
    n: Annotated[int, typer.Option("--n", "-n", help="Unswept pictures, for the model's AUC.")] = 80,
    size: Annotated[int | None, typer.Option(help="Pixels of a render (default: what the model takes).",
                                             show_default=False)] = None,
    spp: Annotated[int | None, typer.Option(help="Paths a pixel (default 15, over 384 pixels 6, under 256 up to 60).",
                                            show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the renders; 0 is a seed.")] = 0,
    device: Annotated[str, typer.Option(help="Renders on auto, cuda or llvm.")] = "auto",
    model_device: Annotated[str, typer.Option(help="The model runs on auto, cpu or cuda.")] = "auto",
    workers: Annotated[int | None, typer.Option(help="Processes that render.", show_default=False)] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="key=value or key=low..high; several times.")] = None,
    diagnosis: Annotated[str | None, typer.Option(help="Weights such as MEL=1,NV=1 (default: the model's classes).",
                                                  show_default=False)] = None,
    tone: Annotated[str | None, typer.Option(help="Weights of skin tones such as fst1=1,fst6=3.",
                                             show_default=False)] = None,
    confound: Annotated[list[str] | None, typer.Option(help="ink:MEL=0.9,NV=0.1, of the plain pictures and what no "
                                                            "cause moves; several times.")] = None,
    positive: Annotated[str | None, typer.Option(help="Class whose probability is followed.",
                                                 show_default=False)] = None,
    trust_code: Annotated[bool, typer.Option("--trust-code", help="Allow models that can run any code.")] = False,
    custom_ops: Annotated[Path | None, typer.Option(help="Library of ONNX operators; needs --trust-code.",
                                                    show_default=False)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew in a folder that holds an audit.")] = False,
    list_causes: Annotated[bool, typer.Option("--list-causes", callback=_list_causes, is_eager=True,
                                              help="List the causes with their values and links, and exit.")] = False,
    as_json: JsonOption = False,
) -> None:
    """What moves your model: its prediction as melanin, blood, hair, ink, light ... change one at a time.

    Renders the pictures, asks the model, writes report.html. The same command again continues. Not clinical evidence.
    """
    from synthskin.bias.audit_model import load_model
    from synthskin.bias.audit_preprocess import load_preprocess
    from synthskin.bias.audit_run import check_out, find_sets, run_audit

    check_out(out)
    given = load_preprocess(preprocess)
    if positive is not None:
        given = given.with_positive(positive)
    if not as_json:
        typer.echo(f"follows {' + '.join(given.followed)} (--positive), threshold {given.decides_at:g}")
    loaded = load_model(model, given, trust_code, model_device, custom_ops)  # what is wrong with it shows before hours
    asked = {"preset": preset, "causes": causes, "cause": cause or [], "lesions": lesions, "n": n, "size": size,
             "spp": spp, "seed": seed, "set": sets or [], "diagnosis": diagnosis, "tone": tone,
             "confound": confound or [], "renders": [str(folder) for folder in renders or []],
             "preprocess_file": str(preprocess)}
    folders = find_sets(renders) if renders else _render(loaded, out, asked, device, workers, overwrite)
    from synthskin.progress import make_progress

    audit_, data = run_audit(loaded, folders, out, asked, overwrite, lambda verb: make_progress(verb=verb))
    if as_json:
        typer.echo(json.dumps({"dir": str(out), "report": str(out / "report.html"),
                               **{key: data[key] for key in ("verdict", "reason", "unswept", "ranking", "notes")},
                               "dp": {own["cause"]: own["dp"]["estimate"] for own in data["causes"]}}))
    else:
        for line in lines_of(data):
            typer.echo(line)
        typer.echo(f"report  {out / 'report.html'}")
    if audit_.cannot_say:
        print(f"cannot say: {audit_.cannot_say}", file=sys.stderr, flush=True)
        raise typer.Exit(3)


def _render(model: Any, out: Path, asked: dict[str, Any], device: str, workers: int | None,
            overwrite: bool) -> list[Path]:
    """The sets of the audit, rendered into OUT/renders."""
    from synthskin.audit import act_on, diagnoses_of, make_jobs, own_cause, parts_of, render_jobs
    from synthskin.bias.audit_causes import pick
    from synthskin.bias.audit_former import check_former
    from synthskin.bias.audit_run import delete_former
    from synthskin.progress import make_progress
    from synthskin.run import EngineOptions
    from synthskin.variation import changed_preset

    given = model.preprocess
    own = [own_cause(text) for text in asked["cause"]]
    chosen = () if own and asked["causes"] is None else pick(asked["causes"])
    base = changed_preset(asked["preset"], asked["set"], asked["diagnosis"] or diagnoses_of(given), asked["tone"])
    if asked["confound"]:
        base = base.with_confounds(asked["confound"])
    if asked["causes"] is None:  # all, of those that there can be
        chosen = tuple(act_on(base, chosen))
    causes = [*(cause for cause in chosen if cause.name not in {one.name for one in own}), *own]
    size = max(32, *given.sides) if asked["size"] is None else asked["size"]
    asked |= {"size": size, "spp": default_spp(size) if asked["spp"] is None else asked["spp"]}
    options = EngineOptions(size, asked["spp"], True, device, False)
    jobs = make_jobs(base, causes, asked["lesions"], asked["n"])
    folder = out / "renders"
    failed = 0
    extends = not overwrite and check_former(out, model, asked, parts_of(jobs))
    results = render_jobs(jobs, folder, asked["seed"], options, workers, overwrite,
                          lambda verb: make_progress(verb=verb))
    if overwrite:
        delete_former(out, sets=True)
    if extends:
        print(f"{out}: the audit there is extended, its report replaced", file=sys.stderr, flush=True)
    for result in results:
        failed += len(result.failed)
        if result.interrupted:
            tell_interrupted(f"{result.kept + result.made} of {result.n} samples are in {result.directory}; "
                             f"{go_on(overwrite)}")
    if failed:
        print(f"{failed} pictures could not be made; their lesions are left out of that cause", file=sys.stderr,
              flush=True)
    return [folder / job.name for job in jobs]


def lines_of(data: dict[str, Any]) -> list[str]:
    """The ranking as a table."""
    auc = data["unswept"]["auc"]
    told = "none" if auc is None else f"{auc['estimate']:.2f}"
    lines = [f"AUC on {data['unswept']['n']} unswept renders: {told}",
             f"{'cause':14} {'|dp|':>6} {'95 % interval':>15} {'flips':>6}  verdict"]
    for own in data["causes"]:
        dp, flips = own["dp"], own["flips"]["estimate"]
        span = "-" if dp["low"] is None else f"{dp['low']:.2f} to {dp['high']:.2f}"
        also = f" (linked to {', '.join(own['linked'])})" if own["linked"] else ""
        verdict = "cannot say" if data["verdict"] == "cannot say" else own["verdict"]
        lines.append(f"{own['cause']:14} {dp['estimate']:6.3f} {span:>15} {100 * flips:5.0f}%  {verdict}{also}")
    return lines


def register_audit(app: typer.Typer) -> None:
    """Add the command of this file to the app."""
    app.command()(audit)
