"""Networks for inference: fused, packed, quantised, exported, computed by other runtimes; functions over a tracker."""

from lib.deploy.cuda_graphs import GraphedCall
from lib.deploy.engines import AUTO, ENGINES, TORCH, Engine, EngineError, get_engine
from lib.deploy.graphs import check_parity, engine_runtime, load_graphs, network_graphs, write_graphs
from lib.deploy.prepare import (
    GRAPHS_FILE,
    AutocastTracker,
    Exports,
    Inference,
    export,
    fuse_network,
    fuse_tracker,
    prepare,
    prepare_for_rollout,
    reads_pixels,
)
from lib.deploy.quantise import PROCEDURAL, CalibrationClip, calibrate, calibration_clips, quantise, record_ranges
