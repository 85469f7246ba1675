"""Teacher and student: the objective of any one-stream network, joined by a frozen network of higher resolution.

The student learns by its own objective; the teacher adds two losses (LoReTrack, arXiv 2405.17660). Both see the same
crops, the student resized.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from lib.config import KD, Config
from lib.data import Batch
from lib.models.losses import disc_kd, qkv_kd, resize_map
from lib.objectives.base import Losses, Objective, Progress

TOTAL = "Loss/total"


@runtime_checkable
class Distillable(Protocol):
    """Contract of a network that can be teacher or student, whatever its modalities.

    box_head: the module whose first argument is the search feature map [B, C, g, g].
    feature_width: C. Teacher and student must agree in it, since channels are compared one by one.
    streams: how many rows of queries, keys and values a sample has (one per modality that is encoded apart).
    """

    box_head: nn.Module

    @property
    def streams(self) -> int: ...

    @property
    def feature_width(self) -> int: ...

    def qkv_layer(self, layer: int) -> tuple[int, nn.Module]:
        """Number (from 0) of a block and the module that gives its queries, keys and values in one.

        layer: counted from the end when negative. The module's output is [streams * B, N, 3C], heads merged, not
        scaled, with all g * g search tokens last, row-major; a ValueError where that cannot be, after elimination for
        instance.
        Where a network sees the samples again in the same pass, with hidden patches for instance, these rows follow
        those of the samples as they are, stream by stream; the search feature's rows likewise.
        """

    def search_feature(self, template: Tensor, search: Tensor, template_boxes: Tensor) -> Tensor:
        """The search feature map [B, C, g, g] of a normalised batch, as at test time; no head is run.

        template: [B, Nt, C, T, T]; search: [B, Ns, C, S, S]; template_boxes: [B, Nt, 4] x, y, w, h in units of the
        crop's side.
        """


@dataclass
class Recorded:
    """Tensors of one forward pass. features: [B, C, g, g]; qkv: block number -> [B, N, 3C]."""

    features: list[Tensor] = field(default_factory=list)
    qkv: dict[int, list[Tensor]] = field(default_factory=dict)

    def feature(self) -> Tensor:
        return _only(self.features, "search feature")

    def layer(self, number: int) -> Tensor:
        return _only(self.qkv.get(number, []), f"block {number}")


def _distillable(network: nn.Module, role: str) -> Distillable:
    if not isinstance(network, Distillable):
        raise ValueError(f"the {role} {type(network).__name__} is no one-stream network that can be distilled")
    return network


def _only(tensors: list[Tensor], what: str) -> Tensor:
    if len(tensors) != 1:
        raise RuntimeError(f"distillation compares one pass, but the network computed its {what} {len(tensors)} times")
    return tensors[0]


class Recorder:
    """Keeps the tensors that the losses read, of the passes inside ``with recorder as recorded``.

    Its hooks stay on the modules, so that a network that is compiled later has them; outside they keep nothing.
    """

    def __init__(self, qkv: Mapping[int, nn.Module], head: nn.Module | None = None) -> None:
        self._seen: Recorded | None = None
        for number, module in qkv.items():
            module.register_forward_hook(lambda _m, _i, output, n=number: self._keep_qkv(n, output))
        if head is not None:
            head.register_forward_pre_hook(lambda _m, inputs: self._keep_feature(inputs[0]))

    def __enter__(self) -> Recorded:
        self._seen = Recorded()
        return self._seen

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._seen = None

    def _keep_qkv(self, number: int, output: Tensor) -> None:
        if self._seen is not None:
            self._seen.qkv.setdefault(number, []).append(output)

    def _keep_feature(self, feature: Tensor) -> None:
        if self._seen is not None:
            self._seen.features.append(feature)


class DistillationObjective(nn.Module):
    """`base` on the student's crops, plus two losses against the teacher (LoReTrack, sec. 3).

    The teacher is frozen, in eval mode, runs without gradients in its own precision, and is neither saved nor wrapped
    for several processes. Batches have the teacher's resolution. The base objective must run its network once per call.
    Terms of the log: those of `base`, ``Loss/kd`` (Disc-KD) and ``Loss/qkv_11`` (QKV-KD, by the student's block),
    unweighted.

    Args:
        base: the student's own objective.
        student, teacher: `Distillable` networks.
        kd: which losses, and their weights; a loss of weight 0 is not computed.
        template_size, search_size: of the student, in pixels.
        precision: of the teacher's forward pass: ``fp32``, ``bf16`` or ``fp16``.

    Raises:
        ValueError: for networks that cannot be compared.
    """

    def __init__(
        self,
        base: Objective,
        student: nn.Module,
        teacher: nn.Module,
        kd: KD,
        template_size: int,
        search_size: int,
        precision: str = "fp32",
    ) -> None:
        super().__init__()
        if hasattr(base, "split"):
            raise ValueError(f"{type(base).__name__} learns from parts of a batch; it cannot be joined by a teacher")
        learner, master = _distillable(student, "student"), _distillable(teacher, "teacher")
        if learner.feature_width != master.feature_width:
            raise ValueError(
                f"its features have {master.feature_width} channels and the student's {learner.feature_width}; "
                "they are compared channel by channel, so the widths must agree"
            )
        if learner.streams != master.streams:
            raise ValueError(
                f"it encodes {master.streams} streams and the student {learner.streams}; they are compared one by one"
            )
        self.base, self.kd, self.precision, self.streams = base, kd, precision, learner.streams
        self.template_size, self.search_size = template_size, search_size
        self.teacher = teacher.eval().requires_grad_(False)
        layers = kd.layers if kd.qkv_weight else ()
        mine, theirs = [learner.qkv_layer(i) for i in layers], [master.qkv_layer(i) for i in layers]
        self.pairs = [(own, other) for (own, _), (other, _) in zip(mine, theirs, strict=True)]
        self._student, self._teacher = Recorder(dict(mine), learner.box_head), Recorder(dict(theirs))

    @classmethod
    def from_config(
        cls, config: Config, base: Objective, student: nn.Module, teacher: nn.Module
    ) -> DistillationObjective:
        """With KD, TEACHER.PRECISION, and TEST's sizes as those of the student."""
        test = config.test
        precision = "fp32" if config.teacher is None else config.teacher.precision
        return cls(base, student, teacher, config.kd or KD(), test.template_size, test.search_size, precision)

    def train(self, mode: bool = True) -> DistillationObjective:
        """The teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses:
        """batch: at the teacher's resolution, normalised."""
        target, expected = self.observe(batch)
        with self._student as found:
            losses = self.base(network, self.student_batch(batch), progress)
        return self.compare(losses, found, target, expected)

    def _clean_rows(self, rows: Tensor, samples: int, streams: int = 1) -> Tensor:
        """The rows of the samples without hidden patches, of all rows of a pass."""
        return rows.unflatten(0, (streams, -1, samples))[:, 0].flatten(0, 1)

    @torch.no_grad()
    def observe(self, batch: Batch) -> tuple[Tensor, Recorded]:
        """The teacher's search feature map, and its queries, keys and values."""
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.precision]
        with (
            torch.autocast(batch.search.device.type, dtype=dtype, enabled=dtype != torch.float32),
            self._teacher as seen,
        ):
            teacher = _distillable(self.teacher, "teacher")
            feature = teacher.search_feature(batch.template, batch.search, batch.template_boxes)
        return feature, seen

    def student_batch(self, batch: Batch) -> Batch:
        """The same samples at the student's resolution; boxes are in units of the crop, so they stay."""

        def resized(crops: Tensor, size: int) -> Tensor:
            return resize_map(crops.flatten(0, 1), size).unflatten(0, crops.shape[:2])

        template, search = resized(batch.template, self.template_size), resized(batch.search, self.search_size)
        return replace(batch, template=template, search=search)

    def compare(self, losses: Losses, found: Recorded, target: Tensor, expected: Recorded) -> Losses:
        """The base objective's losses with the two terms of the teacher."""
        kd, samples = self.kd, len(target)
        feature = self._clean_rows(found.feature(), samples)
        total, terms = losses.total, dict(losses.terms)
        if kd.disc_weight:
            disc = disc_kd(
                feature,
                target,
                kd.saliency_threshold,
                kd.foreground_weight,
                kd.background_weight,
                kd.temperature,
            )
            total = total + kd.disc_weight * disc
            terms["Loss/kd"] = disc.detach()
        for own, other in self.pairs:
            grids = feature.shape[-1], target.shape[-1]
            mine = self._clean_rows(found.layer(own), samples, self.streams)
            qkv = qkv_kd(mine, expected.layer(other), *grids, kd.temperature)
            total = total + kd.qkv_weight * qkv
            terms[f"Loss/qkv_{own}"] = qkv.detach()
        return Losses(total, {TOTAL: total.detach(), **{k: v for k, v in terms.items() if k != TOTAL}})
