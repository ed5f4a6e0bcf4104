"""The renderer of a RenderedStream as a process of its own: `python -m synthskin.hooks.renderer`, spoken to by pipes.

Standard input: one line of JSON with the job, then one line {"seed":, "index":} a sample. Standard output: for each
sample a line of JSON {"row":, "arrays": {name: shape}} followed by the 8-bit arrays' bytes. End of input ends it; an
error is the last line of standard error. Neither side unpickles anything. Mitsuba lives and dies here and is never
loaded in the training process.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

AHEAD: Final = 2  # finished samples that wait to be taken
RECYCLE_AFTER: Final = 1000  # samples after which the process is replaced, so that no leak of a library can add up
Made = tuple[dict[str, Any], dict[str, NDArray[np.uint8]]]


class RenderError(RuntimeError):
    """The renderer cannot go on. One line, meant for the user."""


class Renderer:
    """Starts the process and hands out samples in the order they were asked for; `close` ends it."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        for name in ("RANK", "WORLD_SIZE"):
            environment.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "synthskin.hooks.renderer"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, env=environment,
        )
        self.asked: list[tuple[int, int]] = []
        self.made = 0
        self.ready: queue.Queue[Made | RenderError] = queue.Queue(AHEAD)
        self._closing = threading.Event()
        self._say(job)
        self.thread = threading.Thread(target=self._read, name="synthskin-renderer", daemon=True)
        self.thread.start()

    def ask(self, seed: int, index: int) -> None:
        self.asked.append((seed, index))
        self._say({"seed": seed, "index": index})

    def take(self) -> Made:
        """Row and arrays of the oldest sample asked for; raises RenderError."""
        got = self.ready.get()
        if isinstance(got, RenderError):
            raise got
        self.asked.pop(0)
        self.made += 1
        return got

    def close(self) -> None:
        self._closing.set()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.errors):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:
                continue

    def _say(self, message: dict[str, Any]) -> None:
        pipe = self.process.stdin
        assert pipe is not None
        try:
            pipe.write(json.dumps(message).encode() + b"\n")
            pipe.flush()
        except (BrokenPipeError, OSError):
            return  # it has died; the reader tells why

    def _read(self) -> None:
        pipe = self.process.stdout
        assert pipe is not None
        while not self._closing.is_set():
            try:
                got: Made | RenderError = read_sample(pipe)
            except (EOFError, ValueError, KeyError, OSError):
                got = RenderError(f"the renderer ended: {self._last_words()}")
            while not self._closing.is_set():
                try:
                    self.ready.put(got, timeout=0.2)
                    break
                except queue.Full:
                    continue
            if isinstance(got, RenderError):
                return

    def _last_words(self) -> str:
        try:
            self.process.wait(5)
            self.errors.seek(0)
            lines = self.errors.read().decode(errors="replace").strip().splitlines()
        except (OSError, ValueError, subprocess.TimeoutExpired):
            lines = []
        return lines[-1] if lines else f"exit code {self.process.returncode}"


def read_sample(pipe: IO[bytes]) -> Made:
    """One answer; raises EOFError at the end, ValueError on what is none."""
    line = pipe.readline()
    if not line:
        raise EOFError
    head = json.loads(line)
    arrays = {}
    for name, shape in head["arrays"].items():
        count = int(np.prod(shape))
        data = pipe.read(count)
        if len(data) < count:
            raise EOFError
        arrays[name] = np.frombuffer(data, np.uint8).reshape(shape)
    return head["row"], arrays


def write_sample(pipe: IO[bytes], row: dict[str, Any], arrays: dict[str, NDArray[np.uint8]]) -> None:
    head = {"row": row, "arrays": {name: list(array.shape) for name, array in arrays.items()}}
    pipe.write(json.dumps(head, ensure_ascii=False).encode() + b"\n")
    for array in arrays.values():
        pipe.write(np.ascontiguousarray(array, np.uint8).tobytes())
    pipe.flush()


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """The process: reads the job, makes the engine, answers until the input ends."""
    from synthskin.draw import draw
    from synthskin.preset import load_preset
    from synthskin.rows import make_sample
    from synthskin.run import EngineOptions

    line = source.readline()
    if not line:
        return
    job = json.loads(line)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "preset.toml"
        path.write_text(job["preset"], encoding="utf-8")
        preset = load_preset(path)
    if preset.hash != job["set_hash"]:
        raise RenderError(f"the preset came through as {preset.hash}, {job['set_hash']} was asked for")
    module, _, name = job["engine"].partition(":")
    engine = getattr(import_module(module), name)(EngineOptions(**job["options"]))
    while line := source.readline():
        asked = json.loads(line)
        record = draw(preset, asked["seed"], asked["index"])
        sample = make_sample(record, engine.render(record))
        arrays = {"image": sample.image, "mask": sample.mask, "hair": sample.hair}
        write_sample(sink, sample.row, {key: array for key, array in arrays.items() if array is not None})


def main() -> None:
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints goes to the errors, not between the samples
    try:
        serve(sys.stdin.buffer, sink)
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(0)
    except Exception as error:
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        os._exit(1)


if __name__ == "__main__":
    main()
