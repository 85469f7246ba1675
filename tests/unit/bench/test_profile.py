"""The profiler: products are counted by hand, times belong to what they are named after."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.bench import Effort, ProfileError, counting, profile_text, profile_tracker
from lib.data import Frame
from lib.track import Prediction, State, Tracker

N, D, HEADS = 10, 8, 2


class Attention(nn.Module):
    """One linear layer for the template, attention and a linear layer per frame."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(D, D)
        self.qkv = nn.Linear(D, 3 * D)

    def encode(self, template: Tensor) -> Tensor:
        return self.embed(template)

    def locate(self, tokens: Tensor) -> Tensor:
        time.sleep(0.004)
        return self(tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = self.qkv(tokens).unflatten(2, (3, HEADS, D // HEADS)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v)


@dataclass
class Tokens(State):
    tokens: Tensor


class Toy(Tracker):
    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def init(self, frames: Sequence[Frame], boxes_xywh: Tensor) -> Tokens:
        return Tokens(self.network.encode(torch.zeros(len(frames), N, D)))

    def step(self, state: State, frames: Sequence[Frame]) -> tuple[State, Prediction]:
        assert isinstance(state, Tokens)
        time.sleep(0.004)
        self.network.locate(state.tokens)
        return state, Prediction(torch.zeros(len(frames), 4, dtype=torch.float64), torch.zeros(len(frames)))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_products_of_fused_attention_are_counted(mode: type[torch.no_grad]) -> None:
    network = Attention()
    tokens = torch.zeros(1, N, D)
    with mode(), counting() as cost:
        network(tokens)
    assert cost.macs == N * D * 3 * D + 2 * N * N * D
    assert cost.attention_macs == 2 * N * N * D
    assert cost.uncounted == ()
    assert cost.kernels == 2


def test_explicit_attention_counts_the_same() -> None:
    q = torch.zeros(1, HEADS, N, D // HEADS)
    with counting() as cost:
        (q @ q.transpose(2, 3)).softmax(-1) @ q
    assert cost.macs == cost.attention_macs == 2 * N * N * D
    assert cost.kernels == 3


def test_a_tracker_is_measured_where_it_calls_its_network() -> None:
    network = Attention()
    tracker = Toy(network)
    p = profile_tracker(tracker, torch.device("cpu"), (1, 32), (64, 48), Effort(1, 3, 1.0))
    assert tracker.network is network
    assert p.per_target.macs == N * D * D
    assert p.per_frame.macs == N * D * 3 * D + 2 * N * N * D
    assert p.macs - p.layer_macs == 2 * N * N * D
    assert p.parameters == D * D + D + 3 * D * D + 3 * D
    assert p.network.runs == p.step.runs == 3
    assert 4 <= p.network.median < p.step.median
    assert p.step.median >= 8
    # A step takes the same sleep at any batch size, so 32 frames a step leave room for a busy machine.
    assert p.throughput[32] > 2 * p.throughput[1]
    text = profile_text(p)
    assert "overall params is  0.0M" in text
    assert "batch 32" in text


def test_a_tracker_without_network_is_refused() -> None:
    tracker = Toy(Attention())
    tracker.network = None
    with pytest.raises(ProfileError, match="Toy has no `network`"):
        profile_tracker(tracker, torch.device("cpu"))
