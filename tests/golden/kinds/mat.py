"""Masked appearance transfer: crops, forward pass with every block, training step, position tables, schedule."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import torch
from golden import Case, build_filled, runner
from torch import Tensor, nn

from kinds.ostrack import chosen, written
from lib.config import Region
from lib.data import CROP_STYLES, Batch, CropStyle, Frame, Normalise, mirror_box_in_crop, normalise_batch
from lib.methods import Experiment
from lib.methods.mat import AppearanceTransfer, TransferObjective
from lib.models import Mapped
from lib.models.backbones import resize_table
from lib.objectives import Losses
from lib.train import lr_factor


def smooth(seed: int, height: int, width: int, channels: int) -> np.ndarray:
    """Noise on a grid of 6 x 8 nodes, bilinear between, [height, width, channels] uint8."""
    grid = np.random.RandomState(seed).uniform(0, 255, (6, 8, channels))
    rows, columns = np.linspace(0, 5, height), np.linspace(0, 7, width)
    top, left = np.minimum(rows.astype(int), 4), np.minimum(columns.astype(int), 6)
    dy, dx = (rows - top)[:, None, None], (columns - left)[None, :, None]
    upper = grid[top][:, left] * (1 - dx) + grid[top][:, left + 1] * dx
    lower = grid[top + 1][:, left] * (1 - dx) + grid[top + 1][:, left + 1] * dx
    return np.rint(upper * (1 - dy) + lower * dy).astype(np.uint8)


def texture(seed: int, height: int, width: int, channels: int) -> np.ndarray:
    """Noise in cells of 4 x 4 pixels, uint8."""
    cells = np.random.RandomState(seed).randint(0, 256, size=(height // 4, width // 4, channels), dtype=np.uint8)
    return cells.repeat(4, axis=0).repeat(4, axis=1)


def synthetic_frame(spec: dict[str, Any], t: int | None = None) -> Frame:
    """Frame t of a synthetic RGB-T video, both pictures in RGB order; `spec` is an input of a case."""
    height, width, seed = spec["H"], spec["W"], spec["seed"]
    (x, y, w, h), (vx, vy), t = spec["box"], spec["v"], spec["t"] if t is None else t
    left, top = x + vx * t, y + vy * t
    pictures = []
    for first, channels in ((seed, 3), (seed + 2, 1)):
        picture, pattern = smooth(first, height, width, channels), texture(first + 1, h, w, channels)
        ys, xs = slice(max(top, 0), max(top + h, 0)), slice(max(left, 0), max(left + w, 0))
        shown = picture[ys, xs]
        rows, columns = max(-top, 0), max(-left, 0)
        shown[:] = pattern[rows : rows + shown.shape[0], columns : columns + shown.shape[1]]
        pictures.append(np.ascontiguousarray(picture[..., ::-1] if channels == 3 else picture.repeat(3, axis=2)))
    return Frame(*pictures)


def crop_pair(style: CropStyle, frame: Frame, region: Any, size: int, border: list[float]) -> np.ndarray:
    """Crops [2, size, size, 3] of both pictures of a frame."""
    planes = np.empty((6, size, size), dtype=style.dtype)
    style.crop_frame(frame, region, planes, border=np.array(border * 2))
    return planes.reshape(2, 3, size, size).transpose(0, 2, 3, 1)


@runner("gdstrack/crop_training")
def crop_training(case: Case) -> None:
    frame = synthetic_frame(case.data["inputs"]["image"])
    for stored in case.data["outputs"]:
        # The published code writes labels of whole-number boxes back as whole numbers.
        whole = all(isinstance(v, int) for v in stored["box_xywh"])
        style = CROP_STYLES["affine"](truncates=whole)
        size, (spread, reach) = stored["out_size"][0], stored["jitter"]
        box, normal, uniform = (np.array(stored[k], dtype=np.float32) for k in ("box_xywh", "randn2", "rand2"))
        jittered = style.jitter(box, normal, uniform, Region(size, stored["scale_factor"], reach, spread))
        region = style.region(jittered.tolist(), stored["scale_factor"], size, frame.size_hw)
        rgb, aux = crop_pair(style, frame, region, size, case.config["border"])
        label = style.to_crop(stored["box_xywh"], region, size)
        named = {
            "crop_color": rgb,
            "crop_ir": aux,
            "flipped_crop": rgb[:, ::-1],
            "out_box_xywh": label,
            "flipped_box_xywh": mirror_box_in_crop(label / size) * size,
        }
        for name in named.keys() & stored.keys():
            exact = {"rtol": 0.0, "atol": 1e-3} if "box" in name else None
            case.check(named[name], stored[name], f"{name} {stored['box_xywh']}", exact)


@runner("gdstrack/crop_square")
def crop_square(case: Case) -> None:
    frame, style = synthetic_frame(case.data["inputs"]["image"]), CROP_STYLES["affine_stretched"]()
    for stored in case.data["outputs"]:
        size, box = stored["out_size"][0], stored["box_xywh"]
        region = style.region(box, stored["scale_factor"], size, frame.size_hw)
        case.check(crop_pair(style, frame, region, size, case.config["border"])[0], stored["crop"], f"crop {box}")
        exact = {"rtol": 0.0, "atol": 1e-3}
        case.check(style.to_crop(box, region, size), stored["out_box_xywh"], f"box {box}", exact)


@runner("gdstrack/crop_inference")
def crop_inference(case: Case) -> None:
    frame, style = synthetic_frame(case.data["inputs"]["image"]), CROP_STYLES["affine"]()
    for stored in case.data["outputs"]:
        size, (x1, y1, x2, y2) = stored["out_size"], stored["box_xyxy"]
        w, h = x2 - x1 + 1, y2 - y1 + 1
        box = torch.tensor([[(x1 + x2 - w) / 2, (y1 + y2 - h) / 2, w, h]], dtype=torch.float64)
        border = torch.tensor([case.config["border_rgb"] * 2])
        crops = style.crop_frames([frame], box, stored["scale_factor"], size, border)
        rgb, aux = crops.pixels[0].permute(1, 2, 0).split(3, dim=2)
        (cx, cy), scale = crops.centres[0].tolist(), size / crops.sides[0]
        offset = size / 2 - scale * crops.centres[0]
        placed = [
            (v - c) * a + size / 2 for v, c, a in zip((x1, y1, x2, y2), (cx, cy) * 2, scale.tolist() * 2, strict=True)
        ]
        named = {"crop_color": rgb, "crop_ir": aux, "out_box": placed, "a_b_c_d": [*scale.tolist(), *offset.tolist()]}
        for name in named.keys() & stored.keys():
            exact = None if "crop" in name else {"rtol": 1e-6, "atol": 1e-5}
            case.check(named[name], stored[name], f"{name} {stored['box_xyxy']}", exact)


class Tape:
    """What modules of a network give, by the names that cases use."""

    def __init__(self, network: AppearanceTransfer) -> None:
        self.found: dict[str, Tensor] = {}
        self.calls: dict[str, int] = {}
        for name, module in network.autoencoder.named_modules():
            module.register_forward_hook(self.keeper(name))

    def keeper(self, name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, out: Any) -> None:
            number = self.calls.get(name, -1) + 1
            self.calls[name] = number
            if isinstance(out, Tensor):
                self.found[f"{name}#{number}"] = out.detach().clone()

        return hook


def manifest_of(case: Case) -> dict[str, Any]:
    return dict(json.loads(case.find_file(case.data["weights"].split()[0]).read_text()))


def experiment_of(case: Case) -> Experiment:
    """The experiment: pictures of the case's sizes, a network of the manifest's."""
    inputs, config = case.data["inputs"], case.config
    shapes = {name.removeprefix("backbone.model."): spec["shape"] for name, spec in manifest_of(case).items()}
    depths = [sum(name.startswith(part) and name.endswith(".norm1.weight") for name in shapes)
              for part in ("blocks.", "decoder_blocks.")]  # fmt: skip
    backbone = {
        "TYPE": "mae_vit",
        "EMBED_DIM": shapes["cls_token"][2],
        "DEPTH": depths[0],
        "NUM_HEADS": config.get("num_heads", 12),
        "DECODER_EMBED_DIM": shapes["mask_token"][2],
        "DECODER_DEPTH": depths[1],
        "DECODER_NUM_HEADS": config.get("decoder_num_heads", 16),
        "STRIDE": shapes["patch_embed.proj.weight"][2],
    }
    published = (768, 12, 12, 512, 8, 16, 16)
    settings: dict[str, Any] = {
        "DATA.TEMPLATE.SIZE": inputs["template_in"]["shape"][-1],
        "DATA.SEARCH.SIZE": inputs["search"]["shape"][-1],
        "MODEL.PRETRAIN_FILE": "",
        **chosen(case, "MODEL", "mask_ratio"),
        **chosen(case, "TRAIN", "norm_pix_loss"),
        **({} if tuple(backbone.values())[1:] == published else {"MODEL.BACKBONE": backbone}),
    }
    return written("translate_template", "common_pretrain", settings)


def learn(case: Case) -> tuple[AppearanceTransfer, Tape, Batch, Losses]:
    """Load the case's weights strictly under the published names and compute its losses, without gradients or with."""
    experiment = experiment_of(case)
    computed = [name for name, spec in manifest_of(case).items() if spec.get("computed")]
    mapped = Mapped(case.state(case.data["weights"].split()[0]), fresh=tuple(computed))
    network: AppearanceTransfer = build_filled(experiment, mapped, training=True)
    tape, normalise = Tape(network), Normalise(experiment.config.data.mean, experiment.config.data.std)
    templates = torch.stack([case.tensor("template_in"), case.tensor("template_out")], dim=1)
    boxes = torch.zeros(len(templates), 1, 4)
    batch = Batch(
        templates, case.tensor("search")[:, None], boxes, boxes, torch.zeros(len(templates), dtype=torch.long)
    )
    batch = normalise_batch(batch, normalise)
    noise = case.tensor("mask_noise_search"), case.tensor("mask_noise_template")
    objective = TransferObjective(experiment.config, network)
    return network, tape, batch, objective.learn(network, batch, noise)


@runner("gdstrack/mat_forward")
def forward(case: Case) -> None:
    with torch.no_grad():
        network, tape, batch, losses = learn(case)
        noise = case.tensor("mask_noise_search"), case.tensor("mask_noise_template")
        found = dict(tape.found)
        output = network(batch.template[:, 0], batch.search[:, 0], noise)
    named: dict[str, Tensor] = {
        **found,
        "loss_template": losses.terms["Loss/template"],
        "loss_search": losses.terms["Loss/search"],
        "loss_total": losses.total,
        "mask_template": output.template_masking.hidden,
        "mask_search": output.search_masking.hidden,
        "pred_template": network.predicted(output.template),
        "pred_search": network.predicted(output.search),
    }
    named |= {f"vis_{k[0]}_pred": network.pixels(named[f"pred_{k}"]) for k in ("template", "search")}
    for name, stored in (case.data["outputs"] | case.data["intermediates"]).items():
        case.check(named[name], stored, name)


@runner("gdstrack/mat_step")
def step(case: Case) -> None:
    network, _, _, losses = learn(case)
    losses.total.backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    named = {
        "loss_template": losses.terms["Loss/template"],
        "loss_search": losses.terms["Loss/search"],
        "loss_total": losses.total,
        **{f"grad:{name}": gradient for name, gradient in gradients.items()},
    }
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert {n for n in trained if gradients[n] is None} == set(case.data["grad_none"])
    for name, stored in (case.data["outputs"] | case.data["intermediates"]).items():
        case.check(named[name], stored, name)


@runner("gdstrack/pos_interpolation")
def pos_interpolation(case: Case) -> None:
    for name, stored in case.data["outputs"].items():
        prefix = int(name == "pos_embed")
        grid = round((stored["shape"][1] - prefix) ** 0.5)
        case.check(resize_table(case.tensor(name), grid, prefix), stored, name)


@runner("gdstrack/lr_factor")
def rate_factors(case: Case) -> None:
    """The published warm-up begins at 1 / (n + 1) of the rate; its epoch n has all of it."""
    gamma = float(re.findall(r"else ([\d.]+)\*\*", case.config["formula"])[0])
    for stored in case.data["outputs"]:
        count = stored["warmup"] + 1
        warmup = {"WARMUP_TYPE": "linear", "WARMUP_EPOCHS": count, "WARMUP_RATIO": 1 / count} if count > 1 else {}
        schedule = {"TYPE": "Mstep", "MILESTONES": stored["milestones"], "GAMMA": gamma, **warmup}
        train = written("translate_template", "common_pretrain", {"TRAIN.SCHEDULER": schedule}).config.train
        # The case has nine digits.
        factors = [float(f"{lr_factor(train, epoch + 1):.9g}") for epoch in stored["epochs"]]
        case.check(factors, stored["factor"], str(stored["milestones"]))
