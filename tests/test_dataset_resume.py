"""The same command again continues, whatever happened in between; anything else is refused."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from standin import BrokenEngine, FakeEngine, HungryEngine, device

from synthskin.dataset.compare import differences
from synthskin.dataset.format import DatasetError
from synthskin.dataset.reader import read_rows, validate
from synthskin.dataset.writer import preset_differences
from synthskin.preset import load_preset
from synthskin.run import EngineOptions, RunError, RunRequest, render_run

TESTS = Path(__file__).resolve().parent


def request(out, **changes):
    base = RunRequest(load_preset("fst6"), 6, 0, out, EngineOptions(32, 2))
    return replace(base, **changes)


def run(out, **changes):
    return render_run(request(out, **changes), FakeEngine, device)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "set"
    run(out)
    return out


def test_two_runs_and_two_workers_give_the_same_folder(whole, tmp_path):
    assert run(tmp_path / "a").made == 6
    assert differences(whole, tmp_path / "a") == []
    assert run(tmp_path / "b", workers=2).made == 6
    assert differences(whole, tmp_path / "b") == []


def test_finished_run_again_makes_nothing(tmp_path):
    run(tmp_path / "a")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "a/images").iterdir()}
    again = run(tmp_path / "a")
    assert (again.made, again.kept) == (0, 6)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "a/images").iterdir()}


def test_a_larger_n_extends(whole, tmp_path):
    assert run(tmp_path / "a", n=2).made == 2
    result = run(tmp_path / "a")
    assert (result.made, result.kept) == (4, 2)
    assert differences(whole, tmp_path / "a") == []
    assert run(tmp_path / "a", n=3).made == 0
    assert differences(whole, tmp_path / "a") == []


@pytest.mark.parametrize("damage", ["cut row", "cut picture", "no mask", "zeros", "garbage", "stale temp"])
def test_damage_is_mended(whole, tmp_path, damage):
    out = tmp_path / "a"
    run(out)
    if damage == "cut row":
        os.truncate(out / "metadata.jsonl", (out / "metadata.jsonl").stat().st_size - 40)
    elif damage == "cut picture":
        os.truncate(out / "images/000002.png", 100)
    elif damage == "no mask":
        (out / "masks/000003.png").unlink()
    elif damage == "zeros":
        size = (out / "images/000001.png").stat().st_size
        (out / "images/000001.png").write_bytes(bytes(size))
    elif damage == "garbage":
        with (out / "metadata.jsonl").open("ab") as handle:
            handle.write(b"\xff\xfe garbage\n{}\n")
    else:
        (out / ".synthskin-tmp").mkdir()
        (out / ".synthskin-tmp/images__000004.png").write_bytes(b"x")
    run(out)
    assert differences(whole, out) == []


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"seed": 1}, "--seed = 0, 1 was asked for"),
        ({"preset": load_preset("fst5")}, "preset = fst6, fst5"),
        ({"preset": load_preset("fst6").with_sets(["hair.count=0"])}, "0.45 where value 0 is asked for"),
        ({"preset": load_preset("fst6").with_sets(["skin.dryness=0.5"])}, "skin.dryness = value 0.0 where value 0.5"),
        ({"options": EngineOptions(64, 2)}, "--size = 32, 64"),
        ({"options": EngineOptions(32, 4)}, "spp = 2, 4"),
        ({"options": EngineOptions(32, 2, denoise=False)}, "denoise"),
        ({"options": EngineOptions(32, 2, maps=True)}, "maps"),
    ],
)
def test_other_settings_are_refused_by_name(whole, changes, part):
    before = {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()}
    with pytest.raises(DatasetError) as caught:
        run(whole, **changes)
    assert part in str(caught.value) and "--overwrite" in str(caught.value)
    assert before == {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()}


def test_overwrite_starts_anew_and_deletes_only_ours(tmp_path):
    out = tmp_path / "a"
    run(out)
    (out / "mine.txt").write_text("keep")
    (out / "images/mine.jpg").write_text("keep")
    run(out, n=3, seed=1, overwrite=True)
    assert (out / "mine.txt").read_text() == (out / "images/mine.jpg").read_text() == "keep"
    assert [row["seed"] for row in read_rows(out)] == [1, 1, 1]
    assert len(list((out / "images").glob("*.png"))) == 3


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_files_is_refused(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DatasetError, match=r"thesis\.tex"):
        run(tmp_path, overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_or_a_link_is_refused(tmp_path, whole):
    (tmp_path / "f").write_text("x")
    with pytest.raises(DatasetError, match="not a folder"):
        run(tmp_path / "f")
    with pytest.raises(DatasetError, match=r"cannot be made|not a folder|cannot be written"):
        run(tmp_path / "f/g")
    out = tmp_path / "a"
    run(out)
    (out / "images").rename(tmp_path / "elsewhere")
    (out / "images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match="symbolic link"):
        run(out)


def test_two_runs_into_one_folder(tmp_path):
    out = tmp_path / "a"

    class Second(FakeEngine):
        def render(self, record):
            with pytest.raises(DatasetError, match="another run"):
                run(out)
            return super().render(record)

    assert render_run(request(out, n=1), Second, device).made == 1
    assert validate(out) == []


def test_engine_errors_leave_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="libllvm19"):
        render_run(request(tmp_path / "a"), BrokenEngine, device)
    assert not (tmp_path / "a").exists()
    with pytest.raises(RuntimeError, match="libllvm19"):
        render_run(request(tmp_path / "b", workers=2), BrokenEngine, device)


@pytest.mark.parametrize("changes", [{"n": 0}, {"n": -3}, {"seed": -1}, {"workers": 0}, {"n": 10**9},
                                     {"options": EngineOptions(8, 2)}, {"options": EngineOptions(10**6, 2)},
                                     {"options": EngineOptions(32, 0)}])
def test_senseless_numbers(tmp_path, changes):
    with pytest.raises(RunError, match="allowed is"):
        run(tmp_path / "a", **changes)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_leaves_a_valid_folder(whole, tmp_path, workers):
    out = tmp_path / "a"

    class Stop:
        def start(self, total, done): ...
        def stop(self): ...
        def step(self, done):
            if done == 2:
                raise KeyboardInterrupt

    result = render_run(request(out, workers=workers), FakeEngine, device, Stop())
    assert result.interrupted and 2 <= result.made <= 6
    assert validate(out) == []
    run(out)
    assert differences(whole, out) == []


def test_full_disk_is_one_line_and_continues(whole, tmp_path, monkeypatch):
    out = tmp_path / "a"
    real = os.replace

    def full(source, target):
        if str(target).endswith("images/000003.png"):
            raise OSError(28, "No space left on device", str(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DatasetError, match="No space left"):
        run(out)
    monkeypatch.undo()
    assert validate(out) == []
    run(out)
    assert differences(whole, out) == []


def test_a_disk_that_fills_in_the_middle_of_a_row_leaves_no_half_row(whole, tmp_path, monkeypatch):
    out = tmp_path / "a"
    real, calls = os.write, []

    def half(handle, data):
        calls.append(bytes(data))
        if len(calls) == 4:  # three rows are written, of the fourth one half
            return real(handle, bytes(data)[:100])
        if len(calls) == 5:
            raise OSError(28, "No space left on device")
        return real(handle, data)

    monkeypatch.setattr("synthskin.dataset.writer.os.write", half)
    with pytest.raises(DatasetError, match="No space left"):
        run(out)
    monkeypatch.undo()
    assert (out / "metadata.jsonl").read_bytes() == b"".join(calls[:3])
    assert validate(out) == [] and len(read_rows(out)) == 3
    run(out)
    assert differences(whole, out) == []


@pytest.mark.parametrize("replaced", [False, True])
def test_a_vanished_folder_ends_the_run_and_is_not_made_anew(whole, tmp_path, replaced):
    out, away = tmp_path / "a", tmp_path / "away"

    class Mover(FakeEngine):
        def render(self, record):
            if record.index == 5:
                while len((out / "metadata.jsonl").read_bytes().splitlines()) < 5:
                    time.sleep(0.01)
                out.rename(away)
                if replaced:
                    run(out, n=1, seed=9)
            return super().render(record)

    with pytest.raises(DatasetError, match="was moved or deleted"):
        render_run(request(out), Mover, device)
    assert len(read_rows(away)) == 5
    if replaced:
        assert [row["seed"] for row in read_rows(out)] == [9] and validate(out) == []
    else:
        assert not out.exists()
    assert run(away).kept == 5
    assert differences(whole, away) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_out_of_memory_is_one_line(tmp_path, workers):
    with pytest.raises(RunError, match="out of memory at sample"):
        render_run(request(tmp_path / "a", workers=workers), HungryEngine, device)
    assert validate(tmp_path / "a") == []


COMMAND = """
import sys
sys.path.insert(0, {tests!r})
from standin import SlowEngine, device
from synthskin.preset import load_preset
from synthskin.run import EngineOptions, RunRequest, render_run
if __name__ == "__main__":
    from pathlib import Path
    render_run(RunRequest(load_preset("fst6"), 6, 0, Path(sys.argv[1]), EngineOptions(32, 2), int(sys.argv[2])),
               SlowEngine, device)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_kill_at_random_moments_gives_the_same_folder(whole, tmp_path, workers):
    script = tmp_path / "command.py"
    script.write_text(COMMAND.format(tests=str(TESTS)))
    out = tmp_path / "a"
    command = [sys.executable, str(script), str(out), str(workers)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    chance = random.Random(workers)
    kills = 0
    for _ in range(30):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=tmp_path, env=environment)
        rows = out / "metadata.jsonl"
        started = time.monotonic()
        while process.poll() is None and time.monotonic() - started < 20 and not rows.exists():
            time.sleep(0.005)
        time.sleep(chance.uniform(0.0, 0.3))
        process.kill()
        struck = process.wait() == -signal.SIGKILL
        kills += struck
        if (out / "dataset.json").exists():
            assert validate(out) == []
        if kills == 5:
            break
        if not struck:  # it had ended by then: that was a whole run
            assert process.returncode == 0 and differences(whole, out) == []
            shutil.rmtree(out)
    assert kills == 5
    assert subprocess.run(command, stderr=subprocess.DEVNULL, cwd=tmp_path, env=environment).returncode == 0
    assert differences(whole, out) == []
    assert json.loads((out / "dataset.json").read_text())["n"] == 6
    if workers > 1:
        assert_no_workers_left(script)


def assert_no_workers_left(script):
    """Workers of a killed parent end by themselves within a second or two."""

    def left():
        found = []
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                command = status.with_name("cmdline").read_bytes().decode()
                text = status.read_text()
                folder = str(status.with_name("cwd").readlink())
            except OSError:
                continue
            parent = text.split("PPid:")[1].split()[0]
            if "spawn_main" in command and parent == "1" and folder == str(script.parent):
                found.append(status.parent.name)
        return found

    deadline = time.monotonic() + 60.0  # on a busy machine
    while left() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left() == []


def test_what_differs_between_presets_is_told_in_one_safe_line():
    usual = load_preset("fst6").resolved_toml()
    assert preset_differences(usual, usual) == "" and preset_differences("no = = toml", usual) == ""
    wild = usual + '\n[fields."a\\u001b[31m"]\n"k\\u001b[2J" = 1\n' + f'[fields."long"]\nx = "{"y" * 9000}"\n'
    told = preset_differences(wild, usual)
    assert "\x1b" not in told and "\n" not in told and len(told) < 600 and "absent is asked for" in told
    many = usual + "".join(f"[extra{k}]\nvalue = {k}\n" for k in range(9))
    assert preset_differences(usual, many).endswith(" and 6 more settings")
