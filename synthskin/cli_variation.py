"""Commands of variation sets, meshes and question lists: parse, call, print. Heavy imports inside the commands."""

from __future__ import annotations

import json
import sys
from os.path import realpath  # Path.resolve raises on a loop of links
from pathlib import Path
from typing import Annotated, Any

import typer

from synthskin.cli_interrupt import go_on, kept, on_interrupt, tell_interrupted
from synthskin.cli_options import JsonOption, SeedOption, tell_failed
from synthskin.conventions import default_spp

PresetOption = Annotated[str, typer.Option(help="Name of a preset, or the path of a TOML file.")]
LesionsOption = Annotated[int, typer.Option("--n", "-n", help="Number of lesions; each gives one picture a value.")]
SizeOption = Annotated[int, typer.Option(help="Width and height in pixels.")]
SppOption = Annotated[int | None, typer.Option(help="Paths a pixel (default 15, over 384 pixels 6, under 256 up "
                                                    "to 60).", show_default=False)]
OutOption = Annotated[Path | None, typer.Option(help="Folder to write.", show_default=False)]
DeviceOption = Annotated[str, typer.Option(help="auto, cuda or llvm.")]
WorkersOption = Annotated[int | None, typer.Option(help="Processes that render.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Start anew in a folder that holds a set.")]
MapsOption = Annotated[bool, typer.Option("--maps", help="Write maps of melanin, blood, depth and height too.")]
SetsOption = Annotated[list[str] | None, typer.Option("--set", help="key=value or key=low..high; several times.")]
DiagnosisOption = Annotated[str | None, typer.Option(help="Weights such as MEL=0.2,NV=0.8.", show_default=False)]


@on_interrupt(kept("finished samples are", "dataset.json"))
def sweep(
    file: Annotated[str | None, typer.Argument(help="A sweep file, or the name of one that ships.",
                                               show_default=False)] = None,
    field: Annotated[str | None, typer.Option(help="Input field, skin.blood_fraction.", show_default=False)] = None,
    values: Annotated[str | None, typer.Option(help="Its values, 0.002,0.005,0.02.", show_default=False)] = None,
    preset: Annotated[str | None, typer.Option(help="Preset (default fst2).", show_default=False)] = None,
    n: Annotated[int | None, typer.Option("--n", "-n", help="Number of lesions (default 4).",
                                          show_default=False)] = None,
    size: SizeOption = 256,
    spp: SppOption = None,
    seed: Annotated[int | None, typer.Option(help="Seed (default 0).", show_default=False)] = None,
    out: OutOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    overwrite: OverwriteOption = False,
    maps: MapsOption = False,
    sets: SetsOption = None,
    diagnosis: DiagnosisOption = None,
    as_json: JsonOption = False,
) -> None:
    """One input takes given values, all others stay. `synthskin sweep melanin`, or --field with --values."""
    from synthskin import variation as v
    from synthskin.laws import one_line

    if file is None and (field is None or values is None):
        raise v.VariationError(f"give a sweep file, one of {', '.join(v.sweep_names())}, or --field with --values")
    given = None if file is None else v.load_sweep(file)
    if given is not None and field is not None:
        raise v.VariationError(f"--field {one_line(field)}: the sweep {one_line(str(file))} has its own, {given.field};"
                               " leave --field or the file out (--values alone replaces its values)")
    if values is not None and field is None and given is not None:
        field = given.field
    if field is not None and values is None:
        raise v.VariationError(f"--field {field}: give its --values too")
    if field is not None and values is not None:
        plan = v.make_sweep(field, v.parse_values(field, values))
        name = plan.field.replace(".", "-")
    else:
        assert given is not None
        plan, name = v.make_sweep(given.field, given.values), given.name
    v.check_sets(plan.field, sets or [])
    base = v.SweepFile(name, "fst2", plan.field, plan.values) if given is None else given
    chosen = v.changed_preset(preset or base.preset, (*base.sets, *(sets or [])),
                              base.diagnosis if diagnosis is None else diagnosis, base.tone)
    if plan.field.startswith(("lesion.", "structures.")):
        chosen = v.with_lesions(chosen)
    seed = base.seed if seed is None else seed
    out = out or Path("out") / f"sweep-{name}-{chosen.name}-s{seed}"
    _run(chosen, plan, base.n if n is None else n, seed, out, (size, spp, device, maps), workers, overwrite, as_json)


@on_interrupt(kept("finished samples are", "dataset.json"))
def counterfactual(
    preset: PresetOption = "nv",
    tones: Annotated[str, typer.Option(help="Skin tones, two or more.")] = "fst1,fst6",
    hair: Annotated[bool, typer.Option("--hair", help="Let the pigment of the hair follow the tone too.")] = False,
    n: LesionsOption = 4,
    size: SizeOption = 256,
    spp: SppOption = None,
    seed: SeedOption = 0,
    out: OutOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    overwrite: OverwriteOption = False,
    maps: MapsOption = False,
    sets: SetsOption = None,
    diagnosis: DiagnosisOption = None,
    as_json: JsonOption = False,
) -> None:
    """The same lesion on other skin: masks byte-identical, one group a lesion."""
    from synthskin import variation as v

    chosen = v.changed_preset(preset, sets or [], diagnosis, None)
    plan = v.make_counterfactual(chosen, tones, hair)
    out = out or Path("out") / f"counterfactual-{chosen.name}-s{seed}"
    _run(chosen, plan, n, seed, out, (size, spp, device, maps), workers, overwrite, as_json)


@on_interrupt(kept("finished samples are", "dataset.json"))
def followup(
    preset: PresetOption = "nv",
    times: Annotated[str, typer.Option(help="Points on the lesion's growth, 1 = full size.")] = "0.4,0.6,0.8,1.0",
    n: LesionsOption = 4,
    size: SizeOption = 256,
    spp: SppOption = None,
    seed: SeedOption = 0,
    out: OutOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    overwrite: OverwriteOption = False,
    maps: MapsOption = False,
    sets: SetsOption = None,
    diagnosis: DiagnosisOption = None,
    as_json: JsonOption = False,
) -> None:
    """The same lesion through time."""
    from synthskin import variation as v
    from synthskin.laws import one_line

    key = "lesion.growth_time"
    plan = v.make_sweep(key, v.parse_values(key, times, "--times"), kind="followup")
    if list(plan.values) != sorted(plan.values):
        raise v.VariationError(f"--times {one_line(times)}: later times come after earlier ones")
    v.check_sets(key, sets or [])
    chosen = v.with_lesions(v.changed_preset(preset, sets or [], diagnosis, None))
    out = out or Path("out") / f"followup-{chosen.name}-s{seed}"
    _run(chosen, plan, n, seed, out, (size, spp, device, maps), workers, overwrite, as_json)


def _run(
    preset: Any, plan: Any, groups: int, seed: int, out: Path, engine: tuple[int, int | None, str, bool],
    workers: int | None, overwrite: bool, as_json: bool,
) -> None:
    """Render the plan, then tell what followed."""
    from dataclasses import replace

    from synthskin.dataset.reader import read_rows
    from synthskin.progress import make_progress
    from synthskin.run import EngineOptions, RunRequest, render_run
    from synthskin.variation import VariationError, followed, same_pictures

    if groups < 1:
        raise VariationError(f"--n {groups}: 1 or more lesions are needed")
    size, spp, device, maps = engine
    options = EngineOptions(size, default_spp(size) if spp is None else spp, True, device, maps)
    noted = replace(preset, overrides=(*preset.overrides, plan.words()))
    request = RunRequest(noted, groups * len(plan), seed, out, options, workers, overwrite, plan=plan)
    result = render_run(request, progress=make_progress())
    rows = [row for row in read_rows(out) if row["index"] < request.n]
    whole = len(rows) == request.n
    derived = followed(rows, len(plan)) if whole else None
    same = [[plan.siblings()[k] for k in alike] for alike in same_pictures(out, rows, len(plan))] if whole else []
    if as_json:
        typer.echo(json.dumps({
            "dir": str(out), "preset": preset.name, "set_hash": request.set_hash, "seed": seed, "groups": groups,
            "n": request.n, "made": result.made, "kept": result.kept, "seconds": round(result.seconds, 3),
            "interrupted": result.interrupted, "failed": {str(key): why for key, why in result.failed.items()},
            "variation": plan.settings(), "followed": derived, "same_pictures": same}))
    if result.interrupted:
        tell_interrupted(f"{result.kept + result.made} of {request.n} samples are in {out}; {go_on(overwrite)}")
    tell_failed(result)
    for alike in same:
        print(f"note: the pictures of {', '.join(alike)} are the same in every lesion: {plan.words()} is of no effect "
              "on them here", file=sys.stderr, flush=True)
    if not as_json:
        kept = f", {result.kept} kept" if result.kept else ""
        typer.echo(f"{result.made} samples made{kept} in {result.seconds:.1f} s: {groups} x {plan.words()}")
        if derived is not None:
            typer.echo(f"followed {', '.join(derived) or 'nothing'}")
        typer.echo(f"folder  {out}")


def questions(
    directory: Annotated[Path, typer.Argument(help="Folder of a data set.")],
    out: Annotated[Path, typer.Option(help="File to write, one JSON object a sample.")] = Path("questions.jsonl"),
    plain: Annotated[bool, typer.Option("--plain", help="Always the first of the synonyms.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Captions and question-answer lists of a set, for training vision-language models."""
    from synthskin.captions import write_questions
    from synthskin.variation import VariationError

    inside, at = Path(realpath(directory)), Path(realpath(out.parent)) / out.name
    if any(inside in (place, *place.parents) for place in (at, Path(realpath(at)))):
        raise VariationError(f"--out {out}: lies inside the set {directory}; choose a file elsewhere")
    samples, asked = write_questions(directory, out, varied=not plain)
    if as_json:
        typer.echo(json.dumps({"file": str(out), "samples": samples, "questions": asked}))
    else:
        typer.echo(f"{out}: {asked} questions on {samples} samples")


def mesh(
    preset: PresetOption = "nv",
    index: Annotated[int, typer.Option(help="Which sample of the preset.")] = 0,
    seed: SeedOption = 0,
    out: OutOption = None,
    format_: Annotated[str, typer.Option("--format", help="ply, obj, glb, or several with commas.")] = "ply,glb",
    columns: Annotated[int, typer.Option(help="Columns of the tissue grid, a multiple of 12.")] = 192,
    sets: SetsOption = None,
    diagnosis: DiagnosisOption = None,
    tone: Annotated[str | None, typer.Option(help="Skin tone, fst6=1.", show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """Layers, lesion, vessels and hair of a sample as watertight meshes in mm, and its fields as NPZ."""
    from synthskin.draw import draw
    from synthskin.export_mesh import MeshError, write_mesh
    from synthskin.variation import changed_preset

    for name, value in (("--index", index), ("--seed", seed)):
        if not 0 <= value < 2**63:
            raise MeshError(f"{name} {value}: 0 to {2**63 - 1} is allowed")
    chosen = changed_preset(preset, sets or [], diagnosis, tone)
    out = out or Path("out") / f"mesh-{chosen.name}-s{seed}-{index:06d}"
    made = write_mesh(draw(chosen, seed, index), out, [part.strip() for part in format_.split(",")], columns)
    if as_json:
        typer.echo(json.dumps({"dir": str(out), "parts": made["parts"], "files": made["files"]}))
        return
    for name, part in made["parts"].items():
        typer.echo(f"{name:16} {part['faces']:8d} triangles {part['volume_mm3']:12.4f} mm^3")
    typer.echo(f"folder  {out}")


def register_variations(app: typer.Typer) -> None:
    """Add the commands of this file to the app."""
    for command in (sweep, counterfactual, followup, questions, mesh):
        app.command()(command)
