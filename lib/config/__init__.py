"""Configuration: YAML with upper-case keys outside, frozen dataclasses inside."""

from lib.config.build import Part, as_plain, config_hash, from_tree
from lib.config.tree import ConfigError, Tree, read_tree

__all__ = ["ConfigError", "Part", "Tree", "as_plain", "config_hash", "from_tree", "read_tree"]
