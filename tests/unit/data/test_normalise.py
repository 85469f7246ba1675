"""Normalisation on the device."""

import numpy as np
import pytest
import torch

from lib.data import Batch, Normalise, normalise_batch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def crops(*shape):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("channels", [3, 6])
def test_by_hand_with_gain(channels):
    u8, gain = crops(2, 2, channels, 4, 4), torch.tensor([[0.8, 1.2], [1.0, 1.1]])
    found = Normalise(MEAN, STD)(u8, gain)
    mean, std = (np.array([*v, *v][:channels]).reshape(-1, 1, 1) for v in (MEAN, STD))
    bright = np.clip(u8.numpy() * gain.numpy()[..., None, None, None].astype(float) / 255, 0, 1)
    np.testing.assert_allclose(found.numpy(), (bright - mean) / std, rtol=1e-5, atol=1e-5)
    assert found.dtype == torch.float32


def test_the_input_is_left_alone():
    u8 = crops(1, 3, 4, 4)
    as_float = u8.float()
    Normalise(MEAN, STD)(as_float)
    assert torch.equal(as_float, u8.float())


def test_gain_of_one_equals_no_gain():
    u8 = crops(3, 3, 8, 8)
    torch.testing.assert_close(Normalise(MEAN, STD)(u8, torch.ones(3)), Normalise(MEAN, STD)(u8))


def test_brightness_on_rgb_only():
    u8 = crops(1, 6, 4, 4)
    found = Normalise(MEAN, STD, brighten_aux=False)(u8, torch.tensor([1.2]))
    torch.testing.assert_close(found[:, 3:], Normalise(MEAN, STD)(u8)[:, 3:])
    torch.testing.assert_close(found[:, :3], Normalise(MEAN, STD)(u8[:, :3], torch.tensor([1.2])))


def test_dtype_and_wrong_channels():
    assert Normalise(MEAN, STD, dtype=torch.bfloat16)(crops(1, 3, 4, 4)).dtype == torch.bfloat16
    with pytest.raises(ValueError, match="C = 3 or 6"):
        Normalise(MEAN, STD)(crops(1, 4, 4, 4))
    with pytest.raises(ValueError, match="std"):
        Normalise(MEAN, (1.0, 1.0))


def test_batch():
    boxes = torch.zeros(2, 1, 4)
    gain = torch.tensor([[0.9], [1.1]])
    template, search = crops(2, 1, 3, 4, 4), crops(2, 1, 3, 8, 8)
    batch = Batch(template, search, boxes, boxes, gain, gain.flip(0), torch.zeros(2), ["a", "b"])
    done = normalise_batch(batch, Normalise(MEAN, STD))
    assert (done.template.dtype, done.template.shape) == (torch.float32, (2, 1, 3, 4, 4))
    assert done.names == ["a", "b"]
    torch.testing.assert_close(done.search[1], Normalise(MEAN, STD)(batch.search[1], batch.search_gain[1]))
