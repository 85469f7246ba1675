"""What a network remembers from frame to frame."""

from lib.models.temporal.target_memory import (
    best_places,
    best_tokens,
    box_prior,
    filled,
    relation,
    remembered,
    where_first,
)
from lib.models.temporal.temporal_compact import TemporalCompactModule
