"""Progress of a run on stderr: a bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO


def make_progress(
    stream: TextIO | None = None, verb: str = "rendering", unit: str = "samples"
) -> RichProgress | PlainProgress:
    stream = stream or sys.stderr
    return RichProgress(verb) if stream.isatty() else PlainProgress(stream, verb=verb, unit=unit)


class PlainProgress:
    """A line at the start, then at most one every `every_s` seconds, and one at the end."""

    def __init__(self, stream: TextIO, every_s: float = 10.0, verb: str = "rendering", unit: str = "samples") -> None:
        self._stream = stream
        self._unit = unit
        self._verb = verb
        self._every_s = every_s
        self._total = self._first = 0
        self._started = self._last = 0.0

    def start(self, total: int, done: int) -> None:
        self._total, self._first = total, done
        self._started = self._last = time.monotonic()
        kept = f", {done} kept from before" if done else ""
        self._say(f"{self._verb} {total} {self._unit}{kept}")

    def step(self, done: int) -> None:
        now = time.monotonic()
        if now - self._last < self._every_s and done < self._total:
            return
        self._last = now
        rate = (done - self._first) / max(now - self._started, 1e-9)
        left = (self._total - done) / rate if rate > 0 else 0.0
        self._say(f"{done}/{self._total} {self._unit}, {rate:.2f}/s, {clock(left)} left")

    def stop(self) -> None:
        pass

    def _say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class RichProgress:
    def __init__(self, verb: str = "rendering") -> None:
        self._verb = verb
        self._progress: Any = None
        self._task: Any = None
        self._first = 0
        self._started = 0.0

    def start(self, total: int, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._first, self._started = done, time.monotonic()
        self._progress = Progress(
            TextColumn(self._verb), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(), console=Console(stderr=True), transient=False,
        )
        self._task = self._progress.add_task(self._verb, total=total, completed=done, note="")
        self._progress.start()

    def step(self, done: int) -> None:
        rate = (done - self._first) / max(time.monotonic() - self._started, 1e-9)
        total = self._progress.tasks[0].total or done
        note = f"{rate:.2f}/s, {clock((total - done) / rate)} left" if rate > 0 else ""
        self._progress.update(self._task, completed=done, note=note)

    def stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"
