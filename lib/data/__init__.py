"""Pictures and boxes: stores, readers, crops, sampling, loading, synthetic worlds. Knows no network."""
