"""Which device renders, and which libLLVM Dr.Jit gets. Imports neither drjit nor mitsuba: call it before they load.

Dr.Jit takes whatever libLLVM the machine has, and LLVM 14, 15 and 16 make Mitsuba 3.9 abort the whole process
("Cannot select: fminimum"). So the library is chosen here, by version, and handed over in DRJIT_LIBLLVM_PATH.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ENV: Final = "DRJIT_LIBLLVM_PATH"
MIN_VERSION: Final = 17
DEVICES: Final = ("auto", "cuda", "llvm")
ADVICE: Final = "type `apt-get update && apt-get install libllvm19` (macOS: `brew install llvm@19`)"
_FOLDERS: Final = (
    "/usr/lib/llvm-*/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
    "/opt/homebrew/opt/llvm*/lib",
    "/usr/local/opt/llvm*/lib",
)
_PROBE: Final = """
import ctypes, sys
lib = ctypes.CDLL(sys.argv[1])
a, b, c = ctypes.c_uint(), ctypes.c_uint(), ctypes.c_uint()
lib.LLVMGetVersion(ctypes.byref(a), ctypes.byref(b), ctypes.byref(c))
print(a.value)
"""


class DeviceError(RuntimeError):
    """No device to render with. One line, meant for the user."""


@dataclass(frozen=True, slots=True)
class LLVMLibrary:
    """One libLLVM: `path` as found, `version` major (None: could not be told)."""

    path: str
    version: int | None

    @property
    def usable(self) -> bool:
        return self.version is not None and self.version >= MIN_VERSION


def list_llvm() -> list[LLVMLibrary]:
    """Every libLLVM that is found, usable or not, the chosen one of `find_llvm` first among the usable."""
    found: dict[str, LLVMLibrary] = {}
    for path in _candidates():
        real = os.path.realpath(path)
        if real not in found and os.path.isfile(real):
            found[real] = LLVMLibrary(path, _version(real))
    libraries = list(found.values())
    return sorted(libraries, key=lambda lib: _preference(lib.version))


def find_llvm() -> LLVMLibrary:
    """Choose a libLLVM of version 17 or later and set DRJIT_LIBLLVM_PATH to it; raises DeviceError.

    A library named by the user in DRJIT_LIBLLVM_PATH is taken or refused, never replaced.
    """
    named = os.environ.get(ENV)
    if named:
        if not os.path.isfile(named):
            raise DeviceError(f"{ENV}={named}: that file is not there; unset it, or name a libLLVM of version "
                              f"{MIN_VERSION} or later")
        library = LLVMLibrary(named, _version(os.path.realpath(named)))
        if not library.usable:
            raise DeviceError(f"{ENV}={named}: this is LLVM {_shown(library)}, version {MIN_VERSION} or later is "
                              f"needed; unset it, or {ADVICE}")
        return library
    libraries = list_llvm()
    for library in libraries:
        if library.usable:
            os.environ[ENV] = library.path
            return library
    if libraries:
        came = ", ".join(sorted({_shown(lib) for lib in libraries}))
        raise DeviceError(f"no usable LLVM: found version {came}, {MIN_VERSION} or later is needed; {ADVICE}")
    raise DeviceError(f"no LLVM found, version {MIN_VERSION} or later is needed; {ADVICE}")


def cuda_driver() -> tuple[int, int] | None:
    """(number of CUDA devices, driver version as 12040 for 12.4); None where there is no NVIDIA driver."""
    for name in ("libcuda.so.1", "libcuda.so", "nvcuda.dll"):
        try:
            lib = ctypes.CDLL(name)
        except OSError:
            continue
        count, version = ctypes.c_int(0), ctypes.c_int(0)
        if lib.cuInit(0) != 0 or lib.cuDeviceGetCount(ctypes.byref(count)) != 0:
            return 0, 0
        lib.cuDriverGetVersion(ctypes.byref(version))
        return count.value, version.value
    return None


def resolve_device(device: str = "auto") -> str:
    """`cuda` or `llvm` for auto, cuda or llvm; sees to libLLVM where it is needed; raises DeviceError."""
    if device not in DEVICES:
        raise DeviceError(f"--device {device}: allowed are {', '.join(DEVICES)}")
    if device == "llvm":
        find_llvm()
        return "llvm"
    driver = cuda_driver()
    if driver is not None and driver[0] > 0:
        return "cuda"
    if device == "cuda":
        why = "no NVIDIA driver (libcuda) was found" if driver is None else "the NVIDIA driver reports no GPU"
        raise DeviceError(f"--device cuda: {why}; allowed here is llvm; leave --device out, or install the driver "
                          "(`synthskin doctor` shows what was found)")
    find_llvm()
    return "llvm"


def _preference(version: int | None) -> tuple[int, int]:
    """19 is the version everything is measured with; then newer ones, then unusable ones."""
    if version is None:
        return (3, 0)
    if version < MIN_VERSION:
        return (2, -version)
    return (0, 0) if version == 19 else (1, version)


def _shown(library: LLVMLibrary) -> str:
    return "unknown" if library.version is None else str(library.version)


def _candidates() -> Iterator[str]:
    named = os.environ.get(ENV)
    if named:
        yield named
    for tool in ("ldconfig", "/sbin/ldconfig", "/usr/sbin/ldconfig"):
        try:
            text = subprocess.run([tool, "-p"], capture_output=True, text=True, timeout=10, check=False).stdout
        except (OSError, subprocess.TimeoutExpired):
            continue
        for line in text.splitlines():
            if "libLLVM" in line and "=>" in line:
                path = line.split("=>", 1)[1].strip()
                if _is_library(path):
                    yield path
        break
    for pattern in _FOLDERS:
        for folder in sorted(Path("/").glob(pattern.lstrip("/"))):
            for found in sorted([*folder.glob("libLLVM.*"), *folder.glob("libLLVM-*")]):
                if _is_library(str(found)):
                    yield str(found)


def _is_library(path: str) -> bool:
    name = os.path.basename(path)
    return bool(re.fullmatch(r"libLLVM(-\d+(\.\d+)*)?\.(so(\.\d+)*|dylib)", name))


def _version(path: str) -> int | None:
    """Major version from names such as libLLVM-15.so.1 and libLLVM.so.19.1, else from LLVMGetVersion."""
    name = os.path.basename(path)
    for pattern in (r"libLLVM-(\d+)", r"libLLVM\.so\.(\d+)"):
        match = re.match(pattern, name)
        if match:
            return int(match.group(1))
    try:
        done = subprocess.run(
            [sys.executable, "-S", "-c", _PROBE, path], capture_output=True, text=True, timeout=20, check=False
        )
        return int(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


if __name__ == "__main__":  # used by scripts/ensure_llvm.sh
    try:
        chosen = find_llvm()
    except DeviceError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
    print(f"LLVM {chosen.version}: {chosen.path}")
