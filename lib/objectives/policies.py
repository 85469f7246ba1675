"""Policies of sequence-level training: probabilities of a tracker's choices, by `SLT.POLICY`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from lib.config import SLT
from lib.device import to_device
from lib.ranges import Positive, Range
from lib.registry import Registry


class SequencePolicy(ABC):
    """Probabilities of a tracker's choices; policy logits are [B, N], or [B, K, N] for K choices per frame."""

    @abstractmethod
    def scaled(self, policy_logits: Tensor) -> Tensor:
        """Logits of a softmax over the last dimension, float64, of the shape of `policy_logits`."""

    def log(self, policy_logits: Tensor) -> Tensor:
        """Logarithms of probabilities, float64, of the same shape; they add up to 1 over the last dimension."""
        return torch.log_softmax(self.scaled(policy_logits), dim=-1)

    def draw(self, policy_logits: Tensor) -> Tensor:
        """Draw a choice per frame.

        Random numbers come from the CPU, so that they are the same for all devices.

        Args:
            policy_logits: [B, N] or [B, K, N].

        Returns:
            [B] or [B, K] int64 in 0..N-1.
        """
        below = self.log(policy_logits).exp().cumsum(dim=-1)
        drawn = to_device(torch.rand(*below.shape[:-1], 1, dtype=torch.float64), below.device)
        # Rounding may leave the sum a little off 1; a candidate of no probability is never drawn.
        return torch.searchsorted(below, drawn * below[..., -1:], right=True).squeeze(-1).clamp(max=below.shape[-1] - 1)


POLICIES: Registry[Callable[..., SequencePolicy]] = Registry("policy")
"""By `SLT.POLICY.TYPE`."""


@POLICIES.register("softmax_logit")
@dataclass(frozen=True)
class SoftmaxPolicy(SequencePolicy):
    """Softmax of temperature * logit(p) for windowed scores or probabilities p, kept off 0 and 1 by epsilon.

    The logit of a probability brings back the scale of the network's own output (SLT, sec. 3.3).
    """

    temperature: Positive = 4.0
    epsilon: Annotated[float, Range(0, 0.5, above=True, below=True)] = 0.01

    def scaled(self, policy_logits: Tensor) -> Tensor:
        kept = policy_logits.double() * (1 - 2 * self.epsilon) + self.epsilon
        return self.temperature * kept.logit()


@POLICIES.register("mean_max")
@dataclass(frozen=True)
class MeanMaxPolicy(SequencePolicy):
    """Softmax of raw scores of any scale, whose mean is mapped to -spread and whose maximum to +spread (SLT-TrDiMP).

    Gradients flow through mean and maximum.
    """

    spread: Positive = 7.0

    def scaled(self, policy_logits: Tensor) -> Tensor:
        raw = policy_logits.double()
        mean, largest = raw.mean(dim=-1, keepdim=True), raw.amax(dim=-1, keepdim=True)
        # Equal scores are equally probable.
        return (raw - mean) / (largest - mean).clamp(min=1e-12) * (2 * self.spread) - self.spread


def build_policy(section: SLT) -> SequencePolicy:
    """The policy of `SLT.POLICY`; `SLT.TEMPERATURE` and `SLT.EPSILON` are those of its arguments that it lacks."""
    if section.policy is None:
        return SoftmaxPolicy(section.temperature, section.epsilon)
    given = {"temperature": section.temperature, "epsilon": section.epsilon}
    return section.policy.build(POLICIES, **given)
