# Part of scripts/demo.sh: SDSTrack's adapters on the shipped RGB network, on RGB and thermal pictures in LasHeR's layout.
about="SDSTrack: adapters and fusion on the frozen RGB network that comes with the project"
lasher=(--dataset lasher --skip_missing)
scores=(
    both="$results/sdstrack/synthetic_demo/lasher"
    rgb_only="$results/sdstrack/synthetic_demo/lasher_drop-aux-1"
    thermal_only="$results/sdstrack/synthetic_demo/lasher_drop-rgb-1"
    foundation="$results/ostrack/synthetic_small/lasher"
    static="$results/reference/static/lasher"
)
rows=(
    both="adapters and fusion trained here on the frozen RGB network, tracking on RGB and thermal pictures"
    rgb_only="the same weights with black thermal pictures: how much RGB alone carries"
    thermal_only="the same weights with black RGB pictures: how much thermal alone carries"
    foundation="the RGB network that the adapters were added to, on RGB: what both must beat"
    static="the first frame's box, never moved: what any tracker must beat"
)

make_data() {
    local worlds=(--layout lasher --difficulty 0.3 --seed 7)
    run tracking/make_synthetic_data.py "${worlds[@]}" --output "$out/data/lasher/trainingset" --split train --sequences 400 --frames 24
    run tracking/make_synthetic_data.py "${worlds[@]}" --output "$out/data/lasher/testingset" --split test --sequences 16 --frames 60
}

train() {
    run tracking/train.py --script sdstrack --config synthetic_demo --mode single "${places[@]}"
}

track() {
    run tracking/test.py sdstrack synthetic_demo "${lasher[@]}" --batch 4 "${places[@]}"
    run tracking/test.py sdstrack synthetic_demo "${lasher[@]}" --batch 4 --drop aux "${places[@]}"
    run tracking/test.py sdstrack synthetic_demo "${lasher[@]}" --batch 4 --drop rgb "${places[@]}"
    run tracking/test.py ostrack synthetic_small "${lasher[@]}" --batch 4 "${places[@]}" \
        --checkpoint pretrained/synthetic_small.safetensors
    run tracking/test.py --tracker static "${lasher[@]}" "${places[@]}"
}

report() {
    run tracking/analysis_results.py "${lasher[@]}" "${places[@]}" --results "${scores[@]}" --about "${rows[@]}" \
        --training_log "$out/logs/sdstrack-synthetic_demo.jsonl" \
        --title "A small SDSTrack on synthetic RGB-T: both pictures, RGB alone, thermal alone" --report "$out"
    run tracking/robustness.py sdstrack synthetic_demo "${lasher[@]}" --batch 4 "${places[@]}" \
        --rates 0.5 1 --corrupt noise --on rgb aux --strengths 0.3 --report "$out"
}
