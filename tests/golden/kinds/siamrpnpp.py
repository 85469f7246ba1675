"""SiamRPN++: forward pass with every level, anchors and losses, crops, augmentation, schedules, tracker, SLT."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from golden import Case, build_filled, runner
from torch import Tensor, nn

from kinds.ostrack import written
from lib.config import SLT, Copies, Region
from lib.data import (
    CROP_STYLES,
    AnnotatedClipSampler,
    CopyChanges,
    CropDraw,
    CrossBlur,
    Draws,
    Frame,
    FrameSet,
    Modality,
    Normalise,
    PcaColour,
    Processing,
    PySOTStyle,
    Sample,
    changed_copy,
    context_side,
    copy_region,
    mean_colour,
    warp,
    xywh_to_xyxy,
)
from lib.methods import Experiment, load_experiment
from lib.methods.siamrpnpp import AnchorBoxLoss, AnchorCriterion, SiamRPN, SiamRPNTracker, SizedRegion
from lib.models.heads import AnchorTargets, anchor_candidates, anchor_grid, anchor_shapes
from lib.objectives import Explored, Losses, Progress, SequenceObjective, targets_in_crops
from lib.track import (
    CropSettings,
    OneStreamState,
    SearchRegion,
    TemplateRegion,
    TrackerOutput,
    hanning2d,
    roll_out,
)
from lib.train import build_optimizer, parameter_groups, phases_of, set_train_mode


def overridden(case: Case, manifest: str) -> dict[str, Tensor]:
    """Filled weights, then multiplied or set as the case says."""
    state = case.state(manifest)
    for name, how, value in case.data.get("weight_overrides", []):
        state[name] = state[name] * np.float32(value) if how == "mul" else torch.full_like(state[name], value)
    return state


KEYS = {
    "CLS_WEIGHT": "TRAIN.CLS_WEIGHT",
    "LOC_WEIGHT": "TRAIN.LOC_WEIGHT",
    "THR_HIGH": "TRAIN.THR_HIGH",
    "THR_LOW": "TRAIN.THR_LOW",
    "POS_NUM": "TRAIN.POS_NUM",
    "NEG_NUM": "TRAIN.NEG_NUM",
    "TOTAL_NUM": "TRAIN.TOTAL_NUM",
    "RATIOS": "MODEL.ANCHOR_RATIOS",
    "SCALES": "MODEL.ANCHOR_SCALES",
    "PENALTY_K": "TEST.PENALTY_K",
    "WINDOW_INFLUENCE": "TEST.WINDOW_INFLUENCE",
    "LR": "TEST.SIZE_LR",
    "GRAD_CLIP": "TRAIN.GRAD_CLIP_NORM",
    "WEIGHT_DECAY": "TRAIN.WEIGHT_DECAY",
    "TEMP": "SLT.TEMPERATURE",
    "SIG_EPS": "SLT.EPSILON",
}
"""Names of a case's settings -> keys of a configuration."""
ATTN_KEYS = {
    "REFINE_WEIGHT": "TRAIN.REFINE_WEIGHT",
    "MASK_WEIGHT": "TRAIN.MASK_WEIGHT",
    "ROI_PER_IMG": "TRAIN.ROI_PER_IMG",
    "FG_THRESH": "TRAIN.FG_THRESH",
    "MASK_THERSHOLD": "TEST.MASK_THRESHOLD",
}
"""Those that only SiamAttn has."""


def script_of(case: Case) -> str:
    """The case's experiment; parts that both methods share are those of SiamRPN++."""
    model = str(case.data["model"])
    return model if model.endswith(("siamrpnpp", "siamattn")) else "siamrpnpp"


def experiment_of(case: Case, **settings: Any) -> Experiment:
    """The published experiment with what the case states."""
    c, script = case.config | case.config.get("TRACK", {}), script_of(case)
    keys = KEYS | ATTN_KEYS if script.endswith("siamattn") else KEYS
    given = {key: c[name] for name, key in keys.items() if name in c}
    inputs = case.data.get("inputs", {})
    template = inputs.get("template", {}).get("crop", c.get("EXEMPLAR_SIZE", 127))
    search = inputs.get("search", {}).get("crop", c.get("SEARCH_SIZE", c.get("INSTANCE_SIZE", 255)))
    for side, size in (("TEMPLATE", template), ("SEARCH", search)):
        factor = 2.0 * size / template
        given |= {f"DATA.{side}.SIZE": size, f"TEST.{side}_SIZE": size}
        given |= {f"DATA.{side}.FACTOR": factor, f"TEST.{side}_FACTOR": factor}
    if "CONTEXT_AMOUNT" in c:
        given["DATA.CROP_STYLE"] = {"TYPE": "pysot", "CONTEXT_AMOUNT": c["CONTEXT_AMOUNT"]}
    slt = script.startswith("slt")
    return written(script, script, {k: v for k, v in given.items() if slt or not k.startswith("SLT")} | settings)


def build(case: Case) -> Any:
    """The published network with the case's weights, loaded strictly, in the case's format."""
    network = build_filled(experiment_of(case), overridden(case, case.data["weights"].split()[0]))
    return network.to(getattr(torch, case.config.get("dtype", "float32")))


def picture(case: Case, name: str) -> Tensor:
    """Pictures [B, 3, n, n] in 0..255: every pixel repeated, then cut."""
    spec = case.data["inputs"][name]
    drawn = case.draw(spec).repeat(spec.get("repeat", 1), axis=2).repeat(spec.get("repeat", 1), axis=3)
    side = spec.get("crop", drawn.shape[-1])
    return torch.from_numpy(drawn[..., :side, :side]).to(getattr(torch, case.config.get("dtype", "float32")))


def video(spec: dict[str, Any]) -> tuple[list[Frame], list[list[float]]]:
    """The synthetic video of these cases, and the target's boxes x, y, w, h."""
    rng = np.random.RandomState(spec["seed"])
    height, width, w, h = (spec[k] for k in ("height", "width", "w", "h"))
    base = rng.randint(0, 256, (height // 8 + 2, width // 8 + 2, 3)).repeat(8, axis=0).repeat(8, axis=1)
    total = sum(base[i : i + height, j : j + width] for i in range(9) for j in range(9))
    ground = (total // 81).astype(np.uint8)
    texture = rng.randint(0, 256, ((h + 5) // 6, (w + 5) // 6, 3)).repeat(6, axis=0).repeat(6, axis=1)[:h, :w]
    frames, boxes = [], []
    for t in range(spec["frames"]):
        x, y = spec["x"] + spec["vx"] * t, spec["y"] + spec["vy"] * t
        wide, high = w + spec["dw"] * t, h + spec["dh"] * t
        shown = texture[np.arange(high) * h // high][:, np.arange(wide) * w // wide].astype(np.uint8)
        image = ground.copy()
        left, top, right, bottom = max(0, x), max(0, y), min(width, x + wide), min(height, y + high)
        if right > left and bottom > top:
            image[top:bottom, left:right] = shown[top - y : bottom - y, left - x : right - x]
        frames.append(Frame(np.ascontiguousarray(image[..., ::-1])))
        boxes.append([float(v) for v in (x, y, wide, high)])
    return frames, boxes


@runner("siamrpnpp/forward")
def forward(case: Case) -> None:
    network: SiamRPN = build(case)
    seen: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor) -> None:
        seen[name] = value.detach().clone()

    for i, branch in enumerate(network.rpn_head.branches()):
        name = f"rpn{i // 2 + 2}.{'loc' if i % 2 else 'cls'}"
        branch.register_forward_hook(lambda _m, _i, out, name=name: keep(name, out))
        branch.head.register_forward_pre_hook(lambda _m, args, name=name: keep(f"{name}.xcorr", args[0]))
    template, search = picture(case, "template"), picture(case, "search")
    with torch.no_grad():
        found = network(template, search)
        for side, image in (("template", template), ("search", search)):
            maps = network.backbone.maps(image)
            for i, level in enumerate(network.neck(maps[2:])):
                cut = (level.shape[-1] - 7) // 2
                keep(f"{side}.neck.{i + 2}", level[..., cut : cut + 7, cut : cut + 7] if side == "template" else level)
            for i, level in enumerate(maps):
                keep(f"{side}.backbone.{f'layer{i}' if i else 'stem'}", level)
    grid = network.grid
    named = seen | {name: found.maps[name].unflatten(-1, (-1, grid, grid)).flatten(1, 2) for name in ("cls", "loc")}
    for name, stored in (case.data["outputs"] | case.data.get("intermediates", {})).items():
        case.check(named[name], stored, name)


class Shuffled:
    """PySOT's choice of anchors: numpy's global generator shuffles their numbers where there are too many."""

    def __call__(self, candidates: Tensor, counts: Tensor) -> Tensor:
        kept = torch.zeros_like(candidates)
        for row, count in enumerate(counts.tolist()):
            found = candidates[row].nonzero().flatten().numpy()
            if len(found) > count:
                order = np.arange(len(found))
                np.random.shuffle(order)
                found = found[order[:count]]
            kept[row, torch.from_numpy(found)] = True
        return kept


def criterion_of(experiment: Experiment) -> Any:
    """The criterion with PySOT's random numbers."""
    criterion = AnchorCriterion.from_config(experiment.config)
    return replace(criterion, matcher=replace(criterion.matcher, keep=Shuffled()))


def labels(case: Case) -> AnchorTargets:
    """Targets that a case draws by its rule."""
    drawn, changes = case.tensor("label_u").flatten(1), case.tensor("label_loc").flatten(2)
    rule = re.search(r"u>([\d.]+), 0 where u<([\d.]+).*label_loc_weight = ([\d.]+)", case.data["input_rule"])
    assert rule is not None, case.data["input_rule"]
    above, below, weight = map(float, rule.groups())
    kinds = torch.where(drawn > above, 1, torch.where(drawn < below, 0, -1))
    dtype = getattr(torch, case.config.get("dtype", "float32"))
    return AnchorTargets(kinds, changes.to(dtype), torch.where(kinds == 1, weight, 0.0).to(dtype))


def gradient_tolerance(case: Case, stored: Any) -> dict[str, float]:
    """Of gradients and updates, which are small numbers."""
    rule = case.data["gradient_tolerance"]
    scale = max(abs(v) for v in stored["values"])
    return {"rtol": rule["rtol"], "atol": rule["atol_times_scale"] * scale}


@runner("slt_pysot/rpn_losses")
def rpn_losses(case: Case) -> None:
    cls, loc = (case.tensor(name).requires_grad_() for name in ("cls", "loc"))
    experiment = experiment_of(case)
    anchors = torch.rand(loc[0, 0].numel() * loc.shape[1] // 4, 4)
    losses = criterion_of(experiment)(anchor_candidates(cls, loc, anchors), labels(case))
    losses.total.backward()
    assert cls.grad is not None
    assert loc.grad is not None
    named = {
        "cls_loss": losses.terms["Loss/cls"],
        "loc_loss": losses.terms["Loss/loc"],
        "total_loss": losses.total,
        "grad_cls": cls.grad,
        "grad_loc": loc.grad,
    }
    for name, stored in case.data["outputs"].items():
        tolerance = gradient_tolerance(case, stored) if name.startswith("grad") else None
        case.check(named[name], stored, name, tolerance)


@runner("slt_pysot/anchor_target")
def anchor_target(case: Case) -> None:
    c, grid = case.config, case.config["OUTPUT_SIZE"]
    matcher = criterion_of(experiment_of(case)).matcher
    if (grid, c["STRIDE"]) != (matcher.grid, matcher.stride):
        shapes = anchor_shapes(c["STRIDE"], c["RATIOS"], c["SCALES"])
        matcher = replace(matcher, shapes=shapes, stride=c["STRIDE"], grid=grid, centre=c["SEARCH_SIZE"] // 2)
    training = matcher.anchors()
    tracking = anchor_grid(matcher.shapes, grid, c["STRIDE"])
    corners = torch.cat([training[:, :2] - training[:, 2:] / 2, training[:, :2] + training[:, 2:] / 2], dim=1)
    shapes = torch.tensor(matcher.shapes)
    named: dict[str, Any] = {
        "train_anchors_center": training.T.unflatten(1, (-1, grid, grid)),
        "train_anchors_corner": corners.T.unflatten(1, (-1, grid, grid)),
        "base_anchors_corner": torch.cat([-shapes / 2, shapes / 2], dim=1),
        "track_anchors_center": tracking,
        "track_window": hanning2d(grid).flatten().repeat(len(shapes)),
    }
    for name, stored in case.data["outputs"].items():
        case.check(named[name], stored, name)
    for i, target in enumerate(case.data["targets"]):
        x1, y1, x2, y2 = target["target_xyxy"]
        box = torch.tensor([[x1, y1, x2 - x1, y2 - y1]], dtype=torch.float32)
        np.random.seed(target["np_random_seed"])
        found = matcher(box, torch.tensor([target["neg"]]))
        overlap, kept = matcher.overlaps(box)[0], found.labels[0]
        values = {
            "overlap": overlap.unflatten(0, (-1, grid, grid)),
            "delta": found.changes[0].unflatten(1, (-1, grid, grid)),
            "cls": kept.unflatten(0, (-1, grid, grid)),
            "delta_weight": found.weights[0].unflatten(0, (-1, grid, grid)),
            "n_pos_before": int((overlap > c["THR_HIGH"]).sum()),
            "n_neg_before": int((overlap < c["THR_LOW"]).sum()),
            "positive_flat_indices": (kept == 1).nonzero().flatten().tolist(),
            "negative_flat_indices": (kept == 0).nonzero().flatten().tolist(),
        }
        for name, value in values.items():
            if name in target:
                if isinstance(target[name], dict):
                    case.check(value, target[name], f"target {i} {name}")
                else:
                    assert value == target[name], f"target {i} {name}: {value} != {target[name]}"


@runner("slt_pysot/lr_schedule")
def lr_schedule(case: Case) -> None:
    for name, stored in case.data["outputs"].items():
        experiment = load_experiment(name, name)
        phases = phases_of(experiment.config.train)
        groups = {g.pattern: g.lr_multiplier for g in phases[-1].train.param_groups if not g.freeze}
        shares = {"backbone": groups.pop("^backbone"), "other": groups.pop(".*")}
        assert not groups, groups
        for key, rates in stored.items():
            found = [
                next(p for p in phases if epoch <= p.last).lr_factor(epoch, 0, 1)
                * experiment.config.train.lr
                * shares[key]
                for epoch in range(1, len(rates) + 1)
            ]
            case.check(found, rates, f"{name} {key}")


def image_of(spec: dict[str, Any]) -> Frame:
    """The one frame of a case's image."""
    return video(spec["video"])[0][0]


def bgr(planes: Any) -> np.ndarray:
    """[C, H, W] of an RGB crop with the blue channel first."""
    return np.asarray(planes)[..., ::-1, :, :]


def mask_of(text: str) -> np.ndarray:
    """[H, W] bool of a sentence such as "zeros (120,160), ones at rows 40..69, columns 50..89"."""
    height, width, top, bottom, left, right = (int(v) for v in re.findall(r"\d+", text))
    mask = np.zeros((height, width), dtype=bool)
    mask[top : bottom + 1, left : right + 1] = True
    return mask


@runner("slt_pysot/crops")
def crops(case: Case) -> None:
    data = case.data
    frame = image_of(data["image"])
    amount = case.config.get("context_amount", 0.5)
    style = CROP_STYLES["pysot"](context_amount=amount)
    border = style.borders([frame])
    case.check(mean_colour(frame, (None, None))[::-1], data["mean_bgr"], "mean", {"rtol": 0, "atol": 1e-3})
    for item in [*data["crops"], *data["mask_crops"]]:
        (x, y), side = item["center"], item["original_size"]
        # The square box whose context is as wide as the crop.
        inner, size = side / (1 + 2 * amount), item.get("model_size", 255)
        box = [x - inner / 2, y - inner / 2, inner, inner]
        region = style.region(box, 2.0, size, frame.size_hw)
        assert (region.width, region.sides_wh) == (side, (side, side))
        found = style.crop_frames([frame], torch.tensor([box], dtype=torch.float64), 2.0, size, border)
        case.check(bgr(found.pixels), item["crop"], f"crop {item['center']}")
        if "mask_crop" in item:
            assert isinstance(style, PySOTStyle)
            mask = style.crop_mask(mask_of(data["mask"]), region, size)
            case.check(mask[None], item["mask_crop"], f"mask {item['center']}")
    warped = style.in_training()
    for item in data["offline_crops"]:
        x1, y1, x2, y2 = item["bbox_xyxy"]
        for name, size in (("z127", 127), ("x511", 511)):
            region = warped.region([x1, y1, x2 - x1, y2 - y1], 2 * size / 127, size, frame.size_hw)
            found = warped.resample(frame.rgb, region, size, warped.border(frame))
            case.check(found[..., ::-1], item[name], f"{name} {item['bbox_xyxy']}")


@runner("siamrpnpp/tracker", "siamattn/tracker")
def tracker(case: Case) -> None:
    """With the network as it was trained, and again as `tracking/test.py` uses it."""
    tracker: Any = experiment_of(case).build_tracker(build(case))
    if script_of(case).endswith("siamattn"):
        tracker.request_regions("polygon", "mask")
    frames, truth = video(case.data["video"])
    assert truth == case.data["ground_truth_xywh"]
    for candidate, shown in case.both_ways(tracker, frames):
        follow(case, candidate, shown, truth)


def follow(case: Case, tracker: Any, frames: list[Frame], truth: list[list[float]]) -> None:
    state = tracker.init(frames[:1], torch.tensor(truth[:1], dtype=torch.float64))
    pixels = {"rtol": 0.0, "atol": case.data["tolerance"]["atol"]}
    for i, (frame, stored) in enumerate(zip(frames[1:], case.data["frames"][1 : len(frames)], strict=True), 1):
        state, prediction = tracker.step(state, [frame])
        box = prediction.boxes_xywh[0]
        named = {"written_xywh": box, "center": box[:2] + box[2:] / 2, "size": box[2:]}
        for name in named.keys() & stored.keys():
            case.check(named[name], stored[name], f"{name} {i}", pixels)
        if "best_index" in stored:
            assert int(prediction.windowed_scores.argmax()) == stored["best_index"], f"frame {i}"
        if "best_score" in stored:
            case.check(prediction.scores[0], stored["best_score"], f"score {i}", {"rtol": 0.0, "atol": 1e-3})
        if "polygon" in stored:
            corners, expected = prediction.polygons[0].numpy(), np.array(stored["polygon"]).reshape(-1, 2)
            apart = np.abs(corners[:, None] - expected[None]).max(axis=-1).min(axis=0)
            assert apart.max() <= 1.5, f"polygon {i}: {corners.tolist()} != {expected.tolist()}"
        if "mask_pixels" in stored:
            count = int(prediction.masks[0].sum())
            assert abs(count - stored["mask_pixels"]) <= 0.02 * stored["mask_pixels"] + 1, f"{count} pixels in {i}"


def augmented(case: Case, item: dict[str, Any], style: str, mask: np.ndarray | None) -> Sample:
    """The search region of a frame that is a crop of 511 pixels, with PySOT's random numbers in PySOT's order."""
    shift, scale, blur, flip, colour, size = item["shift_scale_blur_flip_color_size"]
    transforms = [
        {"TYPE": "pca_colour", "PROBABILITY": colour},
        {"TYPE": "cross_blur", "PROBABILITY": blur},
        {"TYPE": "crop_flip", "PROBABILITY": flip, "KINDS": ["search"]},
    ]
    settings = {
        "DATA.CROP_STYLE": style,
        "DATA.MASKS": mask is not None,
        "DATA.AUGMENT.TRANSFORMS": transforms,
        "DATA.SEARCH": {"SIZE": size, "FACTOR": 2 * size / 127, "CENTER_JITTER": shift, "SCALE_JITTER": scale},
    }
    data = replace(
        written("siamrpnpp", "siamrpnpp", {k: v for k, v in settings.items() if not k.endswith("SEARCH")}).config.data,
        search=Region(size, 2 * size / 127, shift, scale),
    )
    make = Processing(data)
    np.random.seed(item["np_random_seed"])
    draw = np.random.random
    uniform = np.array([draw() if scale else 0.5 for _ in range(2)] + [draw() if shift else 0.5 for _ in range(2)])
    coloured = colour > draw()
    normal = np.random.randn(3, 1)[:, 0] if coloured else np.zeros(3)
    blurred = blur > draw()
    length, weight = (int(np.random.choice(np.arange(5, 46, 2))), draw()) if blurred else (5, 0.5)
    flipped = bool(flip) and flip > draw()
    # The transforms that stand before those of the list change nothing here.
    numbers = (1.0, False, (coloured, normal), (blurred, length, weight), flipped)
    still = CropDraw(np.zeros(0), np.full(4, 0.5), (1.0, False, (False, np.zeros(3)), (False, 5, 0.5), False))
    draws = Draws((False, False), (still,), (CropDraw(np.zeros(0), uniform, numbers),))
    x1, y1, x2, y2 = item["annotation_xyxy"]
    w, h = x2 - x1, y2 - y1
    per = 127 / context_side(w, h)
    box = np.array([[255 - w * per / 2, 255 - h * per / 2, w * per, h * per]])
    if "box_in_511_crop" in item:
        case.check(xywh_to_xyxy(box)[0], item["box_in_511_crop"], "box", {"rtol": 0.0, "atol": 1e-4})
    frame = image_of(item["image"])
    masks = None if mask is None else (mask,)
    return make.apply(
        FrameSet((frame,), (frame,), box, box, Modality.RGB, "", "", (0, 0), template_masks=masks, search_masks=masks),
        draws,
    )


@runner("slt_pysot/augmentation")
def augmentation(case: Case) -> None:
    data = written("siamrpnpp", "siamrpnpp", {}).config.data
    normalise = Normalise(data.mean, data.std, channels=data.channels, clip_colours=data.clip_colours)
    for item in [*case.data["frames"], *case.data["frames_with_mask"]]:
        mask = mask_of(item["mask"]) if "mask" in item else None
        sample = augmented(case, item, "pysot_511", mask)
        size = sample.search.shape[-1]
        box = xywh_to_xyxy(sample.search_boxes[0].astype(np.float64)) * size
        case.check(box, item["bbox_xyxy"], "box", {"rtol": 0.0, "atol": 1e-4})
        crop = normalise(torch.from_numpy(sample.search), torch.from_numpy(sample.search_colour))[0]
        case.check(crop.permute(1, 2, 0), item["crop"], "crop")
        if mask is not None:
            case.check(sample.extras["search_masks"][0] / 255, item["mask_out"], "mask")

    for item in case.data["sequence_frames"]:
        extended_frame(case, item)


def extended_frame(case: Case, item: dict[str, Any]) -> None:
    """A copy that extends a clip, with PySOT's random numbers in PySOT's order."""
    copies = Copies(*item["shift_scale_blur_color"])
    np.random.seed(item["np_random_seed"])
    draw = np.random.random
    rx, ry, sx, sy = (2 * draw() - 1 for _ in range(4))
    colour = PcaColour.AXES @ np.random.randn(3) if copies.colour > draw() else None
    blur = None
    if copies.blur > draw():
        blur = CrossBlur(probability=1.0).change((True, int(np.random.choice(np.arange(5, 46, 2))), draw()))
    changes = CopyChanges((rx, ry, sx, sy), None if colour is None else -colour, blur)
    x1, y1, x2, y2 = item["box_xyxy"]
    box = np.array([x1, y1, x2 - x1, y2 - y1], dtype=np.float64)
    mask = mask_of(item["mask"])
    frame, moved, shown = changed_copy(image_of(item["image"]), box, mask, copies, changes)
    case.check(xywh_to_xyxy(moved), item["bbox_xyxy"], "box", {"rtol": 0.0, "atol": 1e-4})
    case.check(frame.rgb[..., ::-1], item["image_out"], "frame")
    soft = warp(
        mask.astype(np.float32)[..., None],
        copy_region(frame.size_hw, box, copies, changes),
        mask.shape[::-1],  # type: ignore[arg-type]
        np.zeros(1),
    )[..., 0]
    case.check(soft, item["mask_out"], "mask")
    assert np.array_equal(shown, soft > 0)  # type: ignore[arg-type]


@runner("slt_pysot/sequence_sampling")
def sequence_sampling(case: Case) -> None:
    for sample in case.data["samples"]:
        c = case.config | {k.upper(): v for k, v in sample.items()}
        mode = c["MODE"].removesuffix("_interval")
        slt = SLT(
            frames=c.get("MAX_LEN", c["NUM_FRAMES"]),
            max_interval=c["MAX_INTERVAL"],
            template_gap=c["TEMPLATE_GAP"],
            clip_sampler="annotated",
        )
        boxes = np.ones(sample["n_frames"], dtype=bool)
        boxes[sample["missing"]] = False
        rng = random.Random(sample["random_seed"])
        rng.randint(0, 0)  # the track
        sampler = AnnotatedClipSampler(slt)
        found = sampler.frames(boxes, mode, rng)
        if "error" in sample:
            assert found[0] == 0
            continue
        assert found == sample["frame_indices"], mode
        assert sampler.template(boxes, found[0], rng) == sample["template_index"], mode
        assert [bool(boxes[i]) for i in found] == sample["has_box"], mode


def updated(case: Case, network: SiamRPN, experiment: Experiment, epoch: int) -> dict[str, Tensor]:
    """The parameters after clipping and an update in an epoch, counted from 0, and the norm before clipping."""
    phases = phases_of(experiment.config.train)
    phase = next(p for p in phases if epoch < p.last)
    optimizer = build_optimizer(parameter_groups(network, phase.train), phase.train)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * phase.lr_factor(epoch + 1, 0, 1)
    first, *_, last = case.config["lr_by_group"]
    rates = [first, last][-len(optimizer.param_groups) :]  # a frozen backbone is in no group
    case.check([g["lr"] for g in optimizer.param_groups], rates, "rates", {"rtol": 1e-6, "atol": 1e-12})
    parameters = [p for g in optimizer.param_groups for p in g["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, phase.train.grad_clip_norm)
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    optimizer.step()
    after = {n: p.detach() for n, p in network.named_parameters()}
    return {"grad_norm": norm} | after | {f"update:{n}": after[n] - before[n] for n in after}


@runner("siamrpnpp/train_step")
def train_step(case: Case) -> None:
    experiment, network, _ = learner(case)
    losses = criterion_of(experiment)(network(picture(case, "template"), picture(case, "search")), labels(case))
    gradients = check_losses(case, network, losses)
    assert any(n.startswith("backbone") for n in gradients) == case.config["backbone_trainable"]
    after, buffers = updated(case, network, experiment, case.config["epoch"]), dict(network.named_buffers())
    for name, stored in case.data["parameters_after_step"].items():
        case.check(after[name], stored, f"after {name}")
    for name, stored in case.data["buffers_after_step"].items():
        case.check(buffers[name], stored, f"buffer {name}")


def learner(case: Case) -> tuple[Experiment, Any, Any]:
    """Experiment, network and objective as they are in the case's epoch, counted from 0."""
    experiment, network = experiment_of(case), build(case)
    phase = next(p for p in phases_of(experiment.config.train) if case.config["epoch"] < p.last)
    objective = experiment.method.build_objective(experiment.config, network)
    set_train_mode(network, objective, phase.train.fix_bn, phase.eval_modules)
    parameter_groups(network, phase.train)  # freezes what the phase freezes
    return experiment, network, objective


def check_losses(case: Case, network: nn.Module, losses: Losses) -> dict[str, Tensor]:
    """Compare losses and gradients, which are returned."""
    losses.total.backward()
    gradients = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    named = {f"{name.removeprefix('Loss/')}_loss": value for name, value in losses.terms.items()}
    named |= {"total_loss": losses.total, "grad_norm": torch.stack([g.norm() for g in gradients.values()]).norm()}
    for name, stored in case.data["outputs"].items():
        case.check(named[name], stored, name)
    for name, stored in case.data["gradients"].items():
        case.check(gradients[name], stored, f"gradient {name}", gradient_tolerance(case, stored))
    return gradients


class Forced(SiamRPNTracker):
    """With a case's penalties in place of its own."""

    given: Tensor

    def penalties(self, boxes: Tensor, region: SizedRegion, penalty_k: float | Tensor | None = None) -> Tensor:
        return self.given


@runner("slt_pysot/objective")
def objective(case: Case) -> None:
    c = case.config
    settings = {"SLT.POLICY_WEIGHT": c["CLS_WEIGHT"]}
    experiment = experiment_of(case, **settings)
    config = experiment.config
    cls, loc = (case.tensor(name).requires_grad_() for name in ("cls", "loc"))
    grid, count = cls.shape[-1], c["B"]
    tracker = Forced(Anchored(grid, cls.shape[1] // 2), CropSettings.from_config(config), config.test)
    tracker.given = case.tensor("penalty")
    candidates = anchor_candidates(cls, loc, tracker.network.anchors)
    none = torch.zeros(count, 2, dtype=torch.float64)
    region = SizedRegion(torch.zeros(count, 1), none, none, none, none)
    output = tracker.output(candidates, OneStreamState(none, none), region)
    assert output.windowed_scores is not None
    criterion, drawn = criterion_of(experiment), labels(case)
    learn = SequenceObjective(tracker, lambda found, _boxes: criterion.box_losses(found, drawn), config.slt)
    share = count / c["num_samples"]
    explored = Explored(
        TemplateRegion(none, none),
        none,
        region,
        torch.arange(count),
        torch.tensor(case.data["actions"]),
        torch.tensor(case.data["rewards"]),
        torch.zeros(count, 4),
        [""] * count,
        share,
    )
    losses = learn.losses(output, explored)
    losses.total.backward()
    assert cls.grad is not None
    assert loc.grad is not None
    policy = learn.policy
    chosen = policy.log(output.windowed_scores).gather(1, explored.choices[:, None])[:, 0]
    named = {
        "final_score": output.windowed_scores,
        "inverse_sigmoid": policy.scaled(output.windowed_scores) / c["TEMP"],
        "log_prob_selected": chosen,
        "cls_loss": losses.terms["Loss/policy"] * share,
        "reg_loss": losses.terms["Loss/loc"] * share,
        "total": losses.total,
        "grad_cls": cls.grad,
        "grad_loc": loc.grad,
    }
    for name, stored in case.data["outputs"].items():
        tolerance = gradient_tolerance(case, stored) if name.startswith("grad") else None
        case.check(named[name], stored, name, tolerance)


class Anchored(nn.Module):
    """In place of a network, where a case gives what it would have given."""

    def __init__(self, grid: int, shapes: int) -> None:
        super().__init__()
        self.grid, self.anchors = grid, torch.rand(shapes * grid**2, 4)
        self.backbone = SimpleNamespace(stride=8)
        self.somewhere = nn.Parameter(torch.zeros(()))


class Watched(SiamRPNTracker):
    """Keeps what both halves of the batch saw, and draws labels when PySOT does: for every crop, greedy ones first.

    Trackers that build on this one can be watched too.
    """

    truth: list[Tensor]
    criterion: AnchorCriterion

    def watch(self, truth: list[Tensor], criterion: AnchorCriterion) -> None:
        self.truth, self.criterion = truth, criterion
        self.crops: list[Tensor] = []
        self.labels: list[AnchorTargets] = []
        self.penalty: list[Tensor] = []
        self.chosen: list[Tensor] = []

    def crop_search(self, state: OneStreamState, frames: Any) -> SizedRegion:
        region = super().crop_search(state, frames)
        targets = targets_in_crops(region, self.truth[len(self.crops)].repeat(2, 1)).float()
        drawn = [self.criterion.targets(targets[i : i + 1]) for i in range(len(targets))]
        half = drawn[len(drawn) // 2 :]
        fields = ("labels", "changes", "weights")
        self.labels.append(AnchorTargets(*(torch.cat([getattr(d, f) for d in half]) for f in fields)))
        self.crops.append(region.crops[len(drawn) // 2 :])
        return region

    def forward(self, state: OneStreamState, region: SearchRegion, rows: Tensor | None = None) -> TrackerOutput:
        output = super().forward(state, region, rows)
        if rows is None:
            self.penalty.append(self.penalties(output.candidates.boxes, region))  # type: ignore[arg-type]
            self.chosen.append(output.windowed_scores.argmax(dim=1))  # type: ignore[union-attr]
        return output


@runner("siamrpnpp/slt_step")
def slt_step(case: Case) -> None:
    experiment, network = experiment_of(case, **sequence_settings(case)), build(case)
    config, criterion = experiment.config, criterion_of(experiment)
    tracker = Watched(network, CropSettings.from_config(config), config.test)
    losses = {"loss_sum": "Loss/policy", "reg_loss_sum": "Loss/loc"}
    sequence_step(case, experiment, tracker, AnchorBoxLoss(criterion), clips_of(case.data), losses)


def sequence_settings(case: Case) -> dict[str, Any]:
    """Keys of a sequence-level step."""
    c = case.config
    return {
        "SLT.MICRO_FRAMES": c["BATCH_SIZE"],
        "SLT.POLICY_WEIGHT": c["CLS_WEIGHT"],
        "SLT.FRAMES": max(c["frames"]),
        "TRAIN.BATCH_SIZE": c["NUM_SEQ"],
    }


def sequence_step(
    case: Case,
    experiment: Experiment,
    tracker: Watched,
    auxiliary: Any,
    clips: list[FrameSet],
    summed: dict[str, str],
    explored: Callable[[Any], None] = lambda rollout: None,
) -> None:
    """A whole iteration: roll-out, losses of its parts, update.

    Args:
        case: With actions in place of draws.
        experiment: Of sequence-level training.
        tracker: Explores, and learns.
        auxiliary: The method's own losses, with a `criterion` that draws as PySOT does.
        clips: Of the case.
        summed: Output of the case -> term that it is the sum of.
        explored: Called with the roll-out before anything is learned from it.
    """
    data, network, criterion = case.data, tracker.network, auxiliary.criterion
    truth = torch.stack([torch.from_numpy(clip.search_boxes) for clip in clips], dim=1)
    tracker.watch(list(truth[1:]), criterion)
    actions = iter(torch.tensor(data["forced_actions"]))
    np.random.seed(int(re.search(r"np\.random\.seed\((\d+)\)", data["rules"]["random"]).group(1)))  # type: ignore
    rollout = roll_out(tracker, clips, lambda _logits: next(actions))
    explored(rollout)
    fields = ("labels", "changes", "weights")
    drawn = AnchorTargets(*(torch.cat([getattr(d, f) for d in tracker.labels]) for f in fields))
    done = 0

    def targets(boxes_xywh: Tensor, negative: Tensor | None = None) -> AnchorTargets:
        nonlocal done
        rows = slice(done, done + len(boxes_xywh))
        done += len(boxes_xywh)
        return AnchorTargets(*(getattr(drawn, f)[rows] for f in fields))

    object.__setattr__(criterion, "targets", targets)
    learn = SequenceObjective(tracker, auxiliary, experiment.config.slt)
    parts = learn.parts(rollout, [""] * len(clips))
    set_train_mode(network, learn, False, ())
    sums = dict.fromkeys(summed.values(), 0.0)
    for part in parts:
        losses = learn(network, part, Progress(1, 20))
        losses.total.backward()
        sums = {name: value + float(losses.terms[name]) * part.share for name, value in sums.items()}
    missing = sum(p.grad is None for p in network.parameters())
    assert missing == data["parameters_without_gradient"]
    gradients = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    after = updated(case, network, experiment, 0)
    overlaps = rollout.overlaps()
    lists = [[overlaps[half, : clip.real_length - 1, s].tolist() for s, clip in enumerate(clips)] for half in (0, 1)]
    grid = network.grid
    for t, stored in enumerate(data["trajectory"]):
        found = xywh_to_xyxy(rollout.boxes_xywh[:, t].flatten(0, 1))
        case.check(found, stored["bbox_xyxy"], f"boxes {t}", {"rtol": 0.0, "atol": 0.05})
        count = len(clips)
        assert [*tracker.chosen[t][:count].tolist(), *rollout.choices[t].tolist()] == stored["selected"]
        case.check(tracker.penalty[t], stored["penalty"], f"penalty {t}")
    weights = drawn.weights.unflatten(1, (-1, grid, grid)).unflatten(0, (-1, len(clips)))
    named: dict[str, Any] = {
        "rewards": rollout.advantage(),
        **{name: sums[term] for name, term in summed.items()},
        "x_crop": bgr(torch.stack(tracker.crops).numpy()),
        "z_crop": bgr(rollout.template.crops.numpy()),
        "label_loc_weight": weights,
        "grad_norm": after["grad_norm"],
    }
    for name, stored in data["outputs"].items():
        if name in ("baseline_iou", "explore_iou"):
            for row, expected in zip(lists[name == "explore_iou"], stored, strict=True):
                case.check(row, expected[: len(row)], name)
        else:
            case.check(named[name], stored, name)
    for name, stored in data["gradients"].items():
        case.check(gradients[name], stored, f"gradient {name}", gradient_tolerance(case, stored))
    for name, stored in data["update_after_adam"].items():
        case.check(after[f"update:{name}"], stored, f"update {name}", gradient_tolerance(case, stored))


def clips_of(data: dict[str, Any]) -> list[FrameSet]:
    """A case's sequences, filled up with copies of their last frames."""
    clips = []
    longest = max(data["real_frames"])
    for number, (spec, real) in enumerate(zip(data["videos"], data["real_frames"], strict=True)):
        frames, boxes = video(spec)
        shown = [min(i, real - 1) for i in range(longest)]
        found = np.array([boxes[i] for i in shown])
        for clip, t in data["missing_boxes"]:
            if clip == number:
                found[t] = 0
        template = np.array(boxes[:1])
        search = tuple(frames[i] for i in shown)
        clips.append(
            FrameSet((frames[0],), search, template, found, Modality.RGB, "", "", (0, *shown), real_length=real)
        )
    return clips
