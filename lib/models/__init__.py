"""Parts of networks, and the reading of weights. No paper's whole system, no method, no configuration."""

from lib.models.inert import WeightsError, check_archive, is_expected
from lib.models.pretrained import load_flax_npz, weights_from_timm
from lib.models.weights import (
    Checkpoint,
    CheckpointNotFoundError,
    LoadReport,
    Mapped,
    WeightPlaces,
    load_into,
    locate,
    nonfinite_tensors,
    read_checkpoint,
    require_finite,
    save_release,
    sha256_of,
)
