#!/usr/bin/env bash
# The whole road on a benchmark that is made here: data, training, testing, report. Some ten minutes on two CPU cores.
#   bash scripts/demo.sh                      a small one-stream RGB tracker, fine-tuned           -> output/demo
#   bash scripts/demo.sh --method sdstrack    RGB-T: RGB alone, thermal alone, both of them        -> output/demo_sdstrack
# Run again, finished parts are not done twice.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
method=ostrack
[ "${1:-}" = --method ] && method="${2:-}"
if [ ! -f "scripts/demo/$method.sh" ] || { [ $# -gt 0 ] && [ "$1" != --method ]; }; then
    echo "usage: bash scripts/demo.sh [--method $(basename -s .sh scripts/demo/*.sh | paste -sd '|')]" >&2
    exit 2
fi
out=output/demo
[ "$method" = ostrack ] || out="output/demo_$method"
clock() { date +%s; }
step() { printf '\n\033[1m%s\033[0m\n' "$*"; }

begin=$(clock)
step "1/5  install"
bash install.sh
for python in "${VIRTUAL_ENV:-.}/bin/python" "${CONDA_PREFIX:-.}/bin/python" "$PWD/.venv/bin/python"; do  # as install.sh
    [ -x "$python" ] && break
done
installed=$(clock)

run() { printf '$ python %s\n' "$*"; "$python" "$@"; }
places=(--data_dir "$out/data" --save_dir "$out")
results="$out/test/tracking_results"
# shellcheck source=/dev/null
source "scripts/demo/$method.sh"

step "2/5  make a synthetic benchmark: training sequences, and others to be tested on"
make_data
made=$(clock)

step "3/5  train $about"
train
trained=$(clock)

step "4/5  test it, and what it must beat"
track
tested=$(clock)

step "5/5  report"
report
"$python" scripts/demo_summary.py "$out/summary.json" --scores "${scores[@]}" \
    --seconds install=$((installed - begin)) data=$((made - installed)) train=$((trained - made)) \
              test=$((tested - trained)) report=$(($(clock) - tested))
