"""Small trainable parts that fit a frozen network to another task or modality."""

from lib.models.adapters.bottleneck import Bottleneck

__all__ = ["Bottleneck"]
