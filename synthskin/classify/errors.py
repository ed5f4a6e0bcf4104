"""The one-line error of everything under `synthskin.classify`."""

from __future__ import annotations


class ClassifyError(ValueError):
    """What came, what is allowed, what to do; the command line prints it and exits with 2."""
