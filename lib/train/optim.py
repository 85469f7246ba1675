"""Parameter groups, optimisers, and the training mode of modules."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lib.config import ConfigError, ParamGroup, Train
from lib.objectives import Objective, SplittingObjective


def parameter_groups(network: nn.Module, train: Train) -> list[dict[str, Any]]:
    """Groups for a torch optimiser; freezes what the configuration freezes.

    Without TRAIN.PARAM_GROUPS: group 0 the names without "backbone" at LR, group 1 those with it at
    LR * BACKBONE_MULTIPLIER (OSTrack, ECCV 2022), weight decay on everything. With patterns: regular expressions
    searched in the parameter's name, the first that matches decides. Parameters that are frozen already stay frozen and
    are in no group.

    Args:
        network: Its parameters are grouped.
        train: LR, BACKBONE_MULTIPLIER, WEIGHT_DECAY and PARAM_GROUPS are read.

    Returns:
        Dictionaries with `name`, `base_lr` and `names` (of the parameters, in order) in addition to torch's keys.

    Raises:
        ConfigError: A parameter that no pattern matches, a pattern that is the first to match none, or nothing to
            train.
    """
    specs = [(spec.pattern, spec) for spec in train.param_groups] or [
        ("without backbone", ParamGroup("^(?!.*backbone)")),
        ("backbone", ParamGroup("backbone", train.backbone_multiplier)),
    ]
    try:
        expressions = [re.compile(spec.pattern) for _, spec in specs]
    except re.error as error:
        raise ConfigError(f"TRAIN.PARAM_GROUPS: {error.pattern!r} is not a regular expression ({error})") from None
    members: list[dict[str, nn.Parameter]] = [{} for _ in specs]
    orphans = []
    for name, parameter in network.named_parameters():
        first = next((i for i, e in enumerate(expressions) if e.search(name)), None)
        if first is None:
            orphans.append(name)
        else:
            members[first][name] = parameter
    if orphans:
        raise ConfigError(
            f"TRAIN.PARAM_GROUPS: no pattern matches {len(orphans)} parameters (first: {orphans[0]}); "
            'add a last group with PATTERN ".*" for the rest'
        )
    for spec, own in zip(train.param_groups, members, strict=False):
        if not own:
            left = "matches no parameter that an earlier pattern left"
            raise ConfigError(f"TRAIN.PARAM_GROUPS: pattern {spec.pattern!r} {left}")
        for parameter in own.values() if spec.freeze else ():
            parameter.requires_grad_(False)
    groups: list[dict[str, Any]] = []
    for (name, spec), own in zip(specs, members, strict=True):
        trained = {n: p for n, p in own.items() if p.requires_grad}
        lr = train.lr * spec.lr_multiplier
        decay = train.weight_decay if spec.weight_decay is None else spec.weight_decay
        if trained:
            group = {"params": list(trained.values()), "lr": lr, "weight_decay": decay}
            groups.append({**group, "name": name, "names": list(trained), "base_lr": lr})
    if not groups:
        raise ConfigError("no parameter is left to be trained: TRAIN.PARAM_GROUPS freezes all of them")
    return groups


def build_optimizer(groups: list[dict[str, Any]], train: Train) -> Optimizer:
    """AdamW, Adam (weight decay added to the gradient; both betas 0.9 and 0.999, eps 1e-8) or SGD with TRAIN.MOMENTUM.

    Args:
        groups: See `parameter_groups`.
        train: OPTIMIZER, LR, WEIGHT_DECAY and MOMENTUM are read.

    Raises:
        ConfigError: TRAIN.OPTIMIZER is unknown.
    """
    kind = train.optimizer.upper()
    if kind == "SGD":
        return torch.optim.SGD(groups, lr=train.lr, momentum=train.momentum, weight_decay=train.weight_decay)
    adam = torch.optim.AdamW if kind == "ADAMW" else torch.optim.Adam
    return adam(groups, lr=train.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=train.weight_decay)


def check_eval_modules(network: nn.Module, patterns: Sequence[str]) -> None:
    """Check the patterns of EVAL_MODULES.

    Args:
        network: Its module names are searched.
        patterns: Regular expressions.

    Raises:
        ConfigError: A pattern is no regular expression or matches no module.
    """
    for pattern in patterns:
        try:
            found = any(re.search(pattern, name) for name, _ in network.named_modules() if name)
        except re.error as error:
            raise ConfigError(f"TRAIN.PHASES: EVAL_MODULES {pattern!r} is not a regular expression ({error})") from None
        if not found:
            raise ConfigError(f"TRAIN.PHASES: EVAL_MODULES {pattern!r} matches no module of the network")


def set_train_mode(network: nn.Module, objective: Objective, fix_bn: bool, eval_modules: Sequence[str]) -> None:
    """Training mode, except where something asks for evaluation mode.

    Args:
        network: What is trained.
        objective: May keep the whole network in evaluation mode.
        fix_bn: Batch normalisation keeps its running averages and uses them.
        eval_modules: Regular expressions; a module with such a name, and all below it, is in evaluation mode.
    """
    network.train(not (isinstance(objective, SplittingObjective) and objective.keeps_eval_mode))
    for name, module in network.named_modules():
        is_fixed = fix_bn and isinstance(module, nn.modules.batchnorm._BatchNorm)
        if is_fixed or (name and any(re.search(pattern, name) for pattern in eval_modules)):
            module.eval()


def optimizer_state(optimizer: Optimizer) -> dict[str, Any]:
    """Read the optimiser's moments. Rates and decays are the configuration's.

    Args:
        optimizer: Made of groups of `parameter_groups`.

    Returns:
        `names` of all its parameters and `moments` by name: plain types and tensors.
    """
    names, moments = [], {}
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            names.append(name)
            if parameter in optimizer.state:
                moments[name] = dict(optimizer.state[parameter])
    return {"names": names, "moments": moments}


def moment_tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of an optimiser's state by name, such as ``exp_avg of head.weight``.

    Args:
        state: As `optimizer_state` returned it.
    """
    moments = state["moments"].items()
    return {f"{key} of {name}": v for name, own in moments for key, v in own.items() if isinstance(v, Tensor)}


def load_optimizer_state(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Set the optimiser's moments.

    Args:
        optimizer: Made of groups of `parameter_groups`.
        state: As `optimizer_state` returned it, tensors on any device.

    Raises:
        ValueError: The state was written for other parameters.
    """
    names = [name for group in optimizer.param_groups for name in group["names"]]
    if sorted(state["names"]) != sorted(names):
        differing = sorted(set(state["names"]) ^ set(names))
        raise ValueError(
            f"the training state holds moments of other parameters than those trained now: {', '.join(differing[:5])}"
            + (f" and {len(differing) - 5} more" if len(differing) > 5 else "")
        )
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            if name not in state["moments"]:
                continue
            # Copies, since the file may be mapped into memory. The step count stays on the CPU, where torch keeps it.
            moments = dict(state["moments"][name])
            for key, value in moments.items():
                if isinstance(value, torch.Tensor):
                    moments[key] = value.clone() if key == "step" else value.to(parameter.device, copy=True)
            optimizer.state[parameter] = moments
