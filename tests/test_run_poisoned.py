"""A sample that cannot be made is named, the rest is made, and the same command tries it again: on this machine."""

import functools
import json
import os
import signal
import time
from dataclasses import replace

import pytest
from standin import FakeEngine, device
from standin_faults import POISON, KilledOnceEngine, KillerEngine, PoisonEngine

from synthskin import cli
from synthskin.dataset.compare import differences
from synthskin.dataset.format import DatasetError
from synthskin.dataset.reader import read_rows, validate
from synthskin.dataset.writer import DatasetWriter
from synthskin.physics.engine import EngineError
from synthskin.preset import load_preset
from synthskin.run import EngineOptions, RunError, RunRequest, render_run

N = 6


def request(out, **changes):
    return replace(RunRequest(load_preset("fst6"), N, 0, out, EngineOptions(32, 2)), **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "set"
    render_run(request(out), FakeEngine, device)
    return out


class BadArrayEngine(FakeEngine):
    """Rendered well, and cannot be encoded: the mask holds a grey."""

    def render(self, record):
        made = super().render(record)
        if record.index == POISON:
            made.mask[0, 0] = 7
        return made


@pytest.mark.parametrize(("engine", "workers", "part"), [
    (PoisonEngine, 1, "ValueError: the field of sample 3 is not finite"),
    (PoisonEngine, 2, "ValueError: the field of sample 3 is not finite"),
    (BadArrayEngine, 1, "one 8-bit channel of 0 and 255"),
    (BadArrayEngine, 2, "one 8-bit channel of 0 and 255"),
    (KillerEngine, 2, "its worker process ended unexpectedly"),
])
def test_a_poisoned_sample_is_named_and_the_rest_is_made(whole, tmp_path, engine, workers, part):
    out = tmp_path / "a"
    result = render_run(request(out, workers=workers), engine, device)
    assert result.made == N - 1 and list(result.failed) == [POISON]
    assert part in result.failed[POISON] and "\n" not in result.failed[POISON]
    assert validate(out) == [] and POISON not in [row["index"] for row in read_rows(out)]
    assert render_run(request(out), FakeEngine, device).made == 1
    assert differences(whole, out) == []


def test_a_worker_killed_once_is_made_good(whole, tmp_path):
    marker = tmp_path / "killed"
    result = render_run(request(tmp_path / "a", workers=2), functools.partial(KilledOnceEngine, marker), device)
    assert marker.exists() and result.made == N and result.failed == {}
    assert differences(whole, tmp_path / "a") == []


class RoomlessEngine(FakeEngine):
    """Lacks what every sample needs."""

    def render(self, record):
        raise EngineError("clinical.light=environment: give the panorama")


class CrowdedEngine(FakeEngine):
    """Is killed while it finds another worker at work: as where the memory is for one."""

    def __init__(self, folder, options):
        super().__init__(options)
        self.folder = folder

    def render(self, record):
        mine = self.folder / f"{os.getpid()}"
        mine.touch()
        time.sleep(0.3)
        if sum((self.folder / name).exists() and alive(int(name)) for name in os.listdir(self.folder)) > 1:
            os.kill(os.getpid(), signal.SIGKILL)
        made = super().render(record)
        mine.unlink(missing_ok=True)
        return made


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_workers_that_end_for_no_sample_of_theirs_end_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("synthskin.run.local.ATTEMPTS", 1)
    busy = tmp_path / "busy"
    busy.mkdir()
    with pytest.raises(RunError, match="use fewer --workers"):
        render_run(request(tmp_path / "a", workers=2, n=40), functools.partial(CrowdedEngine, busy), device)
    assert validate(tmp_path / "a") == []


@pytest.mark.parametrize("workers", [1, 2])
def test_what_every_sample_lacks_ends_the_run_at_once(tmp_path, workers):
    with pytest.raises(EngineError, match="give the panorama"):
        render_run(request(tmp_path / "a", workers=workers), RoomlessEngine, device)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_folder_that_cannot_be_written_ends_the_run(tmp_path, monkeypatch, workers):
    def full(self, encoded):
        raise DatasetError("No space left on device")

    monkeypatch.setattr(DatasetWriter, "write", full)
    with pytest.raises(DatasetError, match="No space left"):
        render_run(request(tmp_path / "a", workers=workers), FakeEngine, device)


def test_the_command_names_it_and_exits_with_3(tmp_path, monkeypatch, capsys):
    import synthskin.run

    real = render_run
    monkeypatch.setattr(synthskin.run, "render_run",
                        lambda asked, progress=None: real(asked, PoisonEngine, device, progress))
    with pytest.raises(SystemExit) as caught:
        cli.main(["render", "--preset", "fst6", "--n", str(N), "--size", "32", "--out", str(tmp_path / "a"), "--json",
                  "--workers", "1"])
    told = capsys.readouterr()
    assert caught.value.code == 3
    assert json.loads(told.out)["failed"] == {"3": "ValueError: the field of sample 3 is not finite"}
    assert "1 of 6 samples could not be made" in told.err
