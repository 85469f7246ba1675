"""Memory of a network from frame to frame."""

from lib.models.temporal.label_attention import LabelMemory, LabelTransformer
from lib.models.temporal.temporal_compact import (
    FusedTemporal,
    TemporalCompactModule,
    best_places,
    best_tokens,
    box_prior,
    inverse_affinity,
    memory_init,
    memory_push,
    where_first,
)
