"""Masked autoencoder: masks, what the prediction may know, position tables, its weights in other networks."""

from __future__ import annotations

import pytest
import torch

from lib.models.backbones import (
    AutoencoderOptions,
    MaskedAutoencoder,
    Masking,
    encoder_weights,
    paired_weights,
    resize_table,
    to_patches,
    to_pictures,
)
from lib.models.layers import sincos_pos_embed

SMALL = AutoencoderOptions(24, 2, 3, 16, 1, 2, 8, template_size=32, search_size=48)


def autoencoder() -> MaskedAutoencoder:
    torch.manual_seed(1)
    return MaskedAutoencoder(SMALL).eval()


def inputs(rows: int) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    template, search = (torch.randn(rows, 3, side, side, generator=generator) for side in (32, 48))
    return template, search, (torch.rand(rows, 36, generator=generator), torch.rand(rows, 16, generator=generator))


def test_patches_are_rows_then_columns_then_channels() -> None:
    pictures = torch.arange(2 * 3 * 16 * 16.0).view(2, 3, 16, 16)
    patches = to_patches(pictures, 8)
    assert patches.shape == (2, 4, 192)
    assert torch.equal(patches[1, 2].view(8, 8, 3), pictures[1, :, 8:, :8].permute(1, 2, 0))
    assert torch.equal(to_pictures(patches, 8), pictures)


def test_the_patches_with_the_least_noise_are_visible_and_return_to_their_places() -> None:
    noise = torch.tensor([[0.9, 0.1, 0.5, 0.3, 0.7, 0.2, 0.8]])
    masking = Masking.of_noise(noise, 0.25)
    assert masking.kept == 5
    assert masking.order[0, :5].tolist() == [1, 5, 3, 2, 4]
    assert masking.hidden.tolist() == [[1, 0, 0, 0, 0, 0, 1]]
    tokens = torch.randn(1, 7, 4)
    restored = masking.restore(masking.keep(tokens), torch.full((1, 1, 4), 9.0))
    assert torch.equal(restored[0, 1:6], tokens[0, 1:6])
    assert (restored[0, [0, 6]] == 9).all()


def test_predictions_know_no_hidden_patch_and_every_visible_one() -> None:
    network, (template, search, noise) = autoencoder(), inputs(1)
    with torch.no_grad():
        before = network(template, search, noise, 0.25)
        for masking, picture, other in (
            (before.search_masking, search, template),
            (before.template_masking, template, search),
        ):
            for hidden in (True, False):
                patches = to_patches(picture, 8)
                place = masking.order[0, -1 if hidden else 0]
                patches[0, place] += 1
                changed = to_pictures(patches, 8)
                after = network(*((other, changed) if picture is search else (changed, other)), noise, 0.25)
                assert torch.equal(before.search, after.search) == hidden
                assert torch.equal(before.template, after.template) == hidden


def test_rows_of_a_batch_know_nothing_of_each_other() -> None:
    network, (template, search, noise) = autoencoder(), inputs(3)
    with torch.no_grad():
        together = network(template, search, noise, 0.25)
        alone = network(template[1:2], search[1:2], (noise[0][1:2], noise[1][1:2]), 0.25)
    torch.testing.assert_close(together.search[1:2], alone.search, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(together.template[1:2], alone.template, rtol=1e-5, atol=1e-5)


def test_position_tables_are_fixed_and_have_columns_before_rows() -> None:
    network = autoencoder()
    fixed = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert fixed == {"pos_embed", "z_pos_embed", "decoder_pos_embed", "z_decoder_pos_embed"}
    assert not network.pos_embed[0, 0].any()
    table = sincos_pos_embed(6, 24).view(6, 6, 24)
    assert torch.equal(network.pos_embed[0, 1:], table.flatten(0, 1))
    assert torch.equal(table[0, 3, :12], table[5, 3, :12])
    assert torch.equal(table[3, 0, 12:], table[3, 5, 12:])
    assert table[0, 1, 0].item() == pytest.approx(torch.tensor(1.0).sin().item())
    with pytest.raises(ValueError, match="multiple of 4"):
        sincos_pos_embed(4, 10)


def test_resized_tables_keep_the_class_row_and_the_corner_cells() -> None:
    table = torch.randn(1, 1 + 49, 8)
    resized = resize_table(table, 9, prefix=1)
    assert torch.equal(resized[:, 0], table[:, 0])
    before, after = table[0, 1:].view(7, 7, 8), resized[0, 1:].view(9, 9, 8)
    torch.testing.assert_close(after[[0, 0, -1, -1], [0, -1, 0, -1]], before[[0, 0, -1, -1], [0, -1, 0, -1]])
    with pytest.raises(ValueError, match="48 patches is not a square grid"):
        resize_table(table[:, 2:], 9)


def test_weights_for_two_streams_are_copies_but_for_the_tables_of_the_second() -> None:
    own = {f"backbone.model.{name}": value for name, value in autoencoder().state_dict().items()}
    encoder = encoder_weights(own)
    assert not any(name.startswith(("decoder", "mask", "z_decoder")) for name in encoder)
    paired = paired_weights(encoder, 8, 10)
    assert paired["pos_embed"].shape == (1, 101, 24)
    assert paired["z_pos_embed"].shape == (1, 64, 24)
    assert not {"pos_embed_p", "z_pos_embed_p"} & paired.keys()
    for name, copy in (
        ("patch_embed.proj.weight", "patch_embed_p.proj.weight"),
        ("z_patch_embed.proj.bias", "z_patch_embed_p.proj.bias"),
        ("cls_token", "cls_token_p"),
        ("norm.weight", "norm_p.weight"),
    ):
        assert torch.equal(paired[name], paired[copy])
    assert sum(name.startswith("blocks.") for name in paired) == sum("blocks_p" in n for n in paired) + 24
    assert encoder_weights(autoencoder().state_dict()) == {}
