#!/bin/sh
# See to it that a libLLVM of version 17 or later is there: found, or installed with apt where that is allowed.
# Usage: scripts/ensure_llvm.sh PYTHON
set -u
cd "$(dirname "$0")/.."
python=${1:-.venv/bin/python}
find_it() { PYTHONPATH=. "$python" -m synthskin.physics.llvm "$@"; }

if find_it 2>/dev/null; then
    exit 0
fi
if [ -n "${DRJIT_LIBLLVM_PATH:-}" ]; then
    find_it
    exit 2
fi
sudo=
if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        sudo="sudo -n"
    else
        find_it
        echo "error: and it cannot be installed from here (neither root nor sudo without a password);" \
            "type: sudo apt-get update && sudo apt-get install libllvm19" >&2
        exit 2
    fi
fi
if ! command -v apt-get >/dev/null 2>&1; then
    find_it
    echo "error: and there is no apt-get; install LLVM 19 with this system's package manager," \
        "or set DRJIT_LIBLLVM_PATH to a libLLVM of version 17 or later" >&2
    exit 2
fi
echo "no usable libLLVM yet: installing one with apt-get" >&2
$sudo apt-get update -q >&2 || true
for package in libllvm19 libllvm20 libllvm18 libllvm17 libllvm17t64; do
    if $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$package" >&2; then
        find_it && exit 0
    fi
done
find_it
echo "error: apt-get has no libllvm17 to libllvm20 here; set DRJIT_LIBLLVM_PATH to a libLLVM of version 17 or later" >&2
exit 2
