"""The command line as a user meets it: run as a process, outside the checkout."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from standin import FakeEngine, SlowEngine, device

import synthskin.run
from synthskin import __version__, cli
from synthskin.files import write_whole

ROOT = Path(__file__).resolve().parent.parent


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(*args, cwd, **env):
    """The finished process and its processor seconds (the clock would count what else the machine does)."""
    before = cpu_seconds()
    done = subprocess.run(
        [sys.executable, "-m", "synthskin.cli", *args], capture_output=True, text=True, cwd=cwd, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **env},
    )
    return done, cpu_seconds() - before


def run_within(limit_s, *args, cwd):
    """`run`, up to three times until it stays under the limit: a busy neighbour slows one of them, slow code all."""
    for _ in range(3):
        done, seconds = run(*args, cwd=cwd)
        if seconds < limit_s:
            break
    return done, seconds


BAD = [
    (["render", "--preset", "fts6"], ["fts6", "did you mean", "fst6"]),
    (["render", "--preset", "none.toml"], ["none.toml", "not there"]),
    (["render", "--preset", "broken.toml"], ["broken.toml", "line 5", "hair.cnt", "hair.count"]),
    (["render", "--set", "hair.cnt=1"], ["hair.cnt", "did you mean 'hair.count'"]),
    (["render", "--set", "hair.count=900"], ["hair.count=900", "0 to 400"]),
    (["render", "--set", "hair.count"], ["key=value"]),
    (["render", "--diagnosis", "MELL=0.2,NV=0.8"], ["MELL", "did you mean 'MEL'"]),
    (["render", "--diagnosis", "NV=-1"], ["NV", "0 or more"]),
    (["render", "--n", "0"], ["--n 0", "1 to"]),
    (["render", "--n", "-5"], ["--n -5", "1 to"]),
    (["render", "--n", "many"], ["--n", "integer"]),
    (["render", "--size", "8"], ["--size 8", "32 to"]),
    (["render", "--size", "4096", "--workers", "256"], ["GB of memory", "smaller --size"]),
    (["render", "--size", "99999"], ["--size 99999", "32 to"]),
    (["render", "--spp", "0"], ["--spp 0"]),
    (["render", "--seed", "-1"], ["--seed -1"]),
    (["render", "--workers", "0"], ["--workers 0"]),
    (["render", "--device", "tpu"], ["tpu", "auto, cuda, llvm"]),
    (["render", "--out", "file.txt"], ["file.txt", "not a folder", "--out"]),
    (["render", "--out", "full"], ["full", "thesis.tex", "--out"]),
    (["render", "--out", "/dev/null/x"], ["/dev/null", "--out"]),
    (["render", "--colour", "3"], ["--colour", "--help"]),
    (["render", "extra"], ["extra", "--help"]),
    (["presets", "show", "fst7"], ["fst7", "did you mean"]),
    (["validate", "nowhere"], ["nowhere", "dataset.json"]),
    (["preview", "nowhere"], ["nowhere", "dataset.json"]),
    (["validate", 300 * "x"], ["too long"]),
    (["render", "--shard", "0/4"], ["0/4", "3/16"]),
    (["render", "--shard", "9/9", "--n", "3"], ["9/9", "empty"]),
    (["render", "--executor", "slurm"], ["slurm", "local, ray"]),
    (["render", "--ray-address", "head:6379"], ["--ray-address", "--executor ray"]),
    (["export", "nowhere", "--to", "coco", "--out", "x"], ["nowhere", "dataset.json"]),
    (["export", "nowhere", "--to", "yolo", "--out", "x"], ["yolo", "coco, webdataset"]),
    (["export", "nowhere", "--out", "x"], ["--to", "--help"]),
    (["import", "ham", "full", "x"], ["ham", "ham10000"]),
    (["import", "ham10000", "nowhere", "x"], ["nowhere", "folder or an archive"]),
    (["import", "ham10000", "full", "x"], ["HAM10000_metadata.csv", "not there"]),
    (["import", "folder", "full", "x"], ["--licence"]),
    (["merge", "nowhere", "--out", "x"], ["nowhere", "dataset.json"]),
    (["rendr"], ["rendr", "--help"]),
]


@pytest.mark.parametrize(("args", "parts"), BAD, ids=[" ".join(args) for args, _ in BAD])
def test_bad_input_is_one_line_exit_2_nothing_written(args, parts, tmp_path):
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").write_text("x")
    (tmp_path / "broken.toml").write_text('name = "b"\nextends = "fst6"\n\n# hair\n[fields."hair.cnt"]\nvalue = 1\n')
    before = sorted(tmp_path.rglob("*"))
    done, seconds = run_within(1.5, *args, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    for part in parts:
        assert part in lines[0]
    assert sorted(tmp_path.rglob("*")) == before
    assert seconds < 1.5  # 0.3 here; a shared core counts up to twice


def test_device_errors_are_one_line(tmp_path):
    from synthskin.physics.llvm import cuda_driver

    if not (cuda_driver() or (0, 0))[0]:
        done, _ = run("render", "--device", "cuda", cwd=tmp_path)
        assert done.returncode == 2 and "llvm" in done.stderr and len(done.stderr.splitlines()) == 1
    old = tmp_path / "libLLVM-15.so.1"
    old.write_bytes(b"")
    done, _ = run("render", "--device", "llvm", cwd=tmp_path, DRJIT_LIBLLVM_PATH=str(old))
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "LLVM 15" in done.stderr and "apt-get install libllvm19" in done.stderr
    done, _ = run("render", "--device", "llvm", cwd=tmp_path, DRJIT_LIBLLVM_PATH=str(tmp_path / "none.so"))
    assert done.returncode == 2 and "not there" in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["libLLVM-15.so.1"]


def test_help_and_version_are_quick(tmp_path):
    done, seconds = run_within(1.0, "--help", cwd=tmp_path)
    assert done.returncode == 0 and "render" in done.stdout
    assert seconds < 1.0
    done, _ = run("--version", cwd=tmp_path)
    assert done.stdout.strip() == f"synthskin {__version__}"
    for command in ("render", "presets", "validate", "preview", "doctor", "export", "import", "merge"):
        assert run(command, "--help", cwd=tmp_path)[0].returncode == 0


def test_presets(tmp_path):
    assert "fst6" in run("presets", cwd=tmp_path)[0].stdout
    shown = run("presets", "show", "fst6", cwd=tmp_path)[0].stdout
    (tmp_path / "mine.toml").write_text(shown)
    assert run("presets", "show", "mine.toml", cwd=tmp_path)[0].stdout == shown
    fields = json.loads(run("presets", "fields", "--json", cwd=tmp_path)[0].stdout)
    assert fields["hair.count"]["high"] == 400
    assert "hair.count" in run("presets", "fields", cwd=tmp_path)[0].stdout


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """The command line in this process, with the stand-in engine."""
    real = synthskin.run.render_run
    engine = {"class": FakeEngine}
    monkeypatch.setattr(synthskin.run, "render_run",
                        lambda request, progress=None: real(request, engine["class"], device, progress))
    monkeypatch.chdir(tmp_path)

    def call(*args):
        with pytest.raises(SystemExit) as ended:
            cli.main(list(args))
        return ended.value.code

    call.engine = engine
    return call


def test_render_validate_preview(stand_in, capsys, tmp_path):
    assert stand_in("render", "--preset", "fst6", "--n", "3", "--size", "32", "--profile") == 0
    out = capsys.readouterr()
    assert out.out.splitlines()[-2:] == ["preview out/fst6-s0/preview.png", "folder  out/fst6-s0"]
    assert "rendering 3 samples" in out.err and "3/3 samples" in out.err and "ms/sample" in out.err
    assert stand_in("validate", "out/fst6-s0") == 0
    assert "3 samples, no fault" in capsys.readouterr().out
    assert stand_in("preview", "out/fst6-s0", "--out", "sheet.png") == 0
    assert (tmp_path / "sheet.png").is_file()
    picture = (tmp_path / "out/fst6-s0/images/000000.png").read_bytes()
    assert stand_in("preview", "out/fst6-s0", "--out", "out/fst6-s0/images/000000.png") == 2
    assert (tmp_path / "out/fst6-s0/images/000000.png").read_bytes() == picture
    (tmp_path / "out/fst6-s0/images/000001.png").unlink()
    capsys.readouterr()
    assert stand_in("validate", "out/fst6-s0") == 1
    assert "images/000001.png: is missing" in capsys.readouterr().out
    assert stand_in("render", "--preset", "fst6", "--n", "3", "--size", "32", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["made"] == 1 and result["kept"] == 2 and result["device"] == "stand-in"
    assert stand_in("render", "--preset", "fst6", "--n", "3", "--size", "64") == 2
    assert "--overwrite" in capsys.readouterr().err


def test_sets_and_diagnosis_reach_the_rows(stand_in, capsys, tmp_path):
    assert stand_in("render", "--n", "2", "--size", "32", "--set", "hair.count=0", "--diagnosis", "healthy=1",
                    "--out", "x") == 0
    rows = [json.loads(line) for line in (tmp_path / "x/metadata.jsonl").read_text().splitlines()]
    assert all(row["diagnosis"] == "healthy" and json.loads(row["params"])["hair"]["count"] == 0 for row in rows)
    text = (tmp_path / "x/preset.toml").read_text()
    assert "# changed by --set hair.count=0" in text


def test_interrupt_says_how_to_go_on(stand_in, capsys, monkeypatch):
    stand_in.engine["class"] = SlowEngine
    from synthskin.progress import PlainProgress

    def step(self, done):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PlainProgress, "step", step)
        assert stand_in("render", "--n", "6", "--size", "32", "--out", "x") == 130
    assert "the same command again continues" in capsys.readouterr().err
    assert stand_in("validate", "x") == 0


def test_doctor_without_speed(tmp_path):
    done, _ = run("doctor", "--no-speed", "--json", cwd=tmp_path)
    report = json.loads(done.stdout)
    assert report["device"] in ("llvm", "cuda", None) and report["packages"]["mitsuba"]
    assert done.returncode in (0, 1)
    assert "LLVM" in run("doctor", "--no-speed", cwd=tmp_path)[0].stdout


@pytest.mark.parametrize(("n", "device", "cores", "expected"), [(7, "llvm", 4, 1), (16, "llvm", 4, 2),
                                                               (5000, "llvm", 4, 4), (5000, "cuda", 4, 1)])
def test_workers_that_nobody_named(monkeypatch, n, device, cores, expected):
    from synthskin.preset import load_preset
    from synthskin.run import EngineOptions, RunRequest, request

    monkeypatch.setattr(request.os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr(request, "available_memory_bytes", lambda: 64 * 10**9)
    asked = RunRequest(load_preset("fst2"), n, 0, Path("unused"), EngineOptions(256), None)
    assert request.automatic_workers(asked, device) == expected
    monkeypatch.setattr(request, "available_memory_bytes", lambda: 10**9)
    assert request.automatic_workers(asked, device) == 1


@pytest.mark.parametrize("command", [
    ("segmenter", "predict", "default", "pictures", "--out", "masks"),
    ("segmenter", "train", "set", "--out", "model"),
    ("gan", "train", "set", "--source-where", "diagnosis=NV", "--target-where", "diagnosis=MEL"),
    ("study", "robustness", "--small"),
])
def test_what_an_extra_brings_is_asked_for_in_one_line(command, tmp_path):
    """Without torch, as after a plain installation: no traceback, what is missing and how to get it."""
    code = """
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Gone())
from synthskin import cli
cli.main(sys.argv[1:])
"""
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, cwd=tmp_path,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and "torch" in done.stderr and "pip install" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "text", "said"), [
    ("digits.toml", 'name = "a"\n[fields."hair.count"]\nvalue = 1' + 5000 * "0", "not valid TOML"),
    ("hex.toml", 'name = "a"\nextends = "base"\n[fields."hair.count"]\nvalue = 0x' + 5000 * "f", "a huge number"),
    ("long.toml", 'name = "a"\nextends = "base"\n[fields."hair.count"]\nvalue = 1' + 400 * "0", "a huge number"),
])
def test_numbers_without_end_are_refused_in_one_line(name, text, said, tmp_path, capsys):
    (tmp_path / name).write_text(text)
    with pytest.raises(SystemExit) as stop:
        cli.main(["render", "--preset", str(tmp_path / name), "--n", "1", "--out", str(tmp_path / "out")])
    told = capsys.readouterr().err
    assert stop.value.code == 2 and told.count("\n") == 1, told
    assert "hair.count" in told or said in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [
    ("mesh", "--seed", str(2**63)), ("mesh", "--index", str(2**70)), ("preview", "SET", "--out", "/"),
])
def test_bounds_and_folders_in_place_of_files(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*arguments])
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_a_file_needs_a_name():
    for folder in ("", ".", "/"):
        with pytest.raises(ValueError, match="is a folder; name a file"):
            write_whole(Path(folder), b"", ValueError)
