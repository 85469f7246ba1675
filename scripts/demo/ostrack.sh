# Part of scripts/demo.sh: the small OSTrack that comes with the project, fine-tuned on a benchmark of its own.
about="the small network that comes with the project, on the new benchmark's training sequences"
scores=(
    trained="$results/ostrack/synthetic_finetuned/synthetic"
    shipped="$results/ostrack/synthetic_small/synthetic"
    classical="$results/reference/classical/synthetic"
    static="$results/reference/static/synthetic"
    untrained="$results/ostrack/synthetic_finetuned_untrained/synthetic"
)
rows=(
    trained="the network that comes with the project, fine-tuned here on this benchmark's training sequences"
    shipped="the same network as it comes, trained for half an hour on two cores on other sequences of the same renderer"
    classical="median flow, a tracker without learning on OpenCV's optical flow: what learning must beat"
    static="the first frame's box, never moved: what any tracker must beat"
    untrained="the network with random weights: what is due to crops and window alone"
)

make_data() {
    run tracking/make_synthetic_data.py --output "$out/data/synthetic/train" --split train --sequences 500 --frames 24 --difficulty 0.2 --seed 7
    run tracking/make_synthetic_data.py --output "$out/data/synthetic/test" --split test --sequences 16 --frames 60 --difficulty 0.2 --seed 7
}

train() {
    run tracking/train.py --script ostrack --config synthetic_finetuned --mode single "${places[@]}"
}

track() {
    run tracking/test.py ostrack synthetic_finetuned --dataset synthetic --batch 4 "${places[@]}"
    run tracking/test.py ostrack synthetic_finetuned --dataset synthetic --batch 4 --untrained "${places[@]}"
    run tracking/test.py ostrack synthetic_small --dataset synthetic --batch 4 "${places[@]}" \
        --checkpoint pretrained/synthetic_small.safetensors
    run tracking/test.py --tracker static --dataset synthetic "${places[@]}"
    run tracking/test.py --tracker classical --dataset synthetic "${places[@]}"
}

report() {
    run tracking/analysis_results.py --dataset synthetic "${places[@]}" --results "${scores[@]}" --about "${rows[@]}" \
        --training_log "$out/logs/ostrack-synthetic_finetuned.jsonl" \
        --title "A small one-stream tracker, fine-tuned on a synthetic benchmark" --report "$out"
}
