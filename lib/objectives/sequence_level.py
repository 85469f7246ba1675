"""Sequence-level training: a tracker learns from what its decisions lead to (SLT, Kim et al., ECCV 2022).

Self-critical REINFORCE. Two trackers follow the target of a clip with the present network: one takes the best cell of
every frame, the other one draws it. What the second gains or loses in mean overlap is the reward of all its decisions:
cells of a trajectory that did better become more probable, of one that did worse less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lib.data import ClipBatch
from lib.models.heads import BoxMaps
from lib.models.losses import cells_under
from lib.objectives.base import Losses, Progress
from lib.objectives.cell_level import CellCriterion
from lib.track import (
    Rollout,
    SearchRegion,
    StagedTracker,
    TemplateRegion,
    TrackerOutput,
    roll_out,
    windowed_scores_of,
)

ABSENT = 10.0
"""Corners whose coordinates' absolute values add up to no more (image pixels) mean that there is no target."""


@dataclass(frozen=True)
class SoftmaxPolicy:
    """How probable each cell is: softmax of temperature * logit(response), the response kept off 0 and 1 by epsilon.

    Since a response is a probability, its logit brings back the scale of the network's own output (SLT, sec. 3.3).
    """

    temperature: float = 4.0
    epsilon: float = 0.01

    def log(self, response: Tensor) -> Tensor:
        """[B, N] in 0..1 -> [B, N] float64 logarithms of probabilities that add up to 1 in every row."""
        kept = response.double() * (1 - 2 * self.epsilon) + self.epsilon
        return torch.log_softmax(self.temperature * kept.logit(), dim=1)

    def draw(self, response: Tensor) -> Tensor:
        """A cell per row, [B] int64. Random numbers come from the CPU, so that they are the same for all devices."""
        below = self.log(response).exp().cumsum(dim=1)
        drawn = torch.rand(len(response), 1, dtype=torch.float64).to(response.device)
        # Rounding may leave the sum a little off 1; a cell of no probability is never drawn.
        return torch.searchsorted(below, drawn * below[:, -1:], right=True).squeeze(1).clamp(max=below.shape[1] - 1)


class AuxiliaryLoss(Protocol):
    """What a method's network is taught beside the policy, on the crops that the exploring tracker saw."""

    def __call__(self, output: Any, targets_xywh: Tensor) -> Losses:
        """output: of `StagedTracker.forward`, M rows. targets_xywh: [M, 4] in units of the crop's side.

        Targets are zeros where there is none; they may lie partly or wholly outside the crop.
        """


@dataclass(frozen=True)
class SequenceRule:
    """policy_weight: of the policy's loss. micro_batch: clips per backward pass; 0 for all.

    average: the gradients of the parts of a batch are averaged; as published, they add up.
    """

    policy_weight: float = 15.0
    micro_batch: int = 2
    average: bool = False
    policy: SoftmaxPolicy = field(default_factory=SoftmaxPolicy)


@dataclass(frozen=True)
class Explored:
    """What some clips' exploring trackers went through, to be learned from.

    target: b rows. views: K * b rows, frame-major, as all that follows. cells, rewards: [K * b], what was taken and how
    much better than expected it was. targets_xywh: [K * b, 4] in units of the crops' sides. names: one per clip. share:
    factor of the loss. terms: of the clips' roll-out, for the log.
    """

    target: TemplateRegion
    views: SearchRegion
    cells: Tensor
    rewards: Tensor
    targets_xywh: Tensor
    names: list[str]
    share: float = 1.0
    terms: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of(cls, rollout: Rollout[Any, Any], rows: list[int], names: list[str], share: float) -> Explored:
        """What became of the clips in these rows of a roll-out; names: of all its clips."""
        seen = [view.select(rows) for view in rollout.views]
        views = type(seen[0]).cat(seen)
        rewards = rollout.advantage()[rows]
        greedy, exploring = rollout.overlaps()[:, :, rows].mean(dim=(1, 2))
        return cls(
            target=rollout.target.select(rows),
            views=views,
            cells=rollout.cells[:, rows].flatten(),
            rewards=rewards.repeat(len(seen)),
            targets_xywh=targets_in_crops(views, rollout.truth_xywh[:, rows].flatten(0, 1)),
            names=[names[i] for i in rows],
            share=share,
            terms={"Reward": rewards.mean(), "IoU/greedy": greedy, "IoU/explore": exploring},
        )


class SequenceObjective:
    """Sequence-level training of `tracker`'s network, which stays in eval mode: it learns as it tracks.

    No gradient passes through crops, boxes or rewards. Terms: ``Loss/policy``, those of the method, ``Reward``,
    ``IoU/greedy``, ``IoU/explore`` (means over frames and clips), ``Entropy`` of the policy in nats.
    """

    keeps_eval_mode = True

    def __init__(
        self,
        tracker: StagedTracker[Any, Any, Any],
        auxiliary: AuxiliaryLoss,
        rule: SequenceRule,
        prepare: Callable[[StagedTracker[Any, Any, Any]], StagedTracker[Any, Any, Any]] = lambda tracker: tracker,
    ) -> None:
        """prepare: gives the tracker of a roll-out, with the same weights, possibly in a quicker form."""
        self.tracker, self.auxiliary, self.rule, self.prepare = tracker, auxiliary, rule, prepare

    def split(self, network: nn.Module, batch: ClipBatch, progress: Progress) -> list[Explored]:
        """Explore, and deal the clips out to micro-batches."""
        explorer = self.prepare(self.tracker)
        return self.parts(roll_out(explorer, batch.clips, self.rule.policy.draw), batch.names)

    def parts(self, rollout: Rollout[Any, Any], names: list[str]) -> list[Explored]:
        """A roll-out as parts to learn from."""
        count = len(names)
        size = self.rule.micro_batch or count
        groups = [[*range(i, min(i + size, count))] for i in range(0, count, size)]
        share = 1 / len(groups) if self.rule.average else 1.0
        return [Explored.of(rollout, rows, names, share) for rows in groups]

    def __call__(self, network: nn.Module, batch: Explored, progress: Progress) -> Losses:
        """The same views once more, now with gradients."""
        clips, frames = len(batch), len(batch.cells) // len(batch)
        start = torch.zeros(clips, 4, dtype=torch.float64)
        state = self.tracker.init_state(batch.target, start).select([*range(clips)] * frames)
        return self.losses(self.tracker.forward(state, batch.views), batch)

    def losses(self, output: TrackerOutput, batch: Explored) -> Losses:
        """output: K * b rows, frame-major."""
        response = windowed_scores_of(output)
        log_policy = self.rule.policy.log(response)
        taken = log_policy.gather(1, batch.cells[:, None]).squeeze(1)
        policy = -(batch.rewards.to(taken) * taken).mean()
        auxiliary = self.auxiliary(output.candidates, batch.targets_xywh.to(response))
        total = (self.rule.policy_weight * policy + auxiliary.total) * batch.share
        own = {name: value for name, value in auxiliary.terms.items() if name != "Loss/total"}
        entropy = -(log_policy.detach().exp() * log_policy.detach()).sum(dim=1).mean()
        terms = {"Loss/total": total, "Loss/policy": policy, **own, **batch.terms, "Entropy": entropy}
        return Losses(total, {name: value.detach().to(total.device) for name, value in terms.items()})


def targets_in_crops(views: SearchRegion, truth_xywh: Tensor) -> Tensor:
    """[M, 4] true boxes in image pixels -> in units of the crops' sides, zeros where the target is absent."""
    truth = truth_xywh.nan_to_num(0.0)
    corners = torch.cat([truth[:, :2], truth[:, :2] + truth[:, 2:]], dim=1)
    absent = corners.abs().sum(dim=1) <= ABSENT
    return torch.where(absent[:, None], 0.0, views.place(truth))


@dataclass(frozen=True)
class DenseBoxLoss:
    """Auxiliary losses of a network that gives every cell a box: those of the cells under the target.

    An absent target teaches nothing, unless the criterion wraps round: as published, the first cell then learns a box
    of no size.
    """

    criterion: CellCriterion

    def __call__(self, output: BoxMaps, targets_xywh: Tensor) -> Losses:
        if output.cell_boxes_cxcywh is None:
            raise ValueError("box losses by cell need a head that gives every cell a box")
        boxes = output.cell_boxes_cxcywh.transpose(1, 2)
        matched = self.criterion.matched(boxes, targets_xywh)
        if not self.criterion.wrap_matches:
            matched = matched & (targets_xywh[:, 2:] > 0).all(dim=1, keepdim=True)
        return self.criterion.box_losses(boxes, targets_xywh, matched)


@dataclass(frozen=True)
class CentreBoxLoss:
    """Auxiliary losses of a network that gives `BoxMaps`: its box losses, where the target's centre is in the crop.

    The box is that of the best cell, if that one is under the target, and of the cell of the target's centre otherwise:
    a cell on something else would learn to give boxes far away from itself.
    criterion: (maps, targets [m, 4]) -> losses without any for the score map, which the policy alone teaches.
    """

    criterion: Callable[[BoxMaps, Tensor], Losses]

    def __call__(self, output: BoxMaps, targets_xywh: Tensor) -> Losses:
        centre = targets_xywh[:, :2] + targets_xywh[:, 2:] / 2
        sized = (targets_xywh[:, 2:] > 0).all(dim=1)
        rows = (sized & (centre > 0).all(dim=1) & (centre < 1).all(dim=1)).nonzero().squeeze(1)
        if not len(rows):
            # The graph must be the same in all processes.
            zero = output.boxes_cxcywh.sum() * 0.0
            return Losses(zero, {})
        seen, targets = output.select(rows), targets_xywh[rows]
        cells = own_cells(seen.score_map, targets)
        return self.criterion(replace(seen, boxes_cxcywh=seen.boxes_at(cells)), targets)


def own_cells(score_map: Tensor, targets_xywh: Tensor) -> Tensor:
    """[m] int64, row-major: the best cell of maps [m, 1, g, g] where it is under the target, else the centre's."""
    grid = score_map.shape[-1]
    best = score_map.flatten(1).argmax(dim=1)
    place = (targets_xywh[:, :2] + targets_xywh[:, 2:] / 2) * grid
    column, row = place.long().clamp(max=grid - 1).unbind(dim=1)
    under = cells_under(targets_xywh, grid).gather(1, best[:, None]).squeeze(1)
    return torch.where(under, best, row * grid + column)
