"""A synthetic world for tracking: endless labelled videos, RGB and RGB-X, from a seed, in memory or on disk."""

from synthetic.config import ATTRIBUTES, WorldConfig
from synthetic.dataset import SyntheticDataset, WorldCameras, build_synthetic
from synthetic.draw import fill
from synthetic.preview import contact_sheet, save_sheet
from synthetic.world import SyntheticWorld
from synthetic.writers import WRITERS, Job, dataset_of, usual_place, write_benchmark
