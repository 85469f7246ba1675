"""Transformer with labels: against softmax attention, memories that grow, rows of different sizes."""

from dataclasses import fields

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lib.models.layers import instance_l2_norm
from lib.models.temporal import LabelMemory, LabelTransformer

SCALE, GRID = 0.1, 4


@pytest.fixture(scope="module")
def part() -> LabelTransformer:
    torch.manual_seed(0)
    return LabelTransformer(12, 6, SCALE).double()


def maps(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(*shape, 12, GRID, GRID, dtype=torch.float64, generator=generator)


def labels(*shape: int, seed: int = 9) -> Tensor:
    return torch.rand(*shape, GRID, GRID, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def plain(part: LabelTransformer, train: Tensor, label: Tensor, test: Tensor) -> Tensor:
    """Decoded image [C, h, w] by softmax attention, as it is written: train [n, C, h, w], label [n, h, w]."""

    def tokens(x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2).flatten(0, 1)

    def attend(unit: str, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        linear = part.get_submodule(f"decoder.layers.0.{unit}.head.0.WK")
        q, k = (F.normalize(linear(x), dim=1) for x in (query, key))
        return (30 * q @ k.t()).softmax(dim=1) @ value

    def normed(x: Tensor, count: int = 1) -> Tensor:
        return instance_l2_norm(x.unflatten(0, (count, -1)), SCALE, 2).flatten(0, 1)

    x, t = tokens(train), tokens(test[None])
    memory = normed(x + attend("self_attn", x, x, x), len(train))
    mask = label.flatten()[:, None].expand(-1, 12)
    t = normed(t + attend("self_attn", t, t, t))
    masked = normed(t * attend("cross_attn", t, memory, mask))
    moved = normed(t + attend("cross_attn", t, memory, memory * mask))
    return normed(masked + moved).t().unflatten(1, (GRID, GRID))


def test_equals_softmax_attention(part: LabelTransformer) -> None:
    train, label, test = maps(2, 3), labels(2, 3), maps(4, seed=1)
    found = part.decode(test, part.encode(train, label))
    for i in range(4):
        torch.testing.assert_close(found[i], plain(part, train[i // 2], label[i // 2], test[i]))


def test_memories_of_different_sizes_side_by_side(part: LabelTransformer) -> None:
    memories = [part.encode(maps(1, n, seed=n), labels(1, n)) for n in (3, 1, 2)]
    test, rows = maps(4, seed=7), [2, 0, 2, 1]
    found = part.decode(test, memories, rows)
    for i, row in enumerate(rows):
        torch.testing.assert_close(found[i : i + 1], part.decode(test[i : i + 1], memories[row]))
    torch.testing.assert_close(part.decode(test[:3], memories), part.decode(test[:3], memories, [0, 1, 2]))


def test_memories_apart_are_the_rows_of_one(part: LabelTransformer) -> None:
    train, label, test = maps(2, 3), labels(2, 3), maps(2, seed=1)
    apart = [part.encode(train[i : i + 1], label[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(part.decode(test, apart), part.decode(test, part.encode(train, label)))


@torch.no_grad()
def test_pushed_images_are_as_if_encoded(part: LabelTransformer) -> None:
    train, label, memory = maps(2, 40), labels(2, 40), part.encode(maps(2, 3), labels(2, 3), growing=True)
    history = [(maps(2, 3)[:, i], labels(2, 3)[:, i]) for i in range(3)]
    for i in range(40):
        before = [getattr(memory, f.name).clone() for f in fields(memory)]
        pushed = part.push(memory, train[:, i], label[:, i], 5)
        assert all(torch.equal(getattr(memory, f.name), b) for f, b in zip(fields(memory), before, strict=True))
        memory, history = pushed, [(train[:, i], label[:, i]), *history][:5]
        images, masks = (torch.stack(column, dim=1) for column in zip(*history, strict=True))
        close(memory, part.encode(images, masks, growing=True), 1e-12)


@torch.no_grad()
def test_errors_of_pushing_do_not_grow(part: LabelTransformer) -> None:
    single, features, masks = LabelTransformer(12, 6, SCALE), maps(1, 300).float(), labels(1, 300).float()
    single.load_state_dict(part.state_dict())
    memory = single.encode(features[:, :5].flip(1), masks[:, :5].flip(1), growing=True)
    for i in range(5, 300):
        memory = single.push(memory, features[:, i], masks[:, i], 5)
    close(memory, single.encode(features[:, 295:].flip(1), masks[:, 295:].flip(1), growing=True), 1e-5)


def close(one: LabelMemory, other: LabelMemory, tolerance: float) -> None:
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * float(b.abs().max()))


def test_weights_of_the_images_are_not_kept_for_the_backward_pass(part: LabelTransformer) -> None:
    train, label, kept = maps(2, 3).requires_grad_(), labels(2, 3), set[torch.Size]()
    with torch.autograd.graph.saved_tensors_hooks(lambda s: (kept.add(s.shape), s)[1], lambda s: s):
        found = part.decode(maps(4, seed=1), part.encode(train, label))
    expected = torch.stack(
        [plain(part, train[i // 2], label[i // 2], image) for i, image in enumerate(maps(4, seed=1))]
    )
    gradients = [torch.autograd.grad(x.square().sum(), train)[0] for x in (found, expected)]
    torch.testing.assert_close(*gradients)
    cells = GRID * GRID
    assert not {(2, cells, 3 * cells), (2, 2 * cells, 3 * cells)} & kept
