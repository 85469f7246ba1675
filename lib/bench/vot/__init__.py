"""The VOT toolkit: its result files, its workspaces, and the tracker it starts (`python -m lib.bench.vot`)."""
