"""A pre-training from outside the tree: a network and an objective, no tracker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from lib.config import schema
from lib.data import Batch
from lib.methods import Method, register_method
from lib.objectives import Losses, Progress


class Autoencoder(nn.Module):
    """Patches down to a few channels and back."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Conv2d(3, 8, 8, stride=8), nn.ConvTranspose2d(8, 3, 8, stride=8)

    def forward(self, picture: Tensor) -> Tensor:
        return self.decoder(self.encoder(picture))


def reconstruction(config: Any, network: nn.Module) -> Callable[..., Losses]:
    def objective(network: nn.Module, batch: Batch, progress: Progress) -> Losses:
        error = (network(batch.search[:, 0]) - batch.search[:, 0]).square().mean()
        return Losses(error, {"Loss/total": error.detach()})

    return objective


register_method(
    Method(
        name="pretraining",
        network_name="Autoencoder",
        config=schema.Config,
        build_network=lambda config, training: Autoencoder(),
        build_objective=reconstruction,
    )
)
