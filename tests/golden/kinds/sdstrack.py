"""SDSTrack: forward passes with every block, stochastic depth, masks, losses, training steps, tracker."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import fill
import numpy as np
import torch
from golden import Case, build_filled, runner
from torch import Tensor, nn
from torch.nn import functional as F

from kinds.data import textured_frame
from kinds.ostrack import MEAN, STD, chosen, make_batch, network_outputs, picture_sizes, written
from lib.data import CROP_STYLES, Frame, Normalise
from lib.methods import Experiment
from lib.methods.ostrack import OSTrackOutput
from lib.methods.sdstrack import SDSTrack, SDSTrackObjective, published_groups
from lib.models.adapters import AdaptedBlock
from lib.models.backbones import TwoStreamViT
from lib.models.heads import Candidates
from lib.models.layers import (
    MaskRates,
    PatchMasks,
    drop_candidates,
    hide,
    keep_rate,
    put_back,
    split_heads,
    template_attention,
)
from lib.models.losses import gaussian_heatmap
from lib.objectives import BoxCriterion, Progress, SelfDistillation
from lib.track import hann2d
from lib.train import build_optimizer, parameter_groups

PASSES = ("fine", "masked")


def experiment_of(case: Case) -> Experiment:
    c = case.config
    ce_loc = c.get("ce_loc", [3, 6, 9])
    backbone = {
        "TYPE": "vit_base_patch16_224_ce",
        "STRIDE": c.get("stride", 16),
        "FUSION_LOC": c.get("fusion_blocks", [3, 6, 9, 11]),
        "CE_LOC": ce_loc,
        "CE_KEEP_RATIO": c.get("ce_keep_ratio", [0.7] * len(ce_loc)),
        "CE_TEMPLATE_RANGE": c.get("ce_template_range", "CTR_POINT"),
    }
    settings: dict[str, Any] = {
        "MODEL.BACKBONE": backbone,
        **picture_sizes(case),
        **chosen(case, "TEST", "template_factor", "search_factor"),
    }
    if "masking" in case.data:
        rates = rates_of(case)
        settings["TRAIN.MASK_RATE_RGB"], settings["TRAIN.MASK_RATE_X"] = rates.rgb, rates.aux
    if "weights_giou_l1_focal" in c:
        settings["TRAIN.GIOU_WEIGHT"], settings["TRAIN.L1_WEIGHT"], _ = c["weights_giou_l1_focal"]
    return written("sdstrack", c.get("yaml", "cvpr2024_rgbt"), settings)


def build(case: Case) -> SDSTrack:
    """The case's network with its filled weights, loaded strictly under the published names."""
    experiment = experiment_of(case)
    state = case.state(case.data["weights"].split()[0], case.data.get("overrides"))
    for name, values in case.data.get("weight_overrides", {}).items():
        state[name] = torch.tensor(values)
    network: SDSTrack = build_filled(experiment, state)
    return network


class Tape:
    """What every block of a backbone computes, under the names that cases use.

    Attributes:
        wanted: Names that the case has values of; others are not computed.
    """

    def __init__(self, backbone: TwoStreamViT, samples: int, mask: Tensor | None, wanted: Iterable[str]) -> None:
        self.backbone, self.samples, self.mask, self.wanted = backbone, samples, mask, frozenset(wanted)
        self.found: dict[str, Tensor] = {}
        self.removed: dict[str, list[list[int]]] = {}
        self.kept: dict[str, list[list[int]]] = {}
        self.last: dict[str, Tensor] = {}

    def rows(self, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The rows of one modality by pass."""
        yield from zip(PASSES, tensor.split(self.samples), strict=False)

    def keep(self, block: int, parts: dict[str, slice], values: dict[str, Callable[[], Tensor]]) -> None:
        """Add values of a block, whose rows are those of its parts, pass by pass."""
        for key, compute in values.items():
            if self.wanted.isdisjoint(f"block{block}.{name}_{part}{key}" for name in PASSES for part in parts):
                continue
            with torch.no_grad():
                value = compute()
            for part, part_rows in parts.items():
                for name, rows in self.rows(value[part_rows]):
                    self.found[f"block{block}.{name}_{part}{key}"] = rows

    def attention(self, q: Tensor, k: Tensor) -> Tensor:
        return ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(dim=-1)

    def stream(self, i: int, stream: Any, rgb_rows: int, n: int, length: int, gone: Tensor | None) -> None:
        parts = {"rgb": slice(0, rgb_rows), "dte": slice(rgb_rows, None)}
        parts = {modality: part for modality, part in parts.items() if len(stream.x[part])}
        q, k, index = self.last["q"], self.last["k"], stream.index
        values: dict[str, Callable[[], Tensor]] = {
            "@grid": lambda: self.grid(stream.x, index, n, length),
            ".attn_out": lambda: self.last["attn.proj"],
            ".attn_prob": lambda: self.attention(q, k),
        }
        if gone is not None:
            mask = self.mask if self.mask is None or len(self.mask) == len(q) else self.mask.repeat(2, 1)
            values[".ce_score"] = lambda: template_attention(q, k, n, self.backbone.scoring_rows, mask)
            for modality, part in parts.items():
                for name, rows in self.rows(gone[part]):
                    self.removed[f"block{i}.{name}_{modality}"] = rows.sort(dim=1).values.tolist()
                for name, rows in self.rows(index[part]):
                    self.kept[f"block{i}.{name}_{modality}"] = rows.tolist()
        self.keep(i, parts, values)
        if rgb_rows < len(stream.x):
            adapters: dict[str, Callable[[], Tensor]] = {
                ".Space_X_DTE_Adapter": lambda: self.last["attn.proj"][rgb_rows:] + self.last["Space_X_DTE_Adapter"],
                ".MLP_X_DTE_Adapter": lambda: self.last["MLP_X_DTE_Adapter"],
            }
            self.keep(i, {"dte": slice(None)}, adapters)

    def grid(self, x: Tensor, index: Tensor | None, n: int, length: int) -> Tensor:
        return x if index is None else torch.cat([x[:, :n], put_back(x[:, n:], index, length)], dim=1)

    def across(self, i: int) -> Tensor:
        """Attention of both modalities' tokens, which is that of one to the other."""
        attn = self.backbone.blocks[i].attn
        q, k, _ = split_heads(F.linear(self.last["norm1"], attn.qkv.weight, attn.qkv.bias), attn.heads)
        (q1, q2), (k1, k2) = q.chunk(2), k.chunk(2)
        first, second = self.attention(q1, k2), self.attention(q2, k1)
        zero = torch.zeros_like(first)
        return torch.cat([torch.cat([zero, first], dim=3), torch.cat([second, zero], dim=3)], dim=2)

    def fusion(self, i: int, x: Tensor, index: Tensor | None, n: int, length: int) -> None:
        def stacked(value: Tensor) -> Tensor:
            return torch.cat(value.chunk(2), dim=1)

        last = self.last
        values: dict[str, Callable[[], Tensor]] = {
            "@grid": lambda: stacked(self.grid(x, index, n, length)),
            ".attn_out": lambda: stacked(last["attn.proj"]),
            ".Space_X_X_DTE_Adapter": lambda: stacked(last["attn.proj"] + last["Space_X_X_DTE_Adapter"]),
            ".MLP_X_X_DTE_Adapter": lambda: stacked(last["MLP_X_X_DTE_Adapter"]),
            ".attn_prob": lambda: self.across(i),
        }
        self.keep(i, {"rgb_dte": slice(None)}, values)


@contextmanager
def recorded(case: Case, network: SDSTrack, samples: int, mask: Tensor | None = None) -> Iterator[Tape]:
    """A tape of what the network computes inside."""
    backbone = network.backbone
    tape = Tape(backbone, samples, mask, case.data.get("intermediates", {}))
    blocks = list(backbone.blocks)
    n, length = backbone.grid_template**2, backbone.grid_search**2
    handles = []

    def keep(name: str) -> Any:
        return lambda _m, _i, output: tape.last.__setitem__(name, output)

    def watch(i: int, block: AdaptedBlock) -> None:
        for name in ("Space_X_DTE", "MLP_X_DTE", "Space_X_X_DTE", "MLP_X_X_DTE"):
            handles.append(block.get_submodule(f"{name}_Adapter").register_forward_hook(keep(f"{name}_Adapter")))
        handles.append(block.norm1.register_forward_hook(keep("norm1")))
        handles.append(block.attn.proj.register_forward_hook(keep("attn.proj")))
        project, fuse = block.attn.project, block.fuse

        def projected(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            tape.last["q"], tape.last["k"], v = project(x)
            return tape.last["q"], tape.last["k"], v

        def fused(x: Tensor, first: int = 0) -> Tensor:
            x = fuse(x, first)
            tape.fusion(i, x, tape.last.get("index"), n, length)
            return x

        block.attn.project, block.fuse = projected, fused  # type: ignore[method-assign]

    passed = backbone._pass
    indices: dict[int, list[Tensor]] = {}

    def watched(block: AdaptedBlock, stream: Any, *rest: Any) -> Tensor | None:
        gone = passed(block, stream, *rest)
        i = next(j for j, b in enumerate(blocks) if b is block)
        tape.stream(i, stream, stream.rgb_rows, n, length, gone)
        if stream.index is not None:
            indices.setdefault(i, []).append(stream.index)
            tape.last["index"] = torch.cat(indices[i])
        return gone

    for i, block in enumerate(blocks):
        watch(i, block)
    backbone._pass = watched  # type: ignore[method-assign]
    for key, stem in (("rgb", backbone.patch_embed), ("dte", backbone.patch_embed_multimodal)):
        count = iter("zx")
        handles.append(
            stem.register_forward_hook(
                lambda _m, _i, out, key=key, count=count: tape.found.__setitem__(
                    f"patch_embed.{key}_{next(count)}", out
                )
            )
        )
    try:
        yield tape
    finally:
        for handle in handles:
            handle.remove()
        del backbone._pass
        for block in blocks:
            del block.attn.project, block.fuse


def check_tape(case: Case, tape: Tape) -> None:
    for name, stored in case.data.get("intermediates", {}).items():
        case.check(tape.found[name], stored, name)
    for name, stored in (case.data.get("removed_search_indices") or {}).items():
        assert tape.removed[name] == stored, name
    for name, stored in (case.data.get("kept_search_indices_in_order") or {}).items():
        assert [sorted(row) for row in tape.kept[name]] == [sorted(row) for row in stored], name


@runner("sdstrack/forward", "sdstrack/droppath_placement")
def forward(case: Case) -> None:
    c = case.config
    network = build(case)
    factor = c.get("drop_path_replaced_by_factor")
    for i in c.get("blocks_with_drop_path", []) if factor is not None else []:
        network.backbone.blocks[i].drop_path = Times(factor)
    template, search = case.tensor("template"), case.tensor("search")
    box = c.get("template_box_normalised")
    mask = network.template_mask(torch.tensor(box).reshape(-1, 4)) if box else None
    listed = c.get("template_mask_true_flat_indices")
    if listed and network.backbone.keep_ratio:
        found = [row.nonzero().flatten().tolist() for row in mask] if mask is not None else None
        assert (found or [network.backbone.scoring_rows] * len(listed)) == listed
    with torch.no_grad(), recorded(case, network, len(template), mask) as tape:
        output = network(template, search, mask, c.get("ce_keep_rate_argument"))
    named = network_outputs(output)
    for name, stored in case.data["outputs"].items():
        case.check(named[name], stored, name)
    check_tape(case, tape)
    if c.get("ce_keep_rate_argument") is None and factor is None:
        with torch.no_grad():
            quick = network.locate(network.encode_template(template), search, mask)
        case.check(quick.candidates.best_boxes()[:, None], case.data["outputs"]["pred_boxes"], "pred_boxes, tracking")
        case.check(quick.candidates.maps["score_map"], case.data["outputs"]["score_map"], "score_map, tracking")


class Times(nn.Module):
    """Stands in for stochastic depth."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


@runner("sdstrack/train_step")
def train_step(case: Case) -> None:
    c, tolerance = case.config, case.data["tolerance"]
    network = build(case)
    config = experiment_of(case).config
    objective = SDSTrackObjective(config, network)
    focal = c["weights_giou_l1_focal"][2]
    criterion = replace(objective.losses.criterion, focal_weight=focal)
    objective.losses = replace(objective.losses, criterion=criterion, **shares_of(c))
    rate = objective.keep_rate(c["epoch"])
    if rate is not None:
        assert abs(rate - c["ce_keep_rate"]) < 1e-6
    rates = rates_of(case)
    assert objective.rates == rates
    main, norm = c["param_groups"]
    groups = published_groups(norm["lr"] / main["lr"])
    train = replace(config.train, lr=main["lr"], weight_decay=c["weight_decay"], param_groups=groups)
    optimizer = build_optimizer(parameter_groups(network, train), train)
    counts = [(len(g["params"]), sum(p.numel() for p in g["params"])) for g in optimizer.param_groups]
    assert counts == [(g["tensors"], g["values"]) for g in c["param_groups"]]
    network.train(c.get("train_mode", True))
    network.box_head.train(c.get("box_head_batchnorm", "eval") != "eval")
    masks = PatchMasks(*(rates.masks(case.tensor(f"mask_p_rgb_{k}"), case.tensor(f"mask_p_dte_{k}")) for k in "zx"))
    for key, value in (("z", masks.template), ("x", masks.search)):
        assert [int(v) for v in value.sum(dim=(0, 2))] == [case.data["n_masked"][f"{m}_{key}"] for m in ("rgb", "dte")]
    outputs: list[OSTrackOutput] = []
    handle = network.register_forward_hook(lambda _m, _i, out: outputs.append(out))
    batch = make_batch(case)
    with recorded(case, network, len(batch)) as tape:
        found = objective.learn(network, batch, Progress(epoch=c["epoch"], epochs=15), masks)
    handle.remove()
    check_losses(case, found, tolerance)
    check_outputs(case, outputs[0], tolerance)
    check_tape(case, tape)
    found.total.backward()
    check_update(case, network, optimizer, tolerance)


def rates_of(case: Case) -> MaskRates:
    """Shares of hidden patches, of a sentence such as "masked where p_rgb<0.3; X token masked where ... p_dte<0.3"."""
    return MaskRates(*map(float, re.findall(r"p_(?:rgb|dte)<([\d.]+)", case.data.get("masking", ""))))


def shares_of(config: dict[str, Any]) -> dict[str, float]:
    """Weights of a case's `total`, such as "0.6 fine + 0.2 masked + 0.1 mse"."""
    names = {"fine": "clean_weight", "masked": "masked_weight", "mse": "agreement_weight"}
    return {names[name]: float(share) for share, name in re.findall(r"([\d.]+) (\w+)", config.get("total", ""))}


def check_losses(case: Case, found: Any, tolerance: dict[str, Any]) -> None:
    stored = case.data["losses"]
    close = {"rtol": tolerance["losses_rtol"], "atol": 1e-6}
    mse = {"rtol": tolerance.get("mse_rtol", tolerance["losses_rtol"]), "atol": 1e-6}
    case.check(found.total, stored["total"], "total", close)
    case.check(found.terms["Loss/total_f"], stored["fine"], "fine", close)
    case.check(found.terms["Loss/total_m"], stored["masked"], "masked", close)
    case.check(found.terms["Loss/mse_m"], stored["mse"], "mse", mse)
    for key, name in (("IoU_f", "fine"), ("IoU_m", "masked")):
        case.check(
            found.terms[key], np.mean(stored["terms"][name]["iou_per_sample"]), key, {"rtol": 1e-3, "atol": 1e-4}
        )


def check_outputs(case: Case, output: OSTrackOutput, tolerance: dict[str, Any]) -> None:
    named = {}
    for key, value in network_outputs(output).items():
        named |= {f"{name}.{key}": rows for name, rows in zip(PASSES, value.chunk(2), strict=True)}
    for i, fusion in enumerate(output.tokens.fusions):
        passes = fusion.tokens.unflatten(0, (2, 2, -1)).unbind(1)
        named |= {
            f"distill.{name}.{i}": torch.cat(list(rows), dim=1) for name, rows in zip(PASSES, passes, strict=True)
        }
    fusions = range(len(output.tokens.fusions))
    apart = [F.mse_loss(*(named[f"distill.{name}.{i}"] for name in PASSES)) for i in fusions]
    wide = {"rtol": tolerance.get("mse_rtol", tolerance["losses_rtol"]), "atol": 1e-6}
    case.check(torch.stack(apart), case.data["losses"]["mse_per_fusion_block"], "mse per fusion block", wide)
    for name, stored in case.data["outputs"].items():
        case.check(named[name], stored, name)


def check_update(case: Case, network: nn.Module, optimizer: torch.optim.Optimizer, tolerance: dict[str, Any]) -> None:
    parameters = dict(network.named_parameters())
    close = {"rtol": tolerance["gradients_rtol"], "atol": 1e-6}
    for name, stored in case.data["gradients"].items():
        case.check(parameters[name].grad, stored, f"gradient of {name}", close)
    learned = [p for g in optimizer.param_groups for p in g["params"]]
    assert sum(p.grad is None for p in learned) == case.data["n_trainable_without_gradient"]
    norm = torch.nn.utils.clip_grad_norm_(learned, case.config["grad_clip_norm"])
    case.check(norm, case.data["grad_l2_norm_before_clip"], "gradient norm", close)
    before = {name: parameters[name].detach().clone() for name in case.data["adamw_first_step_delta"]}
    optimizer.step()
    for name, stored in case.data["adamw_first_step_delta"].items():
        delta = fill.digest((parameters[name].detach() - before[name]).numpy())
        agree = np.isclose(delta["values"], stored["values"], rtol=0, atol=1e-6)
        assert agree.mean() >= 0.95, f"step of {name}: {agree.mean():.2f} of the values agree"
        assert np.isclose(delta["std"], stored["std"], rtol=0.01), f"step of {name}"


@runner("sdstrack/losses")
def losses(case: Case) -> None:
    def drawn(name: str, **kwargs: Any) -> Tensor:
        return case.tensor(name).requires_grad_()

    scores = {name: drawn(f"{name}.score_map") for name in PASSES}
    boxes = {name: drawn(f"{name}.pred_boxes_cxcywh") for name in PASSES}
    score = torch.cat([scores[name] for name in PASSES])
    box = torch.cat([boxes[name].reshape(-1, 4) for name in PASSES])
    places = sorted(int(k.rpartition(".")[2]) for k in case.data["inputs"] if k.startswith("distill.fine."))
    features = {f"distill.{name}.{i}": drawn(f"distill.{name}.{i}") for i in places for name in PASSES}
    pairs = [(features[f"distill.fine.{i}"], features[f"distill.masked.{i}"]) for i in places]
    c = case.config
    rule = SelfDistillation(BoxCriterion(c["giou"], c["l1"], c["focal"]), **shares_of(c))
    target = case.tensor("search_anno_xywh").reshape(-1, 4)
    maps = {"score_map": score, "size_map": torch.zeros(len(score), 2, 1, 1)}
    candidates = Candidates(score.flatten(1).amax(1, keepdim=True), box[:, None], maps)
    found = rule(candidates, target, pairs)
    found.total.backward()
    stored = case.data["losses"]
    for key, name in (("Loss/total_f", "fine"), ("Loss/total_m", "masked"), ("Loss/mse_m", "mse")):
        case.check(found.terms[key], stored[name], name)
    case.check(found.total, stored["total"], "total")
    for name, terms in stored.get("terms", {}).items():
        own = maps | {"score_map": scores[name]}
        alone = Candidates(scores[name].flatten(1).amax(1, keepdim=True), boxes[name].reshape(-1, 1, 4), own)
        losses, overlaps = rule.criterion.compare(alone, target)
        named = {key.rpartition("/")[2]: value for key, value in losses.terms.items()}
        named |= {"focal": named.get("location"), "iou": overlaps}
        for key, value in terms.items():
            case.check(named[key], value, f"{name} {key}")
    leaves = {f"{n}.score_map": scores[n] for n in PASSES} | {f"{n}.pred_boxes_cxcywh": boxes[n] for n in PASSES}
    for name, value in case.data["gradients"].items():
        leaf = (leaves | features)[name]
        case.check(leaf.grad, value, f"gradient of {name}")


@runner("sdstrack/heatmap")
def heatmap(case: Case) -> None:
    grid = len(case.data["maps"][0])
    found = gaussian_heatmap(torch.tensor(case.data["boxes"]), grid)
    case.check(found, case.data["maps"], "maps", {"rtol": 0.0, "atol": case.data["tolerance"]["atol"]})
    assert found.eq(1).sum(dim=(1, 2)).tolist() == case.data["n_cells_equal_1"]


@runner("sdstrack/keep_rate")
def schedule(case: Case) -> None:
    start, warm, base = map(float, re.findall(r"(?:start|warm-up|base) ([\d.]+)", case.data["what"]))
    found = [keep_rate(e, int(start), int(warm), base) for e in case.data["epochs"]]
    case.check(found, case.data["keep_rate"], "keep rate", {"rtol": 0.0, "atol": case.data["tolerance"]["atol"]})


@runner("sdstrack/window")
def window(case: Case) -> None:
    stored = case.data["outputs"]["window"]
    found = hann2d(stored["shape"][-1]).reshape(stored["shape"])
    case.check(found, stored, "window")
    case.check(found.reshape(-1, stored["shape"][-1])[0], case.data["first_row"], "first row")


@runner("sdstrack/masking")
def masking(case: Case) -> None:
    masks = rates_of(case).masks(case.tensor("p_rgb"), case.tensor("p_dte"))
    for i, name in enumerate(("rgb", "dte")):
        assert [row.nonzero().flatten().tolist() for row in masks[:, i]] == case.data[f"{name}_masked"]
        case.check(hide(case.tensor(name), masks[:, i]), case.data["outputs"][f"masked_{name}"], name)


@runner("sdstrack/candidate_elimination")
def candidate_elimination(case: Case) -> None:
    """Queries and keys are chosen so that their products are the case's logits."""
    logits, tokens = case.tensor("attn_logits"), case.tensor("tokens")
    size = tokens.shape[1]
    what = case.data["what"]
    n, first = (int(re.search(text, what)[1]) for text in (r"template length (\d+)", r"index table (\d+)"))
    q, k = logits * size**0.5, torch.eye(size).expand_as(logits)
    index = torch.arange(first, first + size - n).expand(len(tokens), -1)
    for name, stored in case.data["outputs"].items():
        which, _, ratio = name.partition("@")
        rows = None if which == "no_mask" else [int(v) for v in which.removeprefix("mask_tokens_").split("_")]
        mask = None
        if rows is not None:
            mask = torch.zeros(len(tokens), n, dtype=torch.bool)
            mask[:, rows] = True
        for judges, rows_mask in ((None, mask), (rows, None)):
            kept, positions, gone = drop_candidates(tokens, q, k, index, float(ratio), judges, rows_mask)
            case.check(kept, stored["tokens"], f"{name} tokens")
            assert positions.tolist() == stored["keep_index"], name
            assert gone.tolist() == (stored["removed_index"] or [[]] * len(tokens)), name


@runner("sdstrack/tracker")
def tracker(case: Case) -> None:
    """With the network as it was trained, and again as `tracking/test.py` uses it."""
    c, outputs = case.config, case.data["outputs"]
    track: Any = experiment_of(case).build_tracker(build(case))
    track.margin = float(c.get("clip_margin", 10))
    video = case.data["inputs"]["video"]
    frames = [textured_frame(video, i)[0] for i in range(video["frames"])]
    template = CROP_STYLES["area"]().crop_frames(frames[:1], start_box(case), c["template_factor"], c["template_size"])
    crops, resize = template.pixels, c["template_size"] / template.sides
    pixels = {"rtol": 5e-3, "atol": 1.0}
    case.check(crops[0].permute(1, 2, 0), outputs["template_crop"], "template crop", pixels)
    case.check(resize[0, 0], outputs["template_resize_factor"], "template resize factor")
    case.check(Normalise(MEAN, STD)(crops), outputs["template_tensor"], "template", pixels)
    for candidate, shown in case.both_ways(track, frames):
        follow(case, candidate, shown)


def follow(case: Case, track: Any, frames: list[Frame]) -> None:
    tolerance = case.data["tolerance"]
    state = track.init(frames[:1], start_box(case))
    boxes, scores = [], []
    for frame, stored in zip(frames[1:], case.data["frames"][: len(frames) - 1], strict=True):
        state, prediction = track.step(state, [frame])
        boxes.append(prediction.boxes_xywh[0].tolist())
        scores.append(float(prediction.scores[0]))
        assert prediction.windowed_scores is not None
        case.check(prediction.windowed_scores.reshape(stored["response"]["shape"]), stored["response"], "response")
        if stored["response_top2_relative_gap"] > 1e-3:
            best = int(prediction.windowed_scores.argmax())
            assert best in (stored["response_argmax"], flat(stored["response_argmax"], track.grid))
    case.check(boxes, case.data["boxes_xywh"][: len(boxes)], "boxes", {"rtol": 0.0, "atol": tolerance["box_px"]})
    case.check(scores, case.data["scores"][: len(scores)], "scores", {"rtol": 0.0, "atol": tolerance["score"]})


def start_box(case: Case) -> Tensor:
    return torch.tensor([case.data["inputs"]["init_box"]], dtype=torch.float64)


def flat(cell: Any, grid: int) -> int:
    """A cell given as (row, column) or as a row-major number."""
    return cell[0] * grid + cell[1] if isinstance(cell, list) else int(cell)
