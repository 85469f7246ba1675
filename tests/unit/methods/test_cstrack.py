"""CSTrack: memory and templates as rows of a state, stage 2 from stage 1, files of weights, what is trained."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lib.config import ConfigError, ConfigWarning
from lib.data import Batch, Frame, Normalise
from lib.deploy import AutocastTracker, Inference, fuse_network, prepare
from lib.methods import load_experiment, resolve
from lib.methods.cstrack import CSTrack, CSTrackState, CSTrackTracker, TemplateUpdate
from lib.models import WeightsError, save_release
from lib.models.heads import Candidates
from lib.models.layers import FuseOptions
from lib.models.temporal import inverse_affinity
from lib.objectives import Progress
from lib.paths import load_paths
from lib.track import TrackerOutput
from lib.train import parameter_groups
from tests.unit.methods.invariance import check_candidates, check_that_rows_know_nothing_of_each_other

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TINY = ("MODEL.BACKBONE={TYPE: itpn, EMBED_DIM: 24, DEPTHS: [1, 1, 3], NUM_HEADS: 3, CONV_STEM: false}",)
TINY = (*TINY, "MODEL.HEAD={TYPE: CENTER, NUM_CHANNELS: 16}", "MODEL.MEMORY_TOKENS=5")


def experiment(stage: int, *overrides: str) -> Any:
    return load_experiment(f"cstrack_s{stage}", "synthetic_small", (*TINY, *overrides))


def network(stage: int, *overrides: str, training: bool = False) -> CSTrack:
    """Small, with weights that are nowhere neutral."""
    e = experiment(stage, *overrides)
    torch.manual_seed(1)
    net: CSTrack = e.method.build_network(e.config, training)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.ndim == 1 or "pos_embed" in name or "token" in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return net.eval()


def tracker(stage: int, rule: TemplateUpdate | None = None, *overrides: str) -> CSTrackTracker:
    e = experiment(stage, *overrides)
    track: CSTrackTracker = e.build_tracker(network(stage, *overrides))
    track.update_rule = rule or track.update_rule
    return track


def clip(seed: int, frames: int, height: int, width: int) -> list[Frame]:
    rng = np.random.default_rng(seed)

    def picture() -> np.ndarray:
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)

    return [Frame(picture(), picture()) for _ in range(frames)]


def batch(frames: int, samples: int = 2, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    z, x = (
        Normalise(MEAN, STD)(torch.randint(0, 256, (samples * n, 6, s, s), dtype=torch.uint8, generator=generator))
        for n, s in ((2, 48), (frames, 96))
    )
    boxes = 0.25 + 0.2 * torch.rand(samples, 2 + frames, 4, generator=generator)
    z, x = z.unflatten(0, (samples, 2)), x.unflatten(0, (samples, frames))
    return Batch(z, x, boxes[:, :2], boxes[:, 2:], torch.arange(samples) % 4)


@pytest.mark.parametrize(
    ("stage", "rule"), [(1, TemplateUpdate(2, 0.0)), (2, TemplateUpdate(0)), (2, TemplateUpdate(3, 0.0))]
)
def test_sequences_that_enter_and_leave_get_the_boxes_they_get_alone(stage: int, rule: TemplateUpdate) -> None:
    check_that_rows_know_nothing_of_each_other(tracker(stage, rule), clip)


def test_rows_whose_score_is_high_renew_their_template_and_no_others() -> None:
    clips, start = [clip(s, 4, 90, 120) for s in (1, 2, 3)], torch.tensor([[30.0, 20.0, 25.0, 30.0]]).repeat(3, 1)
    track = tracker(2, TemplateUpdate(3, 0.0))
    state: CSTrackState = track.init([c[0] for c in clips], start)
    for i in (1, 2):
        before = state.template
        state, _ = track.step(state, [c[i] for c in clips])
        assert state.template is before
    state, prediction = track.step(replace(state, steps=torch.tensor([1, 2, 5])), [c[3] for c in clips])
    track.update_rule = TemplateUpdate(3, 0.5)
    found = replace(prediction, scores=torch.tensor([0.9, 0.2, 0.6]))
    at = replace(state, steps=torch.tensor([2, 3, 6]))
    output = TrackerOutput(Candidates(found.scores[:, None], found.boxes_xywh[:, None]))
    frames = [c[2] for c in clips]
    after = track.update(at, frames, track.crop_search(at, frames), output, found)
    changed = (after.template != state.template).flatten(1).any(dim=1)
    assert changed.tolist() == [False, False, True]
    first = state.template.shape[2] // 2
    assert torch.equal(after.template[:, :, :first], state.template[:, :, :first])


def test_a_renewed_template_is_cut_where_the_target_was_found_and_typed_by_both_masks() -> None:
    frames = clip(1, 2, 90, 120)
    track = tracker(1, TemplateUpdate(1, 0.0))
    state: CSTrackState = track.init(frames[:1], torch.tensor([[30.0, 20.0, 25.0, 30.0]]))
    after, prediction = track.step(state, frames[1:])
    region = track.crop_template(frames[1:], prediction.boxes_xywh)
    tokens, foreground_mask = track.encode_template(region)
    assert state.foreground_mask is not None
    plain = track.network.backbone.embed(track.normalise(region.crops))
    wanted = track.network.type_template(plain, torch.stack([state.foreground_mask, foreground_mask], dim=1))
    half = tokens.shape[2] // 2
    torch.testing.assert_close(after.template[:, :, half:], wanted)
    assert not torch.allclose(tokens[:, :, half:], wanted)


def test_the_first_frame_fills_the_memory_and_the_oldest_but_one_goes() -> None:
    frames = clip(1, 7, 90, 120)
    track = tracker(2)
    state: CSTrackState = track.init(frames[:1], torch.tensor([[30.0, 20.0, 25.0, 30.0]]))
    memories = []
    for frame in frames[1:]:
        state, _ = track.step(state, [frame])
        assert state.memory is not None
        memories.append(state.memory[0])
    assert all(torch.equal(memories[0][0], memories[0][i]) for i in (1, 2, 3))
    for older, newer in itertools.pairwise(memories):
        assert torch.equal(newer[0], older[0])
        assert torch.equal(newer[1:3], older[2:])
        assert not torch.equal(newer[3], older[3])


def test_the_memory_decides() -> None:
    frames = clip(1, 3, 90, 120)
    track = tracker(2)
    state: CSTrackState = track.init(frames[:1], torch.tensor([[30.0, 20.0, 25.0, 30.0]]))
    state, _ = track.step(state, frames[1:2])
    assert state.memory is not None
    other = replace(state, memory=state.memory.flip(2) + 1.0)
    responses = [track.step(s, frames[2:])[1].windowed_scores for s in (state, other)]
    assert not torch.allclose(*responses, rtol=1e-3)


def test_a_frame_without_second_picture_shows_its_first_one_twice() -> None:
    frames = clip(1, 2, 90, 120)
    track, start = tracker(2), torch.tensor([[30.0, 20.0, 25.0, 30.0]])
    found = []
    for pair in ([Frame(f.rgb) for f in frames], [Frame(f.rgb, f.rgb) for f in frames]):
        _, prediction = track.step(track.init(pair[:1], start), pair[1:])
        found.append(prediction.boxes_xywh)
    assert torch.equal(*found)


def test_updates_depend_on_the_benchmark() -> None:
    e = load_experiment("cstrack_s2", "cstrack_s2")
    with torch.device("meta"):
        net = e.method.build_network(e.config, False)

    def rule(name: str | None) -> TemplateUpdate:
        track: CSTrackTracker = e.build_tracker(net, name)
        return track.update_rule

    assert [rule(name).threshold for name in ("lasher", "rgbt234", "visevent", "depthtrack", "lasot", None)] == [
        0.45,
        0.45,
        0.7,
        0.7,
        0.7,
        0.7,
    ]
    assert rule("lasher").interval == 25


@pytest.mark.parametrize(("samples", "pack"), [(1, True), (3, False)])
@pytest.mark.parametrize(("stage", "stem"), [(1, "true"), (2, "true"), (2, "false")])
@torch.no_grad()
def test_a_prepared_network_gives_the_same_maps(stage: int, stem: str, samples: int, pack: bool) -> None:
    net, normalise = network(stage, f"MODEL.BACKBONE.CONV_STEM={stem}"), Normalise(MEAN, STD)
    generator = torch.Generator().manual_seed(2)
    template, search = (
        torch.randint(0, 256, (samples, 6, s, s), dtype=torch.uint8, generator=generator) for s in (48, 96)
    )
    foreground_mask = torch.rand(samples, 2, 36, generator=generator)
    typed = net.encode_templates(normalise(template)[:, None].repeat(1, 2, 1, 1, 1), foreground_mask)
    expected = [net.locate(typed, normalise(search))]
    again = expected[0].memory
    expected += [net.locate(typed, normalise(search), again)] if stage == 2 else []
    for plan in (FuseOptions(pixels=normalise, pack=pack, grid=12), FuseOptions(pack=pack)):
        quick = fuse_network(net, plan)
        z, x = (template, search) if plan.pixels else (normalise(template), normalise(search))
        tokens = quick.backbone.embed(z)
        types = [quick.type_template(tokens, foreground_mask[:, : i + 1]) for i in range(2)]
        found = [quick.locate(torch.cat(types, dim=2), x)]
        found += [quick.locate(torch.cat(types, dim=2), x, again)] if stage == 2 else []
        for ours, theirs in zip(found, expected, strict=True):
            check_candidates(ours.candidates, theirs.candidates)


def test_a_tracker_in_half_precision_goes_on_for_a_whole_clip() -> None:
    frames = clip(1, 6, 90, 120)
    track, start = tracker(2, TemplateUpdate(2, 0.0)), torch.tensor([[30.0, 20.0, 25.0, 30.0]])
    track = prepare(track, Inference(torch.bfloat16))
    state = track.init(frames[:1], start)
    for frame in frames[1:]:
        state, prediction = track.step(state, [frame])
        assert torch.isfinite(prediction.boxes_xywh).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_tokens_to_remember_are_chosen_in_full_precision(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 393, 512, generator=generator) + torch.randn(512, generator=generator)
    expected = inverse_affinity(tokens[:, -256:], tokens[:, :-256])
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(inverse_affinity(tokens[:, -256:], tokens[:, :-256]), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rows_of_any_age_go_on_together_under_autocast(dtype: torch.dtype) -> None:
    frames, start = clip(1, 4, 90, 120), torch.tensor([[30.0, 20.0, 25.0, 30.0]])
    track = AutocastTracker(tracker(2, TemplateUpdate(2, 0.0)), "cpu", dtype)
    older, _ = track.step(track.init(frames[:1], start), frames[1:2])
    state: Any = CSTrackState.cat([older, track.init(frames[1:2], start)])
    for frame in frames[2:]:
        state, prediction = track.step(state, [frame, frame])
        assert torch.isfinite(state.memory).all()
        assert torch.isfinite(prediction.boxes_xywh).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_stage_2_learns_in_half_precision(dtype: torch.dtype) -> None:
    e, net = experiment(2), network(2, training=True)
    parameter_groups(net, e.config.train)
    with torch.autocast("cpu", dtype=dtype):
        losses = e.method.build_objective(e.config, net)(net.train(), batch(3), Progress(1, 2))
    losses.total.backward()
    gradients = {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
    assert {"rgb_prompts.weight", "temporal_fusion.layers.0.linear1.weight"} <= gradients.keys()
    assert all(torch.isfinite(g).all() for g in gradients.values())


@pytest.mark.parametrize(("stage", "frames"), [(1, 1), (2, 3)])
def test_checkpointed_activations_change_no_gradient(stage: int, frames: int) -> None:
    data, found = batch(frames), []
    for switch in ("false", "true"):
        settings = (f"TRAIN.ACTIVATION_CHECKPOINTING={switch}", "TRAIN.DROP_PATH_RATE=0.3")
        e = experiment(stage, *settings)
        net = network(stage, *settings, training=True)
        parameter_groups(net, e.config.train)
        torch.manual_seed(3)
        losses = e.method.build_objective(e.config, net)(net.train(), data, Progress(1, 2))
        losses.total.backward()
        found.append({n: p.grad for n, p in net.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_stage_2_trains_what_is_not_backbone_or_spatial_module() -> None:
    e, net = experiment(2), network(2, training=True)
    groups = parameter_groups(net, e.config.train)
    assert len(groups) == 1
    assert not any("backbone" in name for name in groups[0]["names"])
    losses = e.method.build_objective(e.config, net)(net.train(), batch(3), Progress(1, 2))
    losses.total.backward()
    learned = {n for n, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    # Prompts lie below frozen layers, which the gradient must pass.
    assert {"rgb_prompts.weight", "cls_prompts_pos.weight", "dy_template_pos_embed.weight"} <= learned
    assert learned == set(groups[0]["names"])
    assert {"Loss/task", "Loss/confidence", "Loss/giou", "Loss/l1", "Loss/location", "IoU"} <= losses.terms.keys()


def test_frames_of_a_clip_learn_from_earlier_ones() -> None:
    net, data = network(2, training=True), batch(2)
    objective = experiment(2).method.build_objective(experiment(2).config, net)
    search = data.search.clone().requires_grad_()
    output = net(data.template, search, objective.foreground_masks(data.template_boxes))
    output.candidates.scores[len(data) :].sum().backward()
    assert search.grad is not None
    assert search.grad[:, 0].abs().sum() > 0


def stage_1_file(folder: Path, **metadata: Any) -> tuple[Path, dict[str, Tensor]]:
    state = network(1).state_dict()
    torch.save({"net": state, "epoch": 180, "net_type": "CSTRACK_S1", **metadata}, folder / "CSTRACK_S1_ep0180.pth.tar")
    return folder / "CSTRACK_S1_ep0180.pth.tar", state


def load(stage: int, file: Path, *overrides: str) -> CSTrack:
    e, net = experiment(stage, *overrides), network(stage, *overrides)
    e.load_weights(net, file, "earlier" if stage == 2 else "trained")
    return net


@pytest.mark.parametrize(
    ("choice", "published", "ours", "converted"),
    [
        ("auto", "position", "trained", "position"),
        ("trained", "trained", "trained", "trained"),
        ("position", "position", "position", "position"),
    ],
)
def test_the_class_token_of_published_files_is_the_position_code(
    tmp_path: Path, choice: str, published: str, ours: str, converted: str
) -> None:
    file, state = stage_1_file(tmp_path)
    tokens = {"trained": state["backbone.cls_token"], "position": state["backbone.pos_embed"][:, :1]}
    release = save_release(tmp_path / "ours", state, {})
    again = save_release(tmp_path / "converted", state, {"converted_from": file.name})
    for stage in (1, 2):
        e = experiment(stage, f"MODEL.CLASS_TOKEN={choice}")
        net = e.method.build_network(e.config, False)
        for path, kind in ((file, published), (release, ours), (again, converted)):
            e.load_weights(net, path, "earlier" if stage == 2 else "trained")
            assert torch.equal(net.backbone.cls_token, tokens[kind]), (path.name, kind)


SYNTHETIC = (
    "DATA.TRAIN={DATASETS_NAME: ['SYNTHETIC:rgbt,sequences=1,length=30,width=96,height=96'], DATASETS_RATIO: [1], "
    "SAMPLE_PER_EPOCH: 8}",
    "TRAIN.NUM_WORKER=0",
    "TRAIN.BATCH_SIZE=2",
)


@pytest.mark.parametrize("key", ["INIT.CHECKPOINT", "MODEL.PRETRAINED_PATH"])
def test_stage_2_begins_with_all_that_stage_1_learned(tmp_path: Path, key: str) -> None:
    file, state = stage_1_file(tmp_path)
    recipe = resolve(experiment(2, f"{key}={file}", *SYNTHETIC), load_paths(save_dir=tmp_path))
    assert f"INIT): {file.name}" in recipe.notes["initial"]
    assert "fresh (" in recipe.notes["initial"]
    own = recipe.network.state_dict()
    assert all(torch.equal(own[k], v) for k, v in state.items() if k != "backbone.cls_token")


def test_a_missing_stage_1_is_an_error_before_anything_is_built(tmp_path: Path) -> None:
    paths = load_paths(save_dir=tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"no weights for cstrack_s1 cstrack_s1.*name a file with INIT.CHECKPOINT"
    ):
        resolve(load_experiment("cstrack_s2", "cstrack_s2"), paths)
    with pytest.raises(FileNotFoundError, match=r"INIT.CHECKPOINT none\.pth\.tar: no such file"):
        resolve(experiment(2, "MODEL.PRETRAINED_PATH=none.pth.tar"), paths)


def test_pre_trained_weights_fill_the_backbone(tmp_path: Path) -> None:
    net = network(1)
    torch.manual_seed(5)
    names = [n for n in net.backbone.state_dict() if not n.startswith(("token_type", "pos_embed", "cls_token"))]
    own = net.backbone.state_dict()
    state = {n: torch.randn_like(own[n]) for n in names}
    position, decoder = torch.randn(1, 196, 24), {"decoder.weight": torch.zeros(3), "mask_token": torch.zeros(1, 1, 24)}
    extra = {"pos_embed": position, "cls_token": torch.zeros(1, 1, 24), **decoder}
    torch.save({"module": {**state, **extra}}, tmp_path / "fast_itpn.pt")
    report = experiment(1).load_weights(net, tmp_path / "fast_itpn.pt", "pretrained")
    assert report.unused == ("decoder.weight", "mask_token")
    assert all(not n.startswith("backbone.") or "token_type" in n for n in report.fresh)
    own = net.backbone.state_dict()
    assert all(torch.equal(own[n], v) for n, v in state.items())
    torch.testing.assert_close(own["cls_token"], position.mean(dim=1, keepdim=True))
    torch.testing.assert_close(own["pos_embed"][:, 1:], position)
    assert torch.equal(own["pos_embed_z"][:, :36], own["pos_embed_z"][:, 36:])
    torch.save({"net": {"conv.weight": position}}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"other\.pt: no pos_embed in it"):
        experiment(1).load_weights(net, tmp_path / "other.pt", "pretrained")
    whole, _ = stage_1_file(tmp_path)
    assert not experiment(1).load_weights(net, whole, "pretrained").fresh


@torch.no_grad()
def test_templates_that_stay_cost_nothing() -> None:
    """Per frame: the search region through the stem, once for both modalities."""
    net = network(1)
    calls = []
    net.backbone.patch_embed.register_forward_hook(lambda _m, inputs, _o: calls.append(inputs[0].shape))
    track = CSTrackTracker(net, tracker(1).settings, TemplateUpdate(2, 0.0))
    frames = clip(1, 4, 90, 120)
    state: Any = track.init(frames[:1], torch.tensor([[30.0, 20.0, 25.0, 30.0]]))
    for frame in frames[1:]:
        state, _ = track.step(state, [frame])
    shapes = [tuple(s) for s in calls]
    template, search = (2, 3, 48, 48), (2, 3, 96, 96)
    assert shapes == [template, search, search, template, search]


PUBLISHED = """
DATA:
  MAX_SAMPLE_INTERVAL: 400
  MEAN: [0.485, 0.456, 0.406]
  SEARCH: {CENTER_JITTER: 3.5, FACTOR: 4.0, SCALE_JITTER: 0.5, SIZE: 256, NUMBER: 6}
  STD: [0.229, 0.224, 0.225]
  TEMPLATE: {CENTER_JITTER: 0, FACTOR: 2.0, SCALE_JITTER: 0, SIZE: 128, NUMBER: 2}
  TRAIN:
    DATASETS_NAME: [LASOT, GOT10K_vottrain, TRACKINGNET, VastTrack, TNL2K_train, COCO17, LasHeR_train, DepthTrack_train,
      VisEvent]
    DATASETS_RATIO: [2, 2, 2, 2, 2, 2, 1, 1, 1]
    SAMPLE_PER_EPOCH: 30000
MODEL:
  PRETRAIN_FILE: fast_itpn_base_clipl_e1600.pt
  PRETRAINED_PATH: CSTRACK_S1_ep0180.pth.tar
  HIDDEN_DIM: 512
  BACKBONE: {TYPE: itpn_base, STRIDE: 16}
  HEAD: {TYPE: CENTER, NUM_CHANNELS: 256}
TRAIN:
  BACKBONE_MULTIPLIER: 0.1
  DROP_PATH_RATE: 0.1
  BATCH_SIZE: 10
  EPOCH: 50
  GIOU_WEIGHT: 2.0
  L1_WEIGHT: 5.0
  GRAD_CLIP_NORM: 0.1
  LR: 0.0001
  LR_DROP_EPOCH: 40
  NUM_WORKER: 8
  OPTIMIZER: ADAMW
  PRINT_INTERVAL: 50
  SCHEDULER: {TYPE: step, DECAY_RATE: 0.1}
  WEIGHT_DECAY: 0.0001
  AMP: False
  FIX_BN: true
TEST:
  EPOCH: 50
  SEARCH_FACTOR: 4.0
  SEARCH_SIZE: 256
  TEMPLATE_FACTOR: 2.0
  TEMPLATE_SIZE: 128
  WINDOW: true
  NUM_TEMPLATES: 2
  UPDATE_INTERVALS: {DEFAULT: 25}
  UPDATE_THRESHOLD: {DEFAULT: 0.475}
"""


def test_a_file_as_published_means_what_ours_means(tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text(PUBLISHED)
    with pytest.warns(ConfigWarning) as warned:
        experiment = load_experiment("cstrack_s2", str(tmp_path / "theirs.yaml"))
    keys = [str(w.message).partition(": ")[2].partition(" has no effect")[0] for w in warned]
    assert keys == ["TRAIN.FIX_BN", "TEST.UPDATE_INTERVALS", "TEST.UPDATE_THRESHOLD"]
    notes = "; ".join(experiment.notes)
    assert "LasHeR_train means LasHeR_train:882" in notes
    assert "MODEL.PRETRAINED_PATH CSTRACK_S1_ep0180.pth.tar is read as INIT.CHECKPOINT" in notes
    theirs = experiment.config
    ours = load_experiment("cstrack_s2", "cstrack_s2").config
    assert theirs.data == ours.data
    assert theirs.train == ours.train
    assert theirs.test == ours.test
    assert not theirs.train.fix_bn
    assert theirs.model.temporal
    assert theirs.model.backbone.args == ours.model.backbone.args
    assert theirs.init.checkpoint == "CSTRACK_S1_ep0180.pth.tar"


def test_published_spellings_are_read_as_other_keys() -> None:
    by_benchmark = "TEST.UPDATE={DEFAULT: {INTERVAL: 7}, LASOT: {THRESHOLD: 0.1}}"
    e = experiment(1, "TRAIN.FREEZE_BN=true", "TRAIN.ENCODER_MULTIPLIER=0.3", by_benchmark)
    assert (e.config.train.fix_bn, e.config.train.backbone_multiplier) == (True, 0.3)
    assert e.config.test.update == TemplateUpdate(7, 0.7)
    assert e.for_benchmark("lasot").config.test.update == TemplateUpdate(7, 0.1)
    assert len(e.notes) == 3


def test_keys_without_effect_are_warned_of_and_never_obeyed() -> None:
    with pytest.warns(ConfigWarning, match=r"override 'TRAIN\.FIX_BN=true': TRAIN\.FIX_BN has no effect: batch norms"):
        e = experiment(1, "TRAIN.FIX_BN=true")
    assert not e.config.train.fix_bn
    assert any("TRAIN.FIX_BN" in note for note in e.notes)
    with pytest.raises(ConfigError, match=r"TEST\.NUM_TEMPLATES 3 is not supported"):
        experiment(1, "TEST.NUM_TEMPLATES=3")


def test_what_does_not_fit_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"TEMPLATE\.NUMBER must be 2"):
        experiment(1, "DATA.TEMPLATE.NUMBER=1")
    with pytest.raises(ConfigError, match=r"MODEL\.HIDDEN_DIM is 512, but the backbone's tokens are 24 wide"):
        network(1, "MODEL.HIDDEN_DIM=512")
    with pytest.raises(ConfigError, match=r"INIT: needs a CHECKPOINT, or a SCRIPT and its CONFIG"):
        experiment(1, "INIT={SCRIPT: cstrack_s1}")
    with pytest.raises(ConfigError, match=r"INIT must say where stage 1 left it"):
        experiment(1, "MODEL.TEMPORAL=true")
    with pytest.raises(ConfigError, match=r"INIT\.CHECKPOINT other\.pt name different files"):
        experiment(2, "MODEL.PRETRAINED_PATH=one.pt", "INIT.CHECKPOINT=other.pt")
    assert experiment(1, "MODEL.TEMPORAL=true", "TRAIN.PARAM_GROUPS=[{PATTERN: .*}]").config.init is None
