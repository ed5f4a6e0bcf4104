"""Running on a Ray cluster: one task a sample, one GPU (or a share of one) or some cores a task; this process writes.

Ray only carries tasks out and samples back: which samples are missing, and what is kept, is read from the folder, as in
any run. A task that dies with its process or node is sent out again, `ATTEMPTS` times in all; a sample that raises, or
that takes its process down each time, is reported as `Failed` and the rest goes on. The cluster's machines need the
same synthskin; they and this process trust each other (Ray's own transport is not for untrusted networks).
"""

from __future__ import annotations

import collections
import logging
import os
import re
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any, Final

from synthskin import __version__
from synthskin.dataset.writer import DatasetWriter
from synthskin.run.local import RECYCLE_AFTER
from synthskin.run.one import encode_one, reason_of, render_one, write_one
from synthskin.run.request import (
    BASE_BYTES,
    BYTES_PER_PIXEL,
    EngineFactory,
    EngineOptions,
    Failed,
    Finished,
    RunError,
    RunRequest,
)
from synthskin.uninterrupted import uninterrupted

ATTEMPTS: Final = 3
#: Seconds without a finished sample after which the cluster is asked whether it still has what a task needs.
STALL_S: Final = 60.0
CONNECT_S: Final = 10.0
_MISSING: Final = "--executor ray: Ray is not installed; type pip install 'synthskin[ray]', or leave --executor out"


class RayPool:
    """A connection to a cluster and what a worker gets of it. Use as a context manager.

    device, options, workers   cuda or llvm; what the engine is made with; tasks at a time
    Raises RunError where Ray is not installed, no cluster answers, or it has not what is asked for.
    """

    def __init__(self, request: RunRequest, factory: EngineFactory) -> None:
        self._request = request
        self._factory = factory
        self._ray: Any = None
        self._started_here = False
        self.device = ""
        self.workers = 0
        self.options = request.options
        self._share: dict[str, Any] = {}

    def __enter__(self) -> RayPool:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError:
            raise RunError(_MISSING) from None
        self._ray = ray
        if not ray.is_initialized():
            address = self._request.ray_address
            _check_reachable(address or os.environ.get("RAY_ADDRESS"))
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, ValueError, RuntimeError, OSError, TimeoutError) as error:
                where = f"--ray-address {address}" if address else "--executor ray"
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise RunError(f"{where}: no cluster can be used: {reason}; start one with `ray start --head`, or "
                               "leave --ray-address out for one on this machine alone") from None
            self._started_here = True
        try:
            self._plan()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._started_here:
            self._ray.shutdown()
            self._started_here = False

    def _plan(self) -> None:
        """From the cluster's resources: device, number of workers, and the share of each."""
        there = self._ray.cluster_resources()
        cores, gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
        asked, o = self._request.workers, self._request.options
        self.device = o.device if o.device != "auto" else ("cuda" if gpus else "llvm")
        if self.device not in ("cuda", "llvm"):
            raise RunError(f"--device {self.device}: allowed are auto, cuda, llvm")
        if self.device == "cuda" and not gpus:
            raise RunError("--device cuda: the cluster has no GPU; use --device llvm, or start nodes with GPUs")
        most = 16 * gpus if self.device == "cuda" else cores
        self.workers = asked if asked is not None else (gpus if self.device == "cuda" else cores)
        if not 1 <= self.workers <= most:
            raise RunError(f"--workers {self.workers}: the cluster has {cores} cores and {gpus} GPUs, "
                           f"enough for 1 to {most} workers on {self.device}")
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        largest = max(int(node.get("CPU", 0)) for node in nodes)
        if self.device == "cuda":
            share: dict[str, Any] = {"num_cpus": 1, "num_gpus": 1.0 / max(1, -(-self.workers // gpus))}
        else:
            share = {"num_cpus": max(1, min(largest, cores // self.workers)), "num_gpus": 0}
        memory = BASE_BYTES + BYTES_PER_PIXEL * o.size_px**2
        if max(node.get("memory", 0.0) for node in nodes) < memory:
            raise RunError(f"--size {o.size_px}: needs about {memory / 1e9:.1f} GB of memory a worker, no node of the "
                           "cluster offers it; choose a smaller --size")
        self._share = {**share, "memory": memory, "max_retries": 0, "max_calls": RECYCLE_AFTER}
        threads = o.threads or (share["num_cpus"] if self.device == "llvm" else 0)
        self.options = replace(o, device=self.device, threads=threads)

    def make(self, missing: list[int], writer: DatasetWriter) -> Iterator[Finished | Failed]:
        """Render on the cluster; write here, in the order they come.

        What still runs when this ends early is left to finish, at most two samples a worker, or to end with the job:
        Ray may end this whole process where it cancels a task that is just done (ray-project/ray, pull 54798).
        """
        ray = self._ray
        task = ray.remote(**self._share)(_work)
        setting = ray.put((uuid.uuid4().hex, __version__, self._factory, self.options, self._request))
        waiting = collections.deque((index, 1) for index in missing)
        running: dict[Any, tuple[int, int]] = {}
        last = time.monotonic()
        while waiting or running:
            while waiting and len(running) < 2 * self.workers:
                index, attempt = waiting.popleft()
                running[task.remote(setting, index)] = (index, attempt)
            ready, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
            if not ready and time.monotonic() - last > STALL_S:
                self._check_alive(writer)
                last = time.monotonic()
            for reference in ready:
                last = time.monotonic()
                index, attempt = running.pop(reference)
                try:
                    encoded, told, spent = ray.get(reference)
                except ray.exceptions.RayError as error:  # the process, the node or the object is gone
                    if attempt < ATTEMPTS:
                        waiting.append((index, attempt + 1))
                    else:
                        yield Failed(index, f"{reason_of(error)} ({ATTEMPTS} attempts)")
                    continue
                if encoded is None:
                    if told.startswith(_NO_ENGINE):
                        raise RunError(f"a node of the cluster cannot render: {told.removeprefix(_NO_ENGINE)}; "
                                       f"{len(writer.finished)} samples are kept")
                    yield Failed(index, told)
                    continue
                with uninterrupted():
                    write_one(writer, encoded, spent)
                yield Finished(told, spent)

    def _check_alive(self, writer: DatasetWriter) -> None:
        there = self._ray.cluster_resources()
        for name, key in (("CPU", "num_cpus"), ("GPU", "num_gpus")):
            if there.get(name, 0) < self._share[key]:
                raise RunError(f"the cluster has lost its workers (no free {name} is left in it); "
                               f"{len(writer.finished)} samples are kept; the same command again continues")


def _check_reachable(address: str | None) -> None:
    """Refuse host:port where nothing listens; Ray itself would try for minutes."""
    found = re.fullmatch(r"(?:ray://)?([^/:]+):(\d{1,5})", address or "")
    if found is None:
        return
    try:
        with socket.create_connection((found[1], int(found[2])), timeout=CONNECT_S):
            pass
    except (OSError, OverflowError, UnicodeError) as error:
        raise RunError(f"--ray-address {address}: nothing answers there ({error}); start a cluster with `ray start "
                       "--head`, or leave --ray-address out for one on this machine alone") from None


_NO_ENGINE: Final = "no engine: "
_engine: dict[str, Any] = {}


def _work(
    setting: tuple[str, str, EngineFactory, EngineOptions, RunRequest], index: int
) -> tuple[Any, str, dict[str, float]]:
    """In a worker of the cluster: (encoded sample, device, seconds), or (None, why not, {})."""
    run_id, version, factory, options, request = setting
    if version != __version__:
        return None, f"{_NO_ENGINE}it has synthskin {__version__}, the run {version}; install the same on all", {}
    if _engine.get("run_id") != run_id:  # the process may have served another run
        try:
            _engine.update(engine=factory(options), run_id=run_id)
        except Exception as error:
            return None, _NO_ENGINE + reason_of(error), {}
    engine = _engine["engine"]
    try:
        made, spent = render_one(engine, request, index)
        return encode_one(made, spent), engine.device_name, spent
    except Exception as error:
        return None, reason_of(error), {}
