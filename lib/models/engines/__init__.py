"""Engines that compute a network outside PyTorch, from two exported graphs: one per target, one per frame."""

from lib.models.engines.engine import ENGINE_NAMES, ENGINES, TORCH, Engine, EngineError, get_engine, require_packages
from lib.models.engines.folder import check_parity, open_graphs, write_description, write_graphs
from lib.models.engines.graphs import Examples, Graph, graphs_of, served
from lib.models.engines.quantise import quantised, watching
from lib.models.engines.sessions import Session
