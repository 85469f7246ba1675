"""Teacher and student: the objective of any one-stream network, joined by a frozen network of higher resolution.

The student learns by its own objective; the teacher adds two losses (LoReTrack, arXiv 2405.17660). Both see the same
crops, the student resized.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from lib.config import KD, Config
from lib.data import Batch
from lib.models.distillation_losses import disc_kd, qkv_kd, resize_map
from lib.objectives.base import Losses, Objective, Progress

FEATURE = "search feature"


class Distillable(Protocol):
    """Contract of a network that can be teacher or student, whatever its modalities.

    Attributes:
        box_head: The module whose first argument is the search feature map [B, C, g, g].
        feature_width: C. Teacher and student must agree in it, since channels are compared one by one.
        streams: Rows of queries, keys and values of a sample, one per modality that is encoded apart.
    """

    box_head: nn.Module
    feature_width: int
    streams: int

    def qkv_layer(self, layer: int) -> tuple[int, nn.Module]:
        """A block and the module that gives its queries, keys and values in one.

        Where a network sees the samples again in the same pass, with hidden patches for instance, these rows follow
        those of the samples as they are, stream by stream; the search feature's rows likewise.

        Args:
            layer: Number of the block, counted from the end when negative.

        Returns:
            The block's number (from 0), and the module, whose output is [streams * B, N, 3C], heads merged, not scaled,
            with all g * g search tokens last, row-major.

        Raises:
            ValueError: Not all search tokens reach the block, after elimination for instance.
        """

    def search_feature(self, template: Tensor, search: Tensor, template_boxes: Tensor) -> Tensor:
        """The search feature map [B, C, g, g] of a batch, as at test time; no head is run.

        Args:
            template: [B, Nt, C, T, T], normalised.
            search: [B, Ns, C, S, S], normalised.
            template_boxes: [B, Nt, 4] x, y, w, h in units of the crop's side.
        """


class Recorded(dict[int | str, list[Tensor]]):
    """Tensors of one forward pass: FEATURE -> search feature map [B, C, g, g], block number -> [B, N, 3C]."""

    def only(self, key: int | str) -> Tensor:
        """The tensor of this name.

        Raises:
            RuntimeError: It was computed several times, or never.
        """
        tensors = self.get(key, [])
        if len(tensors) != 1:
            found = f"its {key if key == FEATURE else f'block {key}'} {len(tensors)} times"
            raise RuntimeError(f"distillation compares one pass, but the network computed {found}")
        return tensors[0]


class Recorder:
    """Records the tensors that the losses read, of the passes inside ``with recorder.recording() as recorded``.

    Its hooks stay on the modules, so that a network that is compiled later has them; outside they record nothing.

    Args:
        qkv: Modules by block number, whose outputs are recorded.
        head: The box head, whose input is recorded.
    """

    def __init__(self, qkv: Mapping[int, nn.Module], head: nn.Module | None = None) -> None:
        self._seen: Recorded | None = None
        for number, module in qkv.items():
            module.register_forward_hook(lambda _m, _i, output, n=number: self._keep(n, output))
        if head is not None:
            head.register_forward_pre_hook(lambda _m, inputs: self._keep(FEATURE, inputs[0]))

    def _keep(self, key: int | str, tensor: Tensor) -> None:
        if self._seen is not None:
            self._seen.setdefault(key, []).append(tensor)

    @contextmanager
    def recording(self) -> Iterator[Recorded]:
        """Record what the modules compute in this context."""
        self._seen = Recorded()
        try:
            yield self._seen
        finally:
            self._seen = None


def _distillable(network: nn.Module, role: str) -> Distillable:
    """The network. Raises ValueError where it does not keep the contract."""
    # From Python 3.12 on isinstance does not see the parts of a module.
    parts = ("box_head", "feature_width", "streams", "qkv_layer", "search_feature")
    if not all(hasattr(network, name) for name in parts):
        raise ValueError(f"the {role} {type(network).__name__} is no one-stream network that can be distilled")
    return cast(Distillable, network)


class DistillationObjective(nn.Module):
    """`base` on the student's crops, plus two losses against the teacher (LoReTrack, sec. 3).

    The teacher is frozen, in eval mode, runs without gradients in its own precision, and is neither saved nor wrapped
    for several processes. Batches have the teacher's resolution. The base objective must run its network once per call.
    Terms of the log: those of `base`, ``Loss/kd`` (Disc-KD) and ``Loss/qkv_11`` (QKV-KD, by the student's block),
    unweighted.

    Args:
        base: The student's own objective.
        student, teacher: `Distillable` networks.
        config: KD says which losses, and their weights (a loss of weight 0 is not computed); TEST gives the sizes of
            the student's crops, and TEACHER.PRECISION the number format of the teacher's forward pass.

    Raises:
        ValueError: For networks that cannot be compared.
    """

    def __init__(self, base: Objective, student: nn.Module, teacher: nn.Module, config: Config) -> None:
        super().__init__()
        if hasattr(base, "split"):
            raise ValueError(f"{type(base).__name__} learns from parts of a batch; it cannot be joined by a teacher")
        own, other = _distillable(student, "student"), _distillable(teacher, "teacher")
        if own.feature_width != other.feature_width:
            raise ValueError(
                f"its features have {other.feature_width} channels and the student's {own.feature_width}; "
                "they are compared channel by channel, so the widths must agree"
            )
        if own.streams != other.streams:
            raise ValueError(
                f"it encodes {other.streams} streams and the student {own.streams}; they are compared one by one"
            )
        self.base, self.test, self.streams = base, config.test, own.streams
        self.kd = kd = config.kd or KD()
        self.precision = "fp32" if config.teacher is None else config.teacher.precision
        self.teacher = teacher.eval().requires_grad_(False)
        layers = kd.layers if kd.qkv_weight else ()
        student_layers, teacher_layers = ([n.qkv_layer(i) for i in layers] for n in (own, other))
        self.blocks = [(s, t) for (s, _), (t, _) in zip(student_layers, teacher_layers, strict=True)]
        self._student, self._teacher = Recorder(dict(student_layers), own.box_head), Recorder(dict(teacher_layers))

    def train(self, mode: bool = True) -> DistillationObjective:
        """The teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses:
        """The base objective's losses and those of the teacher.

        Args:
            network: The student, possibly in a wrapper.
            batch: At the teacher's resolution, normalised.
            progress: For the base objective.
        """
        teacher_feature, taught = self.observe(batch)
        with self._student.recording() as found:
            losses = self.base(network, self.student_batch(batch), progress)
        return self.compare(losses, found, teacher_feature, taught)

    @torch.no_grad()
    def observe(self, batch: Batch) -> tuple[Tensor, Recorded]:
        """Run the teacher.

        Args:
            batch: At the teacher's resolution, normalised.

        Returns:
            Its search feature map [B, C, g, g], and its queries, keys and values.
        """
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.precision]
        autocast = torch.autocast(batch.search.device.type, dtype=dtype, enabled=dtype != torch.float32)
        teacher = _distillable(self.teacher, "teacher")
        with autocast, self._teacher.recording() as seen:
            return teacher.search_feature(batch.template, batch.search, batch.template_boxes), seen

    def student_batch(self, batch: Batch) -> Batch:
        """The same samples at the student's resolution; boxes are in units of the crop, so they stay."""

        def resized(crops: Tensor, size: int) -> Tensor:
            return resize_map(crops.flatten(0, 1), size).unflatten(0, crops.shape[:2])

        test = self.test
        template, search = resized(batch.template, test.template_size), resized(batch.search, test.search_size)
        return replace(batch, template=template, search=search)

    def compare(self, losses: Losses, found: Recorded, teacher_feature: Tensor, taught: Recorded) -> Losses:
        """The base objective's losses with the two terms of the teacher.

        Args:
            losses: Of the base objective.
            found: Of the student's pass.
            teacher_feature: The teacher's search feature map [B, C, g, g].
            taught: Of the teacher's pass.
        """
        kd = self.kd

        def clean(rows: Tensor, streams: int = 1) -> Tensor:
            """The rows of the samples without hidden patches, of all rows of a pass."""
            return rows.unflatten(0, (streams, -1, len(teacher_feature)))[:, 0].flatten(0, 1)

        feature = clean(found.only(FEATURE))
        total, terms = losses.total, dict(losses.terms)
        if kd.disc_weight:
            weights = kd.foreground_weight, kd.background_weight
            disc = disc_kd(feature, teacher_feature, kd.saliency_threshold, *weights, kd.temperature)
            total = total + kd.disc_weight * disc
            terms["Loss/kd"] = disc
        grids = feature.shape[-1], teacher_feature.shape[-1]
        for own, other in self.blocks:
            qkv = qkv_kd(clean(found.only(own), self.streams), taught.only(other), *grids, kd.temperature)
            total = total + kd.qkv_weight * qkv
            terms[f"Loss/qkv_{own}"] = qkv
        return Losses(total, terms | {"Loss/total": total})
