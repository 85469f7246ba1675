"""Readers of the published data sets, from a directory, a zip archive or an LMDB.

`build_dataset("LASOT", paths)` builds one by its YAML name; for test sets the classes take a store and names.
"""

from lib.data.datasets.base import Annotation, StoredDataset
from lib.data.datasets.coco import CocoDataset
from lib.data.datasets.depthtrack import DepthTrackDataset
from lib.data.datasets.frames import FrameFiles
from lib.data.datasets.generated import build_folder, build_procedural, build_synthetic_train
from lib.data.datasets.got10k import Got10kDataset
from lib.data.datasets.imagenet_vid import ImagenetVidDataset
from lib.data.datasets.lasher import LasherDataset
from lib.data.datasets.lasot import LasotDataset
from lib.data.datasets.registry import DATASETS, DatasetPaths, Source, build_dataset
from lib.data.datasets.tnl2k import Tnl2kDataset
from lib.data.datasets.trackingnet import TrackingNetDataset
from lib.data.datasets.vasttrack import VastTrackDataset
from lib.data.datasets.visevent import VisEventDataset

__all__ = [
    "DATASETS",
    "Annotation",
    "CocoDataset",
    "DatasetPaths",
    "DepthTrackDataset",
    "FrameFiles",
    "Got10kDataset",
    "ImagenetVidDataset",
    "LasherDataset",
    "LasotDataset",
    "Source",
    "StoredDataset",
    "Tnl2kDataset",
    "TrackingNetDataset",
    "VastTrackDataset",
    "VisEventDataset",
    "build_dataset",
    "build_folder",
    "build_procedural",
    "build_synthetic_train",
]
