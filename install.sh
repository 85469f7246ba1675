#!/usr/bin/env bash
# Installs the library and everything it needs; run again at any time, it does only what is missing.
#
#   bash install.sh                into the active conda or venv environment, else into .venv (made when there is none)
#   bash install.sh wandb          with these extras as well (see pyproject.toml)
#   PYTHON=python3.12 bash install.sh      another interpreter for .venv
#
# A PyTorch (2.11 or newer) of an active environment stays as it is, since it was chosen for the machine's driver.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

fail() { echo "error: $*" >&2; exit 1; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

if [ -n "${VIRTUAL_ENV:-}" ] && [ -x "$VIRTUAL_ENV/bin/python" ]; then
    python="$VIRTUAL_ENV/bin/python"
elif [ -n "${CONDA_PREFIX:-}" ] && [ -x "$CONDA_PREFIX/bin/python" ]; then
    python="$CONDA_PREFIX/bin/python"
else
    if [ ! -x .venv/bin/python ]; then
        base="${PYTHON:-}"
        for candidate in ${base:-python3 python3.14 python3.13 python3.12 python3.11 python3.10 python}; do
            if new_enough "$candidate"; then base="$candidate"; break; fi
        done
        [ -n "$base" ] && new_enough "$base" || fail "Python 3.10 or newer is needed and was not found; set PYTHON=/path/to/python3"
        echo "making .venv with $($base --version)"
        "$base" -m venv .venv || fail "could not make .venv; on Debian and Ubuntu: apt-get install python3-venv"
    fi
    python="$PWD/.venv/bin/python"
fi
new_enough "$python" || fail "$python is older than Python 3.10"

extras="dev,jpeg,onnx,openvino,video,vot$(printf ',%s' "$@" | sed 's/,$//')"
prefix="$("$python" -c 'import sys; print(sys.prefix)')"
stamp="$prefix/.tracking-installed"
wanted="$(cat pyproject.toml scripts/pins.txt install.sh | cksum) $extras $PWD"
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
    echo "installing into $prefix (a few minutes the first time)"
    pins=scripts/pins.txt kept=""
    [ "$prefix" = "$PWD/.venv" ] || kept="$("$python" -c '
from importlib.metadata import distributions
found = {d.name: d.version for name in ("torch", "torchvision") for d in distributions(name=name)}
if tuple(map(int, found.get("torch", "0.0").split(".")[:2])) >= (2, 11):
    print(*(f"{name}=={version}" for name, version in found.items()), sep="\n")')"
    if [ -n "$kept" ]; then
        echo "keeping" $kept
        pins="$(mktemp)"
        trap 'rm -f "$pins"' EXIT
        { echo "$kept"; grep -v '^torch' scripts/pins.txt; } > "$pins"
    fi
    "$python" -m pip install --quiet --disable-pip-version-check --no-compile -c "$pins" -e ".[$extras]" \
        || fail "pip could not install the packages; its message is above"
    # Servers and containers lack the desktop's libraries that opencv-python is linked with; the other build has no windows.
    if ! "$python" -c 'import cv2' 2> /dev/null; then
        echo "opencv-python finds no desktop on this machine; taking opencv-python-headless, the same without windows"
        "$python" -m pip uninstall --quiet --yes opencv-python
        "$python" -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall \
            "opencv-python-headless==$(sed -n 's/^opencv-python==//p' scripts/pins.txt)" \
            || fail "pip could not install opencv-python-headless; its message is above"
    fi
    # What pip would do on one core; some packages hold files that are no Python and fail here.
    "$python" -m compileall -q -j 0 "$prefix/lib" > /dev/null 2>&1 || true
    echo "$wanted" > "$stamp"
fi
"$python" tracking/environment.py
