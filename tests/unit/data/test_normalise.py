"""Normalisation on the device: colours, channel order, mean and standard deviation."""

import numpy as np
import pytest
import torch

from lib.data import Batch, Frame, Normalise, normalise_batch
from lib.deploy import prepare
from lib.methods import load_experiment

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def crops(*shape):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def gains(*factors):
    """Changes of brightness [len(factors), 3, 4]."""
    return torch.stack([torch.eye(3, 4) * f for f in factors])


def mixture(seed=0):
    """A change that mixes channels and adds something, [3, 4]."""
    return torch.eye(3, 4) + torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)) * torch.tensor(
        [0.2, 0.2, 0.2, 20.0]
    )


@pytest.mark.parametrize("channels", [3, 6])
def test_brightness_by_hand(channels):
    u8, factors = crops(2, 2, channels, 4, 4), (0.8, 1.2, 1.0, 1.1)
    found = Normalise(MEAN, STD)(u8, gains(*factors).unflatten(0, (2, 2)))
    mean, std = (np.array([*v, *v][:channels]).reshape(-1, 1, 1) for v in (MEAN, STD))
    factor = np.array(factors).reshape(2, 2, 1, 1, 1)
    bright = np.clip(u8.numpy() * factor / 255, 0, 1)
    np.testing.assert_allclose(found.numpy(), (bright - mean) / std, rtol=1e-5, atol=1e-5)
    assert found.dtype == torch.float32


def test_pure_brightness_is_one_multiplication_bit_by_bit():
    u8, factors = crops(16, 3, 8, 8), torch.rand(16, generator=torch.Generator().manual_seed(1)) + 0.5
    found = Normalise((0, 0, 0), (1, 1, 1))(u8, torch.eye(3, 4) * factors[:, None, None])
    assert torch.equal(found, (u8.float() * (factors / 255)[:, None, None, None]).clamp(0, 1))
    mixed = gains(*factors.tolist())
    mixed[0] = mixture()
    assert torch.equal(Normalise((0, 0, 0), (1, 1, 1))(u8, mixed)[1:], found[1:]), "next to a crop whose channels mix"


@pytest.mark.parametrize("channels", [3, 6])
def test_mixed_channels_equal_the_matrix_product(channels):
    u8, change = crops(2, channels, 5, 4), torch.stack([mixture(0), mixture(1)])
    found = Normalise((0, 0, 0), (1, 1, 1))(u8, change)
    pictures = u8.float().unflatten(1, (-1, 3))
    expected = torch.einsum("boc,bpchw->bpohw", change[:, :, :3], pictures) + change[:, None, :, 3, None, None]
    torch.testing.assert_close(found, (expected / 255).clamp(0, 1).flatten(1, 2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels", [3, 6])
def test_bgr_reverses_each_picture_and_nothing_else(channels):
    u8, change = crops(2, channels, 4, 4), torch.stack([mixture(0), mixture(1)])
    bgr = Normalise(MEAN, STD, channels="BGR")
    as_rgb = Normalise(MEAN[::-1], STD[::-1])
    for colour in (None, change):
        expected = as_rgb(u8, colour).unflatten(1, (-1, 3)).flip(2).flatten(1, 2)
        assert torch.equal(bgr(u8, colour), expected)
    with pytest.raises(ValueError, match="RGB or BGR"):
        Normalise(MEAN, STD, channels="GBR")


@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("aux", [False, True])
def test_folding_into_a_first_layer_equals_normalising_first(order, aux):
    """`affine` says all that a prepared network needs."""
    values = (0.5, 0.4, 0.3, 0.2, 0.1, 0.6)
    normalise = Normalise(values, [v + 0.1 for v in values], channels=order)
    layer, u8 = torch.nn.Conv2d(3, 5, 4, 4).double(), crops(2, 6, 8, 8)
    own = slice(3, 6) if aux else slice(0, 3)
    expected = layer(normalise(u8)[:, own].double())
    mean, std, source = (normalise.of_aux() if aux else normalise).affine()
    weight = layer.weight / std
    bias = layer.bias - (weight * mean).sum(dim=(1, 2, 3))
    found = torch.nn.functional.conv2d(u8[:, own].double(), weight[:, source], bias, 4)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("script", "config", "channels"), [
    ("ostrack", "synthetic_demo", 3), ("transt", "synthetic_small", 3), ("sdstrack", "synthetic_demo", 6),
])  # fmt: skip
def test_prepared_trackers_read_bgr_as_unprepared_ones_do(script, config, channels):
    experiment = load_experiment(script, config, ("DATA.CHANNELS=BGR", "DATA.MEAN=[0.4, 0.5, 0.6]"))
    torch.manual_seed(0)
    network = experiment.method.build_network(experiment.config, False)
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, (90, 120, 3), dtype=np.uint8) for _ in range(4)]
    frames = [Frame(pictures[i], pictures[i + 2] if channels == 6 else None) for i in range(2)]
    box, found = torch.tensor([[40.0, 30.0, 30.0, 24.0]], dtype=torch.float64), []
    for prepared in (False, True):
        tracker = experiment.build_tracker(network)
        assert tracker.normalise.channels == "BGR"
        if prepared:
            tracker = prepare(tracker)
            assert isinstance(tracker.normalise, torch.nn.Identity)
        found.append(tracker.step(tracker.init(frames[:1], box), frames[1:])[1].boxes_xywh)
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-2)


def test_float_crops_are_normalised_as_they_are():
    u8 = crops(1, 3, 4, 4)
    as_float = u8.float() + 0.25
    expected = (as_float / 255 - torch.tensor(MEAN).reshape(3, 1, 1)) / torch.tensor(STD).reshape(3, 1, 1)
    torch.testing.assert_close(Normalise(MEAN, STD)(as_float), expected)
    assert torch.equal(as_float, u8.float() + 0.25), "the input is left alone"


def test_no_change_equals_no_colour():
    u8 = crops(3, 3, 8, 8)
    torch.testing.assert_close(Normalise(MEAN, STD)(u8, gains(1, 1, 1)), Normalise(MEAN, STD)(u8))


def test_wrong_channels():
    with pytest.raises(ValueError, match="C = 3 or 6"):
        Normalise(MEAN, STD)(crops(1, 4, 4, 4))
    with pytest.raises(ValueError, match="std"):
        Normalise(MEAN, (1.0, 1.0))


def test_batch():
    boxes, colour = torch.zeros(2, 1, 4), gains(0.9, 1.1)[:, None]
    template, search = crops(2, 1, 3, 4, 4), crops(2, 1, 3, 8, 8)
    batch = Batch(template, search, boxes, boxes, torch.zeros(2), ["a", "b"], colour, colour.flip(0))
    done = normalise_batch(batch, Normalise(MEAN, STD))
    assert (done.template.dtype, done.template.shape) == (torch.float32, (2, 1, 3, 4, 4))
    assert done.names == ["a", "b"]
    assert done.search_colour is None, "it is applied"
    torch.testing.assert_close(done.search[1], Normalise(MEAN, STD)(batch.search[1], colour[0]))
