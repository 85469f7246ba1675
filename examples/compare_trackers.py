"""Compare trackers on a benchmark, with a report; `other_trackers` has folders or archives of others' result files."""

import unitrack

ours = unitrack.evaluate(unitrack.load(), "synthetic", batch=4)
flow = unitrack.evaluate(unitrack.load("classical"), "synthetic")
print(unitrack.compare([ours, flow, "other_trackers"], "synthetic", report="report"))
