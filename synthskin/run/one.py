"""One sample: draw, render, encode, write, each timed. The same code in this process, in workers and on a cluster."""

from __future__ import annotations

import time
from typing import Any

from synthskin.dataset.encode import EncodedSample, encode_sample
from synthskin.dataset.writer import DatasetWriter
from synthskin.rows import make_sample
from synthskin.run.request import EngineLike, RunError, RunRequest


def render_one(engine: EngineLike, request: RunRequest, index: int) -> tuple[tuple[Any, Any, int], dict[str, float]]:
    """((record, rendered, index), seconds by stage); running out of memory becomes a RunError."""
    t0 = time.perf_counter()
    record = request.record(index)
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
    return (record, rendered, index), spent


def encode_one(made: tuple[Any, Any, int], spent: dict[str, float]) -> EncodedSample:
    t0 = time.perf_counter()
    encoded = encode_sample(make_sample(*made))
    spent["encode"] = time.perf_counter() - t0
    return encoded


def write_one(writer: DatasetWriter, encoded: EncodedSample, spent: dict[str, float]) -> None:
    t0 = time.perf_counter()
    writer.write(encoded)
    spent["write"] = time.perf_counter() - t0


def hits_all(error: BaseException) -> bool:
    """Would it come at every sample: memory that is full, a device or panorama that is missing?

    Compared by name, so that no physics is imported.
    """
    return isinstance(error, (RunError, MemoryError)) or type(error).__name__ in ("EngineError", "DeviceError")


def reason_of(error: BaseException) -> str:
    """An error as one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
