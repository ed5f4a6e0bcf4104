"""Running on this machine: in this process with a writing thread beside it, or in worker processes.

A sample that raises is reported as `Failed` and the rest goes on, and so is one that takes its worker process down,
found by rendering those that were under way one by one. What would hit every sample ends the run: an engine that
cannot be made, memory that is full, a folder that cannot be written.
"""

from __future__ import annotations

import itertools
import os
import queue
import signal
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, Final

from synthskin.dataset.encode import EncodedSample
from synthskin.dataset.writer import DatasetWriter
from synthskin.run.one import encode_one, hits_all, reason_of, render_one, write_one
from synthskin.run.request import EngineFactory, EngineLike, EngineOptions, Failed, Finished, RunError, RunRequest
from synthskin.uninterrupted import uninterrupted

#: Samples after which a worker process is replaced, so that no leak of a library can add up.
RECYCLE_AFTER: Final = 300
#: Times that a worker process may end although each of its samples can be made alone.
ATTEMPTS: Final = 3


def in_process(
    engine: EngineLike, request: RunRequest, missing: list[int], writer: DatasetWriter
) -> Iterator[Finished | Failed]:
    """Render here; encode and write in one thread beside it."""
    todo: queue.Queue[Any] = queue.Queue(maxsize=4)
    done: queue.Queue[dict[str, float] | Failed] = queue.Queue()
    failure: list[BaseException] = []

    def work() -> None:
        while (item := todo.get()) is not None:
            if failure:
                continue
            made, spent = item
            try:
                encoded = encode_one(made, spent)
            except Exception as error:
                if hits_all(error):
                    failure.append(error)
                else:
                    done.put(Failed(made[2], reason_of(error)))
            else:
                try:
                    write_one(writer, encoded, spent)
                    done.put(spent)
                except BaseException as error:
                    failure.append(error)

    def told() -> Iterator[Finished | Failed]:
        while not done.empty():
            item = done.get()
            yield item if isinstance(item, Failed) else Finished(engine.device_name, item)

    thread = threading.Thread(target=work, name="synthskin-writer", daemon=True)
    thread.start()
    try:
        for index in missing:
            if failure:
                break
            try:
                todo.put(render_one(engine, request, index))
            except Exception as error:
                if hits_all(error):
                    raise
                yield Failed(index, reason_of(error))
            yield from told()
    finally:
        with uninterrupted():
            todo.put(None)
            thread.join()
    if failure:
        raise failure[0]
    yield from told()


def in_workers(
    factory: EngineFactory, options: EngineOptions, request: RunRequest, missing: list[int], writer: DatasetWriter
) -> Iterator[Finished | Failed]:
    """Render and encode in processes of their own; write here, in the order they come."""
    crew = _Crew(factory, options, request, writer)
    waiting = list(missing)
    unexplained = 0
    while waiting:
        settled = yield from crew.make(waiting, min(request.local_workers, len(waiting)))
        waiting = [index for index in waiting if index not in settled]
        if not waiting:
            return
        suspects = crew.under_way  # a process ended: it was at one of these
        failed = 0
        for index in suspects:
            settled = yield from crew.make([index], 1)
            if not settled:
                failed += 1
                yield Failed(index, "its worker process ended unexpectedly (out of memory?)")
        waiting = [index for index in waiting if index not in suspects]
        unexplained += not failed
        if unexplained == ATTEMPTS:
            raise RunError(f"worker processes end unexpectedly (out of memory?); {len(writer.finished)} samples are "
                           "kept; use fewer --workers or a smaller --size and give the same command again")


class _Crew:
    """Worker processes; `under_way` are the samples that had been handed out when one of them ended by itself."""

    def __init__(
        self, factory: EngineFactory, options: EngineOptions, request: RunRequest, writer: DatasetWriter
    ) -> None:
        self._start = (factory, options, request, os.getpid())
        self._writer = writer
        self.under_way: list[int] = []

    def make(self, indices: list[int], workers: int) -> Generator[Finished | Failed, None, set[int]]:
        """Yields what became of the samples; returns those that are settled: all, unless a process ended by itself."""
        pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker,
                                   initargs=self._start, max_tasks_per_child=RECYCLE_AFTER)
        waiting: Iterator[int] = iter(indices)
        running: dict[Future[Any], int] = {}
        settled: set[int] = set()
        try:
            for index in itertools.islice(waiting, 2 * workers):
                running[pool.submit(_work, index)] = index
            while running:
                ready, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ready:
                    encoded, told, spent = future.result()
                    index = running.pop(future)
                    for following in itertools.islice(waiting, 1):
                        running[pool.submit(_work, following)] = following
                    settled.add(index)
                    if encoded is None:
                        yield Failed(index, told)
                        continue
                    with uninterrupted():
                        write_one(self._writer, encoded, spent)
                    yield Finished(told, spent)
        except BrokenProcessPool:
            self.under_way = [index for index in indices if index in running.values()]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return settled


_worker: dict[str, Any] = {}


def _start_worker(factory: EngineFactory, options: EngineOptions, request: RunRequest, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the run; what is being rendered may finish
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(options.threads or 1)
    _worker.update(factory=factory, options=options, request=request, engine=None)
    _watch_parent(parent)


def _work(index: int) -> tuple[EncodedSample | None, str, dict[str, float]]:
    """(encoded sample, device, seconds), or (None, why not, {})."""
    if _worker["engine"] is None:  # here and not at the start, so that the engine's own error reaches the user
        _worker["engine"] = _worker["factory"](_worker["options"])
    engine = _worker["engine"]
    try:
        made, spent = render_one(engine, _worker["request"], index)
        return encode_one(made, spent), engine.device_name, spent
    except Exception as error:
        if hits_all(error):
            raise
        return None, reason_of(error), {}


def _watch_parent(parent: int) -> None:
    """End this worker when its parent has been killed; a killed parent cannot tell it."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
