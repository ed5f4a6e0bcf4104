"""Imports go one way, and light commands stay light."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "synthskin"
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path):
    """(module, at top level?) of every import in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module, id(node) in top
            yield from ((f"{node.module}.{alias.name}", id(node) in top) for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(ROOT)) for p in FILES])
def test_directions(path):
    part = path.relative_to(PACKAGE).parts[0]
    for module, at_top in imported(path):
        root = module.split(".")[0]
        if root in ("mitsuba", "drjit"):
            assert part == "physics", f"{path} imports {module}"
        if root in ("torch", "diffusers", "transformers", "monai", "kornia", "ray"):
            assert part not in ("physics", "dataset"), f"{path} imports {module}"
        if part == "hooks" and module.startswith("synthskin.physics"):
            assert not at_top, f"{path} imports {module} at the top"  # strands and artefacts, at the first call
        elif module.startswith("synthskin.physics"):
            assert part not in ("dataset", "diffusion", "gan", "bias", "hooks", "segment"), f"{path} imports {module}"
            if part in ("cli.py", "run"):
                assert not at_top, f"{path} imports {module} at the top"
        if part == "physics" and module.startswith("synthskin."):
            leaves = ("physics", "record", "conventions", "uninterrupted")
            assert module.split(".")[1] in leaves, f"{path} imports {module}"
        if part in ("record.py", "conventions.py") and root == "synthskin":
            assert module.split(".")[1] == "conventions", f"{path} imports {module}"


def loaded_by(code):
    done = subprocess.run([sys.executable, "-c", code + "\nimport sys; print(' '.join(sys.modules))"],
                          capture_output=True, text=True, cwd=ROOT, check=True)
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


HELP = "from synthskin import cli\ntry:\n    cli.main(['render', '--help'])\nexcept SystemExit:\n    pass"


@pytest.mark.parametrize(("code", "forbidden"), [
    ("import synthskin", {"torch", "mitsuba", "drjit", "numpy", "scipy", "typer"}),
    ("import synthskin.cli", {"torch", "mitsuba", "drjit", "numpy", "scipy", "PIL"}),
    (HELP, {"torch", "mitsuba", "drjit", "numpy", "scipy", "PIL"}),
    ("import synthskin.preset, synthskin.draw", {"torch", "mitsuba", "drjit", "numpy", "scipy"}),
    ("import synthskin.run, synthskin.dataset.reader", {"torch", "mitsuba", "drjit", "skimage", "colour"}),
    ("import synthskin.physics.llvm, synthskin.doctor", {"torch", "mitsuba", "drjit", "numpy"}),
])
def test_light_imports(code, forbidden):
    assert not loaded_by(code) & forbidden


def test_no_evil_readers():
    """No pickle, no eval, no exec anywhere in the package."""
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", None)
                assert name not in ("eval", "exec"), path
        assert "pickle" not in {module.split(".")[0] for module, _ in imported(path)}, path
        text = path.read_text(encoding="utf-8")
        assert "allow_pickle=True" not in text, path


def test_what_the_doctor_lists_comes_with_an_extra_and_extras_name_each_other():
    from synthskin.doctor import _EXTRAS

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    brought = {re.match(r"[\w-]+", text)[0] for own in extras.values() for text in own}
    assert set(_EXTRAS) <= brought
    named = {name for own in extras.values() for text in own if text.startswith("synthskin[")
             for name in text[10:-1].split(",")}
    assert named <= set(extras) and "gradio" not in brought  # there is no web page
