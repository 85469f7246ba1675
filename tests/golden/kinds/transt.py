"""TransT: forward pass with every block, matcher and losses, training step, crops, tracker."""

from __future__ import annotations

import itertools
import zlib
from typing import Any

import numpy as np
import torch
from golden import Case, build_filled, runner
from torch import Tensor, nn

from kinds.ostrack import chosen, written
from lib.data import CROP_STYLES, Batch, Frame
from lib.methods import Experiment
from lib.methods.transt import TransT, TransTObjective
from lib.models.heads import dense_candidates
from lib.objectives import CellCriterion, Progress

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def filled(case: Case, manifest: str) -> dict[str, Tensor]:
    """Filled weights: scaled and shifted by the ends of their names, then replaced, as the case says."""
    state, config = case.state(manifest), case.config
    for suffix, factor in config.get("scale", []):
        state |= {n: v * np.float32(factor) for n, v in state.items() if n.endswith(suffix)}
    for suffix, constant in config.get("shift", []):
        state |= {n: v + np.float32(constant) for n, v in state.items() if n.endswith(suffix)}
    for name, values in config.get("overrides", {}).items():
        state[name] = torch.tensor(values, dtype=torch.float32).reshape(state[name].shape)
    return state


def experiment_of(case: Case, script: str = "transt", **more: Any) -> Experiment:
    c = case.config
    inputs = case.data["inputs"]
    sides = {
        side: inputs[name]["shape"][-1] * inputs[name].get("repeat_hw", 1)
        for side in ("template", "search")
        for name in (side, f"{side}_images")
        if name in inputs
    }
    settings = {
        "MODEL.DROPOUT": 0.0,
        "TEST.TEMPLATE_SIZE": c.get("exemplar_size", sides.get("template", 128)),
        "TEST.SEARCH_SIZE": c.get("instance_size", sides.get("search", c.get("search_size", 256))),
        **chosen(case, "MODEL", "hidden_dim", "nheads", "dim_feedforward", "featurefusion_layers", "dropout"),
        **chosen(case, "TEST", "window_influence"),
    }
    if "weights" in c:
        names = {"GIOU_WEIGHT": "loss_giou", "L1_WEIGHT": "loss_bbox", "CE_WEIGHT": "loss_ce"}
        settings |= {f"TRAIN.{key}": c["weights"][name] for key, name in names.items() if name in c["weights"]}
    if "eos_coef" in c:
        settings["TRAIN.BACKGROUND_WEIGHT"] = c["eos_coef"]
    return written(script, script, settings | more)


def build(case: Case) -> TransT:
    """The case's network with its filled weights, loaded strictly under the published names, in the case's format."""
    experiment = experiment_of(case)
    network: TransT = build_filled(experiment, filled(case, case.data["weights"].split()[0]))
    return network.to(getattr(torch, case.config.get("dtype", "float32")))


def picture(case: Case, name: str) -> Tensor:
    """Pictures [B, 3, H, W] of the case's inputs: repeated along both axes, then multiplied."""
    spec = case.data["inputs"][name]
    drawn = case.draw(spec)
    for axis in (-1, -2):
        drawn = drawn.repeat(spec.get("repeat_hw", 1), axis=axis)
    return torch.from_numpy(drawn * np.float32(spec.get("gain", 1.0))).to(getattr(torch, case.config["dtype"]))


def bilinear(grid: np.ndarray, period: int, height: int, width: int) -> np.ndarray:
    """The grid's nodes [h, w, 3] `period` pixels apart, bilinear between."""
    rows, columns = np.arange(height) / period, np.arange(width) / period
    top, left = rows.astype(int), columns.astype(int)
    dy, dx = (rows - top)[:, None, None], (columns - left)[None, :, None]
    upper = grid[top][:, left] * (1 - dx) + grid[top][:, left + 1] * dx
    lower = grid[top + 1][:, left] * (1 - dx) + grid[top + 1][:, left + 1] * dx
    return upper * (1 - dy) + lower * dy


def video(spec: dict[str, Any]) -> tuple[list[Frame], list[list[float]]]:
    """The synthetic video of these cases, checked against its checksums, and the target's boxes x, y, w, h."""
    (height, width), (tw, th) = spec["size"], spec["target"]
    rng = np.random.RandomState(spec["seed"])
    ground = rng.random_sample((height // 16 + 2, width // 16 + 2, 3))
    pattern = rng.random_sample((th // 8 + 2, tw // 8 + 2, 3))
    background = np.floor(255 * (0.25 + 0.35 * bilinear(ground, 16, height, width)) + 0.5).astype(np.uint8)
    texture = np.floor(255 * bilinear(pattern, 8, th, tw) + 0.5).astype(np.uint8)
    frames, boxes = [], []
    for t in range(spec["frames"]):
        x, y = (
            int(np.floor(spec["start"][i] + spec["velocity"][i] * t + spec["sway"][i] * np.sin(0.7 * t) + 0.5))
            for i in (0, 1)
        )
        shown = background.copy()
        left, top, right, bottom = max(0, x), max(0, y), min(width, x + tw), min(height, y + th)
        if right > left and bottom > top:
            shown[top:bottom, left:right] = texture[top - y : bottom - y, left - x : right - x]
        frames.append(Frame(shown))
        boxes.append([float(x), float(y), float(tw), float(th)])
    drawn = [zlib.crc32(frame.rgb.tobytes()) for frame in frames]
    assert drawn == spec.get("crc32_frames", drawn), "the synthetic video is another one"
    return frames, boxes


class Tape:
    """What modules of a network give, by the names that cases use."""

    def __init__(self, network: TransT) -> None:
        self.found: dict[str, Tensor] = {}
        self.side = ""
        # The search region goes through the backbone first.
        self.sides = itertools.cycle(("search", "template"))
        body, fusion = network.body, network.featurefusion_network
        body.register_forward_pre_hook(self.look)
        for i in range(1, 4):
            self.keep(body.get_submodule(f"layer{i}"), f"backbone.layer{i}[%s]")
        body.get_submodule("layer1").register_forward_pre_hook(
            lambda _m, args: self.found.__setitem__(f"backbone.maxpool[{self.side}]", args[0])
        )
        self.keep(network.input_proj, "input_proj[%s]")
        for i, layer in enumerate(fusion.encoder["layers"]):  # type: ignore[arg-type]
            self.keep(layer.get_submodule("norm13"), f"encoder.layers.{i}.template", tokens=True)
            self.keep(layer.get_submodule("norm23"), f"encoder.layers.{i}.search", tokens=True)
        self.keep(fusion.get_submodule("decoder.layers.0"), "decoder.layers.0", tokens=True)
        self.keep(fusion.get_submodule("decoder.norm"), "decoder.norm", tokens=True)
        self.keep(network.class_embed, "class_embed", lead=True)
        self.keep(network.bbox_embed, "bbox_embed", lead=True)

    def look(self, _module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.side = next(self.sides)

    def keep(self, module: nn.Module, name: str, tokens: bool = False, lead: bool = False) -> None:
        """tokens: cases have [N, B, C]. lead: cases have one dimension more."""

        def hook(_m: nn.Module, _i: Any, out: Tensor) -> None:
            value = out.transpose(0, 1) if tokens else out[None] if lead else out
            self.found[name % self.side if "%s" in name else name] = value.detach().clone()

        module.register_forward_hook(hook)


@runner("transt/forward")
def forward(case: Case) -> None:
    network = build(case)
    tape = Tape(network)
    search, template = picture(case, "search"), picture(case, "template")
    with torch.no_grad():
        found = network(template, search)
        seen = dict(tape.found)
        apart = network.locate(network.encode_template(template[:1]), search[:1])
    named = seen | {"pred_logits": found.maps["logits"], "pred_boxes": found.boxes}
    fusion = network.featurefusion_network
    for side, pos_embed in (("template", fusion.template_pos_embed), ("search", fusion.search_pos_embed)):
        grid = pos_embed.t().unflatten(1, (int(len(pos_embed) ** 0.5), -1))
        named[f"pos[{side}]"] = grid[None].expand(len(search), -1, -1, -1)
    for name, stored in (case.data["outputs"] | case.data.get("intermediates", {})).items():
        case.check(named[name], stored, name)
    torch.testing.assert_close(apart.maps["logits"], found.maps["logits"][:1], rtol=1e-9, atol=1e-9)


def criterion(case: Case) -> CellCriterion:
    """The published criterion: its matches wrap round."""
    return CellCriterion.from_config(experiment_of(case).config.train)


@runner("transt/losses")
def losses(case: Case) -> None:
    logits, boxes = (case.tensor(n).requires_grad_() for n in ("pred_logits", "pred_boxes"))
    target = case.tensor("search_anno") / case.config["search_size"]
    cells, learn = dense_candidates(logits, boxes), criterion(case)
    found = learn(cells, target)
    found.total.backward()
    matched = [row.nonzero().flatten() for row in learn.matched(boxes, target)]
    assert logits.grad is not None
    assert boxes.grad is not None
    named: dict[str, Any] = {
        "matched_count_per_image": [len(m) for m in matched],
        "matched_indices": torch.cat(matched),
        "loss_ce": found.terms["Loss/ce"],
        "loss_bbox": found.terms["Loss/bbox"],
        "loss_giou": found.terms["Loss/giou"],
        "iou": found.terms["IoU"],
        "total": found.total,
        "grad_pred_logits": logits.grad,
        "grad_pred_boxes": boxes.grad,
    }
    outputs = dict(case.data["outputs"])
    ends = outputs.pop("matched_first_last", None)
    assert ends is None or ends == [[int(m[0]), int(m[-1])] if len(m) else [] for m in matched]
    for name, stored in outputs.items():
        case.check(named[name], stored, name)


@runner("slt_pytracking/transt_train_step")
def train_step(case: Case) -> None:
    network = build(case).train(case.config.get("mode", "train") == "train")
    target = (case.tensor("search_anno") / case.config["search_size"])[:, None]
    batch = Batch(
        template=picture(case, "template_images")[:, None],
        search=picture(case, "search_images")[:, None],
        template_boxes=target,
        search_boxes=target,
        modality=torch.zeros(len(target), dtype=torch.int64),
    )
    found = TransTObjective(experiment_of(case).config, network)(network, batch, Progress(1, 1000))
    found.total.backward()
    gradients = {n: p.grad for n, p in network.named_parameters()}
    named: dict[str, Any] = {
        "total": found.total,
        "iou": found.terms["IoU"],
        "grad_norm": torch.stack([g.norm() for g in gradients.values() if g is not None]).norm(),
        **found.terms,
        **{f"grad:{n}": g for n, g in gradients.items()},
        **{f"buffer_after:{n}": b for n, b in network.named_buffers()},
    }
    for name, stored in case.data["outputs"].items():
        case.check(named[name], stored, name)


@runner("slt_pytracking/transt_crops")
def crops(case: Case) -> None:
    frame = video(case.config["video"])[0][0]
    style = CROP_STYLES["context"]()
    border = style.borders([frame])
    items = case.draw(case.data["inputs"]["items"]).tolist()
    for (cx, cy, w, h, factor, size), stored in zip(items, case.data["outputs"]["crops"], strict=True):
        side, box = int(size), [cx - w / 2, cy - h / 2, w, h]
        region = style.region(box, factor, side, frame.size_hw)
        assert region.width == region.height == stored["crop_size_px"], (frame.size_hw, box)
        found = style.crop_frames([frame], torch.tensor([box], dtype=torch.float64), factor, side, border)
        resize = side / found.sides[0]
        case.check(resize, [stored["resize_factor"]] * 2, f"resize factor {box}", {"rtol": 1e-7, "atol": 1e-7})
        case.check(found.pixels, stored["patch_raw_0_255"], f"crop {box}")
        placed = style.to_crop([cx - w / 2 + 3, cy - h / 2 - 2, 1.1 * w, 0.9 * h], region, side)
        case.check(placed, stored["train_box_in_crop"], f"box {box}", {"rtol": 1e-6, "atol": 1e-5})


@runner("transt/track", "transt/slt_track")
def track(case: Case) -> None:
    """With the network as it was trained, and again as `tracking/test.py` uses it."""
    tracker: Any = experiment_of(case).build_tracker(build(case))
    frames, truth = video(case.config["video"])
    for candidate, shown in case.both_ways(tracker, frames):
        follow(case, candidate, shown, truth)


def follow(case: Case, tracker: Any, frames: list[Frame], truth: list[list[float]]) -> None:
    state = tracker.init(frames[:1], torch.tensor(truth[:1], dtype=torch.float64))
    outputs = case.data["outputs"]
    boxes, cells = [], []
    for i, frame in enumerate(frames[1:]):
        state, prediction = tracker.step(state, [frame])
        boxes.append(prediction.boxes_xywh[0].tolist())
        assert prediction.windowed_scores is not None
        case.check(prediction.windowed_scores[0], outputs["penalised_score"][i], f"response in frame {i + 1}")
        cells.append(int(prediction.windowed_scores[0].argmax()))
    assert cells == outputs["best_idx"][: len(cells)]
    tolerance = {"rtol": 0.0, "atol": case.config["tolerance_boxes_px"]}
    case.check(boxes, outputs["target_bbox"][: len(boxes)], "boxes", tolerance)
