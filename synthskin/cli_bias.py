"""Commands about tone and likeness: tone, compare. As in cli.py: no logic, and imports inside the commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from synthskin.cli_interrupt import nothing, on_interrupt
from synthskin.cli_options import JsonOption


def register_bias(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("tone")(tone)
    app.command("compare")(compare)


@on_interrupt(nothing)
def tone(
    paths: Annotated[list[Path], typer.Argument(metavar="DIR|FILES", help="Pictures, folders of pictures, or synthskin "
                                                "sets (their masks and hair are used).")],
    masks: Annotated[Path | None, typer.Option(help="Folder of lesion masks that carry their pictures' names "
                                                    "(NAME.png, NAME_segmentation.png); without it the segmenter finds "
                                                    "the lesion.", show_default=False)] = None,
    wcag: Annotated[str, typer.Option(help="Contrast ratio of linearised channels (linear, as WCAG defines it), or of "
                                           "encoded ones (encoded, the published variant).")] = "linear",
    camera: Annotated[str | None, typer.Option(help="Device profile of all pictures, by name or a TOML file, to be "
                                               "undone; renders carry their own.", show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure skin tone: ITA, its class and spread, contrast of the lesion; or 'cannot say', with the reason.

    Exit 0, or 3 if pictures could not be read (each is told).
    """
    from synthskin.bias.tone_files import check_wcag, find_sources, measure_sources
    from synthskin.cameras import camera_of_profile, camera_of_row
    from synthskin.dataset.photo_folder import left_out_words
    from synthskin.progress import make_progress

    check_wcag(wcag)
    undone = None if camera is None else camera_of_profile(camera)
    aside: list[Path] = []
    sources = find_sources(paths, masks, camera_of_row, aside)
    if aside:
        print(f"note: {left_out_words(aside)}", file=sys.stderr, flush=True)
    found = measure_sources(sources, wcag, make_progress(verb="measuring"), undone)
    for name, why in found.unread.items():
        print(f"left out: {name}: {why}", file=sys.stderr, flush=True)
    if as_json:
        typer.echo(json.dumps({
            "tones": [{"file": source.name} | tone.to_dict() for source, tone in found.tones],
            "by_class": found.by_class(), "unread": found.unread, "masks_left_out": len(aside)}))
    else:
        typer.echo(f"{'ITA deg':>8} class {'spread':>6} {'dE2000':>6} {'WCAG':>5} {'sure':>5}  picture")
        for source, t in found.tones:
            if t.ita_deg is None:
                typer.echo(f"{'-':>8} {'-':>5} {'-':>6} {'-':>6} {'-':>5} {0.0:5.2f}  {source.name}: cannot say: "
                           f"{t.reason}")
                continue
            contrast = f"{'-':>6} {'-':>5}"
            if t.contrast_delta_e is not None:
                contrast = f"{t.contrast_delta_e:6.1f} {t.contrast_wcag:5.2f}"
            typer.echo(f"{t.ita_deg:8.1f} {t.ita_class:5d} {t.spread_deg:6.1f} {contrast} {t.confidence:5.2f}  "
                       f"{source.name}")
        typer.echo("pictures by ITA class: " + ", ".join(f"{k}: {n}" for k, n in found.by_class().items()))
    if found.unread:
        raise typer.Exit(3)


@on_interrupt(nothing)
def compare(
    real: Annotated[Path, typer.Argument(metavar="REAL", help="Synthskin set, or folder of pictures.")],
    synthetic: Annotated[Path, typer.Argument(metavar="SYNTHETIC", help="Synthskin set, or folder of pictures.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html, results.json and neighbours.png.")],
    features: Annotated[str | None, typer.Option(help="Embedding: a .onnx file, a folder or a Hugging Face id of a "
                                                      "vision model; a hand-made filter bank if left out.",
                                                 show_default=False)] = None,
    masks: Annotated[str, typer.Option(help="auto, own, segmenter or none; the same for both sets.")] = "auto",
    kinds: Annotated[str | None, typer.Option("--diagnosis", help="Only these, such as NV,MEL.",
                                              show_default=False)] = None,
    size: Annotated[int, typer.Option(help="Pixels to which all pictures are fitted.")] = 128,
    limit: Annotated[int | None, typer.Option(help="At most so many pictures of each set.", show_default=False)] = None,
    no_cnn: Annotated[bool, typer.Option("--no-cnn", help="Leave out the network of the two-sample test.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Are two sets of pictures alike, and in what are they not?"""
    from synthskin.bias.errors import BiasError, missing

    if (absent := missing("torch", "torchmetrics", "sklearn")) is not None:
        raise BiasError(f"compare needs {absent}; type: pip install 'synthskin[study]'")
    from synthskin.bias.compare import Options, compare_sets
    from synthskin.bias.compare_page import shared_words
    from synthskin.bias.compare_weights import weight_words
    from synthskin.dataset.photo_folder import left_out_words
    from synthskin.laws import one_line
    from synthskin.progress import make_progress

    wanted = tuple(k.strip() for k in kinds.split(",") if k.strip()) if kinds else ()
    result = compare_sets(real, synthetic, out, Options(size, wanted, limit, masks, features, not no_cnn),
                          make_progress(verb="measuring", unit="pictures"))
    for loaded in (result.real, result.synthetic):
        if loaded.mask_files:
            print(f"note: {left_out_words(loaded.mask_files)}", file=sys.stderr, flush=True)
        for name, why in loaded.left_out.items():
            print(f"left out: {loaded.name}/{one_line(name, 400)}: {why}", file=sys.stderr, flush=True)
    if as_json:
        typer.echo(json.dumps({"dir": str(out), **result.results()}))
        return
    e = result.embedded
    cnn = "" if result.cnn is None else f", network {result.cnn.auc:.2f}"
    typer.echo(f"two-sample AUC: linear {result.linear.auc:.2f} (colour {result.colour.auc:.2f}, texture "
               f"{result.texture.auc:.2f}){cnn}")
    if result.weighting.wants_words:
        typer.echo(weight_words(result.weighting, result.real.name, result.synthetic.name))
    if result.shared_groups:
        typer.echo(shared_words(result.shared_groups))
    typer.echo(f"KID {e.kid:.4f} (halves of the real set {e.kid_null:.4f}, 95 % {e.kid_null_low:.4f} to "
               f"{e.kid_null_high:.4f}), precision {e.precision:.2f}, recall {e.recall:.2f}, by {result.features}")
    if e.fid_reason:
        typer.echo(f"no FID: {e.fid_reason}")
    typer.echo(f"report {out / 'report.html'}")
