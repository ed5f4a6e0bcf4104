"""Speed of the whole command, and whether time and memory stay flat as the work grows.

    python benchmarks/speed.py --out benchmarks/results/speed.txt                 256 and 512 pixels, default quality
    python benchmarks/speed.py --flat 2000 --out benchmarks/results/flat.txt      2000 small samples in one process

The first part runs `synthskin render` as a user would (start, compilation, PNGs, preview) and divides; the rate at the
end leaves out start-up by taking the difference of a long and a short run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def command(preset: str, size: int, n: int, workers: int) -> float:
    folder = Path(tempfile.mkdtemp()) / "set"
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "synthskin.cli", "render", "--preset", preset, "--n", str(n), "--size", str(size),
         "--out", str(folder), "--workers", str(workers), "--json"],
        check=True, capture_output=True,
    )
    seconds = time.perf_counter() - start
    shutil.rmtree(folder.parent)
    return seconds


def whole_command(lines: list[str], presets: list[str], sizes: list[int], workers: list[int]) -> None:
    lines.append("whole command: samples/s (short and long run, and without start-up)")
    for size in sizes:
        few, many = (4, 24) if size <= 256 else (2, 8)
        for preset in presets:
            for count in workers:
                command(preset, size, 1, 1)  # fill the kernel cache of the machine
                short, long = command(preset, size, few, count), command(preset, size, many, count)
                lines.append(
                    f"  {preset} {size:4d} px, {count} worker(s): n={many} in {long:6.1f} s = {many / long:.2f}/s, "
                    f"without start-up {(many - few) / max(long - short, 1e-3):.2f}/s"
                )
                print(lines[-1], flush=True)


def flat(lines: list[str], n: int) -> None:
    from synthskin.draw import draw
    from synthskin.physics.engine import Engine, RenderSettings
    from synthskin.preset import load_preset

    engine = Engine(RenderSettings(size_px=32, spp=3))
    preset = load_preset("fst4")
    rss, seconds = [], []
    page = os.sysconf("SC_PAGE_SIZE")
    lines.append(f"one process, {n} samples of 32 px at 3 spp (full tissue grid): CPU seconds a sample and memory, MiB")
    edges = [e for e in (0, 50, 100, 200, 500, 1000, 1500, 2000) if e < n] + [n]
    for low, high in itertools.pairwise(edges):
        for index in range(low, high):
            start = time.process_time()
            engine.render(draw(preset, 0, index))
            seconds.append(time.process_time() - start)
            rss.append(int(Path("/proc/self/statm").read_text().split()[1]) * page / 2**20)
        lines.append(
            f"  {low:5d}-{high:5d}  median {np.median(seconds[low:high]):.3f} s   memory at the end {rss[high - 1]:.0f}"
        )
        print(lines[-1], flush=True)
    lines.append(f"  memory at {n} over that at 50: {rss[-1] / rss[min(49, n - 1)]:.3f}")
    print(lines[-1], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["fst2", "fst6"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--flat", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    lines = [f"{platform.machine()}, {os.cpu_count()} cores, no GPU, load at start {os.getloadavg()[0]:.2f}"]
    if args.flat:
        flat(lines, args.flat)
    else:
        whole_command(lines, args.presets, args.sizes, args.workers)
    if args.out:
        args.out.write_text("\n".join(lines) + "\n")
    print(json.dumps({"lines": len(lines)}))


if __name__ == "__main__":
    main()
