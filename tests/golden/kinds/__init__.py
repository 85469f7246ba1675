"""Runners of conformance cases, one module per topic."""
