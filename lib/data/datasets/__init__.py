"""Readers of the published data sets, from a directory, a zip archive or an LMDB.

`build_dataset("LASOT", paths)` builds one by its YAML name; for test sets the classes take a store and names.
"""

from lib.data.datasets.base import (
    Annotation,
    StoredDataset,
    locate_root,
    positive,
    quiet_readers,
    read_boxes,
    read_flags,
    read_names,
    read_text,
)
from lib.data.datasets.coco import CocoDataset
from lib.data.datasets.depthtrack import DepthTrackDataset
from lib.data.datasets.flat import listed_or_all, locate_flat, sequence_names
from lib.data.datasets.frames import FrameFiles, listed_files, numbered_files
from lib.data.datasets.generated import build_folder, build_procedural, build_synthetic_train
from lib.data.datasets.got10k import Got10kDataset, split_names
from lib.data.datasets.imagenet_vid import ImagenetVidDataset
from lib.data.datasets.lasher import LasherDataset, paired_by_position
from lib.data.datasets.lasot import LasotDataset
from lib.data.datasets.registry import DATASETS, DatasetPaths, Source, build_dataset
from lib.data.datasets.tnl2k import Tnl2kDataset
from lib.data.datasets.trackingnet import ALL_CHUNKS, TrackingNetDataset, parse_chunks
from lib.data.datasets.vasttrack import BOX_FILES, VastTrackDataset
from lib.data.datasets.visevent import VisEventDataset
