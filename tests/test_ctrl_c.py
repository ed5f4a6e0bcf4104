"""Ctrl-C, a real one in a real process: exit code 130 and one line that says what is kept and how to go on."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from segment_sets import make_set

from synthskin import cli
from synthskin.cli_interrupt import kept
from synthskin.physics.llvm import DeviceError, resolve_device
from synthskin.uninterrupted import uninterrupted

ENDLESS = ("--steps", "1000000")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("sets") / "set")


def interrupted(cwd, *arguments, at, wait_s=0.0):
    """(exit code, lines of standard error) of a command that gets Ctrl-C so long after the first line with `at`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "synthskin.cli", *map(str, arguments)], cwd=cwd, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # a shell's background job ignores it
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    lines, sent = [], False
    try:
        with process.stderr as errors:
            for line in errors:
                lines.append(line.rstrip("\n"))
                if at in line and not sent:
                    time.sleep(wait_s)
                    process.send_signal(signal.SIGINT)
                    sent = True
        return process.wait(), lines
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()


def check(found, line):
    code, lines = found
    # minus SIGINT, which a shell calls 130 too: Python's own end where the signal came within an exec() of an import
    assert code in (130, -signal.SIGINT) and lines[-1] == line, lines
    assert sum("interrupted" in one or "Traceback" in one for one in lines) == 1


@pytest.mark.parametrize(("command", "state"), [
    (("segmenter", "train", "--size", "64", "--batch", "2"), "training/state.safetensors"),
    (("classifier", "train", "--size", "32", "--batch", "4"), "training/state.json"),
    (("diffusion", "quickstart", "--size", "32", "--batch", "2", "--vae-batch", "2", "--vae-crop", "32", "--vae-steps",
      "1000000", "--width", "16", "--vae-width", "4"), "training/state.json"),
])
def test_trainings_keep_their_state(folder, tmp_path, command, state):
    """A second after the first line, when they have begun to learn."""
    call = (*command, folder, "--out", tmp_path / "model", "--device", "cpu", *ENDLESS)
    told = f"interrupted: the training up to here is kept in {tmp_path / 'model'}; the same command "
    check(interrupted(tmp_path, *call, at="training ", wait_s=1.0), told + "again continues")
    assert (tmp_path / "model" / state).is_file()
    check(interrupted(tmp_path, *call, at=" kept from before"), told + "again continues")  # it did continue
    if command[0] == "segmenter":
        found = interrupted(tmp_path, *call, "--overwrite", at="training ", wait_s=1.0)
        check(found, told + "without --overwrite continues")


def many(folder, out, n=400):
    """A folder of so many pictures that no command is through before the signal comes."""
    out.mkdir()
    pictures = sorted((folder / "images").iterdir())
    for k in range(n):
        shutil.copy(pictures[k % len(pictures)], out / f"{k:04d}.png")
    return out


def test_tone_and_compare_write_nothing(folder, tmp_path):
    nothing = "interrupted: nothing was written; the same command again begins anew"
    one, two = many(folder, tmp_path / "one"), many(folder, tmp_path / "two")
    check(interrupted(tmp_path, "tone", one, at="measuring 400"), nothing)
    check(interrupted(tmp_path, "compare", one, two, "--out", tmp_path / "out", at="measuring 800"), nothing)
    assert not (tmp_path / "out").exists()


def test_predictions_are_kept(folder, tmp_path):
    call = ("segmenter", "predict", "default", many(folder, tmp_path / "one"), "--out", "masks", "--device", "cpu")
    told = "interrupted: finished masks are kept in masks; the same command again continues"
    check(interrupted(tmp_path, *call, at="segmenting 400"), told)
    assert (tmp_path / "masks/predictions.jsonl").is_file()


def test_a_study_keeps_its_renders(tmp_path):
    try:
        resolve_device("auto")
    except DeviceError as error:
        pytest.skip(str(error))
    found = interrupted(tmp_path, "study", "confounders", "--small", "--out", "s", at="rendering ")
    check(found, "interrupted: finished renders and trainings are kept in s; the same command again continues")


IMPORT = """
import sys
from synthskin import cli
from synthskin.physics import render
render.resolve_device = lambda device: "llvm"
sys.path.insert(0, sys.argv[1])
def examine(*arguments, **options):
    render.backend("llvm")
from synthskin import doctor
doctor.examine = examine
cli.main(["doctor"])
"""


def test_libraries_in_cpp_are_not_cut_while_they_load(tmp_path):
    """They answer Ctrl-C by errors of their own (NameError, SystemError), which no command expects."""
    (tmp_path / "drjit.py").write_text(
        "import os, signal, sys\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\n"
        "except KeyboardInterrupt:\n    raise NameError('_drjit_ext') from None\n")
    (tmp_path / "mitsuba.py").write_text("def set_variant(name):\n    pass\n")
    found = subprocess.run([sys.executable, "-c", IMPORT, tmp_path], capture_output=True, text=True, timeout=120, env={
        **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    assert (found.returncode, found.stderr) == (130, "interrupted: the same command again begins anew\n")


def test_a_process_that_ignores_ctrl_c_goes_on_to():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGINT)


def test_commands_without_a_line_of_their_own(capsys, monkeypatch):
    """Typer would end them with 130 and not a word."""
    from synthskin import doctor

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "examine", stop)
    with pytest.raises(SystemExit) as caught:
        cli.main(["doctor"])
    assert caught.value.code == 130
    assert capsys.readouterr().err == "interrupted: the same command again begins anew\n"


def test_what_is_kept_depends_on_what_is_there(tmp_path):
    told = kept("the training is", "a", "b/c")
    assert told({"out": tmp_path}) == "nothing is kept yet; the same command again begins anew"
    (tmp_path / "b").mkdir()
    (tmp_path / "b/c").touch()
    assert told({"out": tmp_path, "overwrite": False}) == (
        f"the training is kept in {tmp_path}; the same command again continues")
    assert re.search("without --overwrite continues$", told({"out": tmp_path, "overwrite": True}))
    assert told({"out": None}) == "the training is kept; the same command again continues"
    assert kept("it is", folder="x", default=lambda given: tmp_path / given["y"])({"x": None, "y": "z"}) == (
        "nothing is kept yet; the same command again begins anew")
