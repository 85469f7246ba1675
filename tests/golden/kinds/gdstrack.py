"""GDSTrack: encoder, graph, diffusion, heads, losses, training steps of both stages, tracker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden import Case, runner, without_drawing
from torch import Tensor, nn

from kinds.mat import synthetic_frame
from kinds.ostrack import written
from lib.data import Batch, Normalise, cxcywh_to_xyxy
from lib.methods import Experiment
from lib.methods.gdstrack import GDSTrack, GDSTrackObjective, GDSTrackTracker
from lib.models import Checkpoint, load_into
from lib.models.fusion import Conditions, Diffusion, DiffusionDraws, cosine_schedule, rank
from lib.models.heads import Candidates, CenterHead, CornerHead
from lib.objectives import Progress
from lib.train import parameter_groups, phases_of

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
KEYS = {
    "k": "MODEL.FUSION.NEIGHBOURS",
    "threshold": "MODEL.FUSION.THRESHOLD",
    "nhid": "MODEL.FUSION.GRAPH_DIM",
    "nout": "MODEL.FUSION.HIDDEN_DIM",
    "alpha": "MODEL.FUSION.SLOPE",
    "inner_channel": "MODEL.FUSION.HIDDEN_DIM",
    "channel_mults": "MODEL.FUSION.UNET.MULTIPLIERS",
    "res_blocks": "MODEL.FUSION.UNET.RES_BLOCKS",
    "sample": "TEST.SAMPLE",
    "alpha_giou": "TRAIN.GIOU_WEIGHT",
    "alpha_l1": "TRAIN.L1_WEIGHT",
    "template_scale_factor": "TEST.TEMPLATE_FACTOR",
    "search_scale_factor": "TEST.SEARCH_FACTOR",
}
"""Names of a case's settings -> keys of a configuration."""


def experiment_of(case: Case, **more: Any) -> Experiment:
    c = case.config | more
    settings = {key: c[name] for name, key in KEYS.items() if name in c}
    grid, stride = c.get("image_size", c.get("feat_sz", 16)), c.get("stride", 16)
    inputs = case.data.get("inputs", {})
    for kind, default in (("template", grid // 2 * stride), ("search", grid * stride)):
        size = c.get(f"{kind}_size", default)
        size = size[0] if isinstance(size, list) else size
        size = inputs[f"{kind}_color"]["shape"][-1] if f"{kind}_color" in inputs else size
        settings |= {f"TEST.{kind.upper()}_SIZE": size, f"DATA.{kind.upper()}.SIZE": size}
    weights = c.get("loss_weights", {})
    settings |= {
        "MODEL.STAGE": c.get("stage", "stage1" if "stage1" in case.data.get("weights", "") else "stage2"),
        "MODEL.FUSION.DROPOUT": 0.0,
        "TRAIN.DIFFUSION_WEIGHT": weights.get("diffusion", 1.0),
    }
    settings |= {f"TRAIN.{name.upper()}_WEIGHT": weights[name] for name in ("giou", "l1") if name in weights}
    return written("translate_track", "LasHeR_supervised", settings)


def build(case: Case, part: str = "", **more: Any) -> GDSTrack:
    """The case's network; its weights, or those of one part, loaded as a published file of them would be."""
    experiment = experiment_of(case, **more)
    with without_drawing():
        network: GDSTrack = experiment.method.build_network(experiment.config, False)
    state = multiplied(case, case.state(case.data["weights"].split()[0], part=part))
    checkpoint = Checkpoint(Path("filled.pth"), state, {}, "plain")
    if part:
        mapped = experiment.method.map_trained(experiment.config, checkpoint)
        load_into(
            network.get_submodule(part.rstrip(".")), {n.removeprefix(part): v for n, v in mapped.state_dict.items()}
        )
    else:
        experiment.load_weights(network, checkpoint)
    return network.eval()


def multiplied(case: Case, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Filled weights, multiplied as the case says."""
    for pattern, factor in case.data.get("fill_overrides", {}).get("multiply", []):
        state |= {name: v * np.float32(factor) for name, v in state.items() if re.search(pattern, name)}
    return state


def picture(case: Case, name: str) -> Tensor:
    """Normalised pictures [B, 6, S, S] of both modalities."""
    crops = torch.cat([case.tensor(f"{name}_{stream}") for stream in ("color", "ir")], dim=1)
    return Normalise(MEAN, STD)(crops)


def check_all(case: Case, named: dict[str, Any], *sections: str) -> None:
    for section in sections or ("outputs", "intermediates"):
        for name, stored in case.data.get(section, {}).items():
            case.check(named[name], stored, name)


def nine_digits(case: Case) -> dict[str, float]:
    """The case's tolerance for values that are stored with nine digits: half a unit of the last one more."""
    tolerance = case.data["tolerance"]
    return {**tolerance, "rtol": tolerance["rtol"] + 5e-9}


def corners(candidates: Candidates) -> Tensor:
    return cxcywh_to_xyxy(candidates.best_boxes())


class Tape:
    """Outputs of modules by name."""

    def __init__(self, network: nn.Module, *names: str) -> None:
        self.found: dict[str, list[Any]] = {name: [] for name in names}
        for name in names:
            network.get_submodule(name).register_forward_hook(
                lambda _m, _i, out, name=name: self.found[name].append(out)
            )


@runner("gdstrack/amg")
def amg(case: Case) -> None:
    assert case.config.get("mode", "cosine+QKV") == "cosine+QKV"
    part = build(case, "generate_adjacency.").generate_adjacency
    tokens = case.tensor("tokens")
    product, cosine = part.similarities(tokens)
    selected = part.select(tokens).float()
    adjacency = (selected + selected.transpose(1, 2)) / 2
    assert torch.equal(adjacency > 0, part(tokens))
    named = {
        "adjacency": adjacency,
        "row_degree": (adjacency > 0).sum(dim=2),
        "row_mutual": (adjacency == 1).sum(dim=2),
        "S1_scaled_dot": product,
        "S2_cosine": cosine,
        "M": (product + cosine + 1) / 2,
        "ranking_score": rank(product, cosine, part.threshold),
    }
    exact = {"rtol": 1e-7, "atol": 1e-7}
    for name, stored in case.data["outputs"].items():
        case.check(named[name], stored, name, exact)
    check_all(case, named, "intermediates")


@runner("gdstrack/gat")
def gat(case: Case) -> None:
    network = build(case, "GAT_Branch.")
    with torch.no_grad():
        first, second = network.GAT_Branch(case.tensor("tokens"), adjacency_of(case) > 0)
    named = {"level1": first, "level2": second}
    grid = round((first.shape[1] // 2) ** 0.5)
    for name, level in tuple(named.items()):
        both = level.unflatten(1, (2, -1)).sum(dim=1)
        named[f"{name}_map"] = both.transpose(1, 2).unflatten(2, (grid, grid))
    check_all(case, named)


def adjacency_of(case: Case) -> Tensor:
    """[B, N, N]: explicit, or every token's neighbours at fixed offsets round the ring of all tokens."""
    spec = case.data["inputs"]["adjacency"]
    if "offsets" not in spec:
        return case.tensor("adjacency")
    batch, count, _ = case.data["inputs"]["tokens"]["shape"]
    rows = torch.arange(count)
    selected = torch.zeros(count, count)
    for offset in spec["offsets"]:
        selected[rows, (rows + offset) % count] = 1
    return ((selected + selected.t()) / 2).expand(batch, -1, -1)


@runner("gdstrack/unet")
def unet(case: Case) -> None:
    part = build(case, "lddiffuse_x.unet.").lddiffuse_x.unet
    names = sorted({name.partition("#")[0] for name in case.data["intermediates"]} - {"noise_level_mlp"})
    tape = Tape(part, *names)
    level = case.tensor("noise_level")
    with torch.no_grad():
        embedding = part.embed(level.flatten())
        out = part(case.tensor("noisy_and_conditions"), case.tensor("fea_rgb"), case.tensor("gat_level1"), embedding)
    named = {f"{name}#{i}": v for name, calls in tape.found.items() for i, v in enumerate(calls)}
    named |= {"noise_level_mlp#0": embedding.view(*level.shape, -1), "out": out}
    check_all(case, named)


@runner("gdstrack/schedule")
def schedule(case: Case) -> None:
    c = case.config
    named = cosine_schedule(c["T"], c["s"], c["clip_max"])
    for name, stored in case.data["outputs"].items():
        case.check(named[name], stored, name, nine_digits(case))
    for place, stored in case.data["intermediates"].get("alphas_cumprod_at", {}).items():
        found = float(named["alphas_cumprod"][int(place)])
        assert abs(found - stored) <= 1e-8 * stored, f"alphas_cumprod at {place}: {found} != {stored}"


def draws_of(case: Case) -> DiffusionDraws:
    return DiffusionDraws(case.tensor("t").long(), case.tensor("noise"), case.tensor("mix_uniform"))


def conditions_of(case: Case) -> Conditions:
    return Conditions(*(case.tensor(name) for name in ("fea_rgb", "fea_tir", "gat_level1")))


def diffusion_of(case: Case, **more: Any) -> Diffusion:
    """The diffusion with the case's weights and number of time steps."""
    part: Diffusion = build(case, "lddiffuse_x.", **more).lddiffuse_x
    part.alphas_cumprod = cosine_schedule(case.config["total"])["alphas_cumprod"]
    return part


@runner("gdstrack/diffusion_train")
def diffusion_train(case: Case) -> None:
    part = diffusion_of(case)
    fused, distractor, draws = case.tensor("fused"), case.tensor("distractor"), draws_of(case)
    with torch.no_grad():
        noisy, level = part.noised(fused, distractor, draws)
        clean, error = part.learn(fused, distractor, conditions_of(case), draws)
    named = {
        "q_sample": noisy,
        "noise_level": level[:, None, None, None],
        "x0_prediction": clean,
        "loss_sum": error,
        "loss_per_element": error / clean.numel(),
    }
    check_all(case, named)


@runner("gdstrack/diffusion_predict")
def diffusion_predict(case: Case) -> None:
    c, conditions = case.config, conditions_of(case)
    for name, samples in (("one_step", c["sample_released"]), ("multi_step", c["sample_extra"])):
        part = diffusion_of(case, sample=samples)
        drawn = ["start_noise", *(f"step_noise_{i}" for i in range(samples - 1))]
        noise = torch.stack([case.tensor(n) for n in drawn], dim=1)
        with torch.no_grad():
            case.check(part(conditions, noise, c["eta"]), case.data["outputs"][name], name)
        level = case.data["intermediates"].get(f"noise_level_{name}")
        if level is not None:
            case.check(part.level(next(iter(part.times()))[0])[0], level, name, {"rtol": 1e-6, "atol": 0.0})


@runner("gdstrack/corner_head")
def corner_head(case: Case) -> None:
    named = {}
    for name, suffix in (("head", ""), ("head_diffuse", "_diffuse")):
        if f"box{suffix}" not in case.data["outputs"]:
            continue
        state, feature = case.data["weights"].split()[0], case.tensor("feature")
        weights = {
            n.removeprefix(f"{name}."): v for n, v in multiplied(case, case.state(state, part=f"{name}.")).items()
        }
        head = CornerHead(feature.shape[1], len(weights["conv1_tl.0.weight"]), score="product").eval()
        load_into(head, weights)
        with torch.no_grad():
            found, logits = head(feature), head.corner_logits(feature)
        first, second = found.maps["corners"].unbind(1)
        named |= {f"box{suffix}": corners(found), f"prob_tl{suffix}": first, f"prob_br{suffix}": second}
        named |= dict(zip((f"logits_tl{suffix}", f"logits_br{suffix}"), logits.split(1, dim=1), strict=True))
        torch.testing.assert_close(found.scores[:, 0], first.amax(dim=1) * second.amax(dim=1))
    check_all(case, named)


@runner("gdstrack/center_head")
def center_head(case: Case) -> None:
    feature = case.tensor("feature")
    state = case.state(case.data["weights"].split()[0])
    head = CenterHead(feature.shape[1], state["conv1_ctr.0.weight"].shape[0]).eval()
    load_into(head, state)
    with torch.no_grad():
        found = head(feature)
    named = {name.removesuffix("_map"): value for name, value in found.maps.items()}
    check_all(case, {**named, "box": corners(found)})


@runner("gdstrack/loss")
def loss(case: Case) -> None:
    objective = GDSTrackObjective(experiment_of(case).config, nn.Identity())
    first, second = case.tensor("pred").chunk(2, dim=-1)
    boxes = torch.cat([(first + second) / 2, second - first], dim=-1)
    low, high = case.tensor("target").chunk(2, dim=-1)
    ones = boxes.new_ones(len(boxes), 1)
    found = objective.criterion(Candidates(ones, boxes[:, None]), torch.cat([low, high - low], dim=-1))
    check_all(case, losses_of(found))


def losses_of(found: Any) -> dict[str, Any]:
    terms = found.terms
    return {"total": found.total, "giou": terms["Loss/giou"], "l1": terms["Loss/l1"], "miou": terms["IoU"]}


@runner("gdstrack/backbone")
def backbone(case: Case) -> None:
    part = build(case, "backbone.").backbone
    names = sorted({name.partition("#")[0] for name in case.data["intermediates"]})
    tape = Tape(part, *names)
    template, search = picture(case, "template"), picture(case, "search")
    with torch.no_grad():
        embedded = part.embed_template(template), part.embed_search(search)
        tokens, alone = part.encode(*embedded, search_only=False), part.encode(*embedded)
    first = 1 + part.grid_template**2
    named: dict[str, Any] = {}
    for i, stream in enumerate(("color", "ir")):
        named |= {f"z_{stream}": tokens[:, i, 1:first], f"x_{stream}": tokens[:, i, first:]}
    torch.testing.assert_close(alone, tokens[:, :, first:], rtol=1e-4, atol=1e-4)
    for name, calls in tape.found.items():
        both = calls[0].unflatten(0, (-1, 2)).unbind(1) if name.startswith("blocks.") else [calls[0]]
        named |= {f"{name}#{i}": value for i, value in enumerate(both)}
    check_all(case, named)


def batch_of(case: Case) -> Batch:
    """Template and two search frames; boxes end after their last pixel, as loaders have them."""
    search = torch.stack([picture(case, name) for name in ("search", "search3")], dim=1)
    first, last = torch.stack([case.tensor(f"{name}_box") for name in ("search", "search3")], dim=1).chunk(2, dim=2)
    boxes = torch.cat([first, last - first + 1 / search.shape[-1]], dim=2)
    template = picture(case, "template")[:, None]
    return Batch(template, search, boxes[:, :1], boxes, torch.zeros(len(boxes), dtype=torch.int64))


def learn(case: Case, network: GDSTrack) -> tuple[Any, Any]:
    """Losses of the case's batch, and the network's output."""
    objective = GDSTrackObjective(experiment_of(case).config, network)
    objective.draws = draws_of(case) if "t" in case.data["inputs"] else None
    outputs: list[Any] = []
    handle = network.register_forward_hook(lambda _m, _i, out: outputs.append(out))
    found = objective(network, batch_of(case), Progress(1, 100))
    handle.remove()
    return found, outputs[0]


def intermediates(network: GDSTrack, tape: Tape, frames: int) -> dict[str, Any]:
    """What the tape of one pass holds, by the names of cases: `#k` is frame k."""
    named: dict[str, Any] = {}
    for name, short in (("projector1", "projector1"), ("backbone", "x"), ("projector2", "projector2")):
        for call in tape.found.get(name, []):
            parts = call.chunk(frames) if name != "projector2" else call.unbind(1)
            for k, value in enumerate(parts):
                if name == "backbone":
                    named |= {f"backbone.x_{s}#{k}": value[:, i] for i, s in enumerate(("color", "ir"))}
                else:
                    named[f"{short}#{k}"] = value
    for call in tape.found["GAT_Branch"]:
        for k, (first, second) in enumerate(zip(*(level.chunk(frames) for level in call), strict=True)):
            named |= {f"gat.level1#{k}": first, f"gat.level2#{k}": second}
    for k, tokens in enumerate(torch.cat(tape.found["backbone.norm_all"]).chunk(frames)):
        selected = network.generate_adjacency.select(tokens.flatten(1, 2)).float()
        named[f"adjacency#{k}"] = (selected + selected.transpose(1, 2)) / 2
        named |= {f"backbone.x_{s}#{k}": tokens[:, i] for i, s in enumerate(("color", "ir"))}
    for name, calls in (("head", tape.found["head"]), ("head_diffuse", tape.found.get("head_diffuse", []))):
        for found in calls:
            first, second = found.maps["corners"].unbind(1)
            named |= {f"{name}.box#0": corners(found), f"{name}.prob_tl#0": first, f"{name}.prob_br#0": second}
    for out in tape.found.get("lddiffuse_x.unet", []):
        named |= {"unet.out#0": out, "diffusion.out#0": out}
    return named


def encoded(network: GDSTrack) -> Tape:
    """A tape of the modules whose outputs cases hold; the encoder's tokens under `backbone.norm_all`."""
    names = ["projector1", "GAT_Branch", "head"]
    if network.noise_shape:
        names += ["projector2", "head_diffuse", "lddiffuse_x.unet"]
    tape = Tape(network, *names)
    tape.found["backbone.norm_all"] = []
    network.generate_adjacency.register_forward_pre_hook(
        lambda _m, args: tape.found["backbone.norm_all"].append(args[0].unflatten(1, (2, -1)))
    )
    return tape


@runner("gdstrack/forward_stage1", "gdstrack/forward_stage2")
def forward(case: Case) -> None:
    network = build(case)
    tape = encoded(network)
    with torch.no_grad():
        found, output = learn(case, network)
        frames = 2 if network.noise_shape else 1
        named = intermediates(network, tape, frames)
        if frames == 1:
            # Published training encodes the second frame in vain.
            vit = network.backbone
            template, search = vit.embed_template(picture(case, "template")), vit.embed_search(picture(case, "search3"))
            tokens = vit.encode(template, search)
            named |= {f"backbone.x_{s}#1": tokens[:, i] for i, s in enumerate(("color", "ir"))}
        else:
            # So it runs the frozen head, whose running averages follow in training mode alone.
            batch = batch_of(case)
            fused = network.fuse(network.encode_template(batch.template[:, 0]), batch.search[:, 1])
            box = network.head(fused.map)
            first, second = box.maps["corners"].unbind(1)
            named |= {"head.box#0": corners(box), "head.prob_tl#0": first, "head.prob_br#0": second}
            named["diffusion.loss_sum#0"] = output.diffusion_loss * fused.map.numel()
    check_all(case, losses_of(found), "outputs")
    check_all(case, named, "intermediates")


@runner("gdstrack/step_stage1", "gdstrack/step_stage2")
def step(case: Case) -> None:
    network = build(case).train()
    phases = phases_of(experiment_of(case).config.train)
    frozen = set(case.data["grad_none"])
    for phase in phases[-1:] if network.noise_shape else (phases[1], phases[0]):
        groups = parameter_groups(network, phase.train)
        if not any(frozen & set(group["names"]) for group in groups):  # the case froze what this phase freezes
            break
    found, _ = learn(case, network)
    found.total.backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    named = {f"grad:{name}": g for name, g in gradients.items()}
    named |= {f"after_step_buffer:{name}": b for name, b in network.named_buffers()}
    check_all(case, losses_of(found), "outputs")
    check_all(case, named, "intermediates")
    trained = {name for group in groups for name in group["names"]}
    assert {name for name, g in gradients.items() if g is not None} == trained
    own = {name for name in frozen if name in gradients}
    assert own <= gradients.keys() - trained, f"{sorted(own & trained)} have a gradient"


@runner("gdstrack/track_forward")
def track_forward(case: Case) -> None:
    network = build(case)
    tape = encoded(network)
    noise = case.tensor("start_noise")[:, None]
    with torch.no_grad():
        found = network.locate(network.encode_template(picture(case, "template")), picture(case, "search"), noise)
    named = intermediates(network, tape, 1) | {"box_cxcywh": found.candidates.best_boxes()[0]}
    scores = [head.scores[0, 0] for head in found.heads]
    named |= {"score": found.candidates.scores[0, 0], "score_stage1": scores[0], "score_stage2": scores[1]}
    check_all(case, named)


@runner("gdstrack/track_video")
def track_video(case: Case) -> None:
    """With the network as it was trained, and again as `tracking/test.py` uses it."""
    tracker: Any = experiment_of(case).build_tracker(build(case))
    for candidate, (_, *rows) in case.both_ways(tracker, [None, *case.data["outputs"]]):
        follow(case, candidate, rows)


def follow(case: Case, tracker: GDSTrackTracker, rows: list[Any]) -> None:
    """Every frame goes on from the published box of the one before.

    Left alone, correct implementations part: an edge of the graph that flips by rounding moves a box by a hundredth of
    a pixel, random weights make a tenth of it in the next frame, and pixels after five. (Float64, this network and a
    plain one differ among themselves as much as from the published boxes.) A single frame agrees to 1e-3 pixels.
    """
    spec, base = case.data["inputs"]["video"], re.search(r"seed=(\d+)\+t", case.data["inputs"]["noise"])
    assert base is not None
    first_seed = int(base.group(1))

    def noise(_keys: Tensor, steps: Tensor, shape: Any) -> Tensor:
        drawn = [np.random.RandomState(first_seed + t).standard_normal(shape) for t in steps.tolist()]
        return torch.from_numpy(np.stack(drawn).astype(np.float32))

    tracker.noise, tracker.margin = noise, float(case.config.get("clip_margin", 10))
    start = torch.tensor([case.data["inputs"]["init_box_xywh"]], dtype=torch.float64)
    state = tracker.init([synthetic_frame(spec, 0)], start)
    located: list[Any] = []
    locate = tracker.network.locate
    tracker.network.locate = lambda *args: located.append(locate(*args)) or located[-1]  # type: ignore[method-assign]
    for stored in rows:
        state, prediction = tracker.step(state, [synthetic_frame(spec, stored["t"])])
        heads = located[-1].heads
        x, y, w, h = state.boxes_xywh[0].tolist()
        named = {
            "out_xywh": prediction.boxes_xywh[0],
            "score": prediction.scores[0],
            "score_stage1": heads[0].scores[0, 0],
            "score_stage2": heads[1].scores[0, 0],
            "box_stage1_xyxy_norm": corners(heads[0])[0],
            "box_stage2_xyxy_norm": corners(heads[1])[0],
            "last_box_xyxy": [x, y, x + w, y + h],
        }
        for name in named.keys() & stored.keys():
            atol = 0.05 if name in ("out_xywh", "last_box_xyxy") else 1e-3
            case.check(named[name], stored[name], f"frame {stored['t']} {name}", {"rtol": 1e-4, "atol": atol})
        first, last = torch.tensor([stored["last_box_xyxy"]], dtype=torch.float64).chunk(2, dim=1)
        centre = state.boxes_xywh[:, :2] + state.boxes_xywh[:, 2:] / 2
        state.positions += (first + last) / 2 - centre
        state.boxes_xywh = torch.cat([first, last - first], dim=1)


@runner("gdstrack/state_update")
def state_update(case: Case) -> None:
    small = {"TYPE": "vit", "EMBED_DIM": 24, "DEPTH": 1, "NUM_HEADS": 2}
    sizes = {"hidden_dim": 16, "graph_dim": 8, "adjacency_dim": 16, "neighbours": 4, "head_channels": 8}
    settings = {f"MODEL.FUSION.{k.upper()}": v for k, v in sizes.items()}
    experiment = written("translate_track", "LasHeR", {"MODEL.STAGE": "stage1", "MODEL.BACKBONE": small, **settings})
    tracker: Any = experiment.build_tracker(experiment.method.build_network(experiment.config, False))
    tracker.margin = float(case.config["margin"])
    for stored in case.data["outputs"]:
        x1, y1, x2, y2 = stored["init_box_xyxy"]
        width, height = stored["image_wh"]
        frame = synthetic_frame({"seed": 1, "H": height, "W": width, "box": [0, 0, 8, 8], "v": [0, 0], "t": 0})
        state = tracker.init([frame], torch.tensor([[x1, y1, x2 - x1 + 1, y2 - y1 + 1]], dtype=torch.float64))
        state.positions = torch.tensor([stored["last_pos"]], dtype=torch.float64)
        side = stored["search_size"] / stored["scale"]
        local = torch.tensor([stored["pred_cxcywh"]], dtype=torch.float64)
        sizes_hw = torch.tensor([[height, width]], dtype=torch.float64)
        after, boxes = tracker.move(state, local, torch.full((1, 2), side, dtype=torch.float64), sizes_hw)
        x, y, w, h = after.boxes_xywh[0].tolist()
        named = {
            "out_xywh": boxes[0],
            "new_last_pos": after.positions[0],
            "new_last_size": local[0, 2:] * side,
            "new_last_box_xyxy": [x, y, x + w, y + h],
        }
        for name, value in named.items():
            case.check(value, stored[name], name, nine_digits(case))
