"""Parts of networks, and the reading of weights. No paper's whole system, no method, no configuration."""

from lib.models.checkpoint import Checkpoint, difference, read_checkpoint, sha256_of
from lib.models.pretrained import load_flax_npz, weights_from_timm
from lib.models.safe_pickle import WeightsError, check_archive, is_expected
from lib.models.weight_places import CheckpointNotFoundError, WeightPlaces, locate
from lib.models.weights import LoadReport, Mapped, load_into, nonfinite_tensors, require_finite, save_release
