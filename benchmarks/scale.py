"""Efficiency of several workers, and what a million samples cost.

    python benchmarks/scale.py                        512 px, 1 and 2 local workers, 1 and 2 workers on Ray; a quarter
                                                      of an hour on two cores
    python benchmarks/scale.py --size 64 --n 6        a quick look
    python benchmarks/scale.py --gpu-seconds 0.5      adds hours on 1, 8, 64 GPUs from a measured time a sample

A worker here has one thread, so that two workers have twice what one has. Rates are of the steady state: counted from
the sample after the first two of each worker, which compile kernels and build tables. The last line of the table is one
worker with all cores, what `synthskin render` does by itself. Writes benchmarks/results/scale.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthskin.conventions import default_spp
from synthskin.dataset.compare import differences
from synthskin.dataset.encode import EncodedSample
from synthskin.dataset.format import encode_row, media_paths
from synthskin.dataset.reader import read_card, read_rows
from synthskin.dataset.writer import DatasetWriter
from synthskin.preset import load_preset
from synthskin.run import EngineOptions, RunRequest, render_run

ROOT = Path(__file__).resolve().parent.parent
MILLION = 1_000_000


@dataclass
class Clock:
    """Notes when each sample was done."""

    times: list[float] = field(default_factory=list)

    def start(self, total: int, done: int) -> None:
        self.times = [time.monotonic()]

    def step(self, done: int) -> None:
        self.times.append(time.monotonic())

    def stop(self) -> None:
        pass


def measure(out: Path, n: int, size: int, workers: int, threads: int, executor: str) -> dict[str, Any]:
    """Samples a second in the steady state, and of the whole run."""
    clock = Clock()
    options = EngineOptions(size, default_spp(size), threads=threads)
    started = time.monotonic()
    result = render_run(RunRequest(load_preset("fst3"), n, 0, out, options, workers, executor=executor),
                        progress=clock)
    whole_s = time.monotonic() - started
    if result.made != n or result.failed:
        sys.exit(f"only {result.made} of {n} samples were made: {result.failed}")
    warm = min(2 * workers, n - 2)
    rate = (n - warm) / (clock.times[-1] - clock.times[warm])
    return {"executor": executor, "workers": workers, "threads a worker": threads or os.cpu_count(),
            "samples/s": round(rate, 4), "s before the first sample": round(clock.times[1] - started, 1),
            "whole run s": round(whole_s, 1), "device": result.device}


def writer_rate(source: Path, target: Path, n: int = 200) -> float:
    """Samples a second that the one writer takes, files of the size of those in `source`."""
    card, _ = read_card(source)
    row = read_rows(source)[0]
    files = {role: (source / path).read_bytes() for role, path in media_paths(row).items()}
    samples = []
    for index in range(n):
        name = f"{index:06d}.png"
        new = row | {"index": index, "file_name": f"images/{name}", "mask_file_name": f"masks/{name}",
                     "hair_file_name": f"hair/{name}"}
        paths = media_paths(new)
        samples.append(EncodedSample(index, encode_row(new), {paths[role]: data for role, data in files.items()}))
    with DatasetWriter(target, card, (source / "preset.toml").read_text()) as writer:
        started = time.monotonic()
        for sample in samples:
            writer.write(sample)
        return round(n / (time.monotonic() - started), 1)


def bytes_a_sample(folder: Path, n: int) -> int:
    """On disk, media and row, without the files at the top of the folder that do not grow with n."""
    media = sum(path.stat().st_size for path in folder.glob("*/**/*") if path.is_file())
    return (media + (folder / "metadata.jsonl").stat().st_size) // n


def cost(seconds_a_sample: float, units: int, efficiency: float) -> float:
    """Hours of a million samples on `units` machines or GPUs."""
    return MILLION * seconds_a_sample / (units * efficiency) / 3600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--n", type=int, default=12, help="samples a run, at least 6")
    parser.add_argument("--no-ray", action="store_true")
    parser.add_argument("--gpu-seconds", type=float, help="measured seconds a sample on one GPU")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/scale.json")
    options = parser.parse_args()
    if options.n < 6:
        sys.exit("--n: at least 6, or there is no steady state to measure")
    runs = []
    with tempfile.TemporaryDirectory() as base:
        cases = [(1, 1, "local"), (2, 1, "local")] + ([] if options.no_ray else [(1, 1, "ray"), (2, 1, "ray")])
        for k, (workers, threads, executor) in enumerate([*cases, (1, 0, "local")]):
            folder = Path(base) / f"run{k}"
            runs.append(measure(folder, options.n, options.size, workers, threads, executor))
            print(json.dumps(runs[-1]), flush=True)
            found = differences(Path(base) / "run0", folder)
            if found:
                sys.exit(f"run {k} gave another folder than run 0: {found[0]}")
        size_bytes = bytes_a_sample(Path(base) / "run0", options.n)
        writing = writer_rate(Path(base) / "run0", Path(base) / "written")
    rates = {(run["executor"], run["workers"], run["threads a worker"]): run["samples/s"] for run in runs}
    efficiency = {executor: round(rates[executor, 2, 1] / (2 * rates[executor, 1, 1]), 3)
                  for executor in ("local", "ray") if (executor, 2, 1) in rates}
    best = runs[-1]["samples/s"]
    found_costs = {"one machine as this, all cores, h": round(cost(1 / best, 1, 1.0)),
                   "disk, GB": round(MILLION * size_bytes / 1e9)}
    if options.gpu_seconds is not None:
        found_costs |= {f"{units} GPU, h": round(cost(options.gpu_seconds, units, min(efficiency.values())), 1)
                        for units in (1, 8, 64)}
    report = {
        "size px": options.size, "samples a run": options.n, "runs": runs, "efficiency of 2 workers": efficiency,
        "bytes a sample": size_bytes, "writer alone, samples/s": writing, "a million samples": found_costs,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load at start {os.getloadavg()[0]:.2f}",
    }
    text = json.dumps(report, indent=2)
    print(text)
    options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
