"""The command line: parse, call, print. No logic here, and heavy imports only inside the command that needs them."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

# before NumPy loads: the render has its own threads, and those of OpenBLAS spin on the same cores while they wait
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import typer

from synthskin import __version__
from synthskin.cli_audit import register_audit
from synthskin.cli_bias import register_bias
from synthskin.cli_classify import register_classifier
from synthskin.cli_data import register
from synthskin.cli_diffusion import register_diffusion
from synthskin.cli_gan import register_gan
from synthskin.cli_interrupt import ANEW, Program, go_on, kept, on_interrupt, tell_interrupted
from synthskin.cli_options import JsonOption, tell_failed
from synthskin.cli_segment import register_segmenter
from synthskin.cli_study import register_study
from synthskin.cli_variation import register_variations

app = typer.Typer(
    name="synthskin",
    cls=Program,
    help="Labelled synthetic skin images, made by light transport. Not for diagnosis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
presets_app = typer.Typer(help="List presets, show one, or list all fields.", invoke_without_command=True)
app.add_typer(presets_app, name="presets")

#: Faults of the place that the user named, wherever in the code they are met.
_NO_FAULT_OF_OURS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG,
                     errno.ELOOP, errno.ENOTDIR)
#: What extras bring: where one is missing, the command that needs it says so.
_OF_EXTRAS = ("torch", "monai", "safetensors", "sklearn", "onnx", "onnxruntime", "diffusers", "transformers", "peft",
              "accelerate", "tensorboard", "torchmetrics", "ray", "pyarrow", "pycocotools")
FolderArgument = Annotated[Path, typer.Argument(help="Folder of a data set.")]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"synthskin {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
@on_interrupt(kept("finished samples are", "dataset.json"))
def render(
    preset: Annotated[str, typer.Option(help="Name of a preset, or the path of a TOML file.")] = "fst2",
    n: Annotated[int, typer.Option("--n", "-n", help="Number of samples in the set.")] = 12,
    size: Annotated[int, typer.Option(help="Width and height in pixels.")] = 256,
    spp: Annotated[int | None, typer.Option(help="Paths a pixel, rounded up to a multiple of 3 "
                                               "(default 6, on dark skin 15; over 384 pixels 3 and 6; under 256 "
                                               "more, as many a picture as there).",
                                          show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Seed; 0 is a seed.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder to write; out/<preset>-s<seed> if left out.")] = None,
    device: Annotated[str, typer.Option(help="auto, cuda or llvm.")] = "auto",
    workers: Annotated[int | None, typer.Option(help="Processes that render (one a core with 8 or more samples "
                                                   "each; on Ray all it has room for).", show_default=False)] = None,
    shard: Annotated[str | None, typer.Option(help="Only this share of the samples, such as 3/16; join the folders "
                                                 "with `synthskin merge`.")] = None,
    executor: Annotated[str, typer.Option(help="local, or ray for a cluster.")] = "local",
    ray_address: Annotated[str | None, typer.Option(help="Address of the Ray cluster; RAY_ADDRESS, else this "
                                                       "machine, if left out.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew in a folder that holds a set.")] = False,
    maps: Annotated[bool, typer.Option("--maps", help="Write maps of melanin, blood, depth and height too.")] = False,
    environment: Annotated[Path | None, typer.Option(help="Panorama (.exr, .hdr, .pfm) that lights photographs.",
                                                     show_default=False)] = None,
    no_denoise: Annotated[bool, typer.Option("--no-denoise", help="Leave out the denoiser.")] = False,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="key=value or key=low..high; may be given several times.")
    ] = None,
    diagnosis: Annotated[str | None, typer.Option(help="Weights such as MEL=0.2,NV=0.8 or MEL/nodular=1.")] = None,
    tone: Annotated[str | None, typer.Option(help="Weights of skin tones such as fst1=1,fst6=3.")] = None,
    confound: Annotated[
        list[str] | None, typer.Option(help="Probability of an artefact by diagnosis, ink:MEL=0.9,NV=0.1; "
                                            "may be given several times.")
    ] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Show where a sample's time goes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Render a labelled set. The same command again continues it; a larger --n extends it."""
    from synthskin.preset import load_preset
    from synthskin.progress import make_progress

    chosen = load_preset(preset).with_sets(sets or [])
    if diagnosis is not None:
        chosen = chosen.with_diagnosis(diagnosis)
    if tone is not None:
        chosen = chosen.with_tones(tone)
    if confound:
        chosen = chosen.with_confounds(confound)
    if environment is not None:
        chosen = chosen.in_environment()
    from synthskin.run import EngineOptions, RunRequest, Shard, render_run

    share = None if shard is None else Shard.parse(shard)
    suffix = "" if share is None else share.folder_suffix
    target = out if out is not None else Path("out") / f"{chosen.name}-s{seed}{suffix}"
    options = EngineOptions(size, spp, not no_denoise, device, maps,
                            environment=None if environment is None else str(environment.absolute()))
    request = RunRequest(chosen, n, seed, target, options, workers, overwrite, share, executor, ray_address)
    result = render_run(request, progress=make_progress())
    if profile:
        _print_profile(result.timings_s, result.made, result.seconds)
    if as_json:
        typer.echo(json.dumps({
            "dir": str(result.directory), "preview": None if result.preview is None else str(result.preview),
            "preset": chosen.name, "set_hash": chosen.hash, "seed": seed, "n": n, "made": result.made,
            "kept": result.kept, "seconds": round(result.seconds, 3), "device": result.device,
            "interrupted": result.interrupted, "failed": {str(key): why for key, why in result.failed.items()},
            "timings_s": {key: round(value, 4) for key, value in sorted(result.timings_s.items())},
        }))
    if result.interrupted:
        tell_interrupted(f"{result.kept + result.made} of {result.n} samples are in {result.directory}; "
                         f"{go_on(overwrite)}")
    tell_failed(result)
    if not as_json:
        kept = f", {result.kept} kept" if result.kept else ""
        typer.echo(f"{result.made} samples made{kept} in {result.seconds:.1f} s on {result.device}")
        if result.preview is not None:
            typer.echo(f"preview {result.preview}")
        typer.echo(f"folder  {result.directory}")


@presets_app.callback()
def presets(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        presets_list()


@presets_app.command("list")
def presets_list() -> None:
    """Names and descriptions of the presets."""
    from synthskin.preset import load_preset, preset_names

    for name in preset_names():
        typer.echo(f"{name:10} {load_preset(name).description}")


@presets_app.command("show")
def presets_show(name: Annotated[str, typer.Argument(help="Name of a preset, or the path of a TOML file.")]) -> None:
    """The resolved preset as TOML, each value with its source."""
    from synthskin.preset import load_preset

    typer.echo(load_preset(name).resolved_toml(), nl=False)


@presets_app.command("fields")
def presets_fields(as_json: JsonOption = False) -> None:
    """Every key of --set and of presets, with its bounds and default."""
    from synthskin.record import field_specs

    specs = field_specs()
    if as_json:
        typer.echo(json.dumps(specs))
        return
    for key, spec in specs.items():
        allowed = " | ".join(spec["options"]) if "options" in spec else f"{spec['low']:g} to {spec['high']:g}"
        typer.echo(f"{key:32} {allowed:24} default {spec['default']!s:8} {spec['doc']}  [{spec['source']}]")


@app.command()
def validate(directory: FolderArgument, as_json: JsonOption = False) -> None:
    """Check a data set: exit 0, or 1 with one line per fault."""
    from synthskin.dataset.reader import read_rows
    from synthskin.dataset.reader import validate as find_faults
    from synthskin.progress import make_progress

    faults = find_faults(directory, make_progress(verb="checking"))
    if as_json:
        typer.echo(json.dumps({"dir": str(directory), "faults": faults}))
    else:
        for fault in faults:
            typer.echo(fault)
    if faults:
        raise typer.Exit(1)
    if not as_json:
        typer.echo(f"{directory}: {len(read_rows(directory))} samples, no fault")


@app.command()
def preview(
    directory: FolderArgument,
    out: Annotated[Path | None, typer.Option(help="File to write; DIR/preview.png if left out.")] = None,
) -> None:
    """Draw the contact sheet with mask outlines again."""
    from synthskin.dataset.preview import write_preview

    typer.echo(str(write_preview(directory, out)))


@app.command()
def doctor(
    device: Annotated[str, typer.Option(help="auto, cuda or llvm.")] = "auto",
    no_speed: Annotated[bool, typer.Option("--no-speed", help="Leave out the ten-second speed figure.")] = False,
    as_json: JsonOption = False,
) -> None:
    """What this machine renders with, and what to do about what is missing. Exit 0, or 1 if rendering cannot work."""
    from synthskin.doctor import describe, examine

    report = examine(device, speed=not no_speed)
    if as_json:
        typer.echo(json.dumps(report))
    else:
        typer.echo(describe(report))
    if not report["ok"]:
        raise typer.Exit(1)


register(app)
register_variations(app)
register_diffusion(app)
register_gan(app)
register_segmenter(app)
register_classifier(app)
register_audit(app)
register_bias(app)
register_study(app)


def _print_profile(timings_s: dict[str, float], made: int, seconds: float) -> None:
    """A table on stderr: milliseconds a sample by stage, over the samples made in this run."""
    if made == 0:
        _say("profile: nothing was made in this run")
        return
    total = sum(timings_s.values()) or 1.0
    _say(f"{'stage':24} {'ms/sample':>10} {'share':>7}")
    for stage, spent in sorted(timings_s.items(), key=lambda item: -item[1]):
        _say(f"{stage:24} {1000 * spent / made:10.1f} {100 * spent / total:6.1f}%")
    _say(f"{'whole run':24} {1000 * seconds / made:10.1f}   (start, compilation and overlap included)")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _fail(error: BaseException | str) -> NoReturn:
    _say(f"error: {' '.join(str(error).split())}")
    sys.exit(2)


def main(args: list[str] | None = None) -> None:
    """Entry point: every expected error is one line on stderr and exit code 2."""
    try:
        code: Any = app(args=args, standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        _say(f"interrupted: {ANEW}")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except MemoryError:
        _fail("out of memory; choose a smaller --size, a smaller --spp or fewer --workers")
    except Exception as error:
        message = getattr(error, "format_message", None)  # click's own errors, wherever this Typer keeps click
        if callable(message):
            context = getattr(error, "ctx", None)
            hint = f"; see `{context.command_path} --help`" if context is not None else ""
            if type(error).__name__ == "NoArgsIsHelpError":
                sys.exit(2)  # the help has been printed
            _fail(str(message()).rstrip(".") + hint)
        if _is_ours(error):
            _fail(error)
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in _OF_EXTRAS:
            _fail(f"{error.name} is not installed; type: pip install 'synthskin[all]', from a checkout "
                  "pip install -e '.[all]'")
        if isinstance(error, OSError) and error.filename is not None and error.errno in _NO_FAULT_OF_OURS:
            _fail(f"{error.filename}: {error.strerror}; choose another place, or make it accessible")
        raise
    sys.exit(code if isinstance(code, int) else 0)


def _is_ours(error: Exception) -> bool:
    """Is it one of the one-line errors meant for the user? Compared by name, so that nothing heavy is imported."""
    names = {"PresetError", "RecordError", "DatasetError", "RunError", "DeviceError", "EngineError",
             "SegmentError", "DiffusionError", "GanError", "BiasError", "ClassifyError"}
    return any(cls.__name__ in names and cls.__module__.startswith("synthskin") for cls in type(error).__mro__)


if __name__ == "__main__":
    main()
