"""A cluster of this machine alone: workers killed, poisoned samples, a full object store. Skipped without Ray."""

import functools
import json
import os
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from standin import BrokenEngine, FakeEngine, device
from standin_faults import POISON, BigEngine, KilledOnceEngine, KillerEngine, PoisonEngine

import synthskin.run
import synthskin.run.ray_pool
from synthskin import cli
from synthskin.dataset.compare import differences
from synthskin.dataset.reader import read_rows, validate
from synthskin.preset import load_preset
from synthskin.run import EngineOptions, RunError, RunRequest, render_run
from synthskin.run.ray_pool import RayPool

ray = pytest.importorskip("ray")
N = 6
ROOT = Path(__file__).resolve().parent.parent
STORE_BYTES = 80_000_000  # the least Ray takes


@pytest.fixture(scope="module", autouse=True)
def cluster():
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{ROOT}:{ROOT / 'tests'}"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, object_store_memory=STORE_BYTES, include_dashboard=False, log_to_driver=False,
             logging_level=40)
    yield
    ray.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def request(out, **changes):
    base = RunRequest(load_preset("fst6"), N, 0, out, EngineOptions(32, 2), None, executor="ray")
    return replace(base, **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "set"
    render_run(request(out, executor="local", workers=1), FakeEngine, device)
    return out


def test_the_same_folder_as_without_a_cluster(whole, tmp_path):
    result = render_run(request(tmp_path / "a"), FakeEngine)
    assert (result.made, result.failed, result.device) == (N, {}, "stand-in")
    assert differences(whole, tmp_path / "a") == []
    run = json.loads((tmp_path / "a/dataset.json").read_text())["run"]
    assert (run["executor"], run["workers"]) == ("ray", 2)


@pytest.mark.parametrize(("engine", "part"), [(PoisonEngine, "ValueError: the field of sample 3 is not finite"),
                                              (KillerEngine, "3 attempts")])
def test_a_poisoned_sample_is_named_the_rest_is_made_and_the_same_command_finishes(whole, tmp_path, engine, part):
    result = render_run(request(tmp_path / "a"), engine)
    assert result.made == N - 1 and list(result.failed) == [POISON]
    assert part in result.failed[POISON] and "\n" not in result.failed[POISON]
    assert validate(tmp_path / "a") == []
    assert POISON not in [row["index"] for row in read_rows(tmp_path / "a")]
    assert render_run(request(tmp_path / "a"), FakeEngine).made == 1
    assert differences(whole, tmp_path / "a") == []


def test_a_worker_killed_in_the_middle_is_made_good(whole, tmp_path):
    marker = tmp_path / "killed"
    result = render_run(request(tmp_path / "a"), functools.partial(KilledOnceEngine, marker))
    assert marker.exists() and result.made == N and result.failed == {}
    assert differences(whole, tmp_path / "a") == []


def test_ctrl_c_leaves_a_valid_folder(whole, tmp_path):
    class Stop:
        def start(self, total, done): ...
        def stop(self): ...
        def step(self, done):
            if done == 2:
                raise KeyboardInterrupt

    result = render_run(request(tmp_path / "a"), FakeEngine, progress=Stop())
    assert result.interrupted and 2 <= result.made < N and validate(tmp_path / "a") == []
    render_run(request(tmp_path / "a"), FakeEngine)
    assert differences(whole, tmp_path / "a") == []


def test_another_version_on_a_node_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(synthskin.run.ray_pool, "__version__", "0.0.0")
    with pytest.raises(RunError, match=r"the run 0\.0\.0; install the same on all"):
        render_run(request(tmp_path / "a"), FakeEngine)


def test_a_full_object_store(tmp_path):
    """Nearly all of the store is held; what the workers send back does not fit beside it."""
    held = [ray.put(np.full(25_000_000, k, np.uint8)) for k in range(3)]
    options = EngineOptions(256, 2, maps=True)
    big = render_run(request(tmp_path / "a", n=4, options=options), BigEngine)
    assert big.made + len(big.failed) == 4 and validate(tmp_path / "a") == []
    del held
    render_run(request(tmp_path / "a", n=4, options=options), BigEngine)
    assert [row["index"] for row in read_rows(tmp_path / "a")] == [0, 1, 2, 3]
    sizes = [path.stat().st_size for path in (tmp_path / "a/maps").iterdir()]
    assert sum(sizes) > STORE_BYTES - 75_000_000


def test_what_the_cluster_has_not_is_refused_in_one_line(tmp_path):
    for changes, part in (({"workers": 64}, "2 cores"), ({"options": EngineOptions(32, 2, device="cuda")}, "no GPU"),
                          ({"executor": "slurm"}, "local, ray"),
                          ({"executor": "local", "ray_address": "auto"}, "--executor ray")):
        with pytest.raises(RunError, match=part) as caught:
            render_run(request(tmp_path / "a", **changes), FakeEngine, device)
        assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match="libllvm19"):
        render_run(request(tmp_path / "b"), BrokenEngine)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(("resources", "asked", "device_", "expected"), [
    ({"CPU": 16, "GPU": 2}, None, "auto", ("cuda", 2, 1, 1.0, 0)),
    ({"CPU": 16, "GPU": 2}, 4, "auto", ("cuda", 4, 1, 0.5, 0)),
    ({"CPU": 16, "GPU": 2}, 3, "auto", ("cuda", 3, 1, 0.5, 0)),  # two on one of the two
    ({"CPU": 16, "GPU": 2}, None, "llvm", ("llvm", 16, 1, 0, 1)),
    ({"CPU": 64}, 16, "auto", ("llvm", 16, 4, 0, 4)),
    ({"CPU": 64}, 1, "auto", ("llvm", 1, 32, 0, 32)),  # no more than the largest node has
])
def test_shares_of_a_worker(tmp_path, resources, asked, device_, expected):
    """Planned from what a cluster of two equal nodes says it has."""
    node = {"Alive": True, "Resources": {name: value / 2 for name, value in resources.items()} | {"memory": 1e11}}
    pool = RayPool(request(tmp_path, workers=asked, options=EngineOptions(32, 2, device=device_)), FakeEngine)
    pool._ray = types.SimpleNamespace(cluster_resources=lambda: resources, nodes=lambda: [node, node])
    pool._plan()
    assert (pool.device, pool.workers, pool._share["num_cpus"], pool._share["num_gpus"],
            pool.options.threads) == expected


def test_failed_samples_are_printed_with_exit_3(tmp_path, monkeypatch, capsys):
    real = synthskin.run.render_run
    monkeypatch.setattr(synthskin.run, "render_run",
                        lambda request, progress=None: real(request, PoisonEngine, device, progress))
    monkeypatch.chdir(tmp_path)
    command = ["render", "--preset", "fst6", "--n", "6", "--size", "32", "--out", "x", "--executor", "ray", "--json"]
    with pytest.raises(SystemExit) as ended:
        cli.main(command)
    out = capsys.readouterr()
    assert ended.value.code == 3
    assert json.loads(out.out)["failed"] == {"3": "ValueError: the field of sample 3 is not finite"}
    assert out.err.splitlines()[-2].startswith("sample 3 failed: ValueError")
    assert out.err.splitlines()[-1].startswith("error: 1 of 6 samples could not be made")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no.such.host.invalid:6379", "???"])
def test_no_cluster_at_the_address_is_one_line(tmp_path, address):
    done = subprocess.run(
        [sys.executable, "-m", "synthskin.cli", "render", "--n", "1", "--out", "x", "--executor", "ray",
         "--ray-address", address], capture_output=True, text=True, cwd=tmp_path, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1 and "ray start --head" in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_ray_missing_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RunError, match=r"pip install 'synthskin\[ray\]'"):
        render_run(request(tmp_path / "a"), FakeEngine)
    assert not (tmp_path / "a").exists()
