#!/usr/bin/env bash
# Makes the network in pretrained/ again, from nothing but this repository: procedural sequences, training, release files.
# About half an hour on two CPU cores. Needs 600 MB below output/pretraining.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=.venv/bin/python
[ -n "${VIRTUAL_ENV:-}" ] && python="$VIRTUAL_ENV/bin/python"
[ -z "${VIRTUAL_ENV:-}" ] && [ -n "${CONDA_PREFIX:-}" ] && python="$CONDA_PREFIX/bin/python"
out=output/pretraining

"$python" tracking/make_synthetic_data.py --output "$out/synthetic/train" --split train --sequences 1680 --frames 24 --seed 1
"$python" tracking/train.py --script ostrack --config synthetic_small --mode single --data_dir "$out" --save_dir "$out"
for ending in safetensors json; do
    cp "$out/checkpoints/train/ostrack/synthetic_small/OSTrack_ep0022.$ending" "pretrained/synthetic_small.$ending"
done
