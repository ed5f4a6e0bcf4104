"""Engines that fail in the ways real ones do, importable by worker processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
from standin import FakeEngine, FakeRendered

from synthskin.run import EngineOptions

POISON = 3


class PoisonEngine(FakeEngine):
    """Raises at one sample, always."""

    def render(self, record: Any) -> FakeRendered:
        if record.index == POISON:
            raise ValueError("the field of sample 3\nis not finite")
        return super().render(record)


class KillerEngine(FakeEngine):
    """Takes its process down at one sample, always."""

    def render(self, record: Any) -> FakeRendered:
        if record.index == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().render(record)


class KilledOnceEngine(FakeEngine):
    """Is killed in the middle of one sample, the first time only; make it with functools.partial(..., marker)."""

    def __init__(self, marker: Path, options: EngineOptions) -> None:
        super().__init__(options)
        self.marker = marker

    def render(self, record: Any) -> FakeRendered:
        if record.index == POISON and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().render(record)


class BigEngine(FakeEngine):
    """Samples of some megabytes that do not compress."""

    def render(self, record: Any) -> FakeRendered:
        made = super().render(record)
        noise = np.random.Generator(np.random.Philox(key=record.index)).random((256, 256), dtype=np.float32)
        made.maps.update({f"noise_{k}": noise + np.float32(k) for k in range(16)})
        return made
