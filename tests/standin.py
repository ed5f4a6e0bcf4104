"""A tiny deterministic engine for tests of everything around the renderer: no physics, importable by workers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from synthskin.draw import hash_uniform
from synthskin.run import EngineOptions


@dataclass(frozen=True)
class FakeRendered:
    image: np.ndarray
    mask: np.ndarray
    hair: np.ndarray
    attributes: dict[str, np.ndarray]
    artefacts: dict[str, np.ndarray]
    maps: dict[str, np.ndarray]
    ita_deg: float
    ita_image_deg: float | None
    contrast: float | None
    visible_delta_e: float | None
    timings_s: dict[str, float] = field(default_factory=dict)
    description: dict[str, Any] = field(default_factory=dict)


class FakeEngine:
    device_name = "stand-in"
    delay_s = 0.0

    def __init__(self, options: EngineOptions) -> None:
        self.options = options

    def render(self, record: Any) -> FakeRendered:
        time.sleep(self.delay_s)
        side = self.options.size_px
        key = int(hash_uniform(record.set_hash, record.seed, record.index, "pixels") * 2**53)
        rng = np.random.Generator(np.random.Philox(key=key))
        image = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        mask = np.zeros((side, side), np.uint8)
        hair = np.zeros((side, side), np.uint8)
        attributes = {}
        if record.diagnosis != "healthy":
            mask[side // 4:side // 2, side // 4:3 * side // 4] = 255
            attributes = {"network": mask.copy(), "globules": np.zeros_like(mask)}
        if record.hair.count:
            hair[:, record.index % side] = 255
        maps = {}
        if self.options.maps:
            maps = {"melanin_column_mm": np.full((side, side), 0.5, np.float32)}
        healthy = record.diagnosis == "healthy"
        ita = 60.0 - 220.0 * record.skin.melanosome_fraction
        return FakeRendered(
            image, mask, hair, attributes, {}, maps, ita, ita - 1.0, None if healthy else 12.0,
            None if healthy else 0.9, {"render": 0.001},
        )


class SlowEngine(FakeEngine):
    delay_s = 0.05


class BrokenEngine(FakeEngine):
    def __init__(self, options: EngineOptions) -> None:
        from synthskin.physics.llvm import DeviceError

        raise DeviceError("no usable LLVM: found version 15, 17 or later is needed; type `apt-get install libllvm19`")


class HungryEngine(FakeEngine):
    def render(self, record: Any) -> FakeRendered:
        raise RuntimeError("jit_malloc(): out of memory! Could not allocate 8 GiB of device memory.")


def device(name: str) -> str:
    return "llvm"
