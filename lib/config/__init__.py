"""Configuration: YAML with upper-case keys outside, frozen dataclasses inside."""

from lib.config.build import (
    ConfigWarning,
    InertKey,
    Part,
    Section,
    as_plain,
    config_hash,
    from_tree,
    require,
    take_inert,
)
from lib.config.command_line import add_experiment_options, add_plugin_option
from lib.config.optional import KD, SLT, Copies, Init, Online, Teacher
from lib.config.schema import Augment, Config, Data, DataMix, GreyRule, Region
from lib.config.training import ParamGroup, Schedule, Train, TrainPhase
from lib.config.tree import ConfigError, Tree, flat_items, read_tree
