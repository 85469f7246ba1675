"""Ways to learn, for any network: `objective(network, batch, progress) -> Losses`."""
