"""The real renderer: one or two workers, a kill in between, overwritten or continued: the same folder."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from synthskin.dataset.compare import differences
from synthskin.dataset.reader import read_rows, validate
from synthskin.physics.llvm import DeviceError, resolve_device

ROOT = Path(__file__).resolve().parent.parent
try:
    resolve_device("auto")
except DeviceError as error:
    pytest.skip(str(error), allow_module_level=True)


def command(out, n, workers):
    return [sys.executable, "-m", "synthskin.cli", "render", "--preset", "fst6", "--n", str(n), "--size", "64",
            "--spp", "3", "--out", str(out), "--workers", str(workers)]


def test_real_engine_kill_and_workers(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole, 3, 1), check=True, cwd=tmp_path, env=env, capture_output=True)
    assert validate(whole) == [] and len(read_rows(whole)) == 3

    process = subprocess.Popen(command(killed, 3, 1), cwd=tmp_path, env=env, stderr=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL)
    rows = killed / "metadata.jsonl"
    while process.poll() is None and not (rows.exists() and rows.stat().st_size > 0):
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert validate(killed) == []
    subprocess.run(command(killed, 3, 2), check=True, cwd=tmp_path, env=env, capture_output=True)
    assert differences(whole, killed) == []
