"""SLT-TransT: policy and losses, a step with gradients, exploration by two trackers at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from golden import Case, runner
from torch import Tensor, nn

from kinds.transt import build, experiment_of, picture, video
from lib.data import FrameSet, Modality
from lib.methods.transt import TransTTracker
from lib.models.heads import dense_candidates
from lib.objectives import (
    CellCriterion,
    DenseBoxLoss,
    Explored,
    Progress,
    SequenceObjective,
    build_policy,
    targets_in_crops,
)
from lib.track import (
    CropSettings,
    OneStreamState,
    SearchRegion,
    TemplateRegion,
    TrackerOutput,
    roll_out,
)

STRIDE = 8


class Nothing(nn.Module):
    """In place of a network, where a case gives what it would have given."""

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.grid_search = grid
        self.somewhere = nn.Parameter(torch.zeros(()))


class Watched(TransTTracker):
    """Remembers what both halves of the batch saw, and what was thought of it."""

    def __init__(self, network: Any, settings: CropSettings, influence: float) -> None:
        super().__init__(network, settings, influence)
        self.seen: list[tuple[SearchRegion, TrackerOutput]] = []

    def forward(self, state: OneStreamState, region: SearchRegion, rows: Tensor | None = None) -> TrackerOutput:
        output = super().forward(state, region, rows)
        self.seen.append((region, output))
        return output


def config_of(case: Case) -> Any:
    """The published configuration with what the case states."""
    keys = {"slt_loss_weight": "POLICY_WEIGHT", "temp": "TEMPERATURE", "sig_eps": "EPSILON"}
    stated = {f"SLT.{key}": case.config[name] for name, key in keys.items() if name in case.config}
    return experiment_of(case, "slt_transt", **stated).config


def tracker_of(case: Case, network: Any) -> Watched:
    config = config_of(case)
    return Watched(network, CropSettings.from_config(config), config.test.window_influence)


def objective_of(case: Case, tracker: TransTTracker) -> SequenceObjective:
    config = config_of(case)
    return SequenceObjective(tracker, DenseBoxLoss(CellCriterion.from_config(config.train)), config.slt)


def explored(case: Case, template: TemplateRegion, crops: Tensor, grid: int) -> Explored:
    """What a case says was done: rows frame by frame."""
    targets, rewards = case.tensor("search_anno").flatten(0, 1) / (STRIDE * grid), case.tensor("reward_tensor")
    frames, clips = rewards.shape
    return Explored(
        template=template,
        start_xywh=torch.zeros(clips, 4, dtype=torch.float64),
        regions=region_of(crops),
        rows=torch.arange(clips).repeat(frames),
        choices=case.tensor("action_tensor").flatten(),
        rewards=rewards.flatten(),
        targets_xywh=targets,
        names=[""] * clips,
    )


def region_of(crops: Tensor) -> SearchRegion:
    numbers = torch.zeros(len(crops), 2, dtype=torch.float64)
    return SearchRegion(crops, numbers, numbers, numbers)


def reported(terms: dict[str, Tensor]) -> dict[str, Any]:
    """Under the names that cases use."""
    return {
        **terms,
        "total": terms["Loss/total"],
        "Loss/sl_clf": terms["Loss/policy"],
        "sl_clf": terms["Loss/policy"],
        "loss_bbox": terms["Loss/bbox"],
        "loss_giou": terms["Loss/giou"],
        "iou": terms["IoU"],
        "bbox_iou": terms["IoU"],
    }


@runner("slt_pytracking/slt_transt_objective")
def objective(case: Case) -> None:
    logits, boxes = (case.tensor(n).requires_grad_() for n in ("pred_logits", "pred_boxes"))
    network = Nothing(round(logits.shape[1] ** 0.5))
    tracker = tracker_of(case, network)
    learn = objective_of(case, tracker)
    candidates = dense_candidates(logits, boxes)
    nothing = torch.zeros(len(logits), 0)
    batch = explored(case, TemplateRegion(nothing, nothing), nothing, network.grid_search)
    output = tracker.output(candidates, OneStreamState(nothing, nothing), region_of(nothing))
    found = learn.losses(output, batch)
    found.total.backward()
    named = reported(found.terms) | {
        "log_policy": learn.policy.log(output.windowed_scores),
        "grad_pred_logits": logits.grad,
        "grad_pred_boxes": boxes.grad,
    }
    for name, stored in case.data["outputs"].items():
        case.check(named[name], stored, name)


@runner("slt_pytracking/slt_transt_step")
def step(case: Case) -> None:
    network = build(case).train(case.config.get("mode") == "train")
    tracker = tracker_of(case, network)
    tracker.normalise = nn.Identity()
    learn = objective_of(case, tracker)
    crops = picture(case, "template_images")
    template = TemplateRegion(crops, torch.zeros(len(crops), 4, dtype=torch.float64))
    batch = explored(case, template, picture(case, "search_images").flatten(0, 1), network.grid_search)
    found = learn(network, batch, Progress(1, 120))
    found.total.backward()
    gradients = {n: p.grad for n, p in network.named_parameters()}
    named = reported(found.terms) | {f"grad:{n}": g for n, g in gradients.items()}
    named["grad_norm"] = torch.stack([g.norm() for g in gradients.values() if g is not None]).norm()
    for name, stored in case.data["outputs"].items():
        case.check(named[name], stored, name)


def clip_of(spec: dict[str, Any], start: int, numbers: list[int]) -> FrameSet:
    """A clip of a synthetic video: the template's frame, and those that are tracked."""
    frames, boxes = video(spec)
    return FrameSet(
        template=(frames[start],),
        search=tuple(frames[i] for i in numbers),
        template_boxes=np.array([boxes[start]]),
        search_boxes=np.array([boxes[i] for i in numbers]),
        modality=Modality.RGB,
        dataset="case",
        sequence=str(spec["seed"]),
        frame_ids=(start, *numbers),
    )


@runner("slt_pytracking/slt_transt_explore")
def explore(case: Case) -> None:
    tracker = tracker_of(case, build(case))
    policy = build_policy(config_of(case).slt)
    clips = [clip_of(spec, case.config["template_frame"], case.config["frames"]) for spec in case.config["videos"]]
    actions = iter(case.tensor("sampled_actions")[:, len(clips) :])
    rollout = roll_out(tracker, clips, lambda response: next(actions))
    views = [view for view, _ in tracker.seen]
    policies = [policy.log(j.windowed_scores).exp() for _, j in tracker.seen if j.windowed_scores is not None]
    best = torch.stack([p.argmax(dim=1) for p in policies])
    both = torch.cat([rollout.truth_xywh] * 2, dim=1)
    placed = (
        torch.stack([targets_in_crops(v, t) for v, t in zip(views, both, strict=True)]) * tracker.settings.search_size
    )
    overlaps = rollout.overlaps()
    named: dict[str, Any] = {
        "selected_indices": torch.cat([best[:, : len(clips)], rollout.choices], dim=1),
        "gt_in_crop": placed,
        "policy_argmax": best,
        "baseline_iou": overlaps[0],
        "explore_iou": overlaps[1],
        "action_tensor": rollout.choices,
        "reward": rollout.advantage(),
        "template_images": tracker.normalise(rollout.template.crops),
        "search_images": torch.stack([tracker.normalise(v.crops) for v in rollout.regions]),
        "search_anno": placed[:, len(clips) :],
    }
    outputs = dict(case.data["outputs"])
    for found, stored in zip(policies, outputs.pop("policy_probability"), strict=True):
        case.check(found, stored, "policy_probability")
    wide = {"rtol": 0.0, "atol": case.config["tolerance_boxes_px"]}
    boxes = torch.cat([rollout.boxes_xywh[0], rollout.boxes_xywh[1]], dim=1)
    case.check(boxes, outputs.pop("pred_bboxes"), "pred_bboxes", wide)
    for name, stored in outputs.items():
        case.check(named[name], stored, name)
