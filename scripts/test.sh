#!/usr/bin/env bash
# All checks: style, types, tests. Installs what is needed first. Arguments go to pytest, such as `-k crop` or `-x`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash install.sh
python=.venv/bin/python
[ -n "${VIRTUAL_ENV:-}" ] && python="$VIRTUAL_ENV/bin/python"
[ -z "${VIRTUAL_ENV:-}" ] && [ -n "${CONDA_PREFIX:-}" ] && python="$CONDA_PREFIX/bin/python"
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy
if (($#)); then exec "$python" -m pytest "$@"; fi
# In three processes: OpenVINO and the numba that the VOT toolkit brings crash at the next fork when both are loaded.
code=0
"$python" -m pytest tests/e2e tests/golden || code=$?
"$python" -m pytest tests/unit/bench || code=$?
"$python" -m pytest tests/unit --ignore tests/unit/bench || code=$?
exit "$code"
