"""The contract of a method: its configuration keys, and the builders of its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from lib.config import InertKey, Tree
from lib.methods.data import DataParts, crop_data
from lib.models import Checkpoint, Mapped
from lib.objectives import AuxiliaryLoss, Objective
from lib.registry import Registry
from lib.track import Tracker


@dataclass(frozen=True)
class Method:
    """A paper's system: network, objective, tracker.

    Attributes:
        name: As on the command line (`--script`); `aliases` are further script names.
        network_name: Beginning of the names of its checkpoint files (``OSTrack_ep0300``).
        config: Frozen dataclass of its keys, a `lib.config.schema.Config` or a subclass.
        build_network: (config, training) -> network with fresh weights.
        build_objective: (config, network) -> objective.
        build_tracker: (config, network) -> tracker; None for a pre-training, which tracks nothing.
        build_data: (config, training) -> frame sampler, transform and loader of its samples.
        build_auxiliary: (config, network) -> losses next to the policy's in sequence-level training; None: the box
            losses of `Candidates`.
        reads_aux: The network takes the second picture of RGB-X frames; others are trained on RGB alone.
        map_trained: (config, checkpoint) -> what the file gives the network, where a trained network differs from its
            file.
        map_published: (state dict of a network) -> the same under the names of published files, where they differ.
        map_pretrained: (config, network, checkpoint) -> what MODEL.PRETRAIN_FILE gives the network.
        added: Patterns of parameters that a later stage adds to an earlier one; INIT's file may lack them.
        parts: Dotted field -> registry for every `TYPE` node, so that a wrong argument is an error before anything is
            built.
        inert_keys: Dotted key of published files that has no effect -> its warning.
        translate: (tree as it was read) -> notes; rewrites published spellings of keys in place.
        complete: (config) -> config with defaults that depend on other keys.
    """

    name: str
    network_name: str
    config: type[Any]
    build_network: Callable[[Any, bool], nn.Module]
    build_objective: Callable[[Any, Any], Objective]
    build_tracker: Callable[[Any, Any], Tracker] | None = None
    build_data: Callable[[Any, bool], DataParts] = crop_data
    build_auxiliary: Callable[[Any, Any], AuxiliaryLoss] | None = None
    reads_aux: bool = False
    map_trained: Callable[[Any, Checkpoint], Mapped] | None = None
    map_published: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None = None
    map_pretrained: Callable[[Any, Any, Checkpoint], Mapped] | None = None
    inert_keys: Mapping[str, InertKey] = field(default_factory=dict)
    translate: Callable[[Tree], list[str]] | None = None
    complete: Callable[[Any], Any] | None = None
    added: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    parts: Mapping[str, Registry[Callable[..., Any]]] = field(default_factory=dict)


METHODS: Registry[Method] = Registry("method")


def register_method(method: Method) -> Method:
    """Register a method under its name and aliases.

    Args:
        method: Becomes a `--script` of every command.

    Returns:
        The method.
    """
    return METHODS.register(method.name, *method.aliases)(method)
