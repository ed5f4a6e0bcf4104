#!/bin/sh
# Make .venv with Python 3.11 or later. Usage: scripts/make_venv.sh [PYTHON]
set -eu
cd "$(dirname "$0")/.."
python=${1:-}
if [ -z "$python" ]; then
    for candidate in python3.11 python3.12 python3.13 python3; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            python=$candidate
            break
        fi
    done
fi
if [ -z "$python" ]; then
    echo "error: no Python 3.11 or later was found; type: apt-get install python3.11 python3.11-venv" >&2
    exit 2
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "error: $python is older than Python 3.11; give another one: make PYTHON=/path/to/python3.11" >&2
    exit 2
fi
if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        apt-get update -q && apt-get install -y -q "python$version-venv"
    else
        echo "error: $python has no venv module; type: sudo apt-get install python$version-venv" >&2
        exit 2
    fi
fi
"$python" -m venv .venv
