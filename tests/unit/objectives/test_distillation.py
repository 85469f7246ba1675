"""A frozen teacher of any one-stream network."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lib.config import KD, Config, Teacher, schema
from lib.data import Batch
from lib.methods.ostrack import OSTrack, OSTrackConfig, OSTrackObjective
from lib.methods.sdstrack import SDSTrack, SDSTrackConfig, SDSTrackObjective
from lib.models.backbones import OneStreamViT, TwoStreamOptions, TwoStreamViT, ViTOptions
from lib.models.distillation_losses import disc_kd, qkv_kd
from lib.models.heads import CenterHead
from lib.objectives import DistillationObjective, Losses, Progress

NOW = Progress(epoch=1, epochs=1)


def settings(kd: KD | None = None, precision: str = "fp32") -> Config:
    """Of a student at 16 and 32 pixels."""
    teacher = Teacher("ostrack", "any", precision=precision)
    return Config(test=schema.Test(template_size=16, search_size=32), kd=kd, teacher=teacher)


class TwoPictures(OSTrack):
    """A one-stream network of RGB and a second picture: both are embedded alike and added."""

    def forward(self, template: Tensor, search: Tensor, *more: object) -> object:
        return super().forward(self._added(template), self._added(search), *more)

    def search_feature(self, template: Tensor, search: Tensor, template_boxes: Tensor) -> Tensor:
        return super().search_feature(self._added(template), self._added(search), template_boxes)

    @staticmethod
    def _added(crops: Tensor) -> Tensor:
        return crops.narrow(-3, 0, 3) + 0.5 * crops.narrow(-3, 3, 3)


def build(kind: type[OSTrack], search: int, width: int = 16, **more: object) -> OSTrack:
    torch.manual_seed(search)
    options = ViTOptions(width, 3, 2, 8, search // 2, search, **more)  # type: ignore[arg-type]
    return kind(OneStreamViT(options), CenterHead(width, 16))


def build_two_streams(search: int) -> SDSTrack:
    torch.manual_seed(search)
    options = TwoStreamOptions(16, 3, 2, 8, search // 2, search, fusion_loc=(1, 2), adapter_dim=4)
    return SDSTrack(TwoStreamViT(options), CenterHead(16, 16))


def batch(channels: int = 3) -> Batch:
    torch.manual_seed(1)
    return Batch(
        template=torch.randn(2, 1, channels, 32, 32),
        search=torch.randn(2, 1, channels, 64, 64),
        template_boxes=torch.tensor([0.3, 0.3, 0.4, 0.4]).expand(2, 1, 4),
        search_boxes=torch.tensor([[[0.4, 0.3, 0.2, 0.3]], [[0.1, 0.5, 0.3, 0.2]]]),
        modality=torch.zeros(2, dtype=torch.int64),
    )


def distilled(student: OSTrack, teacher: OSTrack, kd: KD | None = None) -> DistillationObjective:
    return DistillationObjective(OSTrackObjective(OSTrackConfig(), student), student, teacher, settings(kd))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "channels"), [(OSTrack, 3), (TwoPictures, 6)])
def test_the_student_comes_nearer_and_the_teacher_stays(kind: type[OSTrack], channels: int) -> None:
    student, teacher = build(kind, 32), build(kind, 64)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    objective = distilled(student, teacher, KD(disc_weight=1.0, qkv_weight=1.0)).train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2)
    kd, qkv = [], []
    for _ in range(25):
        losses = objective(student.train(), batch(channels), NOW)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        kd.append(float(losses.terms["Loss/kd"]))
        qkv.append(float(losses.terms["Loss/qkv_2"]))
    assert kd[-1] < 0.8 * kd[0]
    assert qkv[-1] < 0.8 * qkv[0]
    assert not teacher.training
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    for name, value in teacher.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_the_total_is_the_students_own_and_the_two_weighted_terms() -> None:
    student, teacher = build(OSTrack, 32), build(OSTrack, 64)
    kd = KD(disc_weight=0.5, qkv_weight=0.25, layers=(0, -1))
    objective = distilled(student.eval(), teacher, kd)
    found = objective(student, batch(), NOW)
    own = objective.base(student, objective.student_batch(batch()), NOW)
    t = found.terms
    expected = own.total + 0.5 * t["Loss/kd"] + 0.25 * (t["Loss/qkv_0"] + t["Loss/qkv_2"])
    torch.testing.assert_close(found.total, expected)
    torch.testing.assert_close(t["Loss/total"], expected.detach())


def test_the_teachers_precision_is_its_own() -> None:
    student, teacher = build(OSTrack, 32), build(OSTrack, 64)
    expected, _ = distilled(student, teacher).observe(batch())
    kinds: list[torch.dtype] = []
    teacher.backbone.blocks[0].attn.qkv.register_forward_hook(lambda _m, _i, out: kinds.append(out.dtype))
    base = OSTrackObjective(OSTrackConfig(), student)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        objective = DistillationObjective(base, student, teacher, settings(precision=precision))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found, seen = objective.observe(batch())
            objective(student, batch(), NOW).total.backward()
        assert set(kinds) == {dtype}
        assert seen.only(2).dtype == dtype
        torch.testing.assert_close(found, expected, rtol=0.1, atol=0.1)
        kinds.clear()
    assert all(p.grad is None for p in teacher.parameters())


def test_nothing_is_kept_outside_a_step() -> None:
    student, teacher = build(OSTrack, 32), build(OSTrack, 64)
    objective = distilled(student, teacher)
    objective(student, batch(), NOW)
    student(torch.randn(1, 3, 16, 16), torch.randn(1, 3, 32, 32))
    assert objective._student._seen is None
    assert objective._teacher._seen is None


class Twice(OSTrackObjective):
    def __call__(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses:
        super().__call__(network, batch, progress)
        return super().__call__(network, batch, progress)


def test_a_network_that_runs_twice_is_refused() -> None:
    student, teacher = build(OSTrack, 32), build(OSTrack, 64)
    objective = DistillationObjective(Twice(OSTrackConfig(), student), student, teacher, settings())
    with pytest.raises(RuntimeError, match="compares one pass, but the network computed its search feature 2 times"):
        objective(student, batch(), NOW)


ELIMINATING = {"ce_loc": (1,), "ce_keep_ratio": (0.7,)}


@pytest.mark.parametrize(
    ("student", "message"),
    [
        (lambda: build(OSTrack, 32, width=8), "16 channels and the student's 8"),
        (lambda: build(OSTrack, 32, **ELIMINATING), "block 2 does not see all search tokens"),
        (lambda: nn.Linear(1, 1), "no one-stream network"),
    ],
)
def test_networks_that_cannot_be_compared_are_refused(student: Callable[[], OSTrack], message: str) -> None:
    network = student()
    with pytest.raises(ValueError, match=message):
        DistillationObjective(lambda *_: Losses(torch.zeros(())), network, build(OSTrack, 64), settings())


def test_a_student_that_eliminates_learns_from_features_alone() -> None:
    student = build(OSTrack, 32, **ELIMINATING)
    objective = distilled(student, build(OSTrack, 64), KD(qkv_weight=0.0))
    assert set(objective(student, batch(), NOW).terms) == {
        "Loss/total", "Loss/giou", "Loss/l1", "Loss/location", "IoU", "Loss/kd",
    }  # fmt: skip


def test_a_two_stream_student_is_compared_on_its_clean_pass_stream_by_stream() -> None:
    """SDSTrack sees every sample twice in training; the teacher is compared with the pictures as they are alone."""
    student, teacher = build_two_streams(32), build_two_streams(64)
    base = SDSTrackObjective(SDSTrackConfig(), student)
    objective = DistillationObjective(base, student, teacher, settings())
    data = batch(6)
    losses = objective(student, data, NOW)
    losses.total.backward()
    small = objective.student_batch(data)

    def seen(network: SDSTrack, crops: Batch) -> tuple[Tensor, Tensor]:
        found: list[Tensor] = []
        handle = (
            network.backbone.blocks[2]
            .get_submodule("attn.qkv")
            .register_forward_hook(lambda _m, _i, output: found.append(output))
        )
        with torch.no_grad():
            feature = network.search_feature(crops.template, crops.search, crops.template_boxes)
        handle.remove()
        return feature, found[0]

    (mine, qkv), (theirs, expected) = seen(student, small), seen(teacher, data)
    torch.testing.assert_close(losses.terms["Loss/kd"], disc_kd(mine, theirs), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses.terms["Loss/qkv_2"], qkv_kd(qkv, expected, 4, 8), rtol=1e-4, atol=1e-5)
    assert {"Loss/total_f", "Loss/total_m", "Loss/mse_m"} <= set(losses.terms)


def test_an_rgb_teacher_cannot_teach_two_streams() -> None:
    student = build_two_streams(32)
    base = SDSTrackObjective(SDSTrackConfig(), student)
    with pytest.raises(ValueError, match="it encodes 1 streams and the student 2"):
        DistillationObjective(base, student, build(OSTrack, 64), settings())
