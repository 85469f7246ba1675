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
from lib.config.options import add_experiment_options, add_plugin_option
from lib.config.schema import (
    KD,
    SLT,
    Augment,
    Config,
    Copies,
    Data,
    DataMix,
    GreyRule,
    Init,
    Online,
    ParamGroup,
    Region,
    Schedule,
    Teacher,
    Train,
    TrainPhase,
)
from lib.config.tree import ConfigError, Tree, flat_items, read_tree
