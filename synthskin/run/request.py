"""What a run is asked to do, and the refusal of numbers that make no sense."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

from synthskin.contact import contact_fault
from synthskin.dataset.format import MAX_SAMPLES
from synthskin.draw import draw
from synthskin.preset import Preset
from synthskin.record import SampleRecord
from synthskin.rows import Rendered

MIN_SIZE_PX: Final = 32
MAX_SIZE_PX: Final = 4096
MAX_SPP: Final = 65_536
MAX_WORKERS: Final = 256
MAX_AUTOMATIC_WORKERS = 32  # one writer keeps up with about 64 (docs/scale.md)
SAMPLES_A_WORKER = 8  # below that a process costs more time to start than it saves
MAX_RAY_WORKERS: Final = 10_000
MAX_SHARDS: Final = 100_000
EXECUTORS: Final = ("local", "ray")
#: Memory of one renderer, measured: 0.53 GB at 256, 1.22 at 512, 1.42 at 1024 pixels a side; rounded up.
BASE_BYTES: Final = 1_200_000_000
BYTES_PER_PIXEL: Final = 500


class RunError(RuntimeError):
    """A run cannot start or go on. One line, meant for the user."""


class EngineLike(Protocol):
    """What a run needs of physics.engine.Engine."""

    @property
    def device_name(self) -> str: ...
    def render(self, record: Any) -> Rendered: ...


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Settings handed to the engine; the fields of physics.engine.RenderSettings."""

    size_px: int = 256
    spp: int | None = None
    denoise: bool = True
    device: str = "auto"
    maps: bool = False
    threads: int = 0
    environment: str | None = None


EngineFactory = Callable[[EngineOptions], EngineLike]


@dataclass(frozen=True, slots=True)
class Shard:
    """The `number`th of `of` shares of the index space: every `of`th index, so that a larger --n moves no sample."""

    number: int
    of: int

    @staticmethod
    def parse(text: str) -> Shard:
        """From '3/16', counted from 1; raises RunError."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if found is None or not 1 <= int(found[1]) <= int(found[2]) <= MAX_SHARDS:
            raise RunError(f"--shard {text!r}: a share such as 3/16 is needed, counted from 1/16 to 16/16, "
                           f"of at most {MAX_SHARDS}")
        return Shard(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def folder_suffix(self) -> str:
        """'-shard03of16': sorts by name."""
        return f"-shard{self.number:0{len(str(self.of))}d}of{self.of}"

    def indices(self, n: int) -> range:
        """The indices of 0 ... n-1 that belong to this share."""
        return range(self.number - 1, n, self.of)


class Plan(Protocol):
    """Which record stands at an index, where it is not the preset's own draw (synthskin.variation)."""

    def record(self, preset: Preset, seed: int, index: int) -> SampleRecord: ...
    def settings(self) -> dict[str, Any]:
        """What must match when the run is continued; plain JSON, written into the card."""
        ...


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One run as it was asked for. `options.device` is as the user wrote it: auto, cuda or llvm.

    workers      processes that render; None leaves it to the executor: `automatic_workers`, or all a cluster has
    shard        only this share of the indices
    executor     local, or ray with `ray_address` (None: RAY_ADDRESS, else a cluster of this machine alone)
    plan         None: index i is draw(preset, seed, i)
    """

    preset: Preset
    n: int
    seed: int
    out: Path
    options: EngineOptions = field(default_factory=EngineOptions)
    workers: int | None = 1
    overwrite: bool = False
    shard: Shard | None = None
    executor: str = "local"
    ray_address: str | None = None
    plan: Plan | None = None

    @property
    def set_hash(self) -> str:
        """Hash of all that decides the records: the preset's, with the plan's where there is one."""
        if self.plan is None:
            return self.preset.hash
        text = json.dumps([self.preset.hash, self.plan.settings()], sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]

    def record(self, index: int) -> SampleRecord:
        """What the sample `index` is made of."""
        if self.plan is None:
            return draw(self.preset, self.seed, index)
        return replace(self.plan.record(self.preset, self.seed, index), set_hash=self.set_hash)

    def values_of(self, key: str) -> tuple[Any, ...] | None:
        """Values that a sweep gives the field; None where the preset's laws hold."""
        own: Any = self.plan
        return tuple(own.values) if getattr(own, "field", None) == key else None

    def options_of(self, key: str) -> set[str]:
        """Options of a choice that samples of the run can have."""
        own = self.values_of(key)
        return self.preset.options_of(key) if own is None else set(own)

    @property
    def indices(self) -> range:
        """All indices this run is to have made, in order."""
        return range(self.n) if self.shard is None else self.shard.indices(self.n)

    @property
    def local_workers(self) -> int:
        return 1 if self.workers is None else self.workers


@dataclass(frozen=True, slots=True)
class Finished:
    """Told of a sample that has been written: on which device, and seconds by stage."""

    device_name: str
    spent_s: dict[str, float]


@dataclass(frozen=True, slots=True)
class Failed:
    """A sample that could not be made, and why, in one line."""

    index: int
    reason: str


def check_request(request: RunRequest) -> None:
    """Refuse numbers that make no sense, before anything is loaded or written; raises RunError."""
    o = request.options
    if request.executor not in EXECUTORS:
        raise RunError(f"--executor {request.executor}: allowed are {', '.join(EXECUTORS)}")
    if request.ray_address is not None and request.executor != "ray":
        raise RunError("--ray-address: needs --executor ray")
    on_ray = request.executor == "ray"
    for name, value, low, high in (
        ("--n", request.n, 1, MAX_SAMPLES), ("--seed", request.seed, 0, 2**63 - 1),
        ("--size", o.size_px, MIN_SIZE_PX, MAX_SIZE_PX), ("--spp", 1 if o.spp is None else o.spp, 1, MAX_SPP),
        ("--workers", request.local_workers, 1, MAX_RAY_WORKERS if on_ray else MAX_WORKERS),
    ):
        if not low <= value <= high:
            raise RunError(f"{name} {value}: allowed is {low} to {high}")
    if not request.indices:
        raise RunError(f"--shard {request.shard}: empty, there are only --n {request.n} samples")
    if o.environment is None and "environment" in request.options_of("clinical.light") and (
            request.options_of("camera.view") - {"dermoscopic"}):
        raise RunError("clinical.light = environment: needs a panorama, `synthskin render --environment room.exr` "
                       "takes one; elsewhere choose window, ceiling or flash")
    field = getattr(request.plan, "field", None)
    fault = contact_fault(request.preset, field, () if field is None else request.values_of(field) or ())
    if fault is not None:
        raise RunError(fault)
    if on_ray:
        return  # the memory of other machines is Ray's to watch
    workers = request.local_workers
    needed = workers * (BASE_BYTES + BYTES_PER_PIXEL * o.size_px**2)
    there = available_memory_bytes()
    if there is not None and needed > there:
        raise RunError(f"--size {o.size_px} with --workers {workers}: needs about {needed / 1e9:.1f} GB of "
                       f"memory, {there / 1e9:.1f} GB are free; choose a smaller --size or fewer --workers")


def automatic_workers(request: RunRequest, device: str) -> int:
    """Workers of a local run that names none: one a core, where there are SAMPLES_A_WORKER samples and the memory for
    each; one on a GPU. A single process leaves cores idle while it prepares fields and writes."""
    if device != "llvm":
        return 1
    there = available_memory_bytes()
    needed = BASE_BYTES + BYTES_PER_PIXEL * request.options.size_px**2
    room = MAX_WORKERS if there is None else int(0.7 * there / needed)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, len(request.indices) // SAMPLES_A_WORKER, room, MAX_AUTOMATIC_WORKERS))


def environment_hash(path: str) -> str:
    """First 16 hex digits of the SHA-256 of a panorama, which decides the pictures; raises RunError."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise RunError(f"--environment {path}: cannot be read: {error.strerror}") from None


def available_memory_bytes() -> int | None:
    """Memory that this process may still take: what the system has free, or less where a control group limits it."""
    found = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    with contextlib.suppress(OSError, ValueError):
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        found.append(limit - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    return min(found) if found else None


class Progress(Protocol):
    """Told of every finished sample."""

    def start(self, total: int, done: int) -> None: ...
    def step(self, done: int) -> None: ...
    def stop(self) -> None: ...


class NoProgress:
    def start(self, total: int, done: int) -> None: ...
    def step(self, done: int) -> None: ...
    def stop(self) -> None: ...
