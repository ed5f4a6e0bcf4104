"""Running on this machine: in this process with a writing thread beside it, or in worker processes."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, Final

from synthskin.dataset.encode import EncodedSample
from synthskin.dataset.writer import DatasetWriter
from synthskin.run.one import encode_one, render_one, write_one
from synthskin.run.request import EngineFactory, EngineLike, EngineOptions, Finished, RunError, RunRequest

#: Samples after which a worker process is replaced, so that no leak of a library can add up.
RECYCLE_AFTER: Final = 300


def in_process(
    engine: EngineLike, request: RunRequest, missing: list[int], writer: DatasetWriter
) -> Iterator[Finished]:
    """Render here; encode and write in one thread beside it."""
    todo: queue.Queue[Any] = queue.Queue(maxsize=4)
    done: queue.Queue[dict[str, float]] = queue.Queue()
    failure: list[BaseException] = []

    def work() -> None:
        while (item := todo.get()) is not None:
            if failure:
                continue
            try:
                made, spent = item
                write_one(writer, encode_one(made, spent), spent)
                done.put(spent)
            except BaseException as error:
                failure.append(error)

    thread = threading.Thread(target=work, name="synthskin-writer", daemon=True)
    thread.start()
    try:
        for index in missing:
            if failure:
                break
            todo.put(render_one(engine, request, index))
            while not done.empty():
                yield Finished(engine.device_name, done.get())
    finally:
        with uninterrupted():
            todo.put(None)
            thread.join()
    if failure:
        raise failure[0]
    while not done.empty():
        yield Finished(engine.device_name, done.get())


def in_workers(
    factory: EngineFactory, options: EngineOptions, request: RunRequest, missing: list[int], writer: DatasetWriter
) -> Iterator[Finished]:
    """Render and encode in processes of their own; write here, in the order they come."""
    workers = min(request.local_workers, len(missing))
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
                with uninterrupted():
                    write_one(writer, encoded, spent)
                yield Finished(device_name, spent)
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
    made, spent = render_one(engine, _worker["request"], index)
    return encode_one(made, spent), engine.device_name, spent


def _watch_parent(parent: int) -> None:
    """End this worker when its parent has been killed; a killed parent cannot tell it."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
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
