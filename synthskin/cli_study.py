"""The command of declared experiments: parse, render or take up what the study needs, run it, print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from synthskin.cli_interrupt import kept, on_interrupt
from synthskin.cli_options import JsonOption


class StudyCommand(TyperCommand):
    """`synthskin study melanet ...` is a command of its own, that of `synthskin gan melanet`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args[:1] == ["melanet"]:
            from synthskin.cli_gan import gan_app

            found = typer.main.get_command(gan_app)
            raise typer.Exit(int(found.main(args, "synthskin study", standalone_mode=False) or 0))
        return super().parse_args(ctx, args)


def register_study(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("study", cls=StudyCommand)(study)


def _list(value: bool) -> None:
    if not value:
        return
    from synthskin.bias.study_file import load_study, shipped

    for path in shipped():
        spec = load_study(str(path))
        small = " [--small]" if "[small" in path.read_text(encoding="utf-8") else ""
        typer.echo(f"{path.stem:22} {spec.task:15} {spec.description}{small}")
    raise typer.Exit


@on_interrupt(kept("finished renders and trainings are"))
def study(
    file: Annotated[str, typer.Argument(help="A TOML file, the name of a study that ships (see --list), or `melanet` "
                                             "(see `synthskin study melanet --help`).")],
    out: Annotated[Path | None, typer.Option(help="Folder for report.html, results.json and all that is needed to "
                                                  "continue (default out/study-NAME).", show_default=False)] = None,
    data: Annotated[list[str] | None, typer.Option(help="NAME=DIR: folder of a data set of the study; several times."
                                                   )] = None,
    small: Annotated[bool, typer.Option("--small", help="The study's small version, mostly on renders.")] = False,
    sets: Annotated[list[str] | None, typer.Option("--set", help="key=value laid over the file, such as "
                                                                 "training.steps=200; several times.")] = None,
    renders: Annotated[Path | None, typer.Option(help="Folder for what has to be rendered (default OUT/data); studies "
                                                      "can share one.", show_default=False)] = None,
    device: Annotated[str, typer.Option(help="Renders on auto, cuda or llvm.")] = "auto",
    workers: Annotated[int | None, typer.Option(help="Processes that render.", show_default=False)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Train all of it again.")] = False,
    _list_all: Annotated[bool, typer.Option("--list", callback=_list, is_eager=True, help="Show the studies that ship "
                                                                                          "and exit.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a declared experiment, real against synthetic, group by group. The same command again continues it."""
    from synthskin.bias.errors import BiasError
    from synthskin.bias.study_file import load_study

    folders = {}
    for item in data or []:
        name, sign, folder = item.partition("=")
        if not sign or not name or not folder:
            raise BiasError(f"--data {item[:80]}: NAME=DIR is needed, such as real=out/isic2018")
        folders[name] = folder
    spec = load_study(file, small, tuple(sets or ()), folders)
    where = Path() if Path(file).suffix != ".toml" else Path(file).parent
    from synthskin.bias.study import check_given, check_out, run_study
    from synthskin.bias.study_results import sentence
    from synthskin.progress import make_progress

    target = out if out is not None else Path("out") / f"study-{spec.name}"
    check_out(target)
    places, requests = _places(spec, where, folders, renders or target / "data", device, workers)
    told = check_given(spec, {name: place for name, place in places.items() if name not in requests})
    for name, words in told.items() if not as_json else ():
        typer.echo(f"split of {name}: {words}")
    for name, request in requests.items():
        _render(name, request)
    result = run_study(spec, places, target, lambda verb, unit: make_progress(verb=verb, unit=unit), overwrite)
    if as_json:
        typer.echo(json.dumps({"dir": str(result.out), "report": str(result.out / "report.html"), "made": result.made,
                               "kept": result.kept, "primary": _finite(result.results["primary"])}))
        return
    kept = f", {result.kept} kept" if result.kept else ""
    typer.echo(f"{result.made} trainings made{kept}")
    if any(test["heading"] for test in result.results["tests"].values()):
        typer.echo("Synthetic test pictures: not clinical evidence.")
    typer.echo(sentence(result.results["primary"]))
    typer.echo(f"report  {result.out / 'report.html'}")


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and value != value else value for key, value in row.items()}


def _places(spec: Any, where: Path, given: dict[str, str], renders: Path, device: str, workers: int | None
            ) -> tuple[dict[str, Path], dict[str, Any]]:
    """(the folder of each data set; for those with a recipe what is to be rendered, or taken up where it was left)."""
    from synthskin.bias.errors import BiasError

    places, requests = {}, {}
    for name, data in spec.data.items():
        if data.render is not None:
            places[name] = renders / _folder_of(data.render, spec.size_px)
            requests[name] = _request(data.render, spec.size_px, places[name], device, workers)
        elif data.folder is None:
            raise BiasError(f"[data.{name}]: its folder is not known; give --data {name}=DIR"
                            f"{f' ({data.needs})' if data.needs else ''}, or --small where the study has it")
        else:
            path = Path(data.folder)
            places[name] = path if name in given or path.is_absolute() else where / path
    return places, requests


def _folder_of(recipe: Any, size_px: int) -> str:
    """Name of a recipe's folder: studies that ask for the same renders share them."""
    import hashlib

    text = json.dumps([recipe.model_dump(), size_px], sort_keys=True)
    return f"{Path(recipe.preset).stem}-n{recipe.n}-s{recipe.seed}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _request(recipe: Any, size_px: int, target: Path, device: str, workers: int | None) -> Any:
    """As `synthskin render` and `synthskin counterfactual` ask for it; raises what they raise on bad values."""
    from synthskin import variation as v
    from synthskin.conventions import default_spp
    from synthskin.run import EngineOptions, RunRequest
    from synthskin.run.request import check_request

    preset = v.changed_preset(recipe.preset, recipe.set, recipe.diagnosis, recipe.tone)
    if recipe.confound:
        preset = preset.with_confounds(recipe.confound)
    plan = None if recipe.counterfactual is None else v.make_counterfactual(preset, recipe.counterfactual)
    size = recipe.size_px or size_px
    options = EngineOptions(size, default_spp(size) if recipe.spp is None else recipe.spp, True, device)
    n = recipe.n if plan is None else recipe.n * len(plan)
    request = RunRequest(preset, n, recipe.seed, target, options, workers, plan=plan)
    check_request(request)
    return request


def _render(name: str, request: Any) -> None:
    from synthskin.progress import make_progress
    from synthskin.run import RunError, render_run

    result = render_run(request, progress=make_progress(verb=f"rendering {name},"))
    if result.interrupted:
        raise KeyboardInterrupt
    if result.failed:
        first = next(iter(result.failed.values()))
        raise RunError(f"[data.{name}]: {len(result.failed)} of {request.n} renders failed ({first}); the same command "
                       "again tries them once more")
