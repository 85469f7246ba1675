"""TrDiMP's tracker and objectives: rows of a batch, what a frame copies, bad input, what is learned."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lib.config import ConfigError
from lib.data import Batch, ClipBatch, Frame, FrameSet, Modality
from lib.deploy import AutocastTracker, EngineError, Inference, prepare, prepare_for_rollout
from lib.methods import load_experiment
from lib.methods.trdimp import ImageFeatures, ProposalLoss, TrDiMP, TrDiMPObjective, TrDiMPState, TrDiMPTracker
from lib.models import Checkpoint, WeightsError
from lib.objectives import Progress, SequenceObjective, build_policy
from lib.track import Flag, roll_out
from lib.train import parameter_groups

TINY = (
    "MODEL.BACKBONE={TYPE: resnet, DEPTHS: [1, 1, 1], STRIDES: [1, 2, 2], DILATIONS: [1, 1, 1], WIDTH: 8}",
    "MODEL.CLASSIFICATION_DIM=32",
    "MODEL.KEY_DIM=16",
    "MODEL.BOX_DIM=16",
)
OFTEN = ("TEST.TRAIN_SKIPPING=2", "TEST.TRANSFORMER_SKIPPING=3", "TEST.TRANSFORMER_MEMORY_SIZE=16")


def experiment(*overrides: str, script: str = "trdimp", config: str = "synthetic_small") -> Any:
    return load_experiment(script, config, (*TINY, *overrides))


def network(e: Any, training: bool = False) -> TrDiMP:
    torch.manual_seed(3)
    net: TrDiMP = e.method.build_network(e.config, training)
    return net.eval()


def tracker(*overrides: str) -> TrDiMPTracker:
    e = experiment(*OFTEN, *overrides)
    track: TrDiMPTracker = e.build_tracker(network(e))
    return track


def clip(seed: int, frames: int, height: int, width: int, gone: Sequence[int] = ()) -> list[Frame]:
    """A textured target on a smooth ground that moves by 2, 1 pixels a frame; `gone`: frames without anything."""
    rng = np.random.default_rng(seed)
    ground = np.repeat(np.repeat(rng.integers(60, 120, (height // 8 + 1, width // 8 + 1, 3)), 8, 0), 8, 1)
    target = np.repeat(np.repeat(rng.integers(0, 256, (6, 6, 3)), 5, 0), 5, 1)
    made = []
    for t in range(frames):
        shown = ground[:height, :width].astype(np.uint8)
        if t in gone:
            shown[:] = 127
        else:
            shown[20 + t : 50 + t, 24 + 2 * t : 54 + 2 * t] = target
        made.append(Frame(shown))
    return made


START = torch.tensor([[24.0, 20.0, 30.0, 30.0]], dtype=torch.float64)


def follow(track: TrDiMPTracker, frames: list[Frame]) -> tuple[list[TrDiMPState], Tensor]:
    state = track.init(frames[:1], START)
    states, boxes = [state], []
    for frame in frames[1:]:
        state, prediction = track.step(state, [frame])
        states.append(state)
        boxes.append(prediction.boxes_xywh[0])
    return states, torch.stack(boxes)


LENGTH = 12
CLIPS: dict[str, Callable[[], list[Frame]]] = {
    "plain": lambda: clip(1, LENGTH, 110, 140),
    "lost for a while": lambda: clip(2, LENGTH, 96, 160, gone=(3, 4, 5)),
    "another size": lambda: clip(3, LENGTH, 150, 120),
}


@pytest.mark.slow
@pytest.mark.parametrize(("count", "prepared"), [(3, False), (2, True)])
def test_rows_that_enter_and_leave_are_what_they_are_alone(count: int, prepared: bool) -> None:
    """Row k enters with frame 2 k, so that rows learn in different frames; they leave when their clips end."""
    track, clips = tracker(), [make() for make in CLIPS.values()][:count]
    if prepared:
        track = prepare(track)
    alone = [follow(track, frames) for frames in clips]
    flags = {int(s.flags) for states, _ in alone for s in states}
    assert {Flag.NORMAL, Flag.NOT_FOUND} <= flags or count < 2, "the clips do not show different cases"
    state: Any = None
    rows: list[int] = []
    found: list[list[Tensor]] = [[] for _ in clips]
    for t in range(LENGTH + 2 * count):
        if t % 2 == 0 and t // 2 < count:
            new = track.init(clips[t // 2][:1], START)
            state = new if state is None else type(new).cat([state, new])
            rows.append(t // 2)
        at = [len(found[r]) + 1 for r in rows]
        state, prediction = track.step(state, [clips[r][i] for r, i in zip(rows, at, strict=True)])
        for i, r in enumerate(rows):
            found[r].append(prediction.boxes_xywh[i])
        stays = [i for i, r in enumerate(rows) if len(found[r]) < LENGTH - 1]
        if not stays:
            break
        for i, r in enumerate(rows):
            if i not in stays:
                one, last = state.select([i]), alone[r][0][-1]
                assert torch.equal(one.samples.stored, last.samples.stored)
                torch.testing.assert_close(one.filters, last.filters, rtol=1e-3, atol=1e-5)
                assert one.memories[0].keys.shape == last.memories[0].keys.shape
        state, rows = state.select(stays), [rows[i] for i in stays]
    for boxes, (_, expected) in zip(found, alone, strict=True):
        torch.testing.assert_close(torch.stack(boxes), expected, rtol=1e-4, atol=1e-2)


def test_the_target_is_followed_and_kept_where_it_is_lost() -> None:
    states, boxes = follow(tracker(), CLIPS["lost for a while"]())
    lost = [t for t, s in enumerate(states) if int(s.flags) == Flag.NOT_FOUND]
    assert lost
    for t in lost:
        assert torch.equal(boxes[t - 1], states[t - 1].boxes_xywh[0])
        assert torch.equal(states[t].samples.stored, states[t - 1].samples.stored)  # type: ignore[union-attr]
    assert len({int(s.samples.stored) for s in states if s.samples}) > 3


def test_the_search_region_of_a_large_picture_lies_around_the_target() -> None:
    track, frames = tracker(), clip(1, 1, 400, 500)
    state = track.init(frames, torch.tensor([[210.0, 160.0, 24.0, 16.0]], dtype=torch.float64))
    region = track.crop_search(state, frames)
    assert (region.centres[0] - torch.tensor([222.0, 168.0])).abs().max() <= 1
    assert region.sides[0].tolist() == pytest.approx([track.settings.search_factor * (24 * 16) ** 0.5] * 2, abs=1)
    with torch.no_grad():
        places = track.forward(state, region).candidates.boxes[0, :, :2]
    assert places[len(places) // 2].tolist() == pytest.approx([0.5, 0.5]), "the middle cell is the crop's middle"


def test_a_step_leaves_the_state_as_it_was() -> None:
    track, frames = tracker(), CLIPS["plain"]()
    states, _ = follow(track, frames[:6])
    first = track.step(states[2], frames[3:4])
    again = track.step(states[2], frames[3:4])
    assert torch.equal(first[1].boxes_xywh, again[1].boxes_xywh)
    for one, other in zip(first[0].samples.samples([0]), again[0].samples.samples([0]), strict=True):  # type: ignore
        assert torch.equal(one, other)


class LargestTensors(TorchDispatchMode):
    """Sizes in bytes of the tensors that operators make, views of others left out."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **(kwargs or {}))
        made = [t.untyped_storage() for t in tree_leaves(out) if isinstance(t, Tensor)]
        self.found += [s.nbytes() for s in made if s.data_ptr() not in given]
        return out


@pytest.mark.slow
def test_no_store_is_copied_in_a_frame_without_update() -> None:
    """Neither the samples nor the transformer's memory, by any of 2 rows, and by nothing but the update itself."""
    # Stores of 500 samples are larger than anything that a frame needs.
    track = tracker("TEST.MEMORY.SAMPLE_MEMORY_SIZE=500", "TEST.TRAIN_SKIPPING=3", "TEST.TRANSFORMER_SKIPPING=0")
    frames = CLIPS["plain"]()
    state = track.init(frames[:1] * 2, START.repeat(2, 1))
    assert state.samples is not None
    store = state.samples.features.read(0).untyped_storage().nbytes()
    for t, frame in enumerate(frames[1:7], start=1):
        with LargestTensors() as made:
            state, _ = track.step(state, [frame, frame])
            state = type(state).cat([state.select([1]), state.select([0])])
        assert max(made.found) < store / 4, f"frame {t}"
    assert int(state.samples.stored[0]) > 15  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.parametrize(
    "box",
    [(40.0, 30.0, 2.0, 1.5), (-300.0, -200.0, 900.0, 800.0), (-10.0, 5.0, 20.0, 20.0), (130.0, 100.0, 30.0, 30.0)],
    ids=["less than a cell", "larger than the picture", "beyond the left border", "in the corner"],
)
def test_unusual_targets_leave_finite_boxes_and_other_rows_alone(box: tuple[float, ...]) -> None:
    track, frames = tracker(), CLIPS["plain"]()
    _, expected = follow(track, frames[:6])
    state = track.init(frames[:1] * 2, torch.cat([torch.tensor([box], dtype=torch.float64), START]))
    for t in range(1, 6):
        state, prediction = track.step(state, frames[t : t + 1] * 2)
        assert prediction.boxes_xywh.isfinite().all()
        assert (prediction.boxes_xywh[:, 2:] > 0).all()
        torch.testing.assert_close(prediction.boxes_xywh[1], expected[t - 1], rtol=1e-4, atol=1e-2)


def test_scores_that_are_no_numbers_keep_the_box_of_their_row_alone_and_are_reported() -> None:
    track, frames = tracker(), CLIPS["plain"]()
    _, expected = follow(track, frames[:2])
    state = track.init(frames[:1] * 2, START.repeat(2, 1))
    state.filters[0] = float("nan")
    after, prediction = track.step(state, frames[1:2] * 2)
    assert after.flags.tolist()[0] == Flag.NOT_FOUND
    assert torch.equal(prediction.boxes_xywh[0], START[0])
    assert prediction.scores[0].isnan()
    torch.testing.assert_close(prediction.boxes_xywh[1], expected[0], rtol=1e-4, atol=1e-2)


def test_engines_are_refused_in_one_sentence() -> None:
    with pytest.raises(EngineError, match=r"TrDiMPTracker can be neither exported nor computed by an engine.*PyTorch"):
        prepare(tracker(), Inference(engine="onnx"))


@pytest.mark.parametrize("way", ["fused", "autocast"])
def test_bfloat16_finds_the_same_cell_and_nearly_the_same_box(way: str) -> None:
    """By a filter learned on structured pictures: what is solved or counted in pixels stays in float32."""
    exact, frames = tracker(), clip(5, 2, 110, 160)
    half = prepare(exact, Inference(torch.bfloat16)) if way == "fused" else exact
    starts = torch.tensor([[[40.0, 44.0, 38.0, 38.0], [46.0, 38.0, 30.0, 44.0]]])
    found = []
    for track, enabled in ((exact, False), (half, way == "autocast")):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled):
            state = track.init(frames[:1], START)  # type: ignore[attr-defined]
            candidates = track.forward(state, track.crop_search(state, frames[1:])).candidates  # type: ignore[attr-defined]
            maps = candidates.maps
            features = ImageFeatures(maps["fine"], maps["coarse"], maps["classification"])
            boxes, _ = track.network.refine(maps["modulation"], features, starts, 10, 1.0)  # type: ignore[attr-defined]
        assert boxes.dtype == state.filters.dtype == torch.float32
        found.append((candidates.scores, boxes))
    (scores, boxes), (near, near_boxes) = found
    first, second = scores.topk(2).values[0]
    assert (near - scores).abs().max() < (first - second) / 5
    assert (boxes - starts).abs().max() > 5
    assert (near_boxes - boxes).abs().max() < 0.5


def test_memories_and_filters_are_renewed_under_autocast() -> None:
    track, frames = AutocastTracker(tracker(), "cpu", torch.bfloat16), clip(2, 5, 96, 160)
    state = track.init(frames[:1], START)
    for frame in frames[1:]:
        state.flags.fill_(Flag.NORMAL)  # type: ignore[attr-defined]
        state, prediction = track.step(state, [frame])
    assert prediction.boxes_xywh.isfinite().all()
    assert state.memories[0].sums.dtype == torch.float32  # type: ignore[attr-defined]


@pytest.mark.slow
def test_many_frames_without_the_target() -> None:
    track, frames = tracker(), clip(2, 3, 96, 160)
    state = track.init(frames[:1], START)
    nothing = Frame(np.full((96, 160, 3), 127, np.uint8))
    boxes = []
    for _ in range(60):
        state, prediction = track.step(state, [nothing])
        boxes.append(prediction.boxes_xywh[0])
    assert torch.equal(boxes[-1], boxes[-30])
    assert int(state.flags) == Flag.NOT_FOUND


@pytest.mark.slow
def test_frames_leave_nothing_behind() -> None:
    """No tensor is kept per frame, and none grows, before the memory is full and after."""
    track, frames = tracker("TEST.MEMORY.SAMPLE_MEMORY_SIZE=24"), CLIPS["plain"]()
    state, alive, sizes = track.init(frames[:1], START), [], []
    for t in range(32):
        state, _ = track.step(state, [frames[1 + t % 10]])
        if t % 8 == 7:
            gc.collect()
            tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]
            alive.append(len(tensors))
            sizes.append(sum(t.nbytes for t in tensors if t.layout == torch.strided))
            del tensors
    assert int(state.samples.stored) > 24  # type: ignore[union-attr]
    assert max(alive[1:]) <= alive[0] + 4, alive
    assert sizes[-1] <= 1.02 * sizes[1], sizes  # the transformer's memory is full by then


def test_a_memory_below_the_first_frame_s_samples_is_reported() -> None:
    with pytest.raises(ConfigError, match=r"SAMPLE_MEMORY_SIZE 12 must be larger than .* which is 15"):
        experiment("TEST.MEMORY.SAMPLE_MEMORY_SIZE=12")


def test_lasot_has_settings_of_its_own() -> None:
    for script, dropout in (("trdimp", 2), ("slt_trdimp", 0)):
        e = load_experiment(script, script)
        test = e.for_benchmark("lasot").config.test
        assert (test.transformer_skipping, test.augment.dropout) == (0, dropout)
        assert test == load_experiment(script, f"{script}_lasot").config.test.__class__(
            **{**load_experiment(script, f"{script}_lasot").config.test.__dict__, "by_benchmark": test.by_benchmark}
        )
        assert e.for_benchmark("got10k_test").config.test.transformer_skipping == 5


def batch(samples: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(0)
    pictures = [torch.randn(samples, 2, 3, 128, 128, generator=generator) for _ in range(2)]
    boxes = torch.tensor([[0.3, 0.4, 0.2, 0.3], [0.5, 0.2, 0.25, 0.2]])[:samples, None].repeat(1, 2, 1)
    return Batch(*pictures, boxes, boxes, torch.zeros(samples, dtype=torch.int64))


def test_everything_that_is_not_frozen_learns() -> None:
    e = experiment("MODEL.BACKBONE.FROZEN=1")
    net = network(e, training=True).train()
    parameter_groups(net, e.config.train)
    found = TrDiMPObjective(e.config, net)(net, batch(), Progress(1, 2))
    found.total.backward()
    without = {name for name, p in net.named_parameters() if p.grad is None}
    assert all(
        name.startswith(("feature_extractor.conv1", "feature_extractor.bn1", "feature_extractor.layer1"))
        for name in without
    )
    assert {"Loss/total", "Loss/clf", "Loss/init_clf", "Loss/iter_clf", "Loss/bb_ce"} == found.terms.keys()


def test_a_batch_of_one_is_refused() -> None:
    e = experiment("TRAIN.BATCH_SIZE=1")
    with pytest.raises(ConfigError, match=r"BATCH_SIZE 1: TrDiMP needs at least 2 samples per process.*no variance"):
        TrDiMPObjective(e.config, network(e))


def frame_set(seed: int) -> FrameSet:
    frames = clip(seed, 5, 110, 140)
    boxes = np.array([[24.0 + 2 * t, 20.0 + t, 30.0, 30.0] for t in range(5)])
    ids = (0, *range(5))
    return FrameSet((frames[0],), tuple(frames), boxes[:1], boxes, Modality.RGB, "set", str(seed), ids)


def test_roll_outs_learn_what_is_not_frozen() -> None:
    e = experiment(script="slt_trdimp", config="slt_synthetic")
    net = network(e, training=True)
    parameter_groups(net, e.config.train)
    auxiliary = e.method.build_auxiliary(e.config, net)
    assert isinstance(auxiliary, ProposalLoss)
    explorer = e.build_tracker(net).explorer()
    learn = SequenceObjective(explorer, auxiliary, replace(e.config.slt, micro_batch=1))
    parts = learn.split(net, ClipBatch([frame_set(1), frame_set(2)]), Progress(1, 2))
    assert len(parts) == 2
    losses = [learn(net, part, Progress(1, 2)) for part in parts]
    sum(found.total for found in losses).backward()  # type: ignore[union-attr]
    for name, p in net.named_parameters():
        assert (p.grad is None) == name.startswith("bb_regressor"), name
    assert "Loss/policy_iterates" in losses[0].terms


@pytest.mark.slow
def test_clips_that_pass_one_by_one_teach_what_they_teach_together() -> None:
    e = experiment("TRAIN.BB_CE=0", script="slt_trdimp", config="slt_synthetic")
    net = network(e, training=True)
    parameter_groups(net, e.config.train)
    explorer, auxiliary = e.build_tracker(net).explorer(), e.method.build_auxiliary(e.config, net)
    rollout = roll_out(explorer, [frame_set(s) for s in (1, 2, 3)], build_policy(e.config.slt).draw)
    gradients = []
    for one_by_one in (None, 1):
        section = replace(e.config.slt, micro_batch=2, clips_per_pass=one_by_one)
        learn = SequenceObjective(explorer, auxiliary, section)
        parts = learn.parts(rollout, ["a", "b", "c"])
        assert [len(part) for part in parts] == ([1, 1, 1] if one_by_one else [2, 1])
        net.zero_grad()
        for part in parts:
            learn(net, part, Progress(1, 2)).total.backward()
        gradients.append({name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-6)


def test_learning_takes_the_maps_of_frozen_layers_from_exploring() -> None:
    frozen = TINY[0].replace("DEPTHS: [1, 1, 1]", "DEPTHS: [1, 1, 2], FROZEN: 2")
    e = experiment(frozen, script="slt_trdimp", config="slt_synthetic")
    net = network(e, training=True)
    parameter_groups(net, e.config.train)
    explorer, auxiliary = e.build_tracker(net).explorer(), e.method.build_auxiliary(e.config, net)
    learn = SequenceObjective(explorer, auxiliary, e.config.slt, prepare_for_rollout)
    (part,) = learn.split(net, ClipBatch([frame_set(1)]), Progress(1, 2))
    without = replace(part, template=replace(part.template, frozen=None), regions=replace(part.regions, frozen=None))
    calls: list[Any] = []
    net.feature_extractor.get_submodule("layer1").register_forward_hook(lambda *of: calls.append(of))
    gradients = []
    for explored, count in ((part, 0), (without, 2)):
        calls.clear()
        net.zero_grad()
        torch.manual_seed(1)
        learn(net, explored, Progress(1, 2)).total.backward()
        assert len(calls) == count
        gradients.append({name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None})
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_backbone_that_is_computed_again_has_the_same_gradient_and_keeps_two_fifths() -> None:
    deep = "MODEL.BACKBONE={TYPE: resnet, DEPTHS: [1, 1, 6], STRIDES: [1, 2, 2], DILATIONS: [1, 1, 1], WIDTH: 8}"
    gradients: list[dict[str, Tensor]] = []
    kept: list[int] = []

    def keep(saved: Tensor) -> Tensor:
        kept[-1] += 0 if saved.data_ptr() in own else saved.nbytes
        return saved

    for value in ("false", "true"):
        override = f"TRAIN.ACTIVATION_CHECKPOINTING={value}"
        e = experiment(deep, override, script="slt_trdimp", config="slt_synthetic")
        net = network(e, training=True)
        parameter_groups(net, e.config.train)
        own = {p.data_ptr() for p in net.parameters()}
        explorer, auxiliary = e.build_tracker(net).explorer(), e.method.build_auxiliary(e.config, net)
        learn = SequenceObjective(explorer, auxiliary, e.config.slt)
        (part,) = learn.split(net, ClipBatch([frame_set(1)]), Progress(1, 2))
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
            net.feature_extractor(explorer.normalise(part.regions.crops))
        torch.manual_seed(1)
        learn(net, part, Progress(1, 2)).total.backward()
        gradients.append({name: p.grad for name, p in net.named_parameters() if p.grad is not None})
    assert kept[1] < kept[0] / 2.5
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-6)


def test_greedy_halves_agree_whatever_is_explored_next_to_them() -> None:
    e = experiment(script="slt_trdimp", config="slt_synthetic")
    explorer = e.build_tracker(network(e)).explorer()
    clips = [frame_set(1)]
    runs = [roll_out(explorer, clips, lambda logits, c=c: torch.full((len(logits),), c)) for c in (40, 44)]
    assert torch.equal(runs[0].boxes_xywh[0], runs[1].boxes_xywh[0])
    assert not torch.equal(runs[0].boxes_xywh[1], runs[1].boxes_xywh[1])
    drawn = roll_out(explorer, clips, build_policy(e.config.slt).draw)
    assert int(drawn.choices.max()) < 81


def test_an_absent_target_teaches_no_boxes() -> None:
    e = experiment()
    net = network(e)
    track = e.build_tracker(net).explorer()
    frames = CLIPS["plain"]()
    state = track.init(frames[:1] * 2, START.repeat(2, 1))
    with torch.no_grad():
        output = track.forward(state, track.crop_search(state, frames[1:2] * 2))
    loss = ProposalLoss(net, e.config.train)
    there = torch.tensor([[0.4, 0.4, 0.2, 0.2]])
    torch.manual_seed(0)
    nothing = loss(output.candidates, torch.zeros(2, 4))
    assert not nothing.total.detach().any()
    assert loss(output.candidates, torch.cat([there, torch.zeros(1, 4)])).total.detach().any()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("featurefusion_network.decoder.norm.weight", "class_embed.layers.0.weight"), "holds no TrDiMP"),
        (("feature_extractor.conv1.weight", "classifier.filter_optimizer.filter_reg"), "a DiMP, whose filter has no"),
    ],
    ids=["TransT", "DiMP"],
)
def test_files_of_other_trackers_are_reported(names: tuple[str, ...], message: str) -> None:
    e = experiment()
    file = Checkpoint(Path("other.pth"), dict.fromkeys(names, torch.zeros(1)), {}, "published")
    with pytest.raises(WeightsError, match=message):
        e.load_weights(network(e), file)
    with pytest.raises(WeightsError, match=r"neither a ResNet nor|a DiMP, whose"):
        e.load_weights(network(e), file, "pretrained")
