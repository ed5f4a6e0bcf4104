"""Options that several commands have, said once."""

from __future__ import annotations

from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="One machine-readable line on standard output.")]
SeedOption = Annotated[int, typer.Option(help="Seed; 0 is a seed.")]
TorchDeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
