"""Fine-tune the shipped network on your own videos: `my_videos` has a folder of pictures with a box file for each."""

import unitrack

own = "FOLDER:my_videos"
short = {"DATA.TRAIN.DATASETS_NAME": [own], "TRAIN.EPOCH": 1, "DATA.TRAIN.SAMPLE_PER_EPOCH": 32}
short |= {"TRAIN.BATCH_SIZE": 8, "TRAIN.NUM_WORKER": 0, "TRAIN.VAL_EPOCH_INTERVAL": 0}
start = "synthetic_small.safetensors"
weights = unitrack.train("ostrack", "synthetic_small", load=start, overrides=short, save_dir="fine_tuned")
print(unitrack.evaluate(unitrack.load("ostrack", "synthetic_small", weights), own).scores)
