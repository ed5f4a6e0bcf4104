"""The one-line error of everything under `synthskin.bias`."""

from __future__ import annotations

from importlib.util import find_spec


class BiasError(ValueError):
    """What came, what is allowed, what to do; the command line prints it and exits with 2."""


def missing(*modules: str) -> str | None:
    """The first of these top-level modules that is not installed, or None; imports nothing."""
    return next((name for name in modules if find_spec(name) is None), None)
