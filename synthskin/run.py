"""The render run: draw, render, encode, write, for every index that is not in the folder yet.

One process writes. With one worker the engine renders in this process and a thread encodes and writes beside it; with
more, each worker is a process of its own that renders and encodes, and is replaced after some hundred samples.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, Protocol

from synthskin.dataset.card import Card
from synthskin.dataset.encode import EncodedSample, encode_sample
from synthskin.dataset.format import MAX_SAMPLES, DatasetError
from synthskin.dataset.preview import preview_png
from synthskin.dataset.reader import read_rows
from synthskin.dataset.writer import DatasetWriter, check_target
from synthskin.draw import draw
from synthskin.preset import Preset
from synthskin.rows import Rendered, make_sample

MIN_SIZE_PX: Final = 32
MAX_SIZE_PX: Final = 4096
MAX_SPP: Final = 65_536
MAX_WORKERS: Final = 256
#: Memory of one renderer, measured: 0.53 GB at 256, 1.22 at 512, 1.42 at 1024 pixels a side; rounded up.
BASE_BYTES: Final = 1_200_000_000
BYTES_PER_PIXEL: Final = 500
#: Samples after which a worker process is replaced, so that no leak of a library can add up.
RECYCLE_AFTER: Final = 300


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
    spp: int = 15
    denoise: bool = True
    device: str = "auto"
    maps: bool = False
    threads: int = 0


EngineFactory = Callable[[EngineOptions], EngineLike]


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One run as it was asked for. `options.device` is as the user wrote it: auto, cuda or llvm."""

    preset: Preset
    n: int
    seed: int
    out: Path
    options: EngineOptions = field(default_factory=EngineOptions)
    workers: int = 1
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did. `timings_s` are sums over the samples made in it, by stage."""

    directory: Path
    made: int
    kept: int
    n: int
    seconds: float
    device: str
    interrupted: bool
    timings_s: dict[str, float]
    preview: Path | None


class Progress(Protocol):
    """Told of every finished sample."""

    def start(self, total: int, done: int) -> None: ...
    def step(self, done: int) -> None: ...
    def stop(self) -> None: ...


class NoProgress:
    def start(self, total: int, done: int) -> None: ...
    def step(self, done: int) -> None: ...
    def stop(self) -> None: ...


def real_engine(options: EngineOptions) -> EngineLike:
    """The Dr.Jit engine; imports mitsuba."""
    from synthskin.physics import engine

    settings = engine.RenderSettings(
        size_px=options.size_px, spp=options.spp, denoise=options.denoise, device=options.device, maps=options.maps,
        threads=options.threads,
    )
    made: EngineLike = engine.Engine(settings)
    return made


def real_device(device: str) -> str:
    from synthskin.physics.llvm import resolve_device

    return resolve_device(device)


def check_request(request: RunRequest) -> None:
    """Refuse numbers that make no sense, before anything is loaded or written; raises RunError."""
    o = request.options
    for name, value, low, high in (
        ("--n", request.n, 1, MAX_SAMPLES), ("--seed", request.seed, 0, 2**63 - 1),
        ("--size", o.size_px, MIN_SIZE_PX, MAX_SIZE_PX), ("--spp", o.spp, 1, MAX_SPP),
        ("--workers", request.workers, 1, MAX_WORKERS),
    ):
        if not low <= value <= high:
            raise RunError(f"{name} {value}: allowed is {low} to {high}")
    needed = request.workers * (BASE_BYTES + BYTES_PER_PIXEL * o.size_px**2)
    there = available_memory_bytes()
    if there is not None and needed > there:
        raise RunError(f"--size {o.size_px} with --workers {request.workers}: needs about {needed / 1e9:.1f} GB of "
                       f"memory, {there / 1e9:.1f} GB are free; choose a smaller --size or fewer --workers")


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
    device = resolve_device(request.options.device)
    options = _options(request, device)
    card = make_card(request, device)
    check_target(request.out, card, request.overwrite)
    started = time.monotonic()
    timings: dict[str, float] = {}
    interrupted = False
    preview = None
    made = 0
    # One worker: the engine is made before anything is written, so that a machine without a device is left as it was.
    engine = engine_factory(options) if request.workers == 1 and _missing_any(request) else None
    with DatasetWriter(request.out, card, request.preset.resolved_toml(), request.overwrite) as writer:
        there = writer.finished
        missing = [i for i in range(request.n) if i not in there]
        kept = len(there)
        device_name = engine.device_name if engine else writer.run.get("device", device)
        writer.run.setdefault("created", _now())
        progress.start(request.n, request.n - len(missing))
        try:
            if not missing:
                finished: Iterable[tuple[str, dict[str, float]]] = ()
            elif request.workers == 1:
                finished = _in_process(engine or engine_factory(options), request, missing, writer)
            else:
                finished = _in_workers(engine_factory, options, request, missing, writer)
            for name, spent in finished:
                device_name = name
                made += 1
                for stage, seconds in spent.items():
                    timings[stage] = timings.get(stage, 0.0) + seconds
                progress.step(request.n - len(missing) + made)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            progress.stop()
        seconds = time.monotonic() - started
        writer.run |= {"updated": _now(), "device": device_name, "workers": request.workers,
                       "seconds": round(writer.run.get("seconds", 0.0) + seconds, 3),
                       "timings_s": {key: round(value, 3) for key, value in sorted(timings.items())},
                       "interrupted": interrupted}
        writer.finish()
        made = len(writer.finished) - kept
        if writer.finished:
            writer.put_extra("preview.png", preview_png(request.out))
            preview = request.out / "preview.png"
        return RunResult(request.out, made, kept, request.n, seconds, device_name, interrupted, timings, preview)


def make_card(request: RunRequest, device: str) -> Card:
    law = request.preset.fields["camera.field_of_view_mm"]
    limits = law.limits()
    view: float | list[float] | None = None
    if limits is not None:
        view = float(limits[0]) if limits[0] == limits[1] else [float(limits[0]), float(limits[1])]
    o = request.options
    return Card(
        generator="physics", preset=request.preset.name, set_hash=request.preset.hash, seed=request.seed, n=request.n,
        size_px=o.size_px, field_of_view_mm=view,
        engine={"spp": o.spp, "denoise": o.denoise, "device": device, "maps": o.maps},
        description=request.preset.description,
    )


def _options(request: RunRequest, device: str) -> EngineOptions:
    o = request.options
    threads = o.threads
    if threads == 0 and request.workers > 1:
        threads = max(1, (os.cpu_count() or 1) // request.workers)
    return EngineOptions(o.size_px, o.spp, o.denoise, device, o.maps, threads)


def _missing_any(request: RunRequest) -> bool:
    """False if rows for all of it are there, so that no engine may be needed; the writer then looks at the files."""
    if request.overwrite or not (request.out / "metadata.jsonl").is_file():
        return True
    try:
        return not {row["index"] for row in read_rows(request.out)}.issuperset(range(request.n))
    except DatasetError:
        return True


def _render_one(engine: EngineLike, request: RunRequest, index: int) -> tuple[Any, dict[str, float]]:
    t0 = time.perf_counter()
    record = draw(request.preset, request.seed, index)
    t1 = time.perf_counter()
    try:
        rendered = engine.render(record)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
            size = request.options.size_px
            raise RunError(f"out of memory at sample {index}: choose a smaller --size than {size}, a smaller --spp, "
                           "or fewer --workers; finished samples are kept") from None
        raise
    spent = {"draw": t1 - t0, **rendered.timings_s}
    rest = time.perf_counter() - t1 - sum(rendered.timings_s.values())
    spent["other"] = max(rest, 0.0)
    return (record, rendered), spent


def _encode(made: tuple[Any, Any], spent: dict[str, float]) -> EncodedSample:
    t0 = time.perf_counter()
    encoded = encode_sample(make_sample(*made))
    spent["encode"] = time.perf_counter() - t0
    return encoded


def _write(writer: DatasetWriter, encoded: EncodedSample, spent: dict[str, float]) -> None:
    t0 = time.perf_counter()
    writer.write(encoded)
    spent["write"] = time.perf_counter() - t0


def _in_process(
    engine: EngineLike, request: RunRequest, missing: list[int], writer: DatasetWriter
) -> Iterator[tuple[str, dict[str, float]]]:
    """Render here; encode and write in one thread beside it. Yields (device name, seconds by stage) a sample."""
    todo: queue.Queue[Any] = queue.Queue(maxsize=4)
    done: queue.Queue[dict[str, float]] = queue.Queue()
    failure: list[BaseException] = []

    def work() -> None:
        while (item := todo.get()) is not None:
            if failure:
                continue
            try:
                made, spent = item
                _write(writer, _encode(made, spent), spent)
                done.put(spent)
            except BaseException as error:
                failure.append(error)

    thread = threading.Thread(target=work, name="synthskin-writer", daemon=True)
    thread.start()
    try:
        for index in missing:
            if failure:
                break
            todo.put(_render_one(engine, request, index))
            while not done.empty():
                yield engine.device_name, done.get()
    finally:
        with _uninterrupted():
            todo.put(None)
            thread.join()
    if failure:
        raise failure[0]
    while not done.empty():
        yield engine.device_name, done.get()


def _in_workers(
    factory: EngineFactory, options: EngineOptions, request: RunRequest, missing: list[int], writer: DatasetWriter
) -> Iterator[tuple[str, dict[str, float]]]:
    """Render and encode in processes of their own; write here, in the order they come."""
    workers = min(request.workers, len(missing))
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_start_worker,
        initargs=(factory, options, request, os.getpid()), max_tasks_per_child=RECYCLE_AFTER,
    )
    waiting: Iterator[int] = iter(missing)
    running: set[Future[Any]] = set()
    try:
        for index in waiting:
            running.add(pool.submit(_work, index))
            if len(running) >= 2 * workers:
                break
        while running:
            ready, running = wait(running, return_when=FIRST_COMPLETED)
            for future in ready:
                encoded, device_name, spent = future.result()
                running |= {pool.submit(_work, index) for index in itertools.islice(waiting, 1)}
                with _uninterrupted():
                    _write(writer, encoded, spent)
                yield device_name, spent
    except BrokenProcessPool:
        raise RunError(f"a worker process ended unexpectedly (out of memory?); {len(writer.finished)} samples are "
                       "kept; use fewer --workers or a smaller --size and give the same command again") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker: dict[str, Any] = {}


def _start_worker(factory: EngineFactory, options: EngineOptions, request: RunRequest, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the run; what is being rendered may finish
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(options.threads or 1)
    _worker.update(factory=factory, options=options, request=request, engine=None)
    _watch_parent(parent)


def _work(index: int) -> tuple[EncodedSample, str, dict[str, float]]:
    if _worker["engine"] is None:  # here and not at the start, so that the engine's own error reaches the user
        _worker["engine"] = _worker["factory"](_worker["options"])
    engine = _worker["engine"]
    made, spent = _render_one(engine, _worker["request"], index)
    return _encode(made, spent), engine.device_name, spent


def _watch_parent(parent: int) -> None:
    """End this worker when its parent has been killed; a killed parent cannot tell it."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the block is through, then raise it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if caught:
        raise KeyboardInterrupt


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
