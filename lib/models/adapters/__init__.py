"""Small trainable parts that adapt a frozen network to another task or modality."""

from lib.models.adapters.adapted_block import AdaptedBlock
