"""Options that several commands have, and what several say, said once."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="One machine-readable line on standard output.")]
SeedOption = Annotated[int, typer.Option(help="Seed; 0 is a seed.")]
TorchDeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def tell_failed(result: Any) -> None:
    """Name the samples of a RunResult that could not be made, and exit with 3 if there are any."""
    for index, reason in result.failed.items():
        print(f"sample {index} failed: {reason}", file=sys.stderr, flush=True)
    if result.failed:
        print(f"error: {len(result.failed)} of {result.n} samples could not be made, the others are in "
              f"{result.directory}; the same command again tries them once more", file=sys.stderr, flush=True)
        raise typer.Exit(3)
