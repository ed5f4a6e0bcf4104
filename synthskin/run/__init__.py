"""The render run: draw, render, encode, write, for every index that is not in the folder yet.

One process writes. With one worker the engine renders in this process and a thread encodes and writes beside it; with
more, each worker is a process of its own that renders and encodes, and is replaced after some hundred samples. On a
Ray cluster (`ray_pool`) the workers are elsewhere; the writing is the same.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from synthskin.dataset.card import Card
from synthskin.dataset.format import DatasetError
from synthskin.dataset.preview import preview_png
from synthskin.dataset.reader import iter_rows
from synthskin.dataset.writer import DatasetWriter, check_target
from synthskin.run.light import check_panorama
from synthskin.run.local import in_process, in_workers
from synthskin.run.request import (
    EngineFactory,
    EngineLike,
    EngineOptions,
    Failed,
    Finished,
    NoProgress,
    Progress,
    RunError,
    RunRequest,
    Shard,
    automatic_workers,
    check_request,
    environment_hash,
)

__all__ = [
    "EngineFactory", "EngineLike", "EngineOptions", "Progress", "RunError", "RunRequest", "RunResult", "Shard",
    "make_card", "real_device", "real_engine", "render_run",
]


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did.

    n           samples it was asked for (a shard: its share)
    timings_s   sums over the samples made in it, by stage
    failed      {index: why} of samples that could not be made
    """

    directory: Path
    made: int
    kept: int
    n: int
    seconds: float
    device: str
    interrupted: bool
    timings_s: dict[str, float]
    preview: Path | None
    failed: dict[int, str] = field(default_factory=dict)


def real_engine(options: EngineOptions) -> EngineLike:
    """The Dr.Jit engine; imports mitsuba."""
    from synthskin.physics import engine

    settings = engine.RenderSettings(
        size_px=options.size_px, spp=options.spp, denoise=options.denoise, device=options.device, maps=options.maps,
        threads=options.threads, environment=options.environment,
    )
    made: EngineLike = engine.Engine(settings)
    return made


def real_device(device: str) -> str:
    from synthskin.physics.llvm import resolve_device

    return resolve_device(device)


def render_run(
    request: RunRequest,
    engine_factory: EngineFactory = real_engine,
    resolve_device: Callable[[str], str] = real_device,
    progress: Progress | None = None,
) -> RunResult:
    """Make what is missing of a set. Ctrl-C ends it in good order (`interrupted`), the folder valid.

    Raises RunError, DatasetError, or the engine's own one-line errors; bad input is refused with nothing written.
    """
    progress = progress or NoProgress()
    check_request(request)
    with contextlib.ExitStack() as stack:
        pool = None
        if request.executor == "ray":
            from synthskin.run.ray_pool import RayPool

            pool = stack.enter_context(RayPool(request, engine_factory))
            device = pool.device
            options = pool.options
            workers = pool.workers
        else:
            device = resolve_device(request.options.device)
            if request.workers is None:
                request = replace(request, workers=automatic_workers(request, device))
            options = _options(request, device)
            workers = request.local_workers
        check_panorama(request)
        card = make_card(request, device)
        check_target(request.out, card, request.overwrite, request.preset.resolved_toml())
        started = time.monotonic()
        # One worker: the engine is made before anything is written, so that a machine without a device is left as it
        # was.
        engine = engine_factory(options) if pool is None and workers == 1 and _missing_any(request) else None
        writer = stack.enter_context(
            DatasetWriter(request.out, card, request.preset.resolved_toml(), request.overwrite))

        def make(missing: list[int]) -> Iterable[Finished | Failed]:
            if not missing:
                return ()
            if pool is not None:
                return pool.make(missing, writer)
            if workers == 1:
                return in_process(engine or engine_factory(options), request, missing, writer)
            return in_workers(engine_factory, options, request, missing, writer)

        device_name = engine.device_name if engine else writer.run.get("device", device)
        return _make_missing(request, writer, make, progress, started, device_name, workers)


def _make_missing(
    request: RunRequest, writer: DatasetWriter, make: Callable[[list[int]], Iterable[Finished | Failed]],
    progress: Progress, started: float, device_name: str, workers: int,
) -> RunResult:
    """Everything between the open and the finished set."""
    before = writer.finished
    wanted = request.indices
    missing = [i for i in wanted if i not in before]
    timings: dict[str, float] = {}
    failed: dict[int, str] = {}
    interrupted = False
    done = len(wanted) - len(missing)
    writer.run.setdefault("created", _now())
    progress.start(len(wanted), done)
    try:
        for event in make(missing):
            if isinstance(event, Failed):
                failed[event.index] = event.reason
                continue
            device_name = event.device_name
            done += 1
            for stage, seconds in event.spent_s.items():
                timings[stage] = timings.get(stage, 0.0) + seconds
            progress.step(done)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        progress.stop()
    seconds = time.monotonic() - started
    writer.run |= {"updated": _now(), "device": device_name, "workers": workers,
                   "seconds": round(writer.run.get("seconds", 0.0) + seconds, 3),
                   "timings_s": {key: round(value, 3) for key, value in sorted(timings.items())},
                   "interrupted": interrupted}
    if request.executor != "local":
        writer.run["executor"] = request.executor
    writer.finish()
    preview = None
    if writer.finished:
        writer.put_extra("preview.png", preview_png(request.out))
        preview = request.out / "preview.png"
    return RunResult(request.out, len(writer.finished) - len(before), len(before), len(wanted), seconds, device_name,
                     interrupted, timings, preview, dict(sorted(failed.items())))


def make_card(request: RunRequest, device: str) -> Card:
    law = request.preset.fields["camera.field_of_view_mm"]
    limits = law.limits()
    view: float | list[float] | None = None
    if limits is not None:
        view = float(limits[0]) if limits[0] == limits[1] else [float(limits[0]), float(limits[1])]
    o = request.options
    return Card(
        generator="physics", preset=request.preset.name, set_hash=request.set_hash, seed=request.seed, n=request.n,
        size_px=o.size_px, field_of_view_mm=view,
        engine={"spp": "auto" if o.spp is None else o.spp, "denoise": o.denoise, "device": device, "maps": o.maps,
                **({} if o.environment is None else {"environment": environment_hash(o.environment)}),
                **({} if request.plan is None else {"variation": request.plan.settings()})},
        description=request.preset.description,
    )


def _options(request: RunRequest, device: str) -> EngineOptions:
    o = request.options
    threads = o.threads
    if threads == 0 and request.local_workers > 1:
        threads = max(1, (os.cpu_count() or 1) // request.local_workers)
    return replace(o, device=device, threads=threads)


def _missing_any(request: RunRequest) -> bool:
    """False if rows for all of it are there, so that no engine may be needed; the writer then looks at the files."""
    if request.overwrite or not (request.out / "metadata.jsonl").is_file():
        return True
    try:
        return not {row["index"] for row in iter_rows(request.out)}.issuperset(request.indices)
    except DatasetError:
        return True


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
