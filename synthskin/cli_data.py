"""Commands about whole data sets: export, import, merge. As in cli.py: no logic, and imports inside the commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from synthskin.cli_interrupt import kept, nothing, on_interrupt
from synthskin.cli_options import JsonOption


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("export")(export)
    app.command("import")(import_)
    app.command("merge")(merge)


@on_interrupt(nothing)
def export(
    directory: Annotated[Path, typer.Argument(help="Folder of a data set.")],
    to: Annotated[str, typer.Option("--to", help="coco, webdataset, parquet, isic or croissant.")],
    out: Annotated[Path, typer.Option(help="New folder to write.")],
    segm: Annotated[str, typer.Option(help="coco: polygon, or rle, which is exact.")] = "polygon",
    shard_mb: Annotated[int, typer.Option(help="webdataset, parquet: megabytes a file.")] = 1000,
    name: Annotated[str | None, typer.Option(help="webdataset: name of the shards; the preset's if left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a set in a form that other software reads; licences and attribution go with it."""
    from synthskin.dataset.exports import ExportOptions, export_set
    from synthskin.progress import make_progress

    result = export_set(directory, to, out, ExportOptions(segm, shard_mb, name), make_progress(verb="exporting"))
    for remark in result.remarks:
        print(f"note: {remark}", file=sys.stderr, flush=True)
    if as_json:
        typer.echo(json.dumps({"dir": str(result.out), "to": to, "samples": result.samples,
                               "remarks": list(result.remarks)}))
    else:
        typer.echo(f"{result.samples} samples as {to} in {result.out}")


_KINDS = ("ham10000, isic2017, isic2018, ph2, fitzpatrick17k, ddi, scin, itobos, folder (a folder per class), "
          "webdataset (shards of our export), set (a synthskin set in an archive).")


@on_interrupt(kept("finished samples are", "dataset.json", folder="directory"))
def import_(
    kind: Annotated[str, typer.Argument(help=_KINDS)],
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder or archive (zip, tar) of the source.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the data set to write.")],
    licence: Annotated[list[str] | None, typer.Option(help="A licence that binds, such as CC-BY-4.0; several times. "
                                                         "Added to those of the kind, needed for `folder`.")] = None,
    attribution: Annotated[list[str] | None, typer.Option(help="Whom to name; several times.")] = None,
    modality: Annotated[str | None, typer.Option(help="folder: dermoscopic or clinical.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out photographs that are missing or damaged; each "
                                                              "is told.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take over a published set of photographs; the same command again continues.

    Exit 0, or 3 if --skip-bad left out pictures.
    """
    from synthskin.dataset.imports import ImportOptions, import_set
    from synthskin.progress import make_progress

    options = ImportOptions(tuple(licence or ()), tuple(attribution or ()), modality, skip_bad)
    result = import_set(kind, source, directory, options, lambda verb: make_progress(verb=verb))
    for name, why in result.left_out.items():
        print(f"left out: {name}: {why}", file=sys.stderr, flush=True)
    for remark in result.remarks:
        print(f"note: {remark}", file=sys.stderr, flush=True)
    if as_json:
        typer.echo(json.dumps({"dir": str(directory), "kind": kind, "samples": result.samples, "made": result.made,
                               "left_out": result.left_out, "remarks": list(result.remarks)}))
    else:
        kept = f", {result.samples - result.made} kept" if result.samples > result.made else ""
        typer.echo(f"{result.made} samples made{kept} in {directory}")
    if result.left_out:
        raise typer.Exit(3)


@on_interrupt(kept("finished samples are", "dataset.json"))
def merge(
    folders: Annotated[list[Path], typer.Argument(help="Folders of the shards.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    as_json: JsonOption = False,
) -> None:
    """Join the folders of `render --shard` into the folder that one run would have written.

    Exit 0, or 3 if samples are missing; the same command again takes up those that have been finished since.
    """
    from synthskin.dataset.merge import merge_sets
    from synthskin.progress import make_progress

    result = merge_sets(folders, out, make_progress(verb="merging"))
    if as_json:
        typer.echo(json.dumps({"dir": str(out), "n": result.n, "samples": result.samples, "copied": result.copied,
                               "missing": list(result.missing[:1000])}))
    else:
        typer.echo(f"{result.samples} of {result.n} samples in {out}, {result.copied} copied")
    if result.missing:
        some = ", ".join(map(str, result.missing[:5])) + (" ..." if len(result.missing) > 5 else "")
        print(f"error: {len(result.missing)} samples are missing ({some}); finish their shards and give the same "
              "command again", file=sys.stderr, flush=True)
        raise typer.Exit(3)
