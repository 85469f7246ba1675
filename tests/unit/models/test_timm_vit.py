"""ViTs of timm as one-stream backbones: timm's numbers, sizes, training, tracking, engines, own backbones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from lib.data import Batch, Frame
from lib.deploy import EngineError, Exports, Inference, calibration_clips, prepare
from lib.methods import load_experiment
from lib.models.backbones import BACKBONES, TimmViT
from lib.objectives import Progress
from lib.paths import load_paths
from tests.support.engines import RUNTIMES, needs

pytestmark = pytest.mark.engines

TINY: dict[str, Any] = {"embed_dim": 48, "depth": 2, "num_heads": 3}
EXPERIMENT = (
    "MODEL.BACKBONE={TYPE: timm, NAME: vit_small_patch14_dinov2, EMBED_DIM: 48, DEPTH: 2, NUM_HEADS: 3}",
    "DATA.TEMPLATE.SIZE=42",
    "DATA.SEARCH.SIZE=84",
    "TEST.TEMPLATE_SIZE=42",
    "TEST.SEARCH_SIZE=84",
)


def build(name: str, template: int, search: int, **more: Any) -> TimmViT:
    torch.manual_seed(0)
    return BACKBONES["timm"](name=name, template_size=template, search_size=search, **{**TINY, **more})


@pytest.mark.parametrize(
    ("name", "patch", "prefix"),
    [
        ("vit_small_patch14_dinov2", 14, 1),
        ("vit_small_patch14_reg4_dinov2", 14, 5),
        ("vit_base_patch16_clip_224", 16, 1),
        ("vit_base_patch16_siglip_224", 16, 0),
        ("deit3_small_patch16_224", 16, 1),
        ("vit_tiny_patch16_224", 16, 1),
    ],
)
def test_a_search_region_alone_gives_the_tokens_of_timm(name: str, patch: int, prefix: int) -> None:
    """With the weights of another instance, at another size of the picture than the template's."""
    size = 6 * patch
    torch.manual_seed(1)
    reference = timm.create_model(name, img_size=size, num_classes=0, **TINY).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
        backbone = build(name, 3 * patch, size).eval()
        adapted = backbone.adapt_pretrained(reference.state_dict())
        given = {k: v for k, v in adapted.items() if not k.startswith("attn_pool.")}
        backbone.load_state_dict(given, strict=True)
        picture = torch.randn(2, 3, size, size)
        tokens = backbone.encode(torch.zeros(2, 0, 48), backbone.embed_search(picture))
        expected = reference.forward_features(picture)
    assert backbone.prefix.shape == (1, prefix, 48)
    assert backbone.pos_embed_z.shape == (1, 9, 48)
    torch.testing.assert_close(tokens.search, expected[:, prefix:], rtol=1e-4, atol=1e-4)


def test_template_and_search_region_attend_to_each_other() -> None:
    backbone = build("vit_small_patch14_reg4_dinov2", 42, 84, depth=3).eval()
    for block in backbone.blocks:
        block.ls1.gamma.data.fill_(1.0)
    template, search = torch.randn(1, 3, 42, 42), torch.randn(1, 3, 84, 84)
    with torch.no_grad():
        one, other = backbone(template, search), backbone(template + 1.0, search)
    assert (one.template.shape, one.search.shape) == ((1, 9, 48), (1, 36, 48))
    assert (one.search - other.search).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("name", "sizes", "said"),
    [
        (
            "vit_small_patch14_dinov2",
            (128, 252),
            r"DATA\.TEMPLATE\.SIZE and TEST.*14.*128 is not, 126 and 140",
        ),
        ("vit_small_patch14_dinov2", (126, 256), r"DATA\.SEARCH\.SIZE.*256 is not, 252 and 266 are"),
        ("vit_small_patch14_dino2", (126, 252), "did you mean 'vit_"),
        ("", (126, 252), r"MODEL\.BACKBONE\.NAME '' is no model"),
        ("resnet18", (128, 256), "resnet18 is no plain ViT"),
        ("eva02_base_patch16_clip_224", (128, 256), "it is a Eva"),
        ("vit_relpos_small_patch16_224", (128, 256), "no plain ViT"),
        ("swin_tiny_patch4_window7_224", (128, 256), "no plain ViT"),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(name: str, sizes: tuple[int, int], said: str) -> None:
    given = {} if name.startswith(("resnet", "swin")) else TINY
    with pytest.raises(ValueError, match=said) as error:
        BACKBONES["timm"](name=name, template_size=sizes[0], search_size=sizes[1], **given)
    assert "\n" not in str(error.value)


def batch(template: int, search: int) -> Batch:
    torch.manual_seed(2)
    boxes = torch.tensor([0.3, 0.3, 0.3, 0.4]).expand(2, 1, 4)
    pictures = [torch.randn(2, 1, 3, size, size) for size in (template, search)]
    return Batch(
        template=pictures[0], search=pictures[1], template_boxes=boxes, search_boxes=boxes, modality=torch.zeros(2)
    )


def test_it_trains_a_step_and_tracks_from_yaml_alone() -> None:
    experiment = load_experiment("ostrack", "synthetic_small", EXPERIMENT)
    torch.manual_seed(0)
    network = experiment.method.build_network(experiment.config, True).train()
    objective = experiment.method.build_objective(experiment.config, network)
    losses = objective(network, batch(42, 84), Progress(1, 1))
    losses.total.backward()
    lacking = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert lacking == []
    tracker = experiment.method.build_tracker(experiment.config, network.eval())
    rng = np.random.default_rng(3)
    frames = [Frame(rng.integers(0, 255, (80, 90, 3), dtype=np.uint8)) for _ in range(2)]
    start = torch.tensor([[30.0, 20.0, 25.0, 30.0]])
    found = []
    with torch.no_grad():
        for kind in (tracker, prepare(tracker)):
            _, prediction = kind.step(kind.init(frames[:1], start), frames[1:2])
            found.append(prediction.boxes_xywh)
    assert torch.isfinite(found[0]).all()
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-3)


@pytest.mark.slow
@needs(*RUNTIMES)
def test_engines_compute_it(tmp_path: Path) -> None:
    experiment = load_experiment("ostrack", "synthetic_small", EXPERIMENT)
    torch.manual_seed(0)
    network = experiment.method.build_network(experiment.config, False).eval()
    tracker = experiment.method.build_tracker(experiment.config, network)
    rng = np.random.default_rng(3)
    frames = [Frame(rng.integers(0, 255, (80, 90, 3), dtype=np.uint8)) for _ in range(2)]
    found = []
    for engine in ("torch", *RUNTIMES):  # the first runtime leaves its graphs to the others
        ready = prepare(tracker, Inference(engine=engine, folder=tmp_path / "graphs"))
        state = ready.init(frames[:1], torch.tensor([[30.0, 20.0, 25.0, 30.0]]))
        found.append(ready.step(state, frames[1:])[1].boxes_xywh)
    for boxes in found[1:]:
        torch.testing.assert_close(boxes, found[0], rtol=1e-4, atol=2e-3)


def test_weights_by_their_name_in_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model
    source = create("vit_tiny_patch16_224", pretrained=False)
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: source if k.get("pretrained") else create(*a, **k))
    name = "vit_tiny_patch16_224"
    experiment = load_experiment(
        "ostrack",
        "synthetic_small",
        [f"MODEL.BACKBONE={{TYPE: timm, NAME: {name}}}", f"MODEL.PRETRAIN_FILE=timm:{name}"],
    )
    network = experiment.method.build_network(experiment.config, True)
    report = experiment.load_weights(network, Path(f"timm:{name}"), "pretrained")
    assert {n.partition(".")[0] for n in report.fresh} == {"box_head"}
    assert torch.equal(network.backbone.blocks[3].mlp.fc1.weight, source.blocks[3].mlp.fc1.weight)
    assert torch.equal(network.backbone.prefix, source.cls_token + source.pos_embed[:, :1])


def test_the_backbone_of_the_docs_trains_and_is_refused_in_8_bits(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "adding_a_backbone.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "docs/adding_a_backbone.md", "exec"), {"__name__": "docs_backbone"})
    experiment = load_experiment("ostrack", "synthetic_small", ["MODEL.BACKBONE={TYPE: shallow, WIDTH: 32}"])
    network = experiment.method.build_network(experiment.config, True).train()
    objective = experiment.method.build_objective(experiment.config, network)
    objective(network, batch(48, 96), Progress(1, 1)).total.backward()
    assert network.backbone.patches.weight.grad.abs().sum() > 0
    tracker, clips = (
        experiment.build_tracker(network.eval()),
        calibration_clips("SYNTHETIC:sequences=1,length=8", load_paths()),
    )
    with pytest.raises(EngineError, match=r"OSTrack cannot be exported in 8 bits: AttributeError: '_Weight'"):
        Exports(tracker, tmp_path).prepare(Inference(engine="onnx-int8", clips=lambda: clips))
