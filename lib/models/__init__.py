"""Parts of networks, and the reading of weights. No paper's whole system, no method, no configuration."""
