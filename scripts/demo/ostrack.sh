# Part of scripts/demo.sh: OSTrack in miniature, from scratch.
about="a small one-stream tracker from scratch"
scores=(
    trained="$results/ostrack/synthetic_demo/synthetic"
    untrained="$results/ostrack/synthetic_demo_untrained/synthetic"
    static="$results/reference/static/synthetic"
    classical="$results/reference/classical/synthetic"
    shipped="$results/ostrack/synthetic_small/synthetic"
)

make_data() {
    run tracking/make_synthetic_data.py --output "$out/data/synthetic/train" --split train --sequences 500 --frames 24 --difficulty 0.2 --seed 7
    run tracking/make_synthetic_data.py --output "$out/data/synthetic/test" --split test --sequences 16 --frames 60 --difficulty 0.2 --seed 7
}

train() {
    run tracking/train.py --script ostrack --config synthetic_demo --mode single "${places[@]}"
}

track() {
    run tracking/test.py ostrack synthetic_demo --dataset synthetic --batch 4 "${places[@]}"
    run tracking/test.py ostrack synthetic_demo --dataset synthetic --batch 4 --untrained "${places[@]}"
    run tracking/test.py ostrack synthetic_small --dataset synthetic --batch 4 "${places[@]}" \
        --checkpoint pretrained/synthetic_small.safetensors
    run tracking/test.py --tracker static --dataset synthetic "${places[@]}"
    run tracking/test.py --tracker classical --dataset synthetic "${places[@]}"
}

report() {
    run tracking/analysis_results.py --dataset synthetic "${places[@]}" --results "${scores[@]}" \
        --training_log "$out/logs/ostrack-synthetic_demo.jsonl" \
        --title "A small one-stream tracker on a synthetic benchmark" --report "$out"
}
