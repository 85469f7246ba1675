"""OSTrack and the network it shares with LoReTrack: forward, elimination, heads, losses, training step, tracker."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import fill
import numpy as np
import torch
from golden import Case, build_filled, runner
from torch import Tensor, nn

from lib.data import Batch, Frame
from lib.methods import Experiment, load_experiment
from lib.methods.ostrack import OSTrack, OSTrackObjective, OSTrackOutput
from lib.models import load_into
from lib.models.backbones import resize_patch_embed, resize_position
from lib.models.heads import Candidates, CornerHead
from lib.models.layers import box_rows, center_rows, keep_rate
from lib.models.losses import gaussian_heatmap
from lib.objectives import BoxCriterion, Progress
from lib.track import hann2d

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def written(script: str, config: str, settings: dict[str, Any]) -> Experiment:
    """An experiment with the settings of a case, as a user would write them."""
    return load_experiment(script, config, [f"{key}={json.dumps(value)}" for key, value in settings.items()])


def chosen(case: Case, section: str, *names: str) -> dict[str, Any]:
    """Those of a case's settings that a section of the configuration has under the same names."""
    return {f"{section}.{name.upper()}": case.config[name] for name in names if name in case.config}


def picture_sizes(case: Case) -> dict[str, int]:
    """Sides of the case's pictures as keys of TEST: those of its inputs, unless its settings state them."""
    found = {}
    for side in ("template", "search"):
        shapes = (v["shape"] for k, v in case.data.get("inputs", {}).items() if k.startswith(side) and "shape" in v)
        found |= {f"TEST.{side.upper()}_SIZE": shape[-1] for shape in shapes if len(shape) > 3}
    return found | chosen(case, "TEST", "template_size", "search_size")


def experiment_of(case: Case) -> Experiment:
    c = case.config
    backbone = {
        "TYPE": c.get("backbone", "vit_base_patch16_224"),
        "STRIDE": c.get("stride", 16),
        "CE_LOC": c.get("ce_loc", []),
        "CE_KEEP_RATIO": c.get("ce_keep_ratio", []),
        "CE_TEMPLATE_RANGE": c.get("ce_template_range", "ALL"),
        "SEP_SEG": c.get("sep_seg", False),
    }
    settings = {
        "MODEL.BACKBONE": backbone,
        "MODEL.HEAD": {"TYPE": c.get("head", "CENTER"), "NUM_CHANNELS": c.get("head_channels", 256)},
        **picture_sizes(case),
        **chosen(case, "TEST", "template_factor", "search_factor"),
        **chosen(case, "TRAIN", "giou_weight", "l1_weight", "ce_start_epoch", "ce_warm_epoch"),
    }
    return written("ostrack", "vitb_256_mae_32x4_ep300", settings)


def build(case: Case) -> OSTrack:
    """The case's network with its filled weights, loaded strictly under the published names."""
    experiment = experiment_of(case)
    state = case.state(case.data["weights"].split()[0], case.data.get("overrides"))
    network: OSTrack = build_filled(experiment, state)
    return network


@contextmanager
def recorded(network: nn.Module, wanted: list[str]) -> Iterator[dict[str, Tensor]]:
    """Outputs of the modules that a case names: ``block0.norm1``, ``block11.q``, ``box_head.conv1_ctr``."""
    seen: dict[str, Tensor] = {}
    handles = []

    def hook(module: nn.Module, name: str, pick: Any = None) -> None:
        def keep(_m: nn.Module, _i: Any, output: Tensor) -> None:
            seen[name] = pick(output) if pick else output

        handles.append(module.register_forward_hook(keep))

    for name in wanted:
        first, _, rest = name.partition(".")
        if first == "patch_embed_last_call":
            continue
        path = f"backbone.blocks.{first.removeprefix('block')}" if first.startswith("block") else first
        if rest in ("q", "k", "v"):
            attn = network.get_submodule(f"{path}.attn")
            index = "qkv".index(rest)

            def split(out: Tensor, heads: int = int(attn.heads), i: int = index) -> Tensor:
                b, n, c = out.shape
                return out.view(b, n, 3, heads, c // 3 // heads)[:, :, i].transpose(1, 2)

            hook(attn.qkv, name, split)
        elif rest or not first.startswith("block"):
            hook(network.get_submodule(f"{path}.{rest}" if rest else path), name)
        else:
            hook(network.get_submodule(f"{path}.mlp"), f"{name}:mlp")
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def block_outputs(network: OSTrack, case: Case, run: Any) -> dict[str, Tensor]:
    """Outputs of whole blocks, eliminating ones included: the input of what follows each of them."""
    seen: dict[str, Tensor] = {}
    blocks = list(network.backbone.blocks)
    followers = [b.norm1 for b in blocks[1:]] + [network.backbone.norm]
    handles = [
        m.register_forward_pre_hook(lambda _m, args, i=i: seen.__setitem__(f"block{i}", args[0]))
        for i, m in enumerate(followers)
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return seen


def network_outputs(output: OSTrackOutput) -> dict[str, Tensor]:
    """A network's output under the names that cases use."""
    found, tokens = output.candidates, output.tokens
    named = {
        "pred_boxes": found.best_boxes()[:, None],
        "score_map": found.maps["score_map"],
        "backbone_feat": torch.cat([tokens.template, tokens.search], dim=1),
        "opt_feat": output.feature,
    }
    named |= {name: found.maps[name] for name in ("size_map", "offset_map") if name in found.maps}
    return named


def last_attention(seen: dict[str, Tensor]) -> Tensor:
    q, k = seen["last.q"], seen["last.k"]
    return ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(dim=-1)


def template_mask(case: Case, network: OSTrack) -> Tensor | None:
    """The mask for the case's template box, checked against the tokens that the case lists."""
    listed = case.data.get("ce_template_mask_true_indices")
    mask = network.template_mask(case.tensor("template_box")) if "template_box" in case.data["inputs"] else None
    if listed is not None:
        found = [row.nonzero().flatten().tolist() for row in mask] if mask is not None else None
        assert (found or [network.backbone.scoring_rows] * len(listed)) == listed
    return mask


def check_removed(case: Case, removed: list[Tensor]) -> None:
    """A block that removes nothing is stored as null."""
    if "removed_search_indices" in case.data:
        stored = [block for block in case.data["removed_search_indices"] if block is not None]
        assert [r.sort(dim=1).values.tolist() for r in removed if r.shape[1]] == stored


@runner("ostrack/forward", "loretrack/forward")
def forward(case: Case) -> None:
    network = build(case)
    wanted = case.data.get("intermediates", {})
    depth = len(network.backbone.blocks)
    hooks = [n for n in wanted if not n.removeprefix("block").isdigit()] + [
        f"block{depth - 1}.q",
        f"block{depth - 1}.k",
    ]
    template, search = case.tensor("template"), case.tensor("search")
    outputs: list[OSTrackOutput] = []
    with torch.no_grad(), recorded(network, hooks) as seen:
        mask = template_mask(case, network)
        rate = case.config.get("ce_keep_rate_argument")
        blocks = block_outputs(network, case, lambda: outputs.append(network(template, search, mask, rate)))
        seen |= blocks
        seen["patch_embed_last_call"] = network.backbone.patch_embed(template)
    seen["last.q"], seen["last.k"] = seen[f"block{depth - 1}.q"], seen[f"block{depth - 1}.k"]
    named = network_outputs(outputs[0]) | {"last_attention": last_attention(seen)}
    for name, stored in case.data["outputs"].items():
        case.check(named[name], stored, name)
    for name, stored in wanted.items():
        case.check(seen[name], stored, name)
    check_removed(case, outputs[0].tokens.removed)


@runner("ostrack/train_step")
def train_step(case: Case) -> None:
    c = case.config
    network = build(case).train(not c.get("mode", "train").startswith("eval"))
    objective = OSTrackObjective(experiment_of(case).config, network)
    objective.criterion = replace(objective.criterion, focal_weight=c.get("focal_weight", 1.0))
    argument = c.get("ce_keep_rate_argument")
    rate = objective.keep_rate(c.get("epoch", 1))
    if rate is not None and argument is not None:
        assert abs(rate - argument) < 1e-6
    outputs: list[OSTrackOutput] = []
    handle = network.register_forward_hook(lambda _m, _i, out: outputs.append(out))
    losses = objective(network, make_batch(case), Progress(epoch=c.get("epoch", 1), epochs=300))
    losses.total.backward()
    handle.remove()
    named: dict[str, Any] = {"loss": losses.total, **{f"status:{k}": v for k, v in losses.terms.items()}}
    gradients = {n: p.grad for n, p in network.named_parameters()}
    named |= {f"grad:{n}": g for n, g in gradients.items()}
    named |= {f"after:{n}": b for n, b in network.named_buffers()}
    named["grad_total_norm"] = torch.stack([g.norm() for g in gradients.values() if g is not None]).norm()
    for name, stored in case.data["outputs"].items():
        case.check(named[name], stored, name)
    for name, stored in case.data.get("intermediates", {}).items():
        case.check(network_outputs(outputs[0])[name], stored, name)
    check_removed(case, outputs[0].tokens.removed)
    if "parameters_without_gradient" in case.data:
        without = sorted(n for n, g in gradients.items() if g is None)
        assert without == sorted(case.data["parameters_without_gradient"])


def make_batch(case: Case) -> Batch:
    """A normalised batch of one template and one search region per sample."""
    named = case.data["inputs"]
    template, search = (
        case.tensor(f"{kind}_images")[0] if f"{kind}_images" in named else case.tensor(kind)
        for kind in ("template", "search")
    )
    search_boxes = case.tensor("search_anno").reshape(-1, 1, 4)
    template_boxes = case.tensor("template_anno").reshape(-1, 1, 4) if "template_anno" in named else search_boxes
    return Batch(
        template=template[:, None],
        search=search[:, None],
        template_boxes=template_boxes,
        search_boxes=search_boxes,
        modality=torch.zeros(len(search_boxes), dtype=torch.int64),
    )


@runner("loretrack/corner_head")
def corner_head(case: Case) -> None:
    c = case.config
    head = CornerHead(c["inplanes"], c["channel"]).eval()
    state = case.state(case.data["weights"].split()[0], case.data.get("overrides"))
    load_into(head, {n.removeprefix("box_head."): v for n, v in state.items()})
    holder = nn.ModuleDict({"box_head": head})
    wanted = case.data.get("intermediates", {})
    with torch.no_grad(), recorded(holder, list(wanted)) as seen:
        feature = case.tensor("feature")
        found = head(feature)
        named = dict(zip(("score_tl", "score_br"), head.corner_logits(feature).split(1, dim=1), strict=True))
        named["prob_tl"], named["prob_br"] = found.maps["corners"].unbind(1)
    centre, size = found.best_boxes().split(2, dim=1)
    named["boxes_xyxy"] = torch.cat([centre - size / 2, centre + size / 2], dim=1)
    for name, stored in case.data["outputs"].items():
        case.check(named[name], stored, name)
    for name, stored in wanted.items():
        case.check(seen[name], stored, name)


@runner("loretrack/losses")
def losses(case: Case) -> None:
    for i, one in enumerate(case.data["cases"]):
        inputs = {k: torch.from_numpy(case.draw(v)) for k, v in one["inputs"].items()}
        boxes = inputs["pred_boxes"].reshape(-1, 4).requires_grad_()
        score = inputs["score_map"].requires_grad_()
        target = inputs["search_anno"].reshape(-1, 4)
        weights = one["config"]["weights"]
        criterion = BoxCriterion(weights["giou"], weights["l1"], weights["focal"])
        maps = {"score_map": score, "size_map": score}
        found = criterion(Candidates(score.flatten(1).amax(1, keepdim=True), boxes[:, None], maps), target)
        found.total.backward()
        assert boxes.grad is not None
        named = {
            "total": found.total,
            "giou": found.terms["Loss/giou"],
            "l1": found.terms["Loss/l1"],
            "focal": found.terms["Loss/location"],
            "mean_iou": found.terms["IoU"],
            "heatmap": gaussian_heatmap(target, score.shape[-1]),
            "grad:pred_boxes": boxes.grad.reshape(inputs["pred_boxes"].shape),
            "grad:score_map": score.grad,
        }
        for name, stored in one["outputs"].items():
            case.check(named[name], stored, f"case {i} {name}")


@runner("loretrack/pos_embed")
def pos_embed(case: Case) -> None:
    position = torch.from_numpy(fill.fill_param("backbone.pos_embed", (1, 197, 768)))
    weight = torch.from_numpy(fill.fill_param("backbone.patch_embed.proj.weight", (768, 3, 16, 16)))
    for key, outputs in case.data["outputs"].items():
        search, template, stride = (int(v.removeprefix("stride")) for v in key.split("/"))
        named = {
            "pos_embed_x": resize_position(position, search // stride),
            "pos_embed_z": resize_position(position, template // stride),
            "patch_embed.proj.weight": resize_patch_embed(weight, stride),
        }
        for name, stored in outputs.items():
            case.check(named[name], stored, f"{key} {name}")


@runner("loretrack/schedule_window_mask")
def schedule_window_mask(case: Case) -> None:
    for key, stored in case.data.get("keep_rate", {}).items():
        base = float(re.findall(r"base ([\d.]+)", case.data["what"])[0])
        start, warm = (int(v) for v in key.strip("()").split(","))
        case.check([keep_rate(e, start, warm, base) for e in range(1, len(stored) + 1)], stored, f"keep_rate {key}")
    for size, stored in case.data.get("hann2d", {}).items():
        case.check(hann2d(int(size))[None, None], stored, f"hann2d {size}")
    for key, stored in case.data.get("template_masks", {}).items():
        name, size, *box = key.split(":")
        check_template_mask(name, int(size), [float(v) for v in box[0].strip("[]").split(",")] if box else None, stored)


def check_template_mask(name: str, size: int, box: list[float] | None, stored: Any) -> None:
    if isinstance(stored, str):
        try:
            found = center_rows(name, size // 16)
        except ValueError:
            return
        raise AssertionError(f"{name}:{size} gives {found}, but is not defined")
    if box is None:
        assert center_rows(name, size // 16) == stored, f"{name}:{size}"
        return
    mask = box_rows(torch.tensor([box], dtype=torch.float32) * size, size, 16)
    assert mask[0].nonzero().flatten().tolist() == stored, f"{name}:{size}:{box}"


def video(spec: dict[str, Any]) -> list[Frame]:
    """The cases' synthetic video: sinusoidal background, a mosaic that moves over it."""
    height, width = spec["height"], spec["width"]
    rs = np.random.RandomState(spec["seed"])
    f, a, p = rs.uniform(-0.03, 0.03, (6, 2)), rs.uniform(8, 24, (6, 3)), rs.uniform(0, 2 * np.pi, (6, 3))
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    wave = [a[k] * np.sin((2 * np.pi * (f[k, 0] * x + f[k, 1] * y))[..., None] + p[k]) for k in range(6)]
    background = np.clip(np.rint(128 + np.sum(wave, axis=0)), 0, 255).astype(np.uint8)
    x0, y0, w, h = (int(v) for v in spec["init_bbox"])
    texture = np.random.RandomState(spec["seed"] + 1).randint(0, 256, (h // 4, w // 4, 3))
    texture = texture.repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)
    frames = []
    for t in range(spec["frames"]):
        left = x0 + int(np.rint(spec["vx"] * t))
        top = y0 + int(np.rint(spec["vy"] * t + 6 * np.sin(0.7 * t)))
        image = background.copy()
        x1, y1 = max(0, left), max(0, top)
        x2, y2 = min(width, left + texture.shape[1]), min(height, top + texture.shape[0])
        if x2 > x1 and y2 > y1:
            image[y1:y2, x1:x2] = texture[y1 - top : y2 - top, x1 - left : x2 - left]
        frames.append(Frame(image))
    return frames


@runner("ostrack/tracker")
def tracker(case: Case) -> None:
    """With the network as it was trained, and again as `tracking/test.py` uses it."""
    track: Any = experiment_of(case).build_tracker(build(case))
    track.margin = float(case.config.get("clip_margin", 10))
    for candidate, frames in case.both_ways(track, video(case.data["inputs"]["video"])):
        follow(case, candidate, frames)


def follow(case: Case, track: Any, frames: list[Frame]) -> None:
    start = torch.tensor([case.data["inputs"]["video"]["init_bbox"]], dtype=torch.float64)
    state = track.init(frames[:1], start)
    boxes, peaks = [], []
    for frame in frames[1:]:
        state, prediction = track.step(state, [frame])
        boxes.append(prediction.boxes_xywh[0].tolist())
        assert prediction.windowed_scores is not None
        best = prediction.windowed_scores[0].topk(2)
        peaks.append((int(best.indices[0]), float(best.values[0])))
    case.check(boxes, case.data["outputs"]["boxes_xywh"][: len(boxes)], "boxes_xywh")
    for (cell, response), stored in zip(peaks, case.data["outputs"]["peaks"][: len(peaks)], strict=True):
        assert cell == stored["argmax"], f"{cell} != {stored['argmax']}"
        assert abs(response - stored["response"]) < 1e-3
