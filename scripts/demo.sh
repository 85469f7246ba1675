#!/usr/bin/env bash
# The whole road on a benchmark that is made here: data, training, testing, report. Some ten minutes on two CPU cores.
# Everything lands in output/demo; run again, finished parts are not done twice.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=output/demo
clock() { date +%s; }
step() { printf '\n\033[1m%s\033[0m\n' "$*"; }

begin=$(clock)
step "1/5  install"
bash install.sh
python=.venv/bin/python
[ -n "${VIRTUAL_ENV:-}" ] && python="$VIRTUAL_ENV/bin/python"
[ -z "${VIRTUAL_ENV:-}" ] && [ -n "${CONDA_PREFIX:-}" ] && python="$CONDA_PREFIX/bin/python"
installed=$(clock)

run() { printf '$ python %s\n' "$*"; "$python" "$@"; }
places=(--data_dir "$out/data" --save_dir "$out")

step "2/5  make a synthetic benchmark: training sequences, and others to be tested on"
run tracking/make_synthetic_data.py --output "$out/data/synthetic/train" --split train --sequences 500 --frames 24 --difficulty 0.2 --seed 7
run tracking/make_synthetic_data.py --output "$out/data/synthetic/test" --split test --sequences 16 --frames 60 --difficulty 0.2 --seed 7
made=$(clock)

step "3/5  train a small one-stream tracker from scratch"
run tracking/train.py --script ostrack --config synthetic_demo --mode single "${places[@]}"
trained=$(clock)

step "4/5  test it, and what it must beat"
run tracking/test.py ostrack synthetic_demo --dataset synthetic --batch 4 "${places[@]}"
run tracking/test.py ostrack synthetic_demo --dataset synthetic --batch 4 --untrained "${places[@]}"
run tracking/test.py ostrack synthetic_small --dataset synthetic --batch 4 "${places[@]}" \
    --checkpoint pretrained/synthetic_small.safetensors
run tracking/test.py --tracker static --dataset synthetic "${places[@]}"
run tracking/test.py --tracker classical --dataset synthetic "${places[@]}"
tested=$(clock)

step "5/5  report"
results="$out/test/tracking_results"
run tracking/analysis_results.py --dataset synthetic "${places[@]}" \
    --results trained="$results/ostrack/synthetic_demo/synthetic" \
              untrained="$results/ostrack/synthetic_demo_untrained/synthetic" \
              static="$results/reference/static/synthetic" \
              classical="$results/reference/classical/synthetic" \
              shipped="$results/ostrack/synthetic_small/synthetic" \
    --training_log "$out/logs/ostrack-synthetic_demo.jsonl" \
    --title "A small one-stream tracker on a synthetic benchmark" --report "$out"
"$python" scripts/demo_summary.py "$results" "$out/summary.json" \
    --seconds install=$((installed - begin)) data=$((made - installed)) train=$((trained - made)) \
              test=$((tested - trained)) report=$(($(clock) - tested))
