"""From a ViT pre-trained on 224-pixel pictures to a tracker's template and search grids."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def resize_position(pos_embed: Tensor, grid: int, prefix: int = 1) -> Tensor:
    """pos_embed [1, prefix + g*g, C] without its prefix tokens, resized to [1, grid*grid, C].

    Bicubic, half-pixel centres, no antialias: what published OSTrack checkpoints were initialised with.
    """
    patches = pos_embed[:, prefix:]
    side = round(patches.shape[1] ** 0.5)
    if side * side != patches.shape[1]:
        raise ValueError(f"position embedding of {patches.shape[1]} patches is not a square grid")
    image = patches.transpose(1, 2).reshape(1, -1, side, side)
    resized = F.interpolate(image, size=(grid, grid), mode="bicubic", align_corners=False)
    return resized.flatten(2).transpose(1, 2)


def resize_patch_embed(weight: Tensor, patch: int) -> Tensor:
    """Patch convolution [C, 3, p, p] resized bicubically to [C, 3, patch, patch]; unchanged when p is `patch`."""
    if weight.shape[-1] == patch:
        return weight
    return F.interpolate(weight, size=(patch, patch), mode="bicubic", align_corners=False)


def fit_positions(state: dict[str, Tensor], grid_template: int, grid_search: int) -> dict[str, Tensor]:
    """A tracker's state dict with ``backbone.pos_embed_z`` and ``_x`` resized to other grids, where they differ."""
    fitted = dict(state)
    for name, grid in (("backbone.pos_embed_z", grid_template), ("backbone.pos_embed_x", grid_search)):
        if name in state and state[name].shape[1] != grid * grid:
            fitted[name] = resize_position(state[name], grid, prefix=0)
    return fitted


def adapt_vit(state: dict[str, Tensor], patch: int, grid_template: int, grid_search: int) -> dict[str, Tensor]:
    """A pre-trained ViT's state dict with `pos_embed_z`, `pos_embed_x` and the patches fitted to a tracker."""
    adapted = dict(state)
    adapted["patch_embed.proj.weight"] = resize_patch_embed(state["patch_embed.proj.weight"], patch)
    adapted["pos_embed_x"] = resize_position(state["pos_embed"], grid_search)
    adapted["pos_embed_z"] = resize_position(state["pos_embed"], grid_template)
    return adapted
