"""Random faults against the writer: a stub generator is killed, starved, robbed of its folder, doubled, its files cut.

After every fault two things are counted: rows of the folder that are not true (unreadable, or their files not byte for
byte those of an undisturbed run), and samples that were finished before the fault and are not there after it.
Used by tests/test_dataset_chaos.py (few faults) and benchmarks/chaos.py (200).
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from standin import FakeEngine, device

from synthskin.dataset.compare import differences
from synthskin.dataset.format import DatasetError
from synthskin.dataset.reader import validate
from synthskin.preset import load_preset
from synthskin.run import EngineOptions, RunRequest, render_run

N = 24
KINDS = ("kill -9", "disk full", "vanished folder", "two runs", "cut PNG", "cut line")
EXIT_ERROR = 2
PRESET = load_preset("fst6")  # read once, before the runs are forked off


class PacedEngine(FakeEngine):
    """Slow enough for a fault to strike in the middle."""

    delay_s = 0.004


def child(out: Path, errors: Path, workers: int, file_limit: int | None) -> None:
    """The command: exit 0, or 2 with one line in `errors`, as the command line does it."""
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, resource.RLIM_INFINITY))
    request = RunRequest(PRESET, N, 0, out, EngineOptions(32, 2), workers)
    try:
        render_run(request, PacedEngine, device)
    except DatasetError as error:
        if file_limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        errors.write_text(str(error))
        os._exit(EXIT_ERROR)


@dataclass
class Result:
    """What a campaign found. `faults` tried by kind, `struck`: those that met a run in the middle or cut a file."""

    faults: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    invalid_rows: int = 0
    lost_samples: int = 0
    unnamed_damage: int = 0
    not_repaired: int = 0
    wrong_exits: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.invalid_rows or self.lost_samples or self.unnamed_damage or self.not_repaired
                    or self.wrong_exits)


class Campaign:
    """Faults against one folder below `base`; `whole` is the folder of an undisturbed run."""

    def __init__(self, base: Path, seed: int, worker_share: float = 0.0) -> None:
        self.base = base
        self.out = base / "set"
        self.whole = base / "whole"
        self.errors = base / "errors.txt"
        self.chance = random.Random(seed)
        self.worker_share = worker_share
        self.result = Result()
        self.context = get_context("forkserver")
        self.context.set_forkserver_preload(["chaos", "synthskin.run", "synthskin.preset"])
        render_run(RunRequest(PRESET, N, 0, self.whole, EngineOptions(32, 2)), FakeEngine, device)
        self.reference = {line["index"]: line for line in
                          map(json.loads, (self.whole / "metadata.jsonl").read_text().splitlines())}
        self.finish(self.start())  # starts the fork server too
        shutil.rmtree(self.out)
        started = time.monotonic()
        self.finish(self.start())
        self.full_run_s = time.monotonic() - started

    def start(self, workers: int = 1, file_limit: int | None = None) -> Any:
        process = self.context.Process(target=child, args=(self.out, self.errors, workers, file_limit))
        process.start()
        return process

    def finish(self, process: Any, allowed: tuple[int, ...] = (0,)) -> int:
        process.join(60)
        if process.exitcode is None:
            process.kill()
            process.join()
        code = process.exitcode
        if code not in allowed:
            self.result.wrong_exits += 1
            self.result.notes.append(f"exit {code}: {self.errors.read_text() if self.errors.exists() else ''}")
        process.close()
        return int(code or 0)

    def finished(self) -> set[int]:
        """Indices of true rows; counts the others as invalid. Knows nothing of the reader it tests."""
        found: set[int] = set()
        path = self.out / "metadata.jsonl"
        if not path.exists():
            return found
        for line in path.read_bytes().split(b"\n")[:-1]:  # what no line end closes is no row
            try:
                row = json.loads(line)
            except ValueError:
                self.bad(f"row is no JSON: {line[:60]!r}")
                continue
            if row != self.reference.get(row["index"]) or row["index"] in found:
                self.bad(f"row {row['index']} differs or comes twice")
                continue
            files = [row["file_name"], row["mask_file_name"], row["hair_file_name"],
                     *(f"attributes/{name}/{row['index']:06d}.png" for name in row["attributes"])]
            wrong = [name for name in files if not (self.out / name).is_file()
                     or (self.out / name).read_bytes() != (self.whole / name).read_bytes()]
            if wrong:
                self.bad(f"row {row['index']}: {wrong[0]} is not whole")
                continue
            found.add(row["index"])
        return found

    def bad(self, note: str) -> None:
        self.result.invalid_rows += 1
        self.result.notes.append(note)

    def run(self, faults: int, kinds: tuple[str, ...] = KINDS) -> Result:
        """Until `faults` of them have struck; one that came before the run began or after its end does not count."""
        tried = 0
        while self.result.struck.total() < faults:
            self.one(kinds[tried] if tried < len(kinds) else self.chance.choice(kinds))
            tried += 1
            if tried > 20 * faults + 20:
                raise RuntimeError(f"faults do not strike: {self.result}")
        self.finish(self.start())
        if differences(self.whole, self.out):
            self.result.not_repaired += 1
        return self.result

    def one(self, kind: str) -> None:
        before = self.finished()
        if kind in ("cut PNG", "cut line"):
            if not before:
                self.finish(self.start())
                before = self.finished()
        elif len(before) == N:
            shutil.rmtree(self.out)
            before = set()
        self.result.faults[kind] += 1
        self.errors.unlink(missing_ok=True)
        {"kill -9": self.kill, "disk full": self.disk_full, "vanished folder": self.vanish, "two runs": self.two,
         "cut PNG": self.cut_png, "cut line": self.cut_line}[kind]()
        after = self.finished()
        if kind not in ("cut PNG", "cut line"):
            lost = before - after
            self.result.lost_samples += len(lost)
            faults = validate(self.out) if (self.out / "dataset.json").exists() else []
            if faults:  # what `finished` does not look at, such as strangers in the folder
                self.bad(faults[0])

    def pause(self) -> None:
        time.sleep(self.chance.uniform(0.0, 1.1 * self.full_run_s))

    def kill(self) -> None:
        workers = 2 if self.chance.random() < self.worker_share else 1
        process = self.start(workers)
        self.pause()
        if workers == 2:
            time.sleep(self.chance.uniform(0.0, 1.5))  # its workers take that long to start
        if process.is_alive():
            process.kill()
            self.result.struck["kill -9"] += 1
        self.finish(process, (0, -9))

    def disk_full(self) -> None:
        """Files may grow to a random size and no further, as on a disk that is full."""
        code = self.finish(self.start(file_limit=self.chance.choice((0, 300, 3_000, 10_000, 30_000, 60_000))), (0, 2))
        if code == EXIT_ERROR:
            self.result.struck["disk full"] += 1
            if "cannot be written" not in self.errors.read_text():
                self.result.wrong_exits += 1

    def vanish(self) -> None:
        """The folder is moved away while the run writes, and brought back afterwards."""
        away = self.base / "away"
        process = self.start()
        self.pause()
        moved = self.out.exists()
        if moved:
            self.out.rename(away)
        code = self.finish(process, (0, EXIT_ERROR))
        if not moved:
            return
        if code == EXIT_ERROR:
            self.result.struck["vanished folder"] += 1
        if self.out.exists():  # a run that had not begun yet may have made its own; it must be a set like any other
            if validate(self.out):
                self.bad("the folder made in place of the vanished one is no set")
            shutil.rmtree(self.out)
        away.rename(self.out)

    def two(self) -> None:
        """Two runs at once: one of them finishes, the other refuses or finds nothing to do."""
        first = self.start()
        time.sleep(self.chance.uniform(0.0, 0.5 * self.full_run_s))
        second = self.start()
        codes = [self.finish(process, (0, EXIT_ERROR)) for process in (first, second)]
        if sorted(codes) == [0, EXIT_ERROR]:
            self.result.struck["two runs"] += 1
            if "another run" not in self.errors.read_text():
                self.result.wrong_exits += 1
        elif codes != [0, 0]:
            self.result.wrong_exits += 1

    def cut_png(self) -> None:
        pictures = [self.out / f"{folder}/{index:06d}.png" for index in sorted(self.finished())
                    for folder in ("images", "masks", "hair")]
        victim = self.chance.choice(pictures)
        os.truncate(victim, self.chance.randrange(victim.stat().st_size))
        self.named_and_repaired("cut PNG", str(victim.relative_to(self.out)))

    def cut_line(self) -> None:
        """A line ends too early: the last one (the file is cut), or one in the middle (bytes are missing)."""
        path = self.out / "metadata.jsonl"
        lines = path.read_bytes().split(b"\n")[:-1]
        number = self.chance.randrange(len(lines))
        line = lines[number]
        lines[number] = line[:self.chance.randrange(1, len(line))]
        card = json.loads((self.out / "dataset.json").read_text())
        last = number == len(lines) - 1 and not card["run"].get("open")
        path.write_bytes(b"\n".join(lines) + (b"" if last else b"\n"))
        self.named_and_repaired("cut line", f"line {number + 1}")

    def named_and_repaired(self, kind: str, name: str) -> None:
        if not any(name in fault for fault in validate(self.out)):
            self.result.unnamed_damage += 1
            self.result.notes.append(f"validate did not name {name}")
        self.result.struck[kind] += 1
        self.finish(self.start())
        if differences(self.whole, self.out):
            self.result.not_repaired += 1
            self.result.notes.append(f"{name}: {differences(self.whole, self.out)[0]}")
