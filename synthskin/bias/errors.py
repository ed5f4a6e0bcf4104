"""The one-line error of everything under `synthskin.bias`."""

from __future__ import annotations


class BiasError(ValueError):
    """What came, what is allowed, what to do; the command line prints it and exits with 2."""
