"""The one-line error of everything under `synthskin.diffusion`."""

from __future__ import annotations


class DiffusionError(ValueError):
    """What came, what is allowed, what to do; the command line prints it and exits with 2."""


class ShortfallError(DiffusionError):
    """Fewer pictures passed the gates than were asked for: exit code 3, and the gate is named."""
