"""Go on with the training of the shipped network on rendered sequences; take more epochs for a better tracker."""

import unitrack

short = {"TRAIN.EPOCH": 1, "DATA.TRAIN.SAMPLE_PER_EPOCH": 32, "TRAIN.BATCH_SIZE": 8, "TRAIN.NUM_WORKER": 0}
weights = unitrack.train("ostrack", "synthetic_small", load="synthetic_small.safetensors", overrides=short)
print(unitrack.load("ostrack", "synthetic_small", weights))
