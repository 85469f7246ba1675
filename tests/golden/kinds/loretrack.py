"""LoReTrack: what is distilled, and a whole training step with its teacher."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import torch
from golden import Case, build_filled, runner
from torch import Tensor

from kinds.ostrack import chosen, make_batch, network_outputs, written
from lib.data import Batch
from lib.methods.ostrack import OSTrack, OSTrackObjective
from lib.models.distillation_losses import channel_kl, disc_kd, qkv_kd, resize_map, saliency
from lib.objectives import DistillationObjective, Losses, Progress, Recorded

HEAD = 64
"""Width of an attention head in every published ViT."""


@runner("loretrack/kd_primitive")
def kd_primitive(case: Case) -> None:
    student, teacher = case.tensor("student"), case.tensor("teacher")
    for name, stored in case.data["outputs"].items():
        divergence = channel_kl(student, teacher, float(name.removeprefix("T")))
        case.check(divergence.sum() / len(student), stored, name)


@runner("loretrack/student_resize")
def student_resize(case: Case) -> None:
    image = case.tensor("image")
    for size, stored in case.data["outputs"].items():
        case.check(resize_map(image, int(size)), stored, size)


def merged(inputs: dict[str, Tensor], role: str) -> Tensor:
    """q, k and v [B, heads, N, d] as one projection gives them: [B, N, 3 * heads * d]."""
    return torch.cat([inputs[f"{role}_{x}"].transpose(1, 2).flatten(2) for x in "qkv"], dim=2)


@runner("loretrack/distillation_losses")
def distillation_losses(case: Case) -> None:
    for i, one in enumerate(case.data["cases"]):
        c = one["config"]
        inputs = {k: torch.from_numpy(case.draw(v)) for k, v in one["inputs"].items()}
        for name, value in inputs.items():
            value.requires_grad_(name.startswith("student"))
        student, expected = inputs["student_opt_feat"], inputs["teacher_opt_feat"] * inputs["teacher_scale"]
        temperature, threshold = c.get("temperature", 4.0), c.get("saliency_threshold", 0.2)
        weights = c.get("foreground_weight", 0.6), c.get("background_weight", 0.4)
        grids = student.shape[-1], expected.shape[-1]
        qkv = qkv_kd(merged(inputs, "student"), merged(inputs, "teacher"), *grids, temperature)
        disc = disc_kd(student, expected, threshold, *weights, temperature)
        qkv.backward()
        disc.backward()
        named = {"qkv_kd": qkv, "disc_kd": disc, **{f"grad:{k}": v.grad for k, v in inputs.items()}}
        for name, stored in one["outputs"].items():
            case.check(named[name], stored, f"case {i} {name}")
        check_salient(saliency(expected), threshold, one.get("salient_count"))


def check_salient(values: Tensor, threshold: float, stored: Any) -> None:
    """How many positions count as foreground: in each sample, or in all."""
    if stored is not None:
        counts = (values >= threshold).flatten(1).sum(dim=1)
        assert (counts.tolist() if isinstance(stored, list) else int(counts.sum())) == stored


def build_at(case: Case, role: str) -> OSTrack:
    """Student or teacher of a training step, with its filled weights."""
    c, parts = case.config, [part.strip() for part in case.data["weights"].split(";")]
    source = next(part for part in parts if part.startswith(f"{role}:")).partition(":")[2].split()[0]
    manifest = json.loads(case.find_file(source).read_text())
    width = manifest["backbone.cls_token"]["shape"][-1]
    depth = 1 + max(int(n.split(".")[2]) for n in manifest if n.startswith("backbone.blocks."))
    patch = manifest["backbone.patch_embed.proj.weight"]["shape"][-1]
    settings = {
        "MODEL.BACKBONE": {
            "TYPE": "vit",
            "EMBED_DIM": width,
            "DEPTH": depth,
            "NUM_HEADS": width // HEAD,
            "STRIDE": patch,
        },
        "MODEL.HEAD": {"TYPE": "CENTER", "NUM_CHANNELS": manifest["box_head.conv1_ctr.0.weight"]["shape"][0]},
        "TEST.TEMPLATE_SIZE": c[f"{role}_template"],
        "TEST.SEARCH_SIZE": c[f"{role}_search"],
    }
    experiment = written("ostrack", "vitb_256_mae_32x4_ep300", settings)
    overrides = case.data.get(f"{role}_overrides", case.data.get("overrides") if role == "student" else None)
    network: OSTrack = build_filled(experiment, case.state(source, overrides))
    return network


class Watched(DistillationObjective):
    """Keeps what a step's parts saw, under the names that cases use."""

    def student_batch(self, batch: Batch) -> Batch:
        small = super().student_batch(batch)
        self.seen = {"student_template": small.template.transpose(0, 1), "student_search": small.search.transpose(0, 1)}
        return small

    def compare(self, losses: Losses, found: Recorded, target: Tensor, expected: Recorded) -> Losses:
        self.seen |= {"teacher.opt_feat": target, "teacher.saliency": saliency(target).flatten(1)}
        for role, seen in (("student", found), ("teacher", expected)):
            for number in (key for key in seen if isinstance(key, int)):
                for x, value in zip("qkv", seen.only(number).chunk(3, dim=2), strict=True):
                    self.seen[f"{role}.block{number}.{x}"] = value.unflatten(2, (-1, HEAD)).transpose(1, 2)
        return super().compare(losses, found, target, expected)


def objective_of(case: Case, student: OSTrack, teacher: OSTrack) -> Watched:
    """By the TRAIN, KD and TEST sections of a student's YAML file."""
    c = case.config
    kd = {
        name: c.get(key, default)
        for name, key, default in (
            ("TEMPERATURE", "temperature", 4.0),
            ("SALIENCY_THRESHOLD", "saliency_threshold", 0.2),
            ("FOREGROUND_WEIGHT", "foreground_weight", 0.6),
            ("BACKGROUND_WEIGHT", "background_weight", 0.4),
            ("DISC_WEIGHT", "disc_kd_weight", 0.01),
            ("QKV_WEIGHT", "qkv_kd_weight", 0.01),
        )
    }
    settings = {
        "KD": kd,
        "TEST.TEMPLATE_SIZE": c["student_template"],
        "TEST.SEARCH_SIZE": c["student_search"],
        **chosen(case, "TRAIN", "giou_weight", "l1_weight"),
    }
    config = written("loretrack", "loretrack_128", settings).config
    base = OSTrackObjective(config, student)
    base.criterion = replace(base.criterion, focal_weight=c.get("focal_weight", 1.0))
    return Watched(base, student, teacher, config)


@runner("loretrack/train_step")
def train_step(case: Case) -> None:
    student, teacher = build_at(case, "student").train(), build_at(case, "teacher")
    objective = objective_of(case, student, teacher)
    outputs: dict[str, Tensor] = {}
    handle = student.register_forward_hook(lambda _m, _i, out: outputs.update(network_outputs(out)))
    losses = objective(student, make_batch(case), Progress(epoch=1, epochs=300))
    losses.total.backward()
    handle.remove()
    seen = objective.seen | {f"student.{name}": value for name, value in outputs.items()}
    gradients = {n: p.grad for n, p in student.named_parameters() if p.grad is not None}
    named = {"loss": losses.total, **{f"status:{k}": v for k, v in losses.terms.items()}}
    named |= {f"grad:{n}": g for n, g in gradients.items()}
    named |= {f"after:{n}": b for n, b in student.named_buffers()}
    named["grad_total_norm"] = torch.stack([g.norm() for g in gradients.values()]).norm()
    for name, stored in case.data["outputs"].items():
        case.check(named[name], stored, name)
    for name, stored in case.data.get("intermediates", {}).items():
        case.check(seen[name], stored, name)
    check_salient(seen["teacher.saliency"], objective.kd.saliency_threshold, case.data.get("salient_count"))
    assert all(p.grad is None for p in teacher.parameters())
    if "parameters_without_gradient" in case.data:
        without = sorted(n for n, _ in student.named_parameters() if n not in gradients)
        assert without == sorted(case.data["parameters_without_gradient"])
