"""What a method hands to the library: its keys, and how its three parts are built."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from lib.models import Checkpoint, LoadReport, load_into
from lib.objectives import AuxiliaryLoss, Objective
from lib.registry import Registry
from lib.track import Tracker


@dataclass(frozen=True)
class Method:
    """A paper's system: network, objective, tracker.

    name: as on the command line (`--script`), with `aliases` for further script names.
    network_name: begins the names of its checkpoint files (``OSTrack_ep0300``).
    config: frozen dataclass of its keys, a `lib.config.schema.Config` or a subclass.
    parts: dotted field -> registry for every `TYPE` node, so that a wrong argument is told before anything is built.
    build_network(config, training): `training` loads the initial weights that MODEL names.
    build_objective(config, network); build_tracker(config, network, benchmark name or None).
    build_auxiliary(config): what a network is taught beside the policy in sequence-level training; None: the box losses
    of `BoxMaps`, which fit every network that gives these.
    reads_aux: whether its network takes the second picture of RGB-X frames; one that does not is trained on RGB alone.
    weights_of(config, checkpoint): what the network takes of a file, where that is not what the file says.
    benchmarks_of(config): names of benchmarks in a configuration -> the key they stand in, to be checked where
    benchmarks are known.
    added: patterns of parameters that a later stage adds to an earlier one's, so that INIT's file may lack them.
    """

    name: str
    network_name: str
    config: type[Any]
    build_network: Callable[[Any, bool], nn.Module]
    build_objective: Callable[[Any, Any], Objective]
    build_tracker: Callable[[Any, Any, str | None], Tracker]
    build_auxiliary: Callable[[Any], AuxiliaryLoss] | None = None
    reads_aux: bool = False
    weights_of: Callable[[Any, Checkpoint], dict[str, Tensor]] | None = None
    benchmarks_of: Callable[[Any], Mapping[str, str]] | None = None
    added: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    parts: Mapping[str, Registry[Callable[..., Any]]] = field(default_factory=dict)

    def load(
        self, network: nn.Module, config: Any, checkpoint: Checkpoint, strict: bool = True, earlier: bool = False
    ) -> LoadReport:
        """Fill a network of this method; the one way that weights take.

        strict: every name must fit. earlier: the file may be of a stage that lacks what this one adds.
        Raises WeightsError.
        """
        state = checkpoint.state_dict if self.weights_of is None else self.weights_of(config, checkpoint)
        absent = [p for p in self.added if not fnmatch.filter(state, p)] if earlier else []
        return load_into(network, state, strict=strict, ignore=absent, source=checkpoint.path)


METHODS: Registry[Method] = Registry("method")


def register_method(method: Method) -> Method:
    """Make a method known under its name and aliases; returns it."""
    return METHODS.register(method.name, *method.aliases)(method)
