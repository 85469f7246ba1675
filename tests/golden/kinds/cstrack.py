"""CSTrack: forward passes of both stages, modules, losses, training steps, set-up, trackers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from golden import Case, build_filled, runner
from torch import Tensor, nn

from kinds.data import smooth_video
from kinds.ostrack import chosen, picture_sizes, written
from lib.data import Batch, Frame, Modality
from lib.deploy import fuse_network
from lib.methods import Experiment, load_experiment
from lib.methods.cstrack import (
    TASKS,
    CSTrack,
    CSTrackCriterion,
    CSTrackObjective,
    CSTrackOutput,
    CSTrackState,
    adapt_fast_itpn,
    build_network,
)
from lib.models.backbones import FastITPN, ITPNOptions
from lib.models.fusion import FusedSpatialCompact
from lib.models.heads import Candidates
from lib.models.layers import DropPath, FuseOptions
from lib.models.losses import gaussian_heatmap
from lib.models.temporal import FusedTemporal, best_places, box_prior, inverse_affinity
from lib.objectives import BoxCriterion, Losses, Progress
from lib.train import build_optimizer, lr_factor, parameter_groups

LABELS = {"lasher": Modality.RGBT, "visevent": Modality.RGBE, "depthtrack": Modality.RGBD}
"""Modality of the data sets in cases; all others are plain RGB."""

STRIDE = 16
OF_ALL_TOKENS = ("tcm.multihead_attn", "tcm.norm2", "tcm.norm3")
"""Modules that cases have values of all tokens of; here search tokens alone ask the memory."""


def experiment_of(case: Case) -> Experiment:
    c, stage = case.config, case.data["model"][-2:]
    settings: dict[str, Any] = {
        "MODEL.BACKBONE": {"TYPE": "itpn_base", "STRIDE": c.get("stride", 16)},
        "MODEL.MEMORY_LENGTH": c.get("temporal_len", 4),
        "MODEL.MEMORY_TOKENS": c.get("topk", 16),
        **crop_sizes(case),
        **chosen(case, "TEST", "template_factor", "search_factor"),
    }
    if "update_interval" in c:
        settings["TEST.UPDATE"] = {"INTERVAL": c["update_interval"], "THRESHOLD": c["update_threshold"]}
    return written(f"cstrack_{stage}", f"cstrack_{stage}", settings)


def build(case: Case) -> CSTrack:
    """The case's network with its filled weights, loaded strictly under the published names."""
    experiment = experiment_of(case)
    state = case.state(re.findall(r"manifest\w*\.json", case.data["weights"])[0])
    for rule in case.data.get("overrides", []):
        name, value = rule["name"], rule.get("value")
        if rule["op"] == "copy":
            state[name] = sliced(state[rule["source"]], rule["slice"]).clone()
        elif rule["op"] == "set":
            state[name] = torch.full_like(state[name], value)
        else:
            state[name] = state[name] * np.float32(value) if rule["op"] == "scale" else state[name] + np.float32(value)
    network: CSTrack = build_filled(experiment, state)
    return network


def crop_sizes(case: Case) -> dict[str, int]:
    """Sides of template and search region as keys of TEST."""
    inputs = case.data["inputs"]
    feature = {"TEST.SEARCH_SIZE": STRIDE * inputs["feat"]["shape"][-1]} if "feat" in inputs else {}
    stated = {"TEST." + key.removeprefix("DATA.").replace(".", "_"): v for key, v in case.config.items()}
    return feature | {key: v for key, v in stated.items() if key.endswith("_SIZE")} | picture_sizes(case)


def sliced(tensor: Tensor, text: str) -> Tensor:
    """A slice as Python writes it, such as "[:, 0:1]"."""
    parts = [[int(n) if n.strip() else None for n in part.split(":")] for part in text.strip("[] ").split(",")]
    return tensor[tuple(slice(*part) if len(part) > 1 else part[0] for part in parts)]


class Tape:
    """What modules compute, under the names of cases: `module`, `module:which`, `module#call`."""

    def __init__(self) -> None:
        self.found: dict[str, list[Tensor]] = {}

    def keep(self, name: str, value: Tensor) -> None:
        self.found.setdefault(name, []).append(value)

    def get(self, name: str, shape: list[int]) -> Tensor:
        """The value in the layout of the case."""
        module, _, call = name.partition("#")
        value = self.found[module][int(call or 0)]
        if len(shape) == 4 and value.ndim == 4 and list(value.shape) != shape:
            value = value.permute(0, 3, 1, 2)
        return value.repeat(shape[0] // len(value), *[1] * (value.ndim - 1)) if len(value) < shape[0] else value


@contextmanager
def recorded(case: Case, network: CSTrack) -> Iterator[Tape]:
    """A tape of a forward pass over all search frames, of the modules that the case has intermediates of."""
    tape, handles = Tape(), []
    for name in dict.fromkeys(name.partition("#")[0].partition(":")[0] for name in case.data["intermediates"]):
        parts = any(key.startswith(f"{name}:") for key in case.data["intermediates"])
        hook = stem_hook(tape, name) if parts else plain_hook(tape, name)
        handles.append(module_of(network, name).register_forward_hook(hook))
    try:
        yield tape
    finally:
        for handle in handles:
            handle.remove()


def module_of(network: CSTrack, name: str) -> nn.Module:
    """The module that cases call so."""
    first, _, rest = name.partition(".")
    if first == "scm":
        return network.backbone_rgb_det_fusion.layers[0].get_submodule(rest)
    if first == "tcm":
        return network.temporal_fusion.layers[0].get_submodule(rest)
    within = network.backbone if first in ("patch_embed", "blocks") else network
    return within.get_submodule(name)


def plain_hook(tape: Tape, name: str) -> Any:
    return lambda _module, _inputs, out: tape.keep(name, out)


def stem_hook(tape: Tape, name: str) -> Any:
    """Of modules that see both templates first, search regions then, RGB and aux as one batch each time."""
    calls = itertools.cycle((("template0", "template1"), ("search",)))

    def hook(_module: nn.Module, _inputs: Any, out: Tensor) -> None:
        value = out.unflatten(1, (round(out.shape[1] ** 0.5), -1)) if out.ndim == 3 else out
        kinds = next(calls)
        rows = value.unflatten(0, (-1, len(kinds), 2))
        for i, kind in enumerate(kinds):
            for j, modality in enumerate(("rgb", "x")):
                tape.keep(f"{name}:{kind}_{modality}", rows[:, i, j])

    return hook


def check_tape(case: Case, tape: Tape, tolerance: dict[str, float] | None = None) -> None:
    for name, stored in case.data["intermediates"].items():
        if name.partition("#")[0] in OF_ALL_TOKENS:
            continue
        case.check(tape.get(name, stored["shape"]), stored, name, tolerance)


def named_outputs(candidates: Candidates, **more: Tensor) -> dict[str, Tensor]:
    maps = {name: value for name, value in candidates.maps.items() if name != "feature"}
    return {"pred_boxes": candidates.best_boxes()[:, None], **maps, **more}


def of_output(network: CSTrack, output: CSTrackOutput) -> dict[str, Tensor]:
    named = named_outputs(
        output.candidates,
        confidence_pred=output.confidence,
        task_res=output.class_logits,
        backbone_feat=output.tokens,
        gaussion_map=box_prior(output.candidates.best_boxes().detach(), network.backbone.grid_search),
    )
    return named if output.weight is None else {**named, "attn_xz": output.weight}


def templates_of(case: Case, second: str = "1") -> tuple[Tensor, Tensor]:
    """Templates [B, 2, 6, T, T] and shares [B, 2, Nz]."""
    kinds = [[case.tensor(f"{kind}{i}") for i in ("0", second)] for kind in ("template", "mask")]
    return torch.stack(kinds[0], dim=1), torch.stack(kinds[1], dim=1).squeeze(-1)


@runner("cstrack/s1_forward", "cstrack/s2_multiframe")
def forward(case: Case) -> None:
    """In the form of training, and stage 1 once more as trackers use it, before and after preparation."""
    network = build(case)
    templates, shares = templates_of(case)
    names = sorted((n for n in case.data["inputs"] if n.startswith("search")), key=lambda n: int(n[6:] or 0))
    search = torch.stack([case.tensor(name) for name in names], dim=1)
    with torch.no_grad(), recorded(case, network) as tape:
        output = network(templates, search, shares)
    named = of_output(network, output)
    outputs = dict(case.data["outputs"])
    chosen = outputs.pop("topk_indices", None)
    if chosen is not None:
        assert output.weight is not None
        assert best_places(output.weight, len(chosen[0])).tolist() == chosen
    for name, stored in outputs.items():
        case.check(named[name], stored, name)
    check_tape(case, tape)
    if network.memory is None:
        with torch.no_grad():
            for form in (network, fuse_network(network, FuseOptions(grid=network.backbone.grid_search))):
                found = form.locate(form.encode_templates(templates, shares), search[:, 0])
                check_maps(case, found.candidates, outputs)


def check_maps(case: Case, candidates: Candidates, stored: dict[str, Any]) -> None:
    for name, value in named_outputs(candidates).items():
        case.check(value, stored[name], name)


@runner("cstrack/s2_sequence")
def sequence(case: Case) -> None:
    """Frame by frame with a memory; the network prepared for inference has one of its own."""
    network = build(case)
    fused_network = fuse_network(network, FuseOptions(grid=network.backbone.grid_search))
    memory = quick = None
    for i in range(case.data["frames"]):
        templates, shares = templates_of(case, second_template(case, i))
        search, stored = case.tensor(f"search{i}"), dict(case.data["outputs"][f"frame{i}"])
        with torch.no_grad(), recorded(case, network) as tape:
            tokens = network.encode(network.encode_templates(templates, shares), search)
            found = network.temporal_decode(tokens, memory, over_batch=True)
            confidence, logits = network.confidence_pred(found.candidates), network.task_cls(tokens[:, 0])
        with torch.no_grad():
            prepared = fused_network.locate(fused_network.encode_templates(templates, shares), search, quick)
        memory, quick = found.memory, prepared.memory
        output = CSTrackOutput(found.candidates, logits, confidence, tokens, found.weight)
        assert memory is not None
        named = of_output(network, output) | {"z0_filter": memory[:, -1], "temporal_memory": memory.flatten(1, 2)}
        assert output.weight is not None
        chosen = stored.pop("topk_indices")
        chosen = np.reshape(chosen, (len(search), -1)).tolist()
        assert best_places(output.weight, len(chosen[0])).tolist() == chosen
        for name, value in stored.items():
            case.check(named[name], value, f"frame {i} {name}")
        check_maps(case, prepared.candidates, stored)
        check_frame(case, tape, i)


def second_template(case: Case, frame: int) -> str:
    """Name of the second template at a frame: "1", or after switches "1b" and so on."""
    names = sorted(name.removeprefix("template") for name in case.data["inputs"] if name.startswith("template1"))
    switches = [int(n) for n in re.findall(r"frame (\d+)", case.data.get("template_switch", ""))]
    return names[sum(frame >= n for n in switches)]


def check_frame(case: Case, tape: Tape, frame: int) -> None:
    """Intermediates of one frame; those of the first have no number."""
    ending = f"#{frame}" if frame else ""
    for name, stored in case.data["intermediates"].items():
        module, sign, call = name.partition("#")
        if (sign + call) == ending and module not in OF_ALL_TOKENS:
            case.check(tape.get(module, stored["shape"]), stored, f"frame {frame} {module}")


@runner("cstrack/module_scm")
def spatial(case: Case) -> None:
    network, (rgb, aux, pos_embeds) = build(case), (case.tensor(name) for name in ("rgb_tokens", "x_tokens", "pos"))
    pos_embeds = pos_embeds.expand_as(rgb)
    module = network.backbone_rgb_det_fusion
    with torch.no_grad():
        rows = [module(rgb[i : i + 1], aux[i : i + 1], pos_embed) for i, pos_embed in enumerate(pos_embeds)]
        case.check(torch.cat(rows), case.data["outputs"]["fused"], "fused")
        quick = [FusedSpatialCompact(module, pos_embed, FuseOptions(pack=False)) for pos_embed in pos_embeds]
        rows = [f(rgb[i : i + 1].clone(), aux[i : i + 1].clone(), pos_embeds[i]) for i, f in enumerate(quick)]
        case.check(torch.cat(rows), case.data["outputs"]["fused"], "fused, prepared")


@runner("cstrack/module_tcm")
def temporal(case: Case) -> None:
    network = build(case)
    tokens, memory, pos_embeds = (case.tensor(name) for name in ("tokens", "memory", "tokens_pos"))
    pos_embeds, pos_embed = pos_embeds.expand_as(tokens), network.pos_embeds().memory
    case.check(pos_embed.expand_as(memory), case.data["outputs"]["memory_pos"], "memory pos_embed")
    with torch.no_grad():
        fusion = network.temporal_fusion
        rows = [fusion(tokens[i : i + 1], c, memory[i : i + 1], pos_embed) for i, c in enumerate(pos_embeds)]
        case.check(torch.cat(rows), case.data["outputs"]["tokens"], "tokens")
        quick = [FusedTemporal(fusion, c, pos_embed, FuseOptions(pack=False)) for c in pos_embeds]
        rows = [f(tokens[i : i + 1], pos_embeds[i], memory[i : i + 1], pos_embed) for i, f in enumerate(quick)]
        case.check(torch.cat(rows), case.data["outputs"]["tokens"], "tokens, prepared")


@runner("cstrack/module_head")
def head(case: Case) -> None:
    network = build(case)
    with torch.no_grad():
        found = network.box_head(case.tensor("feat"))
        named = named_outputs(found, confidence_pred=network.confidence_pred(found))
    for name, stored in case.data["outputs"].items():
        case.check(named[name], stored, name)


@runner("cstrack/module_gauss")
def prior(case: Case) -> None:
    stored = case.data["outputs"]["map"]
    grid = round(stored["shape"][-1] ** 0.5)
    case.check(box_prior(case.tensor("pred_boxes").flatten(0, 1), grid), stored, "map")


@runner("cstrack/module_relation")
def relation_map(case: Case) -> None:
    tokens = case.tensor("tokens")
    stored = case.data["outputs"]
    n = stored["map"]["shape"][-1]
    found = inverse_affinity(tokens[:, -n:], tokens[:, :-n], over_batch=True)
    case.check(found, stored["map"], "map")
    assert best_places(found, len(stored["topk_indices"][0])).tolist() == stored["topk_indices"]


def modalities_of(case: Case) -> list[Modality]:
    return [LABELS.get(name, Modality.RGB) for name in case.data["dataset_names"]]


def criterion_of(c: dict[str, Any]) -> CSTrackCriterion:
    boxes = BoxCriterion(c.get("GIOU_WEIGHT", 2.0), c.get("L1_WEIGHT", 5.0), c.get("focal", 1.0))
    return CSTrackCriterion(boxes, c.get("task_ce", 1.0), c.get("confidence_mse", 1.0))


def check_losses(case: Case, found: Losses, tolerance: dict[str, float]) -> None:
    names = {"giou": "giou", "l1": "l1", "focal": "location", "task_ce": "task"}
    stored = case.data["outputs"]["loss"]
    case.check(found.total, stored["total"], "total", tolerance)
    for key, name in names.items():
        case.check(found.terms[f"Loss/{name}"], stored[key], key, tolerance)
    case.check(found.terms["IoU"], stored["mean_iou"], "mean IoU", tolerance)
    # Told as a difference of much larger numbers.
    case.check(found.terms["Loss/confidence"], stored["confidence_mse"], "confidence", {"rtol": 2e-3, "atol": 3e-5})


@runner("cstrack/loss")
def loss(case: Case) -> None:
    boxes, scores, logits, confidence = (
        case.tensor(name).requires_grad_() for name in ("pred_boxes_cxcywh", "score_map", "task_res", "confidence_pred")
    )
    empty = torch.zeros(len(boxes), 2, *scores.shape[-2:])
    best = scores.flatten(1).amax(dim=1, keepdim=True)
    candidates = Candidates(best, boxes.reshape(-1, 1, 4), {"score_map": scores, "size_map": empty})
    output = CSTrackOutput(candidates, logits, confidence, empty)
    targets = case.tensor("search_anno_xywh").flatten(0, 1)
    tasks = torch.tensor([TASKS[m] for m in modalities_of(case)])
    found = criterion_of(case.config)(output, targets, tasks)
    found.total.backward()
    tolerance = case.data["tolerance"]
    check_losses(case, found, tolerance)
    heatmap = gaussian_heatmap(targets, scores.shape[-1])[:, None]
    case.check(heatmap, case.data["outputs"]["gt_heatmap"], "heat map")
    grads = {"pred_boxes": boxes, "score_map": scores, "task_res": logits, "confidence_pred": confidence}
    for name, tensor in grads.items():
        case.check(tensor.grad, case.data["outputs"][f"grad.{name}"], f"gradient of {name}")


@runner("cstrack/train_step")
def train_step(case: Case) -> None:
    network, config = build(case), experiment_of(case).config
    optimizer = build_optimizer(parameter_groups(network, config.train), config.train)
    for module in network.modules():
        if isinstance(module, DropPath):
            module.rate = 0.0
        elif isinstance(module, nn.Dropout):
            module.p = 0.0
        elif hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0
    network.train()
    objective = CSTrackObjective(config, network)
    objective.criterion = criterion_of(case.config)
    outputs: list[CSTrackOutput] = []
    handle = network.register_forward_hook(lambda _m, _i, out: outputs.append(out))
    batch = batch_of(case)
    with recorded(case, network) as tape:
        found = objective(network, batch, Progress(epoch=1, epochs=1))
    handle.remove()
    tolerance = {k: case.data["tolerance"][k] for k in ("rtol", "atol")}
    check_losses(case, found, tolerance)
    named = of_output(network, outputs[0])
    shares = objective.foreground_masks(batch.template_boxes)
    named |= {f"soft_mask{i}": shares[:, i, :, None] for i in (0, 1)}
    for name, stored in case.data["outputs"].items():
        if name in named:
            case.check(named[name], stored, name)
    check_tape(case, tape, tolerance)
    found.total.backward()
    check_update(case, network, optimizer)


def batch_of(case: Case) -> Batch:
    """Normalised, batch first."""
    t, s, tb, sb = (
        case.tensor(name).transpose(0, 1).contiguous()
        for name in ("template_images", "search_images", "template_anno", "search_anno")
    )
    modality = torch.tensor([list(Modality).index(m) for m in modalities_of(case)])
    return Batch(t, s, tb, sb, modality, [""] * len(t))


def check_update(case: Case, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    stored, tolerance = case.data["outputs"], case.data["tolerance"]
    parameters = dict(network.named_parameters())
    for name, digest in stored["gradients"].items():
        gradient = parameters[name].grad
        assert gradient is not None, name
        close = {"rtol": tolerance["gradients"]["rtol"], "atol": tolerance["gradients"]["atol_times_l2"] * digest["l2"]}
        case.check(gradient, digest, f"gradient of {name}", close)
    assert sum(p.grad is None for p in parameters.values()) == stored["params_without_grad"]
    given = [p for p in parameters.values() if p.grad is not None]
    norm = nn.utils.clip_grad_norm_(given, case.config["grad_clip"])
    case.check(norm, stored["grad_norm_before_clip"], "gradient norm", {"rtol": 2e-3, "atol": 1e-4})
    before = {name: parameters[name].detach().clone() for name in stored["adamw_first_update"]}
    optimizer.step()
    for name, digest in stored["adamw_first_update"].items():
        change = parameters[name].detach() - before[name]
        case.check(change, digest, f"update of {name}", tolerance["adamw_first_update"])
    buffers = dict(network.named_buffers())
    for name, digest in stored["bn_buffers_after"].items():
        case.check(buffers[name], digest, name)


@runner("cstrack/init_pretrained")
def init_pretrained(case: Case) -> None:
    prefix = "module."
    state = {name.removeprefix(prefix): case.tensor(name) for name in case.data["inputs"]}
    sizes = {key.removeprefix("TEST.").lower(): side for key, side in crop_sizes(case).items()}
    backbone = FastITPN(ITPNOptions(depths=(0, 0, 1), **{"template_size": 128, "search_size": 256} | sizes))
    filled = {**backbone.state_dict(), **adapt_fast_itpn(state, backbone)}
    for name, stored in case.data["outputs"].items():
        case.check(filled[name.removeprefix("backbone.")], stored, name)


@runner("cstrack/optimizer")
def optimizer_groups(case: Case) -> None:
    for stage, stored in case.data["outputs"].items():
        config = load_experiment(f"cstrack_{stage}", f"cstrack_{stage}").config
        with torch.device("meta"):
            network = build_network(config, training=False)
        optimizer = build_optimizer(parameter_groups(network, config.train), config.train)
        for found, wanted in zip(optimizer.param_groups, stored["groups"], strict=True):
            assert len(found["params"]) == wanted["tensors"]
            assert sum(p.numel() for p in found["params"]) == wanted["scalars"]
            assert [found["weight_decay"], *found["betas"], found["eps"]] == [
                wanted["weight_decay"],
                *wanted["betas"],
                wanted["eps"],
            ]
        for epoch, rates in stored["lr_at_epoch"].items():
            factor = lr_factor(config.train, int(epoch))
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor
            case.check([g["lr"] for g in optimizer.param_groups], rates, f"{stage} epoch {epoch}")


@runner("cstrack/tracker")
def tracker(case: Case) -> None:
    """With the network as it was trained, and again as `tracking/test.py` uses it."""
    track: Any = experiment_of(case).build_tracker(build(case))
    track.margin = float(case.config.get("clip_margin", 10))
    video = case.data["inputs"]["video"]
    frames = [smooth_video(video, i) for i in range(video["frames"])]
    for name, i in (("frame0_image", 0), ("last_image", -1)):
        if name in case.data["intermediates"]:
            case.check(frames[i], case.data["intermediates"][name], name)
    pairs = [Frame(*(np.ascontiguousarray(p) for p in np.split(f, f.shape[2] // 3, axis=2))) for f in frames]
    for candidate, shown in case.both_ways(track, pairs):
        follow(case, candidate, shown)


def follow(case: Case, track: Any, pairs: list[Frame]) -> None:
    tolerance = case.data["tolerance"]
    state: CSTrackState = track.init(
        pairs[:1], torch.tensor([case.data["inputs"]["init_box_xywh"]], dtype=torch.float64)
    )
    pixels = {"rtol": 0.0, "atol": tolerance["box_atol"]}
    for frame, stored in zip(pairs[1:], case.data["outputs"]["frames"][: len(pairs) - 1], strict=True):
        template = state.template
        state, prediction = track.step(state, [frame])
        label = f"frame {stored['frame']}"
        case.check(prediction.boxes_xywh[0], stored["box_xywh"], f"{label} box", pixels)
        case.check(
            prediction.scores[0], stored["best_score"], f"{label} score", {"rtol": 0.0, "atol": tolerance["score_atol"]}
        )
        assert prediction.windowed_scores is not None
        case.check(
            prediction.windowed_scores.reshape(stored["response"]["shape"]), stored["response"], f"{label} response"
        )
        assert (state.template is not template) == stored["template_updated"], label
        if "memory_l2" in stored:
            assert state.memory is not None
            case.check(state.memory[0].flatten(1).norm(dim=1), stored["memory_l2"], f"{label} memory")
