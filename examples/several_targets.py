"""Track several targets at once: they are the rows of one batch, so that three cost little more than one."""

import unitrack

people = [(40, 30, 32, 28), (90, 60, 24, 24), (20, 70, 30, 20)]
for boxes, scores in unitrack.track(unitrack.load(), "clip.mp4", init=people):
    print(boxes.round(1), scores.round(2))
