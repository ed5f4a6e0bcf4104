"""Commands about tone and likeness: tone, compare. As in cli.py: no logic, and imports inside the commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="One machine-readable line on standard output.")]


def register_bias(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("tone")(tone)


def tone(
    paths: Annotated[list[Path], typer.Argument(metavar="DIR|FILES", help="Pictures, folders of pictures, or synthskin "
                                                "sets (their masks and hair are used).")],
    masks: Annotated[Path | None, typer.Option(help="Folder of lesion masks that carry their pictures' names "
                                                    "(NAME.png, NAME_segmentation.png); without it the segmenter finds "
                                                    "the lesion.", show_default=False)] = None,
    wcag: Annotated[str, typer.Option(help="Contrast ratio of linearised channels (linear, as WCAG defines it), or of "
                                           "encoded ones (encoded, the published variant).")] = "linear",
    as_json: JsonOption = False,
) -> None:
    """Measure skin tone: ITA, its class and spread, contrast of the lesion; or 'cannot say', with the reason.

    Exit 0, or 3 if pictures could not be read (each is told).
    """
    from synthskin.bias.tone_files import find_sources, measure_sources
    from synthskin.progress import make_progress

    found = measure_sources(find_sources(paths, masks), wcag, make_progress(verb="measuring"))
    for name, why in found.unread.items():
        print(f"left out: {name}: {why}", file=sys.stderr, flush=True)
    if as_json:
        typer.echo(json.dumps({
            "tones": [{"file": source.name} | tone.to_dict() for source, tone in found.tones],
            "by_class": found.by_class(), "unread": found.unread}))
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
