"""TrDiMP's tracker and training: crops, labels and losses, sample memory, localisation."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from golden import Case, runner
from torch import Tensor, nn

from kinds.ostrack import written
from kinds.slt_transt import clip_of
from kinds.transt import video
from kinds.trdimp_network import build, by_sequence, tensor
from lib.data import Batch, InsideStyle, Normalise, PatchStyle
from lib.methods import Experiment
from lib.methods.trdimp import ProposalLoss, TrDiMPObjective, TrDiMPRegion, TrDiMPTemplate, TrDiMPTest, TrDiMPTracker
from lib.models.heads import Candidates
from lib.models.losses import gaussian_labels, hinge_loss
from lib.models.proposals import Proposals, density_loss, draw_proposals
from lib.objectives import Explored, Progress, SequenceObjective, build_policy, targets_in_crops
from lib.track import (
    BoxRules,
    FirstFrameAugment,
    Flag,
    LocalisationRules,
    MemoryRules,
    SampleMemory,
    TemplateRegion,
    TrackerOutput,
    roll_out,
)
from lib.train import parameter_groups

STRIDE = 16


@runner("slt_pytracking/trdimp_crops")
def crops(case: Case) -> None:
    frame, config, outputs = video(case.config["video"])[0][0], case.config, case.data["outputs"]
    patches, train = PatchStyle(), InsideStyle()
    for (y, x, scale, mode), stored in zip(config["items"], outputs["patches"], strict=True):
        size = stored["patch"]["shape"][-1]
        region = patches.place_at((x, y), scale, size, frame.size_hw, inside=mode == "inside_major")
        (cx, cy), (width, height) = region.centre_xy, region.sides_wh
        corners = [cy - height / 2, cx - width / 2, cy + height / 2, cx + width / 2]
        assert corners == stored["coords_y1x1y2x2"], (y, x, scale)
        case.check(patches.crop(frame.rgb, region, size).transpose(2, 0, 1)[None], stored["patch"], f"patch {y} {x}")
    for (x, y, w, h, factor), stored in zip(config["train_items"], outputs["train_crops"], strict=True):
        size = stored["crop"]["shape"][0]
        region = train.region((x, y, w, h), factor, size, frame.size_hw)
        case.check(train.crop(frame.rgb, region, size), stored["crop"], f"training crop {x} {y}")
        placed = train.to_crop((x + 4, y - 3, 0.9 * w, 1.1 * h), region, size)
        case.check(placed, stored["box_in_crop"], f"box {x} {y}", {"rtol": 1e-5, "atol": 1e-4})
    # The patch of the first frame is described in words alone.
    y, x, scale, side = map(
        float, re.findall(r"\(y,x\)=\((\S+),(\S+)\), scale (\S+), expansion (\d+)", case.data["what"])[0]
    )
    region = patches.place_at((x, y), scale, int(side), frame.size_hw, inside=False)
    patch = patches.crop(frame.rgb, region, int(side))
    for words, stored in zip(config["transforms"], outputs["augmented"], strict=True):
        augment, shift = augmentation(words)
        shifts = np.array([shift] * augment.crops)
        crop = augment.crop(patch, stored["shape"][-1], shifts)[-1]
        case.check(crop.transpose(2, 0, 1), stored, words)


def augmentation(words: str) -> tuple[FirstFrameAugment, list[int]]:
    """``blur(3,1) shift(-40,7)`` -> the augmentation with this one crop, and its translation y, x."""
    pairs = [[int(v) for v in pair] for pair in re.findall(r"\((-?\d+),(-?\d+)\)", words)]
    angles = [float(a) for a in re.findall(r"rotate (-?\d+)", words)]
    settings: dict[str, Any] = {
        "relative_shift": ((0.0, 0.0),) * words.startswith("translate"),
        "flip": words.startswith("flip"),
        "blur": (tuple(map(float, pairs[0])),) if words.startswith("blur") else (),
        "rotate": tuple(angles),
    }
    return FirstFrameAugment(**settings), pairs[-1] if pairs else [0, 0]


@runner("slt_pytracking/labels_and_losses")
def labels_and_losses(case: Case) -> None:
    c = case.config
    boxes, grid, size = case.tensor("boxes"), c["feat_sz"], c["image_sz"]
    factors = {}
    for name in ("template_label", "search_label"):
        top, bottom = re.findall(r"sigma_factor ([\d.]+)/?([\d.]*)", c[name])[0]
        factors[name] = float(top) / float(bottom or 1)
    labels = gaussian_labels(boxes / size, grid, factors["template_label"], c["kernel_sz"])
    search = gaussian_labels(boxes / size, grid, factors["search_label"], c["kernel_sz"], padded=True)
    sigma = factors["search_label"] * grid
    numbers = case.tensor("component_ids"), case.tensor("gmm_noise")
    drawn = draw_proposals(boxes[0], *numbers, c["proposal_sigma"], c["gt_sigma"])
    scores, raw = case.tensor("kl_scores").requires_grad_(), case.tensor("hinge_scores").requires_grad_()
    loss, hinge = density_loss(scores, drawn), hinge_loss(raw, search, c["hinge_threshold"])
    (loss + hinge).backward()
    named: dict[str, Any] = {
        "template_label": labels,
        "search_label": search,
        "search_label_density": search / (2 * torch.pi * sigma**2),
        "proposals": drawn.boxes_xywh,
        "proposal_density": drawn.density,
        "gt_density": drawn.target_density,
        "kl_loss": loss,
        "grad_kl": scores.grad,
        "hinge_loss": hinge,
        "grad_hinge": raw.grad,
    }
    for name, stored in case.data["outputs"].items():
        case.check(named[name], stored, name)


@runner("slt_pytracking/sample_memory")
def sample_memory(case: Case) -> None:
    c = case.config
    memory = SampleMemory.init(
        torch.zeros(1, c["num_init"], 1, 1, 1), torch.zeros(1, c["num_init"], 4), c["memory_size"]
    )
    for hard, stored in zip(c["hard_negative_steps"], case.data["outputs"]["steps"], strict=True):
        rate = torch.tensor([c["hard_negative_learning_rate"] if hard else c["learning_rate"]])
        memory = memory.add([0], torch.ones(1, 1, 1, 1), torch.ones(1, 4), rate, c["init_samples_minimum_weight"])
        assert int(memory.latest) == stored["replace_index"]
        case.check(memory.weights[0], stored["weights"], "weights")


@runner("slt_pytracking/advanced_localization")
def advanced_localization(case: Case) -> None:
    items = case.config["items"]
    scores = case.tensor("score_maps").float()

    def of(name: str) -> Tensor:
        return torch.tensor([item[name] for item in items], dtype=torch.float32)

    cell = STRIDE * of("sample_scale")[:, None]
    previous = (of("pos_yx") - of("sample_pos_yx")) / cell
    rules = experiment_of(case).config.test.localisation
    moved, flags = rules.localise(scores, of("target_sz_hw") / cell, previous)
    for shift, flag, stored in zip(moved * cell, flags.tolist(), case.data["outputs"]["results"], strict=True):
        case.check(shift, stored["translation_yx"], "translation")
        assert Flag(flag).name.lower() == stored["flag"]


SETTINGS = {
    "search_area_scale": "SEARCH_FACTOR",
    "image_sample_size": "SEARCH_SIZE",
    "random_shift_factor": "AUGMENT.RANDOM_SHIFT",
    "augmentation_expansion_factor": "AUGMENT.EXPANSION",
    "dispalcement_scale": "LOCALISATION.DISPLACEMENT_SCALE",
}
"""Published names of parameters -> keys of TEST, where these differ."""
UNCHANGED = {
    "box_refinement_step_decay": 1,
    "box_refinement_space": "relative",
    "border_mode": "inside_major",
    "window_output": False,
    "iounet_augmentation": False,
    "score_preprocess": "none",
    "use_iounet_pos_for_learning": True,
    "scale_factors": [1],
    "train_sample_interval": 1,
    "output_not_found_box": False,
}
"""Published parameters that have one value."""


def settings_of(overrides: dict[str, Any]) -> dict[str, Any]:
    """Parameters of the published tracker as keys of TEST."""
    sections = {
        "": TrDiMPTest,
        "MEMORY.": MemoryRules,
        "LOCALISATION.": LocalisationRules,
        "BOX_REFINEMENT.": BoxRules,
        "AUGMENT.": FirstFrameAugment,
    }
    known = {f.name: path + f.name.upper() for path, of in sections.items() for f in fields(of)}
    found: dict[str, Any] = {}
    for name, value in overrides.items():
        if name == "augmentation":
            blur, shifts, dropout = value.get("blur", []), value.get("relativeshift", []), value.get("dropout")
            found |= {
                "TEST.AUGMENT.FLIP": bool(value.get("fliplr", False)),
                "TEST.AUGMENT.ROTATE": value.get("rotate", []),
                "TEST.AUGMENT.BLUR": blur,
                "TEST.AUGMENT.RELATIVE_SHIFT": shifts,
                "TEST.AUGMENT.DROPOUT": dropout[0] if dropout else 0,
                "TEST.AUGMENT.DROPOUT_RATE": dropout[1] if dropout else 0.0,
            }
        elif UNCHANGED.get(name) == value:
            continue
        elif name in ("transformer_skipping", "transformer_memory_size") and value < 1:
            found["TEST.TRANSFORMER_SKIPPING"] = 0
        else:
            found[f"TEST.{SETTINGS.get(name) or known[name]}"] = value
    return found


class Stream:
    """One stream of random numbers for all draws of a case, in their order."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.RandomState(seed)

    def __call__(self, keys: Tensor, steps: Tensor, shape: Any) -> Tensor:
        return torch.from_numpy(np.stack([self.random.random_sample(shape) for _ in keys]))


def experiment_of(case: Case) -> Experiment:
    c = case.config
    name = c.get("parameters", "slt_trdimp")
    script = "slt_trdimp" if name.startswith("slt") else "trdimp"
    return written(script, name, settings_of(c.get("parameter_overrides", {})))


def tracker_of(case: Case) -> TrDiMPTracker:
    overrides = case.config.get("parameter_overrides", {})
    case.data["config"].setdefault("image_size", overrides.get("image_sample_size", 352))
    tracker: Any = experiment_of(case).build_tracker(build(case))
    tracker.noise = Stream(case.config["random_source"]["seed"])
    return tracker


@runner("trdimp/slt_track")
def track(case: Case) -> None:
    tracker, outputs = tracker_of(case), case.data["outputs"]
    frames, truth = video(case.config["video"])
    start = torch.tensor(truth[:1], dtype=torch.float64)
    given: list[Tensor] = []
    transformer = tracker.network.classifier.transformer
    encode = transformer.encode

    def watched(features: Tensor, labels: Tensor, growing: bool = False) -> Any:
        given.append(features)
        return encode(features, labels, growing)

    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformer, "encode", watched)
        region = tracker.crop_template(frames[:1], start)
        encoded = tracker.encode_template(region)
        state = tracker.init_state(region, encoded, start)
    check_init(case, tracker, region, encoded, state, given[0])
    boxes = []
    for i, (frame, stored) in enumerate(zip(frames[1:], outputs["frames"], strict=True)):
        with torch.no_grad():
            seen = tracker.crop_search(state, [frame])
            output = tracker.forward(state, seen)
            after, prediction = tracker.postprocess(state, seen, output)
            state = tracker.update(after, [frame], seen, output, prediction)
        boxes.append(prediction.boxes_xywh[0].tolist())
        named: dict[str, Any] = {
            "max_score": output.candidates.scores.max(),
            "target_scale": state.scales[0],
            "filter": state.filters[:, -1],
            "memory_images": state.memories[0].keys.shape[1] // tracker.network.grid**2,
        }
        if state.samples is not None:
            weights = state.samples.weights[0]
            named |= {"sample_weights": weights[: len(stored["sample_weights"])], "num_stored": state.samples.stored[0]}
        found = dict(stored)
        flag = found.pop("flag") or "normal"
        assert Flag(int(state.flags[0])).name.lower() == flag, f"frame {i + 1}"
        for name, value in found.items():
            case.check(named[name], value, f"{name} in frame {i + 1}")
    tolerance = {"rtol": 0.0, "atol": case.config["tolerance_boxes_px"]}
    case.check(boxes, outputs["target_bbox"], "boxes", tolerance)


def check_init(case: Case, tracker: TrDiMPTracker, region: Any, encoded: Any, state: Any, features: Tensor) -> None:
    """What is known of the first frame; `features` [1, N, C, h, w] of its crops and copies are the tracker's own."""
    network, size = tracker.network, tracker.settings.search_size
    stored = dict(case.data["outputs"]["init"])
    copies = encoded.samples.shape[1] - region.crops.shape[1]
    boxes = encoded.boxes_xywh[0]
    memory = encoded.memories[0]
    moved = (boxes[:, :2] - boxes[:1, :2]).flip(1)
    with torch.no_grad():
        full = memory
        if full.tokens is None:  # of trackers whose memory does not grow
            labels = gaussian_labels(boxes / size, network.grid, 0.1)[None]
            full = network.classifier.transformer.encode(features, labels, growing=True)
        assert full.tokens is not None
        assert full.sums is not None
        tokens = network.classifier.transformer.encoded(full.tokens, full.sums, network.grid**2)
    named: dict[str, Any] = {
        "transforms_shift": moved,
        "target_boxes": boxes,
        "filter": encoded.filters[:, -1],
        "x_clf": features[0],
        "transformer_memory": tokens.transpose(0, 1),
        "transformer_label": memory.values[0, :, network.width].view(-1, 1, network.grid, network.grid),
        "target_scale": state.scales[0],
    }
    assert len(region.kept[0]) == copies
    for found, wanted in zip(encoded.modulation[0], stored.pop("iou_modulation"), strict=True):
        case.check(found[:, None, None], wanted, "modulation")
    for name, value in stored.items():
        case.check(named[name], value, name)


def trained_by(case: Case, script: str) -> Any:
    """The configuration of a training with the case's weights of losses."""
    c = case.config
    names = {"sl_clf": "SLT.POLICY_WEIGHT", "sl_init_clf": "SLT.INITIAL_WEIGHT", "sl_iter_clf": "SLT.ITERATE_WEIGHT"}
    keys = {name: names.get(name, f"TRAIN.{name.upper()}") for name in c["loss_weights"]}
    settings = {keys[name]: value for name, value in c["loss_weights"].items()}
    if "hinge_threshold" in c:
        settings["TRAIN.HINGE_THRESHOLD"] = c["hinge_threshold"]
    if "score_norm_meanmax" in c:
        low, high = c["score_norm_meanmax"]
        assert low == -high, "the policy maps mean and maximum to opposite numbers"
        settings["SLT.POLICY"] = {"TYPE": "mean_max", "SPREAD": high}
    return written(script, script, settings).config


def proposals_of(case: Case, order: Callable[[Tensor], Tensor]) -> Proposals:
    """Those of a case, [m, S, P, ...] in another order."""
    names = ("search_proposals", "proposal_density", "gt_density")
    inputs = case.data["inputs"]
    found = [order(tensor(case, name)) for name in names if name in inputs]
    return Proposals(*([torch.zeros(*found[0].shape, 4)] if len(found) < len(names) else []), *found)


def check_gradients(case: Case, network: nn.Module, named: dict[str, Any]) -> None:
    """Compare what a training step gives; parameters without a gradient are those of the case."""
    gradients = {n: p.grad for n, p in network.named_parameters()}
    outputs = dict(case.data["outputs"])
    without = outputs.pop("params_without_grad_prefixes")
    for name, gradient in gradients.items():
        is_without = any(name.startswith(f"{prefix}.") for prefix in without if prefix != "classifier.transformer")
        assert (gradient is None) == is_without, name
    norm = torch.stack([g.norm() for g in gradients.values() if g is not None]).norm()
    named |= {"grad_norm": norm, **{f"buffer_after:{n}": b for n, b in network.named_buffers()}}
    for name, stored in outputs.items():
        if not name.startswith("grad:"):
            case.check(named[name], stored, name)
        elif stored is None:
            assert gradients[name.removeprefix("grad:")] is None, name
        else:
            case.check(gradients[name.removeprefix("grad:")], stored, name)


@runner("slt_pytracking/trdimp_train_step")
def train_step(case: Case) -> None:
    config, network = trained_by(case, "trdimp"), build(case)
    parameter_groups(network, config.train)
    network.train(case.config["mode"] == "train")
    learn = TrDiMPObjective(config, network)
    learn.propose = lambda targets, train: proposals_of(case, lambda x: x.transpose(0, 1))
    boxes = [by_sequence(case, name).float() / network.size for name in ("template_anno", "search_anno")]
    batch = Batch(
        by_sequence(case, "template_images"),
        by_sequence(case, "search_images"),
        *boxes,
        torch.zeros(len(boxes[0]), dtype=torch.int64),
    )
    found = learn(network, batch, Progress(1, 50))
    found.total.backward()
    t, terms = config.train, found.terms
    named = {
        "total": found.total,
        "Loss/total": found.total,
        "Loss/bb_ce": terms["Loss/bb_ce"],
        "Loss/loss_bb_ce": t.bb_ce * terms["Loss/bb_ce"],
        "Loss/target_clf": t.test_clf * terms["Loss/clf"],
        "Loss/test_init_clf": t.test_init_clf * terms["Loss/init_clf"],
        "Loss/test_iter_clf": t.test_iter_clf * terms["Loss/iter_clf"],
        "ClfTrain/test_loss": terms["Loss/clf"],
        "ClfTrain/test_init_loss": terms["Loss/init_clf"],
        "ClfTrain/test_iter_loss": terms["Loss/iter_clf"],
    }
    check_gradients(case, network, named)


def policy_terms(config: Any, terms: dict[str, Tensor]) -> dict[str, Any]:
    """Terms of sequence-level training under the names that cases use."""
    slt, nothing = config.slt, torch.zeros(())
    first, between = (terms.get(f"Loss/policy_{name}", nothing) for name in ("initial", "iterates"))
    return {
        "total": terms["Loss/total"],
        "Loss/total": terms["Loss/total"],
        "Loss/bb_ce": terms["Loss/bb_ce"],
        "Loss/loss_bb_ce": config.train.bb_ce * terms["Loss/bb_ce"],
        "Loss/sl_target_clf": slt.policy_weight * terms["Loss/policy"],
        "Loss/sl_init_clf": (slt.initial_weight or 0.0) * first,
        "Loss/sl_iter_clf": (slt.iterate_weight or 0.0) * between,
        "ClfTrain/sl_loss": terms["Loss/policy"],
        "ClfTrain/sl_init_loss": first,
        "ClfTrain/sl_iter_loss": between,
    }


def explored(case: Case, template: TemplateRegion, crops: Tensor, targets: Tensor) -> Explored:
    """What a case says was done; crops and targets frame by frame."""
    frames, clips = case.data["inputs"]["action_tensor"]["shape"]
    numbers = torch.zeros(frames * clips, 2, dtype=torch.float64)
    return Explored(
        template=template,
        start_xywh=torch.tensor([[0.0, 0.0, 10.0, 10.0]], dtype=torch.float64).repeat(clips, 1),
        regions=TrDiMPRegion(crops, numbers, numbers, numbers),
        rows=torch.arange(clips).repeat(frames),
        choices=case.tensor("action_tensor").flatten(),
        rewards=case.tensor("reward_tensor").flatten(),
        targets_xywh=targets,
        names=[""] * clips,
    )


class Given:
    """In place of a network, where a case gives what it would have given."""

    size = 1

    def __init__(self, box_scores: Tensor) -> None:
        self.given = box_scores

    def box_scores(self, *inputs: Any) -> Tensor:
        return self.given


@runner("slt_pytracking/slt_trdimp_objective")
def objective(case: Case) -> None:
    config, inputs = trained_by(case, "slt_trdimp"), case.data["inputs"]
    names = sorted((n for n in inputs if n.startswith("target_scores_")), key=lambda n: int(n.rpartition("_")[2]))
    scores, boxes = [tensor(case, n).requires_grad_() for n in names], tensor(case, "bb_scores").requires_grad_()
    iterates = torch.stack([s.flatten(0, 1).flatten(1) for s in scores], dim=1)
    proposals = proposals_of(case, lambda x: x.flatten(0, 1))
    network: Any = Given(boxes.flatten(0, 1))
    auxiliary = ProposalLoss(network, config.train, lambda targets, train: proposals)
    nothing, tracker = torch.zeros(len(iterates), 1), cast("Any", None)
    maps = dict.fromkeys(("fine", "coarse", "classification", "modulation"), nothing) | {"iterates": iterates}
    output = TrackerOutput(Candidates(iterates[:, -1], nothing, maps), iterates[:, -1], iterates[:, -1])
    learn = SequenceObjective(tracker, auxiliary, config.slt)
    batch = explored(case, TemplateRegion(nothing, nothing), nothing, torch.ones(len(iterates), 4))
    found = learn.losses(output, batch)
    found.total.backward()
    outputs, named = dict(case.data["outputs"]), policy_terms(config, found.terms)
    for mine, stored in zip(scores, outputs.pop("grad_target_scores"), strict=True):
        case.check(mine.grad, stored, "grad_target_scores")
    case.check(boxes.grad, outputs.pop("grad_bb_scores"), "grad_bb_scores")
    for name, stored in outputs.items():
        case.check(named[name], stored, name)


@runner("slt_pytracking/slt_trdimp_step")
def step(case: Case) -> None:
    config, network = trained_by(case, "slt_trdimp"), build(case)
    parameter_groups(network, config.train)
    network.train(case.config.get("mode") == "train")
    settings = replace(config.test, search_size=network.size)
    tracker = TrDiMPTracker(network, settings, Normalise(config.data.mean, config.data.std)).explorer()
    tracker.normalise = nn.Identity()
    proposals = proposals_of(case, lambda x: x.flatten(0, 1))
    auxiliary = ProposalLoss(network, config.train, lambda targets, train: proposals)
    learn = SequenceObjective(tracker, auxiliary, config.slt)
    boxes = by_sequence(case, "template_anno")
    template = TrDiMPTemplate(
        crops=by_sequence(case, "template_images"),
        boxes_xywh=boxes / network.size,
        keys=torch.zeros(len(boxes), dtype=torch.int64),
        kept=torch.zeros(len(boxes), 0, network.width, dtype=torch.bool),
    )
    targets = tensor(case, "search_anno").flatten(0, 1) / network.size
    batch = explored(case, template, tensor(case, "search_images").flatten(0, 1), targets)
    found = learn(network, batch, Progress(1, 40))
    found.total.backward()
    check_gradients(case, network, policy_terms(config, found.terms))


class Watched(TrDiMPTracker):
    """Remembers what both halves of the batch saw, and where that led."""

    seen: list[tuple[TrDiMPRegion, TrackerOutput, Tensor]]

    def postprocess(self, state: Any, region: Any, output: Any, policy: Any = None) -> Any:
        after, prediction = super().postprocess(state, region, output, policy)
        self.seen.append((region, output, after.scales))
        return after, prediction


class ExploringStream(Stream):
    """The numbers of a case's proposals come after those of each frame, for all entries of the doubled batch."""

    def __init__(self, seed: int, clips: int, proposals: int) -> None:
        super().__init__(seed)
        self.entries, self.count = 2 * clips, proposals
        self.components: list[np.ndarray] = []
        self.normal: list[np.ndarray] = []

    def __call__(self, keys: Tensor, steps: Tensor, shape: Any) -> Tensor:
        found = super().__call__(keys, steps, shape)
        if int(steps[0]):
            drawn = [
                (self.random.randint(0, 2, self.count), self.random.standard_normal((self.count, 4)))
                for _ in range(self.entries)
            ]
            self.components.append(np.stack([c for c, _ in drawn]))
            self.normal.append(np.stack([n for _, n in drawn]))
        return found


@runner("slt_pytracking/slt_trdimp_explore")
def explore(case: Case) -> None:
    c = case.config
    network = build(case)
    config: Any = written("slt_trdimp", "slt_trdimp", {"TEST.SEARCH_SIZE": network.size}).config
    clips = [clip_of(spec, c["template_frame"], c["frames"]) for spec in c.get("videos") or [c["video"]]]
    count = len(clips)
    tracker: Any = Watched.from_config(config, network).explorer()
    tracker.seen = []
    stream = tracker.noise = ExploringStream(c["random_source"]["seed"], count, config.train.proposals)
    actions = iter(case.tensor("sampled_actions")[:, count:])
    rollout = roll_out(tracker, clips, lambda logits: next(actions))
    policies = [build_policy(config.slt).log(output.policy_logits).exp() for _, output, _ in tracker.seen]
    best = torch.stack([p.argmax(dim=1) for p in policies])
    targets = torch.stack([targets_in_crops(r, t) for r, t in zip(rollout.regions, rollout.truth_xywh, strict=True)])
    numbers = torch.from_numpy(np.stack(stream.components)), torch.from_numpy(np.stack(stream.normal)).float()
    placed = (targets * network.size).float()
    drawn = draw_proposals(placed, *(n[:, count:] for n in numbers), config.train.proposal_sigmas)
    parameter_groups(network, config.train)
    overlaps, boxes = rollout.overlaps(), rollout.template.boxes_xywh.transpose(0, 1).float()
    named: dict[str, Any] = {
        "target_scales_after": torch.stack([scales for _, _, scales in tracker.seen]),
        "selected_indices_1d": torch.cat([best[:, :count], rollout.choices], dim=1),
        "policy_argmax": best,
        "baseline_iou": overlaps[0],
        "explore_iou": overlaps[1],
        "template_images": tracker.normalise(rollout.template.crops).transpose(0, 1),
        "template_anno": boxes * network.size,
        "template_label": gaussian_labels(boxes, network.grid, 0.1),
        "search_images": torch.stack([tracker.normalise(r.crops) for r in rollout.regions]),
        "search_anno": placed,
        "search_label": gaussian_labels(targets.float(), network.grid, config.train.search_sigma, padded=True),
        "search_proposals": drawn.boxes_xywh,
        "proposal_density": drawn.density,
        "gt_density": drawn.target_density,
        "action_tensor": rollout.choices,
    }
    outputs = dict(case.data["outputs"])
    learns = any(p.requires_grad for p in network.bb_regressor.parameters())
    assert learns == outputs.pop("bb_regressor_requires_grad_after")
    for found, stored in zip(policies, outputs.pop("policy"), strict=True):
        case.check(found, stored, "policy")
    wide = {"rtol": 0.0, "atol": c["tolerance_boxes_px"]}
    case.check(torch.cat([*rollout.boxes_xywh], dim=1), outputs.pop("target_bbox"), "target_bbox", wide)
    for name, stored in outputs.items():
        case.check(named[name], stored, name)
