"""GDSTrack: rows of a batch, quick forms, what a phase trains, published and pre-trained files, boxes, noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lib.config import ConfigError
from lib.data import Batch, Frame, FrameSet, Modality
from lib.deploy import Inference, fuse_network, prepare
from lib.methods import load_experiment
from lib.methods.gdstrack import GDSTrack, GDSTrackObjective, GDSTrackTracker
from lib.models import Checkpoint, WeightsError
from lib.models.backbones import MAT_PREFIX, AutoencoderOptions, MaskedAutoencoder, resize_table
from lib.models.fusion import Diffusion, cosine_schedule, rank
from lib.models.heads import Candidates
from lib.models.layers import FuseOptions
from lib.objectives import Progress, SoftmaxPolicy
from lib.track import roll_out
from lib.train import parameter_groups, phases_of
from lib.train.optim import set_train_mode
from tests.unit.methods.invariance import (
    check_candidates,
    check_that_rows_know_nothing_of_each_other,
    leave_nothing_neutral,
)

TINY = (
    "MODEL.PRETRAIN_FILE=''",
    "MODEL.BACKBONE={TYPE: vit, EMBED_DIM: 24, DEPTH: 2, NUM_HEADS: 3, STRIDE: 16}",
    "MODEL.FUSION.HIDDEN_DIM=16",
    "MODEL.FUSION.GRAPH_DIM=8",
    "MODEL.FUSION.ADJACENCY_DIM=16",
    "MODEL.FUSION.NEIGHBOURS=8",
    "MODEL.FUSION.HEAD_CHANNELS=16",
    "MODEL.FUSION.UNET={MULTIPLIERS: [1, 1.5, 2], RES_BLOCKS: 1, ATTENTION_SCALE: 1, GROUPS: 8}",
    "DATA.SEARCH.SIZE=64",
    "DATA.TEMPLATE.SIZE=32",
    "TEST.SEARCH_SIZE=64",
    "TEST.TEMPLATE_SIZE=32",
)
STAGE1A, STAGE1B, STAGE2 = range(3)


def experiment(*overrides: str) -> Any:
    return load_experiment("translate_track", "LasHeR_supervised", (*TINY, *overrides))


def test_a_target_beyond_the_crop_is_compared_as_it_is() -> None:
    criterion = GDSTrackObjective(experiment().config, torch.nn.Identity()).criterion
    found = Candidates(torch.ones(1, 1), torch.tensor([[[1.0, 0.5, 1.0, 0.6]]]))
    losses = criterion(found, torch.tensor([[0.5, 0.2, 1.0, 0.6]]))
    torch.testing.assert_close(losses.terms["IoU"], torch.tensor(1.0))


def network(*overrides: str) -> GDSTrack:
    """Small, with weights that are nowhere neutral and corners that are somewhere."""
    e = experiment(*overrides)
    torch.manual_seed(1)
    net: GDSTrack = e.method.build_network(e.config, False)
    with torch.no_grad():
        leave_nothing_neutral(net)
        for name, parameter in net.named_parameters():
            if "conv5" in name:
                parameter.mul_(3)
    return net.eval()


def tracker(*overrides: str) -> GDSTrackTracker:
    track: GDSTrackTracker = experiment(*overrides).build_tracker(network(*overrides))
    return track


def clip(seed: int, frames: int, height: int, width: int) -> list[Frame]:
    rng = np.random.default_rng(seed)
    pairs = (rng.integers(0, 256, (2, height, width, 3), dtype=np.uint8) for _ in range(frames))
    return [Frame(rgb, aux) for rgb, aux in pairs]


def batch(samples: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(samples)
    template, search = (torch.randn(samples, n, 6, s, s, generator=generator) for n, s in ((1, 32), (2, 64)))
    boxes = torch.tensor([[[0.3, 0.4, 0.2, 0.3], [0.5, 0.2, 0.25, 0.2]]]).repeat(samples, 1, 1)
    return Batch(template, search, boxes[:, :1], boxes, torch.zeros(samples, dtype=torch.int64))


@pytest.mark.slow
@pytest.mark.parametrize(("samples", "prepared"), [(1, True), (3, False)])
def test_rows_of_a_batch_know_nothing_of_each_other(samples: int, prepared: bool) -> None:
    """Noise, too: rows that enter later draw the numbers of their own first frames."""
    track = tracker(f"TEST.SAMPLE={samples}")
    check_that_rows_know_nothing_of_each_other(prepare(track) if prepared else track, clip)  # type: ignore[arg-type]


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_the_quick_form_gives_the_same(stage: str) -> None:
    net = network(f"MODEL.STAGE={stage}")
    quick = fuse_network(net, FuseOptions(grid=4))
    given = batch()
    noise = (torch.randn(2, *net.noise_shape),) if net.noise_shape else ()
    with torch.no_grad():
        expected = net.locate(net.encode_template(given.template[:, 0]), given.search[:, 0], *noise)
        found = quick.locate(quick.encode_template(given.template[:, 0]), given.search[:, 0], *noise)
    for head, other in zip(found.heads, expected.heads, strict=True):
        check_candidates(head, other)
    check_candidates(found.candidates, expected.candidates)


def test_joined_projections_choose_nearly_the_same_neighbours() -> None:
    part = network().generate_adjacency
    tokens = torch.randn(2, 32, 24)
    joined = part.fuse_for_inference(FuseOptions(torch.bfloat16, pack=False))  # type: ignore[operator]
    assert (joined(tokens) != part(tokens)).float().mean() < 0.002


def test_a_token_like_no_other_chooses_by_similarity_alone() -> None:
    product = torch.tensor([[[-4.0, -6.0, -5.0], [3.0, 1.0, 2.0], [0.0, 9.0, 1.0]]])
    ranking = rank(product, torch.zeros_like(product), 0.5)
    assert ranking.isfinite().all()
    assert ranking[0, 0].argsort(descending=True).tolist() == [0, 2, 1]


def test_the_surer_head_gives_the_box() -> None:
    net, given = network(), batch(6)
    with torch.no_grad():
        found = net.locate(
            net.encode_template(given.template[:, 0]), given.search[:, 0], torch.randn(6, *net.noise_shape)
        )
    graph, diffused = found.heads
    for i in range(6):
        best = graph if graph.scores[i, 0] > diffused.scores[i, 0] else diffused
        torch.testing.assert_close(found.candidates.boxes[i], best.boxes[i])
        torch.testing.assert_close(found.candidates.maps["corners"][i], best.maps["corners"][i])
    first, second = graph.maps["corners"].unbind(1)
    torch.testing.assert_close(graph.scores[:, 0], first.amax(1) * second.amax(1))


@pytest.mark.parametrize("head", ["head", "head_diffuse"])
def test_a_head_that_is_no_number_is_not_left_out(head: str) -> None:
    net, given = network(), batch(2)
    with torch.no_grad():
        for parameter in net.get_submodule(head).parameters():
            parameter.fill_(torch.nan)
        template = net.encode_template(given.template[:, 0])
        found = net.locate(template, given.search[:, 0], torch.randn(2, *net.noise_shape))
    assert found.candidates.scores.isnan().all()


def entered(net: GDSTrack, phase: int, *overrides: str) -> tuple[GDSTrackObjective, set[str]]:
    """The objective and the names that a phase trains; the network is as the loop has it in this phase."""
    config = experiment(*overrides).config
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    net.generate_adjacency.requires_grad_(False)
    spec = phases_of(config.train)[phase]
    names = {name for group in parameter_groups(net, spec.train) for name in group["names"]}
    objective = GDSTrackObjective(config, net)
    set_train_mode(net, objective, spec.train.fix_bn, spec.eval_modules)
    return objective, names


@pytest.mark.parametrize("phase", [STAGE1A, STAGE1B, STAGE2])
def test_a_phase_trains_what_it_names_and_nothing_else(phase: int) -> None:
    net = network()
    objective, names = entered(net, phase)
    objective(net, batch(), Progress(1, 3)).total.backward()
    assert {name for name, p in net.named_parameters() if p.grad is not None} == names
    tops = {name.partition(".")[0] for name in names}
    graph, diffusion = {"GAT_Branch", "projector1", "head"}, {"projector2", "lddiffuse_x", "head_diffuse"}
    assert tops == (graph, graph | {"backbone"}, diffusion)[phase]


def test_each_stage_learns_from_its_own_frame() -> None:
    """Stage 1 from the first search frame; stage 2 finds the target in the second."""
    net, given = network(), batch()
    other = replace(given, search=torch.stack([given.search[:, 0], torch.randn_like(given.search[:, 1])], dim=1))
    objective, _ = entered(net, STAGE1A)
    net.eval()
    assert torch.equal(objective(net, given, Progress(1, 3)).total, objective(net, other, Progress(1, 3)).total)
    objective, _ = entered(net, STAGE2)
    net.eval()
    torch.manual_seed(3)
    found = objective(net, given, Progress(3, 3))
    torch.manual_seed(3)
    assert not torch.equal(found.total, objective(net, other, Progress(3, 3)).total)
    assert torch.isfinite(found.terms["Loss/diffusion"])


def test_stage_1_encodes_one_frame_and_frozen_parts_leave_no_graph() -> None:
    net, given = network(), batch()
    rows: list[int] = []
    outputs: list[Tensor] = []
    net.backbone.blocks[0].register_forward_hook(lambda _m, args, _out: rows.append(len(args[0])))
    net.generate_adjacency.register_forward_pre_hook(lambda _m, args: outputs.append(args[0]))
    for phase in (STAGE1A, STAGE1B, STAGE2):
        objective, _ = entered(net, phase)
        objective(net, given, Progress(1, 3))
    assert rows == [4, 4, 8], "rows of both streams"
    assert [tokens.requires_grad for tokens in outputs] == [False, True, False]


@pytest.mark.parametrize("freeze", [False, True])
def test_running_averages_of_the_frozen_head(freeze: bool) -> None:
    overrides = (f"TRAIN.FREEZE_BN={freeze}",)
    net = network()
    before = {name: b.clone() for name, b in net.named_buffers()}
    objective, _ = entered(net, STAGE2, *overrides)
    assert net.GAT_Branch.training == net.head.training == (not freeze)
    objective(net, batch(), Progress(3, 3))
    moved = {name.partition(".")[0] for name, b in net.named_buffers() if not torch.equal(b, before[name])}
    assert moved == ({"head_diffuse"} if freeze else {"head", "head_diffuse"})


def published(net: GDSTrack) -> dict[str, Tensor]:
    """A file of this network with all that published ones hold."""
    state = {name: value.clone() for name, value in net.state_dict().items()}
    for name in ("pos_embed", "z_pos_embed", "cls_token", "norm.weight", "norm.bias"):
        first, dot, rest = name.partition(".")
        state[f"backbone.{first}_x{dot}{rest}"] = state[f"backbone.{name}"]
    state |= {f"lddiffuse_x.{name}": value for name, value in cosine_schedule().items()}
    state |= {f"{head}.coord_{axis}": torch.zeros(16) for head in ("head", "head_diffuse") for axis in "xy"}
    return state | {f"pytorch_{name}": torch.zeros(1, 3, 1, 1) for name in ("mean", "std")}


def test_published_files_load_strictly() -> None:
    e, net, twin = experiment(), network(), network()
    state = published(net)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    report = e.load_weights(twin, Checkpoint(Path("a.pth"), state, {}, "plain"))
    assert not report.missing
    found = twin.state_dict()
    assert all(torch.equal(v, found[k]) for k, v in net.state_dict().items())
    state["lddiffuse_x.betas"] = state["lddiffuse_x.betas"] * 2
    with pytest.raises(WeightsError, match=r"lddiffuse_x\.betas is not that of a cosine schedule"):
        e.load_weights(twin, Checkpoint(Path("a.pth"), state, {}, "plain"))
    with pytest.raises(WeightsError, match=r"1 missing from the file: projector2\.bias"):
        e.load_weights(
            twin,
            Checkpoint(Path("a.pth"), {k: v for k, v in published(net).items() if k != "projector2.bias"}, {}, "plain"),
        )


def test_a_file_of_stage_1_begins_stage_2() -> None:
    e, first = experiment(), network("MODEL.STAGE=stage1")
    checkpoint = Checkpoint(Path("a.pth"), dict(first.state_dict()), {}, "plain")
    for role in ("earlier", "pretrained"):
        second = network()
        e.load_weights(second, checkpoint, role)
        found = second.state_dict()
        assert all(torch.equal(value, found[name]) for name, value in first.state_dict().items())


def autoencoder(**sizes: int) -> Checkpoint:
    """A pre-training of this encoder's size on smaller pictures."""
    given = {"embed_dim": 24, "depth": 2, "num_heads": 3, "stride": 16, "template_size": 48, "search_size": 80, **sizes}
    net = MaskedAutoencoder(AutoencoderOptions(**given, decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2))
    state = {MAT_PREFIX + name: torch.randn_like(v) for name, v in net.state_dict().items()}
    return Checkpoint(Path("mat.pth"), state, {}, "plain")


def test_a_pre_trained_encoder_fills_both_streams() -> None:
    e, net, given = experiment(), network(), autoencoder()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    e.load_weights(net, given, "pretrained")
    found = {n.removeprefix("backbone."): v for n, v in net.state_dict().items() if n.startswith("backbone.")}
    file = {name.removeprefix(MAT_PREFIX): v for name, v in given.state_dict.items()}
    for name in ("cls_token", "patch_embed.proj.weight", "z_patch_embed.proj.bias", "norm.weight"):
        first, dot, rest = name.partition(".")
        assert torch.equal(found[name], file[name])
        assert torch.equal(found[f"{first}_p{dot}{rest}"], file[name])
    assert torch.equal(found["blocks.1.mlp.fc2.weight"], file["blocks.1.mlp.fc2.weight"])
    assert torch.equal(found["pos_embed"], resize_table(file["pos_embed"], 4, prefix=1))
    after = net.state_dict()
    kept = [name for name, value in before.items() if torch.equal(value, after[name])]
    assert {n for n in kept if n.startswith("backbone.")} == {"backbone.pos_embed_p", "backbone.z_pos_embed_p"}
    assert len(kept) == 2 + sum(not name.startswith("backbone.") for name in before)


def test_files_of_other_methods_and_sizes_are_refused() -> None:
    e, net = experiment(), network()
    with pytest.raises(WeightsError, match=r"mat\.pth.*of another shape: backbone\.") as error:
        e.load_weights(net, autoencoder(embed_dim=12), "pretrained")
    assert "(file (12,), network (24,))" in str(error.value)
    mae = {name.removeprefix(MAT_PREFIX): v for name, v in autoencoder().state_dict.items() if "z_" not in name}
    with pytest.raises(WeightsError, match=r"mae\.pth: neither weights of masked appearance transfer nor those of"):
        e.load_weights(net, Checkpoint(Path("mae.pth"), mae, {}, "plain"), "pretrained")


def test_an_inverted_box_is_given_as_published_and_the_next_crop_keeps_its_size() -> None:
    track = tracker()
    frames = clip(1, 2, 200, 300)
    state = track.init(frames[:1], torch.tensor([[100.0, 80.0, 40.0, 30.0]], dtype=torch.float64))
    sides, sizes_hw = (
        torch.full((1, 2), 100.0, dtype=torch.float64),
        torch.tensor([[200.0, 300.0]], dtype=torch.float64),
    )
    local = torch.tensor([[0.5, 0.5, 0.3, 0.2]], dtype=torch.float64)
    state, boxes = track.move(state, local, sides, sizes_hw)
    assert boxes.tolist() == [[105.0, 85.0, 30.0, 20.0]]
    assert state.crop_boxes().tolist() == [[104.5, 84.5, 31.0, 21.0]]
    swapped = torch.tensor([[0.5, 0.6, -0.1, 0.2]], dtype=torch.float64)
    state, boxes = track.move(state, swapped, sides, sizes_hw)
    assert boxes.tolist() == [[125.0, 95.0, 10.0, 20.0]]
    assert state.boxes_xywh.tolist() == [[125.0, 95.0, -10.0, 20.0]]
    assert state.crop_boxes().tolist() == [[104.5, 94.5, 31.0, 21.0]], "the centre stays"
    state, _ = track.move(state, swapped, sides, sizes_hw)
    assert state.crop_boxes()[:, 2:].tolist() == [[31.0, 21.0]]
    track.step(state, frames[1:])


def test_a_box_that_covers_the_image_becomes_the_first_one() -> None:
    track = tracker()
    state = track.init(clip(1, 1, 90, 120), torch.tensor([[50.0, 30.0, 41.0, 31.0]], dtype=torch.float64))
    sides, sizes_hw = torch.full((1, 2), 400.0, dtype=torch.float64), torch.tensor([[90.0, 120.0]], dtype=torch.float64)
    after, boxes = track.move(state, torch.tensor([[0.5, 0.5, 1.0, 1.0]], dtype=torch.float64), sides, sizes_hw)
    assert boxes.tolist() == after.boxes_xywh.tolist() == [[40.0, 30.0, 40.0, 30.0]]
    assert after.positions.tolist() == state.positions.tolist()


def test_noise_belongs_to_the_sequence_and_the_frame() -> None:
    track = tracker()
    frames = clip(1, 3, 90, 120)
    asked: list[tuple[list[int], list[int]]] = []
    draw = track.noise

    def noise(keys: Tensor, steps: Tensor, shape: Any) -> Tensor:
        asked.append((keys.tolist(), steps.tolist()))
        return draw(keys, steps, shape)

    track.noise = noise
    start = torch.tensor([[30.0, 20.0, 25.0, 30.0]], dtype=torch.float64)
    state = track.init(frames[:1], start)
    state, _ = track.step(state, frames[1:2])
    late = track.init(frames[:1], start + 1)
    track.step(type(state).cat([state, late]), [frames[2], frames[1]])
    (key,), (other,) = state.keys.tolist(), late.keys.tolist()
    assert key != other
    assert asked == [([key], [1]), ([key, other], [2, 1])]
    drawn = draw(torch.tensor([key]), torch.tensor([1]), (1, 16, 4, 4))
    assert drawn.shape == (1, 1, 16, 4, 4)
    assert abs(float(drawn.std()) - 1) < 0.2
    assert not torch.equal(drawn, tracker("TEST.SEED=7").noise(torch.tensor([key]), torch.tensor([1]), (1, 16, 4, 4)))


def test_sequence_level_training_explores_its_corners() -> None:
    frames = tuple(clip(4, 4, 90, 120))
    boxes = np.tile(np.array([[40.0, 30.0, 20.0, 20.0]]), (3, 1))
    whole = FrameSet(frames[:1], frames[1:], boxes[:1], boxes, Modality.RGBT, "x", "y", (0, 1, 2, 3))
    rolled = roll_out(tracker(), [whole], SoftmaxPolicy(4.0, 0.01).draw)
    assert rolled.choices.shape == (2, 1, 2)
    assert rolled.boxes_xywh.isfinite().all()


def test_frames_without_infrared_are_refused() -> None:
    with pytest.raises(ValueError, match="reads frames of two pictures"):
        tracker().init([Frame(np.zeros((90, 120, 3), np.uint8))], torch.tensor([[30.0, 20.0, 25.0, 30.0]]))


def test_unusable_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"DATA\.SEARCH\.NUMBER must be 2 or more"):
        experiment("DATA.SEARCH.NUMBER=1")
    with pytest.raises(ValueError, match="cannot be halved 2 times"):
        network("TEST.SEARCH_SIZE=96", "TEST.TEMPLATE_SIZE=48")
    with pytest.raises(ConfigError, match="HEAD is not GDSTrack's to choose"):
        experiment("MODEL.HEAD={TYPE: CORNER}")
    empty = "TRAIN.PHASES=[{EPOCHS: 50}, {PARAM_GROUPS: [{PATTERN: '.*', FREEZE: true}]}]"
    phases = phases_of(experiment(empty).config.train)
    with pytest.raises(ConfigError, match="no parameter is left to be trained"):
        parameter_groups(network(), phases[1].train)
    with pytest.raises(ConfigError, match=r"PHASES\[1\]\.START_EPOCH 40 overlaps the phase before it"):
        phases_of(experiment("TRAIN.PHASES=[{EPOCHS: 50}, {START_EPOCH: 40}]").config.train)


def test_half_precision_tracks() -> None:
    track = prepare(tracker(), Inference(torch.bfloat16))
    frames = clip(1, 3, 90, 120)
    state = track.init(frames[:1], torch.tensor([[30.0, 20.0, 25.0, 30.0]]))
    for frame in frames[1:]:
        state, prediction = track.step(state, [frame])
    assert prediction.boxes_xywh.isfinite().all()


def test_a_prediction_walks_over_the_steps_of_its_schedule() -> None:
    unet: Any = torch.nn.Identity()
    diffusion = Diffusion(unet, samples=2)
    assert list(diffusion.times()) == [(999, 499), (499, -1)]
    diffusion.alphas_cumprod = cosine_schedule(100)["alphas_cumprod"]
    assert list(diffusion.times()) == [(99, 49), (49, -1)]
