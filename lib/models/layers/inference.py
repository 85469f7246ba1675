"""Networks for tracking alone: what may be done once, at load, because weights no longer change.

A module that has a quicker, equal form offers ``fuse_for_inference(options) -> nn.Module``. `prepare` puts these forms
into a copy of the network and leaves the network itself, which may go on being trained, as it was.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import nn

from lib.models.layers.fused import FuseOptions, packing_works

M = TypeVar("M", bound=nn.Module)


@runtime_checkable
class Fusable(Protocol):
    """A module with a quicker form for fixed weights."""

    def fuse_for_inference(self, plan: FuseOptions) -> nn.Module:
        """Same inputs (but for `plan.pixels`) and outputs up to rounding; shares or copies weights, changes none."""


def prepare(network: M, plan: FuseOptions | None = None) -> M:
    """The network for inference: every `Fusable` part in its quick form, everything else in the plan's number format.

    Weights that need no change are shared with `network`, so its memory is not doubled while both live. The result has
    other parameter names; it can be neither trained nor saved. Call it after loading and moving to a device.
    """
    if network.training:
        raise ValueError("only a network in eval mode can be prepared for inference")
    plan = plan or FuseOptions()
    plan = replace(plan, pack=plan.pack and packing_works(plan.dtype))
    with torch.no_grad():
        return cast("M", _prepared(network, plan))


def reads_pixels(network: nn.Module) -> bool:
    """Whether normalisation was folded into the network, so that it wants uint8 pictures."""
    return any(getattr(m, "reads_pixels", False) for m in network.modules())


def with_fused_children(module: M, plan: FuseOptions) -> M:
    """A copy of `module` whose children are prepared and whose own weights have the plan's format."""
    twin = copy.copy(module)
    twin._modules = {name: None if child is None else _prepared(child, plan) for name, child in module._modules.items()}
    twin._parameters = {
        name: None if value is None else nn.Parameter(value.detach().to(plan.dtype), requires_grad=False)
        for name, value in module._parameters.items()
    }
    twin._buffers = {
        name: value.to(plan.dtype) if value is not None and value.is_floating_point() else value
        for name, value in module._buffers.items()
    }
    return twin


def _prepared(module: nn.Module, plan: FuseOptions) -> nn.Module:
    return module.fuse_for_inference(plan) if isinstance(module, Fusable) else with_fused_children(module, plan)
