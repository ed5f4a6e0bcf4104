"""The one-line error of the gates."""

from __future__ import annotations

from synthskin.dataset.format import DatasetError


class GateError(DatasetError):
    """A gate cannot be set up or asked: what came, what is allowed, what to do."""
