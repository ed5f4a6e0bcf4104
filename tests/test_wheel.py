"""The wheel holds the presets and runs outside the checkout."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytest.importorskip("hatchling")


def test_wheel_runs_in_a_clean_environment(tmp_path):
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w",
                    str(tmp_path), str(ROOT)], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("synthskin-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"synthskin/presets/fst6.toml", "synthskin/studies/ssynth.toml", "synthskin/py.typed"} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "presets/", "cli.py"))]

    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    python = environment / "bin/python"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(site),
                    str(wheel)], check=True, cwd=tmp_path)
    # The dependencies come from this environment, behind the wheel and without its own .pth files (no editable one).
    # Not by sitecustomize: Debian's Python has one of its own, which is found first.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    done = subprocess.run([str(python), "-m", "synthskin.cli", "presets", "show", "fst6"], capture_output=True,
                          text=True, cwd=tmp_path, check=True, env={"PATH": "/usr/bin:/bin"})
    assert 'name = "fst6"' in done.stdout
    where = subprocess.run([str(python), "-c", "import synthskin; print(synthskin.__file__)"], capture_output=True,
                           text=True, cwd=tmp_path, check=True, env={"PATH": "/usr/bin:/bin"})
    assert str(environment) in where.stdout
