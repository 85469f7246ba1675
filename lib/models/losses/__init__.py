"""Losses on boxes and maps; no network in them."""
