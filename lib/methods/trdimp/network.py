"""TrDiMP (Wang et al., CVPR 2021): a filter learned online, on features that attend to the template images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lib.models.backbones import ResNet
from lib.models.heads import IoUNet
from lib.models.layers import (
    Convolution,
    FuseOptions,
    at_least_float32,
    instance_l2_norm,
    sample_pictures,
    with_fused_children,
)
from lib.models.online import FilterInitializer, SteepestDescent, apply_filter
from lib.models.temporal import LabelTransformer

FILTER_SIZE = 4
SEARCH_SIGMA = 0.25 / 6
"""Deviation of the search regions' Gaussian label, in units of the map's side."""


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """Features of N crops.

    Attributes:
        fine, coarse: [N, C, H, W] of the backbone, strides 8 and 16; what boxes are scored on.
        classification: [N, C, h, w], stride 16.
    """

    fine: Tensor
    coarse: Tensor
    classification: Tensor


@dataclass(frozen=True, slots=True)
class TrDiMPOutput:
    """Network output in training, for m search regions of S sequences.

    Attributes:
        scores: [S, m, h + 1, w + 1] under every iterate of the filter, the initial one first.
        box_scores: [S, m, P] of the proposals.
    """

    scores: list[Tensor]
    box_scores: Tensor


class Classifier(nn.Module):
    """Parts that learn and apply the filter, under published names: no entry point of its own.

    Attributes:
        feature_extractor: Last convolution of the classification features.
        transformer: Template images as a memory, and the features of any image in its light.
        filter_initializer: The first filter, from decoded template images and the targets' boxes.
        filter_optimizer: Steps of optimisation of the filter.
        scale: Root mean square of the classification features.
    """

    def __init__(self, inputs: int, width: int, key_width: int, stride: int, sigma: float, iterations: int) -> None:
        super().__init__()
        self.scale = (width * FILTER_SIZE**2) ** -0.5
        self.feature_extractor = nn.Sequential(nn.Conv2d(inputs, width, 3, padding=1, bias=False))
        nn.init.kaiming_normal_(self.feature_extractor.get_submodule("0").get_parameter("weight"), mode="fan_out")
        self.transformer = LabelTransformer(width, key_width, self.scale)
        self.filter_initializer = FilterInitializer(width, FILTER_SIZE, stride)
        self.filter_optimizer = SteepestDescent(FILTER_SIZE, stride, sigma, iterations)

    def fuse_for_inference(self, options: FuseOptions) -> Classifier:
        """For inference; see `lib.models.layers.fused`. What stands behind the convolution stays in float32."""
        twin = with_fused_children(self, replace(options, dtype=torch.float32))
        weight = self.feature_extractor.get_submodule("0").get_parameter("weight")
        twin.feature_extractor = nn.Sequential(Convolution(weight, None, options))
        return twin


class TrDiMP(nn.Module):
    """The network of TrDiMP; module names are those of published checkpoints.

    Args:
        backbone: A ResNet of stride 16, whose last but one layer has stride 8.
        size: Side of the crops in pixels.
        width: Channels of the classification features.
        key_width: Of the attention's keys.
        box_width: Of the box regressor.
        iterations: Steps of the filter's optimisation, where no number is given.

    Attributes:
        shared_layers: Frozen layers of the backbone, whose maps exploring and learning share.

    Raises:
        ValueError: The backbone has another stride.
    """

    def __init__(
        self, backbone: ResNet, size: int, width: int, key_width: int, box_width: int, iterations: int = 5
    ) -> None:
        super().__init__()
        if backbone.stride != 16 or backbone.layers < 2:
            found = f"MODEL.BACKBONE has stride {backbone.stride} and {backbone.layers}"
            raise ValueError(f"TrDiMP reads a ResNet of stride 16 with two layers or more; {found}")
        self.size, self.stride, self.grid = size, backbone.stride, size // backbone.stride
        self.width, self.shared_layers = width, min(backbone.frozen, backbone.layers - 1)
        self.feature_extractor = backbone
        inputs = backbone.channels
        self.classifier = Classifier(inputs, width, key_width, backbone.stride, self.grid * SEARCH_SIGMA, iterations)
        self.bb_regressor = IoUNet(inputs // 2, inputs, box_width)

    def extract(self, images: Tensor, first: int = 0) -> ImageFeatures:
        """Features of crops, once per crop.

        Args:
            images: [N, 3, S, S], normalised; or their map of the backbone's layer `first`.
            first: 0 for images.
        """
        fine, coarse = self.feature_extractor.maps(images, first)[-2:]
        c = self.classifier
        return ImageFeatures(fine, coarse, instance_l2_norm(at_least_float32(c.feature_extractor(coarse)), c.scale))

    def box_scores(self, modulation: Tensor, features: ImageFeatures, boxes_xywh: Tensor) -> Tensor:
        """See `IoUNet.forward`; features of N search regions, boxes [N, P, 4] in crop pixels -> scores [N, P]."""
        return self.bb_regressor(modulation, self.bb_regressor.features(features.fine, features.coarse), boxes_xywh)

    def refine(
        self,
        modulation: Tensor,
        features: ImageFeatures,
        boxes_xywh: Tensor,
        steps: int,
        step_length: float,
        decay: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Refine boxes by gradient ascent on their scores; see `IoUNet.refine`.

        Args:
            modulation: [N, 2, C].
            features: Of N search regions.
            boxes_xywh: [N, P, 4] in crop pixels, of any float format.
            steps, step_length, decay: Of the ascent.

        Returns:
            Boxes [N, P, 4], and scores [N, P] of the boxes before the last step.
        """
        levels = features.fine, features.coarse
        return self.bb_regressor.refine(modulation, *levels, boxes_xywh, steps, step_length, decay)

    def forward(
        self, templates: Tensor, searches: Tensor, boxes_xywh: Tensor, labels: Tensor, proposals_xywh: Tensor
    ) -> TrDiMPOutput:
        """The form of training; the filter is learned on the decoded template images.

        Args:
            templates: [S, n, 3, I, I], normalised.
            searches: [S, m, 3, I, I], normalised.
            boxes_xywh: [S, n, 4] targets of the templates in crop pixels.
            labels: [S, n, h, w], their Gaussians.
            proposals_xywh: [S, m, P, 4] boxes to score, in crop pixels.
        """
        (rows, count), moments, classifier = templates.shape[:2], searches.shape[1], self.classifier
        template_features, search_features = self.extract(templates.flatten(0, 1)), self.extract(searches.flatten(0, 1))
        maps = template_features.classification.unflatten(0, (rows, count))
        memory = classifier.transformer.encode(maps, labels.to(maps.dtype))
        encoded = classifier.transformer.decode(template_features.classification, memory).unflatten(0, (rows, count))
        decoded = classifier.transformer.decode(search_features.classification, memory).unflatten(0, (rows, moments))
        initial = classifier.filter_initializer(encoded, boxes_xywh.to(maps.dtype))
        iterates = classifier.filter_optimizer(initial, encoded, boxes_xywh)
        scores = [apply_filter(decoded, weights) for weights in iterates]
        levels = template_features.fine, template_features.coarse
        fine, coarse = (level.unflatten(0, (rows, count))[:, 0] for level in levels)
        modulation = self.bb_regressor.modulation(fine, coarse, boxes_xywh[:, 0])
        modulation = modulation.repeat_interleave(moments, dim=0)
        box_scores = self.box_scores(modulation, search_features, proposals_xywh.flatten(0, 1))
        return TrDiMPOutput(scores, box_scores.unflatten(0, (rows, moments)))

    def sample_inputs(self) -> dict[str, dict[str, Tensor]]:
        """Example inputs of the part that every crop goes through, two rows; see `lib.deploy.graphs`."""
        return {"extract": {"images": sample_pictures(3, self.size)}}
