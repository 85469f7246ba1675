"""Attention with position embeddings, and the pos_embeds."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lib.models.layers import KEY, QUERY, VALUE, FuseOptions, PosEmbedAttention, PosEmbedProjection, sine_pos_embed


def test_equal_to_pytorch_s_attention_with_the_same_weights() -> None:
    torch.manual_seed(0)
    theirs, ours = nn.MultiheadAttention(32, 4, batch_first=True), PosEmbedAttention(32, 4)
    nn.init.normal_(theirs.in_proj_bias)
    nn.init.normal_(theirs.out_proj.bias)
    ours.load_state_dict(theirs.state_dict())
    x, memory = torch.randn(2, 9, 32), torch.randn(2, 5, 32)
    pos_embed, memory_pos_embed = torch.randn(9, 32), torch.randn(5, 32)
    expected = theirs(x + pos_embed, memory + memory_pos_embed, memory)[0]
    torch.testing.assert_close(ours(x, pos_embed, memory, memory_pos_embed), expected)


@torch.no_grad()
def test_one_product_gives_the_projections_of_several_attentions() -> None:
    torch.manual_seed(0)
    first, second = PosEmbedAttention(32, 4), PosEmbedAttention(32, 4)
    for attn in (first, second):
        nn.init.normal_(attn.in_proj_bias)
    x, pos_embed = torch.randn(2, 9, 32), torch.randn(9, 32)
    parts = [(first, QUERY), (second, KEY), (second, VALUE)]
    found = PosEmbedProjection(parts, pos_embed, FuseOptions(pack=False))(x)
    for (attn, which), tokens in zip(parts, found, strict=True):
        weight, bias = attn.in_proj_weight.chunk(3)[which], attn.in_proj_bias.chunk(3)[which]
        expected = nn.functional.linear(x if which == VALUE else x + pos_embed, weight, bias)
        torch.testing.assert_close(tokens.transpose(1, 2).flatten(2), expected, rtol=1e-4, atol=1e-5)


def test_codes_tell_rows_in_the_first_half_and_columns_in_the_second() -> None:
    pos_embed = sine_pos_embed(6, 16).view(6, 6, 16)
    assert torch.equal(pos_embed[2, :, :8], pos_embed[2, :1, :8].expand(6, -1))
    assert torch.equal(pos_embed[:, 4, 8:], pos_embed[:1, 4, 8:].expand(6, -1))
    assert torch.equal(pos_embed[3, 1, :8], pos_embed[1, 3, 8:])
    angle = 4 / 6 * 2 * math.pi
    expected = [f(a) for a in (angle, angle / 10) for f in (math.sin, math.cos)]
    torch.testing.assert_close(pos_embed[3, 0, :4], torch.tensor(expected), rtol=0, atol=1e-5)


def test_widths_that_do_not_fit_are_reported() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        sine_pos_embed(4, 10)
    with pytest.raises(ValueError, match="not a multiple of the number of heads 5"):
        PosEmbedAttention(32, 5)
