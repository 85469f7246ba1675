"""Parts of networks, and the reading of weights. No paper's whole system, no method, no configuration."""

from lib.models.inert import WeightsError, check_archive, is_expected
from lib.models.pretrained import load_flax_npz, weights_from_timm
from lib.models.weight_files import (
    Checkpoint,
    CheckpointNotFoundError,
    WeightPlaces,
    difference,
    locate,
    read_checkpoint,
    sha256_of,
)
from lib.models.weights import LoadReport, Mapped, load_into, nonfinite_tensors, require_finite, save_release
