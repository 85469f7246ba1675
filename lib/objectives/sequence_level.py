"""Sequence-level training: a tracker learns from the results of its decisions (SLT, Kim et al., ECCV 2022).

Self-critical REINFORCE. Two trackers follow the target of a clip with the present network: the greedy one takes the
best candidate of every frame, the exploring one draws it. The difference of their mean overlaps is the reward of all
decisions of the exploring one, which become more probable if it did better, and less if it did worse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from lib.config import SLT
from lib.data import ClipBatch
from lib.device import to_device
from lib.models.heads import Candidates
from lib.models.losses import cells_under
from lib.objectives.base import Losses, Progress
from lib.objectives.frame_level import CellCriterion
from lib.objectives.policies import build_policy
from lib.track import Rollout, SearchRegion, StagedTracker, TemplateRegion, TrackerOutput, roll_out

ABSENT = 10.0
"""Corners whose coordinates' absolute values add up to no more (image pixels) mean that there is no target."""


AuxiliaryLoss = Callable[[Candidates, Tensor], Losses]
"""The method's own losses next to the policy's: (candidates of M search regions of the exploring tracker, targets
[M, 4] x, y, w, h in units of the crop's side) -> losses. A target is zeros where there is none, and may lie partly or
wholly outside the crop."""


@dataclass(frozen=True)
class Explored:
    """Decisions of the exploring trackers of some clips; M search regions, frame-major.

    Attributes:
        template: b template regions.
        start_xywh: [b, 4] float64, boxes that tracking started from, image pixels.
        regions: M search regions; copies that fill up short clips are left out.
        rows: [M] int64, the clip of each search region.
        choices: [M] or [M, C] int64, the chosen candidates.
        rewards: [M] mean overlap of the clip, exploring minus greedy.
        targets_xywh: [M, 4] in units of the crops' sides.
        names: One per clip.
        share: Factor of the loss.
        terms: Of the clips' roll-out, for the log.
    """

    template: TemplateRegion
    start_xywh: Tensor
    regions: SearchRegion
    rows: Tensor
    choices: Tensor
    rewards: Tensor
    targets_xywh: Tensor
    names: list[str]
    share: float = 1.0
    terms: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of(
        cls, rollout: Rollout[Any, Any], clips: list[int], names: list[str], share: float, copies: bool = False
    ) -> Explored:
        """Decisions in some clips of a roll-out.

        Args:
            rollout: Of S clips.
            clips: Numbers of those to learn from.
            names: Of all S clips.
            share: Factor of the loss.
            copies: Those that fill up short clips are among the search regions, with rewards of 0.
        """
        is_real = rollout.real[:, clips].flatten()
        parts = [region.select(clips) for region in rollout.regions]
        regions = type(parts[0]).cat(parts)
        rewards = rollout.advantage()[clips]
        rows = torch.arange(len(clips)).repeat(len(parts))
        overlaps = rollout.overlaps()[:, :, clips].sum(dim=(1, 2)) / is_real.sum()
        whole = cls(
            template=rollout.template.select(clips),
            start_xywh=rollout.start_xywh[clips],
            regions=regions,
            rows=rows,
            choices=rollout.choices[:, to_device(torch.tensor(clips), rollout.choices.device)].flatten(0, 1),
            rewards=rewards[rows] * is_real,
            targets_xywh=targets_in_crops(regions, rollout.truth_xywh[:, clips].flatten(0, 1)),
            names=[names[i] for i in clips],
            share=share,
            terms={"Reward": rewards.mean(), "IoU/greedy": overlaps[0], "IoU/explore": overlaps[1]},
        )
        return whole if copies or is_real.all() else whole.select(is_real.nonzero().flatten().tolist(), share)

    def select(self, picked: Sequence[int], share: float) -> Explored:
        """Some of the search regions, with the clips that they belong to.

        Args:
            picked: Their numbers.
            share: Factor of the loss.
        """
        clips, rows = self.rows[picked].unique(return_inverse=True)
        return replace(
            self,
            template=self.template.select(clips.tolist()),
            start_xywh=self.start_xywh[clips],
            regions=self.regions.select(picked),
            rows=rows,
            choices=self.choices[to_device(torch.tensor(picked), self.choices.device)],
            rewards=self.rewards[picked],
            targets_xywh=self.targets_xywh[picked],
            names=[self.names[i] for i in clips.tolist()],
            share=share,
        )


Prepare = Callable[[StagedTracker], StagedTracker]


class SequenceObjective:
    """Sequence-level training of `tracker`'s network, which stays in eval mode: it learns as it tracks.

    No gradient passes through crops, boxes or rewards. Terms: ``Loss/policy``, those of the method, ``Reward``,
    ``IoU/greedy``, ``IoU/explore`` (means over frames and clips), ``Entropy`` of the policy in nats.

    Args:
        tracker: Its network is the one that learns.
        auxiliary: The method's own losses.
        section: `SLT` of the configuration: weight and kind of the policy, clips per backward pass.
        prepare: Gives the tracker of a roll-out, with the same weights, possibly in a quicker form.
    """

    keeps_eval_mode = True

    def __init__(
        self, tracker: StagedTracker, auxiliary: AuxiliaryLoss, section: SLT, prepare: Prepare = lambda tracker: tracker
    ) -> None:
        self.tracker, self.auxiliary, self.section, self.prepare = tracker, auxiliary, section, prepare
        self.policy = build_policy(section)

    def split(self, network: nn.Module, batch: ClipBatch, progress: Progress) -> list[Explored]:
        """Explore the clips, and split them into micro-batches."""
        return self.parts(roll_out(self.prepare(self.tracker), batch.clips, self.policy.draw), batch.names)

    def parts(self, rollout: Rollout[Any, Any], names: list[str]) -> list[Explored]:
        """Split a roll-out into micro-batches.

        Gradients of the parts add up, as published, or are averaged over all frames (SLT.AVERAGE). A part has whole
        clips, or frames of several (SLT.MICRO_FRAMES). SLT.CLIPS_PER_PASS makes parts smaller, and changes no gradient.

        Args:
            rollout: Of the batch's clips.
            names: Of these clips.
        """
        count, copies = len(names), self.section.copies_teach
        if step := self.section.micro_frames:
            whole = Explored.of(rollout, [*range(count)], names, 1.0, copies)
            total = len(whole.rows)
            groups = [[*range(i, min(i + step, total))] for i in range(0, total, step)]
            return [whole.select(group, len(group) / total) for group in groups]
        size = self.section.micro_batch or count
        groups = [[*range(i, min(i + size, count))] for i in range(0, count, size)]
        frames = [int(rollout.real[:, clips].sum()) for clips in groups]
        shares = [n / sum(frames) if self.section.average else 1.0 for n in frames]
        parts = []
        for clips, share in zip(groups, shares, strict=True):
            step = self.section.clips_per_pass or len(clips)
            passes = [clips[i : i + step] for i in range(0, len(clips), step)]
            explored = [Explored.of(rollout, some, names, share, copies) for some in passes]
            total = sum(len(part.rows) for part in explored)
            parts += [replace(part, share=share * len(part.rows) / total) for part in explored]
        return parts

    def __call__(self, network: nn.Module, batch: Explored, progress: Progress) -> Losses:
        """The same search regions once more, now with gradients; each clip's template is encoded once."""
        tracker = self.tracker
        state = tracker.init_state(batch.template, tracker.encode_template(batch.template), batch.start_xywh)
        rows = to_device(batch.rows, batch.regions.crops.device)
        return self.losses(tracker.forward(state, batch.regions, rows), batch)

    def losses(self, output: TrackerOutput, batch: Explored) -> Losses:
        """Policy gradient and auxiliary loss (SLT, sec. 3.2).

        Iterates of a filter before the last one have terms and weights of their own.

        Args:
            output: Of the batch's search regions, with gradients.
            batch: The choices and their rewards.
        """
        assert output.policy_logits is not None
        log_policy = self.policy.log(output.policy_logits)
        policy = policy_loss(log_policy, batch)
        targets = to_device(batch.targets_xywh.to(log_policy.dtype), log_policy.device)
        auxiliary = self.auxiliary(output.candidates, targets)
        total = self.section.policy_weight * policy + auxiliary.total
        earlier = {}
        if (iterates := output.candidates.maps.get("iterates")) is not None and iterates.shape[1] > 1:
            first, *between = (policy_loss(self.policy.log(i), batch) for i in iterates[:, :-1].unbind(1))
            earlier["Loss/policy_initial"] = first
            total = total + (self.section.initial_weight or 0.0) * first
            if between:
                earlier["Loss/policy_iterates"] = torch.stack(between).mean()
                total = total + (self.section.iterate_weight or 0.0) * earlier["Loss/policy_iterates"]
        own = {name: value for name, value in auxiliary.terms.items() if name != "Loss/total"}
        entropy = -(log_policy.exp() * log_policy).detach().flatten(1).sum(dim=1).mean()
        terms = {"Loss/total": total, "Loss/policy": policy, **earlier, **own, **batch.terms, "Entropy": entropy}
        return Losses(total * batch.share, {name: to_device(value, total.device) for name, value in terms.items()})


def policy_loss(log_policy: Tensor, batch: Explored) -> Tensor:
    """Mean of -reward * log-probability of what was chosen; a frame's choices are independent.

    Args:
        log_policy: [M, N] or [M, C, N].
        batch: The M choices and rewards.
    """
    log_chosen = log_policy.gather(-1, batch.choices[..., None]).squeeze(-1)
    if log_chosen.ndim == 2:
        log_chosen = log_chosen.sum(dim=1)
    return -(to_device(batch.rewards.to(log_chosen.dtype), log_chosen.device) * log_chosen).mean()


def targets_in_crops(regions: SearchRegion, truth_xywh: Tensor) -> Tensor:
    """True boxes in units of the crops' sides.

    Args:
        regions: M search regions.
        truth_xywh: [M, 4] in image pixels; NaN or zeros where the target is absent.

    Returns:
        [M, 4], zeros where the target is absent.
    """
    truth = truth_xywh.nan_to_num(0.0)
    corners = torch.cat([truth[:, :2], truth[:, :2] + truth[:, 2:]], dim=1)
    absent = corners.abs().sum(dim=1) <= ABSENT
    return torch.where(absent[:, None], 0.0, regions.to_crop(truth))


@dataclass(frozen=True)
class DenseBoxLoss:
    """Auxiliary loss of a dense head: box losses of the cells under the target.

    A frame without target adds no loss, unless the criterion wraps around: as published, the first cell then learns a
    box of no size.
    """

    criterion: CellCriterion

    def __call__(self, candidates: Candidates, targets_xywh: Tensor) -> Losses:
        matched = self.criterion.matched(candidates.boxes, targets_xywh)
        if not self.criterion.wrap_matches:
            matched = matched & (targets_xywh[:, 2:] > 0).all(dim=1, keepdim=True)
        return self.criterion.box_losses(candidates.boxes, targets_xywh, matched)


@dataclass(frozen=True)
class CentreBoxLoss:
    """Auxiliary loss of a centre or corner head: box losses where the target's centre is in the crop.

    Of a centre head it is the box of the best cell, if that one is under the target, and of the cell of the target's
    centre otherwise: a cell on something else would learn to give boxes far away from itself.

    Attributes:
        criterion: (candidates, targets [m, 4]) -> box losses alone; the scores learn by the policy.
    """

    criterion: Callable[[Candidates, Tensor], Losses]

    def __call__(self, candidates: Candidates, targets_xywh: Tensor) -> Losses:
        centre = targets_xywh[:, :2] + targets_xywh[:, 2:] / 2
        sized = (targets_xywh[:, 2:] > 0).all(dim=1)
        rows = (sized & (centre > 0).all(dim=1) & (centre < 1).all(dim=1)).nonzero().squeeze(1)
        if not len(rows):
            return Losses(candidates.boxes.sum() * 0.0)  # the graph must be the same in all processes
        visible, targets = candidates.select(rows), targets_xywh[rows]
        if visible.boxes.shape[1] > 1:
            boxes = visible.boxes_at(own_cells(visible.scores, targets))
            visible = replace(visible, scores=visible.scores[:, :1], boxes=boxes[:, None])
        return self.criterion(visible, targets)


def own_cells(scores: Tensor, targets_xywh: Tensor) -> Tensor:
    """Cells that learn a box: the best one where it is under the target, else the one of the target's centre.

    Args:
        scores: [m, g * g], row-major.
        targets_xywh: [m, 4] in units of the crop's side, with their centres in the crop.

    Returns:
        [m] int64.

    Raises:
        ValueError: The candidates are no square of cells.
    """
    grid = math.isqrt(scores.shape[1])
    if grid**2 != scores.shape[1]:
        fault = f"{scores.shape[1]} candidates are no square of cells, which the box loss next to the policy is for"
        raise ValueError(f"{fault}; a method with other candidates has its own, build_auxiliary")
    best = scores.argmax(dim=1)
    place = (targets_xywh[:, :2] + targets_xywh[:, 2:] / 2) * grid
    column, row = place.long().clamp(max=grid - 1).unbind(dim=1)
    under = cells_under(targets_xywh, grid).gather(1, best[:, None]).squeeze(1)
    return torch.where(under, best, row * grid + column)
