"""Pictures of tracking: boxes on frames, videos, plots, self-contained pages."""
