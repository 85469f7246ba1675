"""Compare trackers on a benchmark and write a report; result folders of other programs are read as well."""

import unitrack

ours = unitrack.evaluate(unitrack.load(), "synthetic", batch=4)
flow = unitrack.evaluate(unitrack.load("classical"), "synthetic")
print(unitrack.compare([ours, flow, "other_trackers"], "synthetic", report="report"))
