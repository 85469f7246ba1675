"""Fresh weights that several networks share."""

from __future__ import annotations

from torch import nn


def trunc_normal_linears(module: nn.Module, std: float) -> None:
    """Every linear layer below: truncated normal weights, no bias."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
