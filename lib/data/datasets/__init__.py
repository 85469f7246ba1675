"""Readers of the published data sets, from a directory, a zip archive or an LMDB.

`build_dataset("LASOT", paths)` builds one by its YAML name, `open_subset` a part of a row of the catalogue. To add a
data set, write a reader and a row: docs/adding_a_dataset.md.
"""

from lib.catalogue import CATALOGUE, TRAINING_NAMES, DatasetSpec, LmdbCopy, Subset, register_dataset
from lib.data.datasets.base import Annotation, StoredDataset, positive, quiet_readers, read_names, read_text
from lib.data.datasets.build import build_dataset, open_subset, open_videos, reader_class
from lib.data.datasets.coco import CocoDataset
from lib.data.datasets.folders import (
    FolderDataset,
    LasotDataset,
    Pictures,
    Tc128Dataset,
    Tnl2kDataset,
    VastTrackDataset,
    VotDataset,
)
from lib.data.datasets.frames import cut_rows, numbered_files
from lib.data.datasets.got10k import Got10kDataset
from lib.data.datasets.imagenet_vid import ImagenetVidDataset
from lib.data.datasets.own import PREFIX, OwnDataset, folder_row
from lib.data.datasets.prepared_crops import PREPARED
from lib.data.datasets.pseudo import read_tracks
from lib.data.datasets.rgbx import DepthTrackDataset, GtotDataset, LasherDataset, VisEventDataset
from lib.data.datasets.trackingnet import ALL_CHUNKS, TrackingNetDataset, parse_chunks
from lib.data.datasets.youtube_vos import YoutubeVosDataset
