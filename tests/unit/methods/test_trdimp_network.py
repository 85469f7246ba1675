"""TrDiMP's network: published files, frozen layers, sizes, the form of training against its parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lib.methods.trdimp import TrDiMP, TrDiMPConfig, build_network, map_pretrained, map_published, map_trained
from lib.models import Checkpoint, load_into
from lib.models.backbones import ResNet
from lib.models.online import apply_filter

MANIFEST = Path(__file__).parents[2] / "golden" / "cases" / "slt_pytracking" / "manifest_trdimp.json"
SHARED = "classifier.transformer.encoder.layers.0.self_attn.head.0.WK.weight"


def small(size: int = 96, frozen: int = 1) -> TrDiMP:
    torch.manual_seed(0)
    backbone = ResNet((1, 1, 1), (1, 2, 2), (1, 1, 1), 8, frozen)
    return TrDiMP(backbone, size, 32, 16, 16)


def published(fill: float = 0.01) -> dict[str, Tensor]:
    """A file with all published names, without `num_batches_tracked`."""
    listed = json.loads(MANIFEST.read_text())
    return {n: torch.full(s["shape"], fill) for n, s in listed.items() if not s.get("computed")}


def read(state: dict[str, Tensor]) -> Checkpoint:
    return Checkpoint(Path("trdimp.pth"), state, {}, "published")


@pytest.mark.slow
def test_a_published_file_fits_and_comes_back() -> None:
    network, state = build_network(TrDiMPConfig(), False), published()
    report = load_into(network, map_trained(TrDiMPConfig(), read(state)))
    assert not report.notes
    assert {n.split(".")[1] for n in report.unused if "feature_extractor" in n} == {"layer4", "fc"}
    assert sum(n.endswith(("WV.weight", "WV.bias")) for n in report.unused) == 6
    assert "unused" in report.describe()
    written = map_published(network.state_dict())
    assert written.keys() >= state.keys() - set(report.unused)
    assert all(torch.equal(written[n], state[n]) for n in state.keys() - set(report.unused))
    again = map_trained(TrDiMPConfig(), read(written))
    assert again.state_dict.keys() == network.state_dict().keys()


def test_a_file_whose_tied_names_differ_is_reported() -> None:
    state = {SHARED: torch.zeros(2), SHARED.replace("encoder", "decoder"): torch.ones(2)}
    mapped = map_trained(TrDiMPConfig(), read(state))
    assert len(mapped.notes) == 1
    assert SHARED in mapped.notes[0]
    assert torch.equal(mapped.state_dict[SHARED.replace("encoder", "decoder")], torch.ones(2))
    assert not map_trained(TrDiMPConfig(), read(dict.fromkeys(state, torch.ones(2)))).notes


def test_imagenet_weights_fill_the_backbone() -> None:
    network = small()
    state = {n: torch.ones_like(v) for n, v in network.feature_extractor.state_dict().items()}
    mapped = map_pretrained(TrDiMPConfig(), network, read({**state, "fc.weight": torch.ones(3)}))
    report = load_into(network, mapped)
    assert report.unused == ("fc.weight",)
    assert float(network.feature_extractor.conv1.weight.detach().mean()) == 1


def test_frozen_layers_stay_in_eval_mode() -> None:
    network = small().train()
    body = network.feature_extractor
    assert body.get_submodule("layer2").training
    for name in ("bn1", "layer1"):
        assert not body.get_submodule(name).training
        assert not any(p.requires_grad for p in body.get_submodule(name).parameters())
    before = body.bn1.get_buffer("running_mean").clone()
    network.extract(torch.randn(2, 3, 96, 96))
    assert torch.equal(body.bn1.get_buffer("running_mean"), before)


def test_sizes_and_strides_are_checked() -> None:
    with pytest.raises(ValueError, match="stride 8"):
        TrDiMP(ResNet((1, 1, 1), (1, 2, 1), (1, 1, 1), 8), 64, 32, 16, 16)
    with pytest.raises(ValueError, match="4 layers"):
        ResNet((1, 1, 1), frozen=4)


def test_training_form_is_what_the_parts_give() -> None:
    network = small().double().eval()
    parts, generator = network.classifier, torch.Generator().manual_seed(1)
    templates, searches = (torch.randn(2, n, 3, 96, 96, generator=generator).double() for n in (3, 2))
    boxes = torch.tensor([[30.0, 40, 20, 25]]).expand(2, 3, 4).double()
    labels = torch.rand(2, 3, 6, 6, generator=generator).double()
    proposals = (torch.rand(2, 2, 5, 4, generator=generator) * 30 + 10).double()
    output = network(templates, searches, boxes, labels, proposals)
    for row in range(2):
        seen, found = network.extract(templates[row]), network.extract(searches[row])
        memory = parts.transformer.encode(seen.classification[None], labels[row : row + 1])
        encoded = parts.transformer.decode(seen.classification, memory)[None]
        learned = parts.filter_optimizer(parts.filter_initializer(encoded, boxes[:1]), encoded, boxes[:1])
        decoded = parts.transformer.decode(found.classification, memory)
        scores = apply_filter(decoded[:, None], learned[-1].expand(2, -1, -1, -1))[:, 0]
        torch.testing.assert_close(output.scores[-1][row], scores)
        modulation = network.bb_regressor.modulation(seen.fine[:1], seen.coarse[:1], boxes[0, :1]).expand(2, -1, -1)
        torch.testing.assert_close(output.box_scores[row], network.box_scores(modulation, found, proposals[row]))
