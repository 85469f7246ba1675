"""Track one target in a video; `init` is its box x, y, w, h in the first frame, in pixels."""

import unitrack

tracker = unitrack.load()
for box, score in unitrack.track(tracker, "clip.mp4", init=(40, 30, 32, 28)):
    print(box, score)
