"""What `synthskin doctor` reports: device, LLVM, driver, versions, a speed figure, and what to do about gaps."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from importlib import metadata
from typing import Any, Final

from synthskin import __version__
from synthskin.physics.llvm import ADVICE, ENV, DeviceError, cuda_driver, list_llvm, resolve_device

_CORE: Final = ("mitsuba", "drjit", "numpy", "scipy", "scikit-image", "trimesh", "pyoidn", "colour-science",
                "pydantic", "typer", "rich", "pillow")
_EXTRAS: Final = ("torch", "diffusers", "transformers", "peft", "monai", "torchmetrics", "ray")
SPEED_SECONDS: Final = 10.0


def examine(device: str = "auto", speed: bool = True) -> dict[str, Any]:
    """Report as plain values, ready for JSON; `ok` is true if rendering works, `advice` says what to do if not."""
    advice: list[str] = []
    named = os.environ.get(ENV)
    libraries = list_llvm()
    chosen = None
    error = None
    try:
        chosen = resolve_device(device)
    except DeviceError as problem:
        error = str(problem)
        advice.append(error)
    driver = cuda_driver()
    versions = {name: _installed(name) for name in _CORE}
    for name, version in versions.items():
        if version is None:
            advice.append(f"{name} is not installed; type `pip install synthskin`")
    if not any(library.usable for library in libraries) and chosen == "cuda":
        advice.append(f"no usable LLVM for rendering without the GPU; {ADVICE}")
    report: dict[str, Any] = {
        "synthskin": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu_count": os.cpu_count(),
        "device": chosen,
        "llvm": [{"path": lib.path, "version": lib.version, "usable": lib.usable} for lib in libraries],
        "llvm_chosen": os.environ.get(ENV) if error is None else named,
        "cuda_devices": 0 if driver is None else driver[0],
        "cuda_driver": None if driver is None else f"{driver[1] // 1000}.{driver[1] % 1000 // 10}",
        "nvidia_smi": _nvidia_smi(),
        "packages": versions,
        "extras": {name: _installed(name) for name in _EXTRAS},
        "speed": None,
    }
    if chosen is not None and speed and all(versions.values()):
        try:
            report["speed"] = _speed(chosen)
        except Exception as problem:  # whatever the renderer raises is the finding
            text = " ".join(str(problem).split())[:300]
            advice.append(f"rendering failed: {type(problem).__name__}: {text}")
    report["advice"] = advice
    report["ok"] = not advice or (chosen is not None and report["speed"] is not None)
    return report


def _speed(device: str) -> dict[str, Any]:
    """Samples a second at 256 x 256 over about ten seconds, the first sample (which compiles) apart."""
    from synthskin.draw import draw
    from synthskin.preset import load_preset
    from synthskin.run import EngineOptions, real_engine

    preset = load_preset("fst2")
    started = time.perf_counter()
    engine = real_engine(EngineOptions(device=device))
    engine.render(draw(preset, 0, 0))
    first_s = time.perf_counter() - started
    count = 0
    started = time.perf_counter()
    while time.perf_counter() - started < SPEED_SECONDS:
        count += 1
        engine.render(draw(preset, 0, count))
    seconds = time.perf_counter() - started
    return {"device_name": engine.device_name, "first_sample_s": round(first_s, 2), "size_px": 256,
            "samples": count, "samples_per_s": round(count / seconds, 3)}


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _nvidia_smi() -> str | None:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    query = [tool, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def describe(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = [
        f"synthskin   {report['synthskin']}, Python {report['python']}",
        f"system      {report['system']}, {report['cpu_count']} cores",
        f"device      {report['device'] or 'none'}",
    ]
    for lib in report["llvm"]:
        note = "usable" if lib["usable"] else "not usable, 17 or later is needed"
        chosen = "   <- chosen" if lib["path"] == report["llvm_chosen"] else ""
        lines.append(f"LLVM        {lib['version'] or '?'} {lib['path']} ({note}){chosen}")
    if not report["llvm"]:
        lines.append("LLVM        none found")
    driver = report["cuda_driver"]
    lines.append(f"NVIDIA      {'no driver' if driver is None else f'CUDA {driver}'}, {report['cuda_devices']} GPU"
                 + (f", {report['nvidia_smi']}" if report["nvidia_smi"] else ""))
    lines.append("packages    " + ", ".join(f"{k} {v or 'MISSING'}" for k, v in report["packages"].items()))
    lines.append("extras      " + (", ".join(f"{k} {v}" for k, v in report["extras"].items() if v) or "none installed"))
    speed = report["speed"]
    if speed:
        lines.append(f"speed       {speed['samples_per_s']} samples/s at {speed['size_px']} x {speed['size_px']} on "
                     f"{speed['device_name']} (first sample {speed['first_sample_s']} s)")
    lines += [f"to do       {text}" for text in report["advice"]]
    return "\n".join(lines if report["advice"] else [*lines, "all is well"])
