"""TrDiMP's network: pooling, filter, box regressor and transformer by themselves with gradients, and the whole."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import fill
import numpy as np
import pytest
import torch
from golden import Case, runner, without_drawing
from torch import Tensor, nn

from kinds.ostrack import written
from kinds.transt import filled
from lib.methods.trdimp import TrDiMP, map_trained
from lib.models import Checkpoint, load_into
from lib.models.heads import IoUNet
from lib.models.layers import LevelPooling, precise_roi_pool
from lib.models.losses import gaussian_labels
from lib.models.online import FilterInitializer, SteepestDescent
from lib.models.temporal import LabelTransformer, label_attention
from tests.support.filters import filter_losses

MASK_FACTOR = 3.0
"""Of published initial values."""


def tensor(case: Case, name: str) -> Tensor:
    """An input in double precision, repeated along height and width, and multiplied in single precision."""
    spec = case.data["inputs"][name]
    drawn = case.draw(spec)
    for axis in (-1, -2):
        drawn = drawn.repeat(spec.get("repeat_hw", 1), axis=axis)
    return torch.from_numpy(drawn * drawn.dtype.type(np.float32(spec.get("gain", 1.0)))).double()


def by_sequence(case: Case, name: str) -> Tensor:
    """An input [n, B, ...] as [B, n, ...]."""
    return tensor(case, name).transpose(0, 1).contiguous()


def fill_part(module: nn.Module, prefix: str) -> nn.Module:
    """Fill a part under its names in the whole network."""
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.from_numpy(fill.fill_param(prefix + name, tuple(value.shape))))
    return module.double().eval()


@runner("slt_pytracking/prroi_pool")
def prroi_pool(case: Case) -> None:
    for i, stored in enumerate(case.data["outputs"]["cases"]):
        features = tensor(case, f"features_{i}").requires_grad_()
        rois, outward = (tensor(case, f"{name}_{i}") for name in ("rois", "grad_output"))
        boxes, of = rois[:, None, 1:].requires_grad_(), rois[:, 0].long()
        (size, columns), stride = stored["pooled"], 1 / stored["spatial_scale"]
        out = precise_roi_pool(features[of], boxes, (size, columns), stride)[:, 0]
        on_features, on_boxes = torch.autograd.grad((out * outward).sum(), (features, boxes))
        case.check(out, stored["out"], f"out {i}")
        case.check(on_features, stored["grad_features"], f"gradient of features {i}")
        case.check(on_boxes[:, 0], np.asarray(stored["grad_rois"])[:, 1:], f"gradient of boxes {i}")
        if size != columns:
            continue  # the closed form is for square bins
        low, high = boxes.detach().split(2, dim=2)
        (bins,), pull_back = LevelPooling([features.detach()[of]], [size], [stride])(low, high - low)
        by_low, by_extent = pull_back([outward.permute(0, 2, 3, 1)[:, None]])
        found = torch.cat([torch.zeros(len(rois), 1, 1), by_low - by_extent, by_extent], dim=2)[:, 0]
        case.check(bins[:, 0].permute(0, 3, 1, 2), stored["out"], f"out {i} in closed form")
        case.check(found, stored["grad_rois"], f"gradient of boxes {i} in closed form")


@runner("slt_pytracking/dimp_initializer")
def dimp_initializer(case: Case) -> None:
    features, boxes = by_sequence(case, "feat"), by_sequence(case, "bb")
    c, stored = case.config, case.data["outputs"]["filter"]
    assert not c.get("filter_norm"), "filters keep their size"
    part = FilterInitializer(features.shape[2], stored["shape"][-1], c.get("feat_stride", 16))
    fill_part(part, "classifier.filter_initializer.")
    case.check(part(features, boxes), stored, "filter")


@runner("trdimp/dimp_optimizer")
def dimp_optimizer(case: Case) -> None:
    c = case.config
    features, boxes = by_sequence(case, "feat").requires_grad_(), by_sequence(case, "bb")
    weights = by_sequence(case, "sample_weight") if "sample_weight" in case.data["inputs"] else None
    part = SteepestDescent(c["filter_size"], c["feat_stride"], 22 * 0.25 / 6).double()
    if "fill_param" in c["params"]:
        fill_part(part, "classifier.filter_optimizer.")
        with torch.no_grad():
            for name, shift in re.findall(r"(\S+) then ([+-][\d.]+)", c["params"]):
                part.get_parameter(name).add_(float(shift))
    iterates = part(tensor(case, "weights"), features, boxes, weights, c["num_iter"])
    (iterates[-1] * tensor(case, "G")).sum().backward()
    assert features.grad is not None
    named: dict[str, Any] = {
        "final_filter": iterates[-1],
        "losses": filter_losses(part, iterates, features, boxes, weights),
        "grad_feat": features.grad.transpose(0, 1),
        **{f"grad:{name}": value.grad for name, value in part.named_parameters()},
    }
    outputs = dict(case.data["outputs"])
    for found, stored in zip(iterates, outputs.pop("iterates"), strict=True):
        case.check(found, stored, "iterate")
    for name, stored in outputs.pop("initial_params").items():
        case.check(part.get_parameter(name), stored, f"initial {name}")
    for name, stored in outputs.items():
        case.check(named[name], stored, name)


@runner("trdimp/iounet")
def iounet(case: Case) -> None:
    c, levels = case.config, ("layer2", "layer3")
    reference, test = ([tensor(case, f"{side}_{level}") for level in levels] for side in ("ref", "test"))
    proposals = tensor(case, "proposals").requires_grad_()
    moments, sequences = proposals.shape[:2]
    part = IoUNet(reference[0].shape[2], reference[1].shape[2])
    fill_part(part, "bb_regressor.")
    modulation = part.modulation(reference[0][0], reference[1][0], tensor(case, "ref_boxes")[0])
    features = part.features(*(x.flatten(0, 1) for x in test))
    scores = part(modulation.repeat(moments, 1, 1), features, proposals.flatten(0, 1)).unflatten(0, (moments, -1))
    gradient, first = torch.autograd.grad(scores.sum(), proposals)[0], proposals.detach()[0]
    image = part.features(*(x[0] for x in test))
    refined, last, _ = part.ascend(modulation, image, first, c["refine_iterations"], c["step_length"])
    named = {
        "scores": scores,
        "grad_proposals": gradient,
        "modulation_3": modulation[:, 0, :, None, None],
        "modulation_4": modulation[:, 1, :, None, None],
        "iou_feat_3": features.fine,
        "iou_feat_4": features.coarse,
        "refined_boxes": refined,
        "last_scores_before_final_step": last,
        "first_scores": scores[0],
    }
    assert len(modulation) == sequences
    for name, stored in case.data["outputs"].items():
        case.check(named[name], stored, name)


@runner("slt_pytracking/trdimp_transformer")
def trdimp_transformer(case: Case) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_attention, "TEMPERATURE", float(case.config.get("temperature", 30)))
        label_transformer(case)


def label_transformer(case: Case) -> None:
    c = case.config
    train, test, labels = (by_sequence(case, name) for name in ("train_feat", "test_feat", "train_label"))
    train, test = train.requires_grad_(), test.requires_grad_()
    part = LabelTransformer(c["d_model"], c["key_dim"], (c["d_model"] * 16) ** -0.5)
    fill_part(part, "classifier.transformer.")
    memory = part.encode(train, labels, growing=True)
    encoded, decoded = (part.decode(x.flatten(0, 1), memory) for x in (train, test))
    decoded = decoded.unflatten(0, test.shape[:2]).transpose(0, 1).flatten(0, 1)
    (decoded * tensor(case, "G")).sum().backward()
    assert train.grad is not None
    assert test.grad is not None
    assert memory.tokens is not None
    assert memory.sums is not None
    tokens = part.encoded(memory.tokens, memory.sums, labels[0, 0].numel())
    named: dict[str, Any] = {
        "encoder_memory": tokens.transpose(0, 1),
        "encoded_feat": encoded.unflatten(0, train.shape[:2]).transpose(0, 1).flatten(0, 1),
        "decoded_feat": decoded,
        "grad_train_feat": train.grad.transpose(0, 1),
        "grad_test_feat": test.grad.transpose(0, 1),
        **{f"grad:{name}": value.grad for name, value in part.named_parameters()},
    }
    for name, stored in case.data["outputs"].items():
        case.check(named[name], stored, name)


def build(case: Case) -> TrDiMP:
    """The case's network, filled under the published names as its file would be, in the case's format."""
    c = case.config
    settings = {"TEST.SEARCH_SIZE": c.get("image_size", 352), "MODEL.ITERATIONS": c.get("optim_iter", 5)}
    experiment = written("trdimp", "trdimp", settings)
    with without_drawing():
        network: TrDiMP = experiment.method.build_network(experiment.config, False)
    if "init_gauss_sigma" in c:
        # Initial values that the case keeps are those of the published size, whatever its crops.
        network.classifier.filter_optimizer = SteepestDescent(
            c["filter_size"],
            c["feature_stride"],
            c["init_gauss_sigma"],
            experiment.config.model.iterations,
            c["num_dist_bins"],
            c["bin_displacement"],
        )
        with torch.no_grad():
            optimizer = network.classifier.filter_optimizer
            optimizer.log_step_length.fill_(math.log(c["init_step_length"]))
            optimizer.filter_reg.fill_(c["init_filter_reg"])
            optimizer.get_parameter("target_mask_predictor.0.weight").mul_(c["mask_init_factor"] / MASK_FACTOR)
    state = filled(case, case.data["weights"].split()[0])
    mapped = map_trained(experiment.config, Checkpoint(case.path, state, {}, "plain"))
    kept = c.get("keep_init", [])
    given = {name: value for name, value in mapped.state_dict.items() if name not in kept}
    load_into(network, replace(mapped, state_dict=given, fresh=(*mapped.fresh, *kept)))
    return network.to(getattr(torch, c.get("dtype", "float32"))).eval()


@runner("trdimp/forward")
def forward(case: Case) -> None:
    """The network as it is trained; what is between comes from its parts, called one by one."""
    network = build(case)
    c, n = case.config, network.classifier
    names = ("template_images", "search_images", "template_anno", "search_proposals")
    templates, searches, boxes, proposals = (by_sequence(case, name) for name in names)
    labels = gaussian_labels(boxes.float() / c["image_size"], network.grid, 0.1, c["filter_size"]).double()
    with torch.no_grad():
        output = network(templates, searches, boxes, labels, proposals)
        seen, found = network.extract(in_order(templates)), network.extract(in_order(searches))
        train = out_of_order(seen.classification, templates)
        memory = n.transformer.encode(train, labels, growing=True)
        assert memory.tokens is not None
        assert memory.sums is not None
        tokens = n.transformer.encoded(memory.tokens, memory.sums, network.grid**2)
        maps = tokens.unflatten(1, (templates.shape[1], -1)).transpose(2, 3).unflatten(3, (network.grid, -1))
        encoded, decoded = (
            n.transformer.decode(x.flatten(0, 1), memory) for x in (train, out_of_order(found.classification, searches))
        )
        first = n.filter_initializer(encoded.view(train.shape), boxes)
        iterates = n.filter_optimizer(first, encoded.view(train.shape), boxes)
        losses = filter_losses(n.filter_optimizer, iterates, encoded.view(train.shape), boxes)
    named: dict[str, Any] = {
        "feature_extractor.call0.layer2": seen.fine,
        "feature_extractor.call0.layer3": seen.coarse,
        "feature_extractor.call1.layer2": found.fine,
        "feature_extractor.call1.layer3": found.coarse,
        "classifier.feature_extractor.call0": seen.classification,
        "classifier.feature_extractor.call1": found.classification,
        "transformer.encoder.call0.0": tokens.transpose(0, 1),
        "transformer.encoder.call0.1": in_order(maps),
        "transformer.call0.0": in_order(encoded.view(train.shape)),
        "transformer.call0.1": in_order(decoded.unflatten(0, searches.shape[:2])),
        "filter_initializer.call0": first,
        "filter_optimizer.final": iterates[-1],
        "filter_optimizer.losses": losses,
        "iou_pred": output.box_scores.transpose(0, 1),
    }
    outputs = dict(case.data["outputs"])
    for scores, stored in zip(output.scores, outputs.pop("target_scores"), strict=True):
        case.check(scores.transpose(0, 1), stored, "target_scores")
    for name, stored in (outputs | case.data.get("intermediates", {})).items():
        case.check(named[name], stored, name)


def in_order(images: Tensor) -> Tensor:
    """[B, n, ...] -> [n * B, ...], as cases have them."""
    return images.transpose(0, 1).flatten(0, 1)


def out_of_order(images: Tensor, like: Tensor) -> Tensor:
    """The inverse of `in_order`; `like` has the shape [B, n, ...]."""
    return images.unflatten(0, (like.shape[1], like.shape[0])).transpose(0, 1)
