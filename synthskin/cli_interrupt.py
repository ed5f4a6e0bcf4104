"""Ctrl-C: exit code 130 and one line on standard error that says what is kept and how to go on.

A command says it by `@on_interrupt(...)` under its `@app.command()`. What the work itself knows to the sample or the
step (`render_run`, `gan.train` ...) is told there, and comes first. Where a command has no line, `Program` turns
Ctrl-C into an Abort, which `main` words: Typer would end the program with 130 and not a word.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, Final, NoReturn, ParamSpec, TypeVar

import typer
from typer.core import TyperGroup

P = ParamSpec("P")
R = TypeVar("R")
#: Given the options of the command, what is kept and how to go on.
Told = Callable[[Mapping[str, Any]], str]
ANEW: Final = "the same command again begins anew"


class Program(TyperGroup):
    """The program, whose commands all end with a line after Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Abort from None


def on_interrupt(told: Told) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a command with what it tells after Ctrl-C."""
    def decorate(command: Callable[P, R]) -> Callable[P, R]:
        @wraps(command)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return command(*args, **kwargs)
            except KeyboardInterrupt:
                tell_interrupted(told(kwargs))

        return wrapped

    return decorate


def tell_interrupted(what: str) -> NoReturn:
    """The line, and the end with exit code 130."""
    print(f"interrupted: {what}", file=sys.stderr, flush=True)
    raise typer.Exit(130)


def nothing(given: Mapping[str, Any]) -> str:
    """Of commands that write at their end alone, or not at all."""
    return f"nothing was written; {ANEW}"


def kept(what: str, *signs: str, folder: str = "out", default: Callable[[Mapping[str, Any]], Path] | None = None
         ) -> Told:
    """Of commands that continue: `what`, such as "the training is", is kept in their folder.

    signs            names in the folder of which one is there as soon as anything is kept; none: the folder itself
    folder, default  name of its option, and the folder where that was left out; None: it is not known here
    """
    def told(given: Mapping[str, Any]) -> str:
        out: Path | None = given[folder]
        if out is None and default is not None:
            out = default(given)
        if out is not None and not any((out / sign).exists() for sign in signs or ("",)):
            return f"nothing is kept yet; {ANEW}"
        return f"{what} kept{'' if out is None else f' in {out}'}; {go_on(given.get('overwrite', False))}"

    return told


def go_on(overwrite: bool) -> str:
    """How to continue; `--overwrite` once more would delete what is kept."""
    return f"the same command {'without --overwrite' if overwrite else 'again'} continues"
