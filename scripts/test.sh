#!/usr/bin/env bash
# All checks: style, types, tests. Installs what is needed first.
#
#   bash scripts/test.sh                 everything, by one job more than there are cores (JOBS=2 for fewer)
#   bash scripts/test.sh -k crop -x      arguments go to one run of pytest, and nothing else is checked
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash install.sh || exit 1
for python in "${VIRTUAL_ENV:-.}/bin/python" "${CONDA_PREFIX:-.}/bin/python" "$PWD/.venv/bin/python"; do  # as install.sh
    [ -x "$python" ] && break
done
PATH="${python%/*}:$PATH"  # jobs are split into words, and its folder may have blanks
if (($#)); then exec python -m pytest "$@"; fi
python -m ruff check . && python -m ruff format --check . || exit 1

# Tests of ONNX Runtime and OpenVINO have a process of their own: what they leave in it can crash a later fork.
engines=$(grep -rl --include='test_*.py' 'mark.engines' tests | tr '\n' ' ')
pytest="python -m pytest --color=no"
unit="$pytest tests/unit tests/fuzz $(printf -- '--ignore=%s ' $engines) -m"
jobs=(  # the longest first
    "slow: $unit slow"
    "golden: $pytest tests/golden"
    "e2e: $pytest tests/e2e"
    "engines: $pytest $engines"
    "quick: $unit not(slow)"
    "types: python -m mypy"
)
at_once=${JOBS:-$(($(env -u OMP_NUM_THREADS nproc) + 1))}  # one more than cores: tests also wait for processes and disks

# Each job is a name and a command. Its lines are printed as they come, after its name; those of failed jobs once more at
# the end, by themselves.
run_job() {
    local name="${1%%: *}" log="$logs/$2" began=$SECONDS
    ${1#*: } < /dev/null 2>&1 | tee "$log" | sed -u "s/^/$name | /" || mv "$log" "$log.failed"
    echo "$name | ended after $((SECONDS - began)) s"
}
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
trap 'kill $(jobs -p) 2> /dev/null; exit 130' INT TERM
export OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1
for i in "${!jobs[@]}"; do
    while (($(jobs -rp | wc -l) >= at_once)); do wait -n; done
    run_job "${jobs[i]}" "$i" &
done
wait
code=0
for i in "${!jobs[@]}"; do
    [ -e "$logs/$i.failed" ] || continue
    code=1
    printf '\nFAILED: %s\n' "${jobs[i]#*: }"
    cat "$logs/$i.failed"
done
echo "all jobs ended after $SECONDS s"
exit "$code"
