"""The catalogue: one row for every data set folder that the project knows.

Everything that speaks of a data set reads its row: paths and ``local.yaml`` (key, folders, layout), readers and the
names of ``DATASETS_NAME`` (reader, subsets), the data check (counts), LMDB copies, and the benchmarks of ``lib.bench``.
A row is plain data. Readers are named by text and imported when a data set is opened, so this module stands below
everything that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lib.registry import Registry


@dataclass(frozen=True)
class Subset:
    """Sequences of one data set folder that are used together.

    Attributes:
        label: What the data check and benchmarks call it ("training", "test", ...); "" if it is no published part.
        count: Number of sequences as published; None if any number is right.
        names: Lists of `lib.data.lists` that hold the sequences, as "file" or "file/entry"; () takes the whole folder.
        yaml: Name in ``DATASETS_NAME``; "" for none.
        choices: Other lists, by the text behind the colon of the YAML name.
        selection: Option of the reader that receives the text behind the colon of the YAML name.
        listing: File in the data set folder with one name per line, which takes precedence over `names`.
        own_sequences: If none of the names is in the folder, use all sequences there (own data in this layout).
        natural_order: Sort the sequences by the numbers in their names.
        folder: Sub-folder that holds the subset; without it the subset lies at the root.
        options: Keyword arguments of the reader.
        check_options: Further ones for the data check.
    """

    label: str = ""
    count: int | None = None
    names: tuple[str, ...] = ()
    yaml: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)
    selection: str = ""
    listing: str = ""
    own_sequences: bool = False
    natural_order: bool = False
    folder: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    check_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LmdbCopy:
    """The LMDB copy of a data set. Its keys are those that readers of the STARK / OSTrack family use.

    Attributes:
        folder: Default folder; "" for ``<folder of the data set>_lmdb``.
        description: One line; "" for ``<title> as LMDB``.
        layout: Keys in the copy; "" if they are the paths below the data set folder.
        prefix: Text in front of every key.
        inside: Sub-folder of the release that is copied, if it exists.
        files: Files and folders that are copied; () for all.
        required: Glob patterns, one of which must match.
        chunked: One environment per ``TRAIN_<k>`` folder.
        index: Function "module:name" of `lib.data.datasets` that makes the first of `files` if the source has none.
        subsets: Labels of the subsets that the copy holds; () for all.
    """

    folder: str = ""
    description: str = ""
    layout: str = ""
    prefix: str = ""
    inside: str = ""
    files: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    chunked: bool = False
    index: str = ""
    subsets: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetSpec:
    """One data set folder.

    Attributes:
        key: Name in ``local.yaml`` and of the environment variable ``TRACKING_<KEY>_DIR``. A key without suffix is the
            training part if the test part has a folder, and a key, of its own.
        folders: Default places under the data folder; the first that exists is taken. () if it has no folder: such a
            data set is built by ``reader(yaml name)``.
        description: One line for tables and messages.
        layout: What is in the folder, in one line.
        reader: The reader, ``reader(store, names, name, **options)``, or its place as "module:name"; a module without a
            dot is first looked for in `lib.data.datasets`.
        subsets: What is trained on and tested.
        aliases: Other names of the key.
        options: Keyword arguments of the reader, for every subset.
        lmdb: How to copy it into LMDB; None if there is no default place for a copy.
        copy_of: Key of the data set that this one is the LMDB copy of.
    """

    key: str
    folders: tuple[str, ...]
    description: str
    layout: str
    reader: str | Callable[..., Any]
    subsets: tuple[Subset, ...] = ()
    aliases: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    lmdb: LmdbCopy | None = None
    copy_of: str = ""

    @property
    def variable(self) -> str:
        """The environment variable that sets the folder."""
        return f"TRACKING_{self.key.upper()}_DIR"

    def subset(self, label: str) -> Subset:
        """The subset with this label; KeyError if there is none."""
        for subset in self.subsets:
            if label and subset.label == label:
                return subset
        raise KeyError(f"{self.key} has no part {label!r}")

    def lmdb_spec(self) -> DatasetSpec | None:
        """The row of the LMDB copy."""
        if self.lmdb is None:
            return None
        held = self.lmdb.subsets
        subsets = [replace(s, yaml="") for s in self.subsets if s.label and (not held or s.label in held)]
        title = self.description.partition(",")[0].partition(":")[0]
        return replace(
            self,
            key=f"{self.key}_lmdb",
            folders=(self.lmdb.folder or f"{self.key}_lmdb",),
            description=self.lmdb.description or f"{title} as LMDB",
            layout=self.lmdb.layout or f"data.mdb, whose keys are the paths of {self.layout}",
            subsets=tuple(subsets),
            aliases=(self.lmdb.folder,) if self.lmdb.folder else (),
            lmdb=None,
            copy_of=self.key,
        )


CATALOGUE: Registry[DatasetSpec] = Registry("data set key")
"""Key or alias, in any case -> row of a data set that has a folder."""

YAML_NAMES: Registry[tuple[DatasetSpec, Subset]] = Registry("data set")
"""Name in ``DATASETS_NAME``, in any case -> row and subset."""


def register_dataset(spec: DatasetSpec) -> DatasetSpec:
    """Add a row, and the row of its LMDB copy, to the catalogue.

    Raises:
        ValueError: A key, an alias or a YAML name is taken.
    """
    for row in (spec, spec.lmdb_spec()):
        if row is not None and row.folders:
            CATALOGUE.register(row.key, *row.aliases)(row)
    for subset in spec.subsets:
        if subset.yaml:
            YAML_NAMES.register(subset.yaml)((spec, subset))
    return spec


_LASOT = "<class>/<class>-<n>/{img/00000001.jpg, groundtruth.txt, full_occlusion.txt, out_of_view.txt}"
_GOT10K = "list.txt, <seq>/{00000001.jpg, groundtruth.txt, absence.label, cover.label, meta_info.ini}"
_RGBT = "<seq>/{visible/*.jpg, infrared/*.jpg, visible.txt, infrared.txt, init.txt}"
_RGBD = "<seq>/{color/00000001.jpg, depth/00000001.png (16 bit), groundtruth.txt}"
_RGBE = "<seq>/{vis_imgs/frame0000.bmp, event_imgs/frame0000.bmp, groundtruth.txt, absent_label.txt}"
_TNL2K = "<seq>/{imgs/*, groundtruth.txt, language.txt}"
_VAST = "<Class>/<Class>-<n>/{imgs/00001.jpg, Groundtruth.txt, nlp.txt}"
_VTUAV = "test_ST_001/animal_001/{rgb/000001.jpg, ir/000001.jpg, rgb.txt, ir.txt (every 10th frame)}"
_VOT = "list.txt (optional), <seq>/{color/00000001.jpg, groundtruth.txt (boxes, polygons or masks)}"

# RGB first, RGB-X behind. Lists: lib/data/lists/README.md.
_ROWS = (
    DatasetSpec("procedural", (), "sequences rendered on demand", "", "synthetic:build_synthetic", (
        Subset(yaml="SYNTHETIC"),
    )),
    DatasetSpec("folder", (), "an own folder in LaSOT's layout", "", "folders:open_folder", (Subset(yaml="FOLDER"),)),
    DatasetSpec("synthetic", ("synthetic",), "synthetic sequences, demo", "written by tracking/make_synthetic_data.py",
        "folders:LasotDataset", (
            Subset(yaml="SYNTHETIC_train", folder="train"),
            Subset("test", folder="test", natural_order=True),
        ),
    ),
    DatasetSpec("lasot", ("lasot",), "LaSOT: training 1120, test 280", _LASOT, "folders:LasotDataset", (
            Subset("training", 1120, ("lasot_train",), "LASOT"),
            Subset("test", 280, ("lasot_test",)),
        ),
        lmdb=LmdbCopy(required=("*/*/groundtruth.txt", "*/groundtruth.txt")),
    ),
    DatasetSpec("lasot_extension_subset", ("lasot_extension_subset",), "LaSOT extension, test 150", _LASOT,
        "folders:LasotDataset", (Subset("test", 150, ("lasot_extension_subset_test",)),), ("lasot_ext", "lasotext"),
    ),
    DatasetSpec("got10k", ("got10k/train",), "GOT-10k training, 9335", _GOT10K, "got10k:Got10kDataset", (
            Subset("training", 9335),
            Subset("ltrval", 1401, ("got10k_val_split",)),
            Subset(yaml="GOT10K_vottrain", names=("got10k_vot_train_split",)),
            Subset(yaml="GOT10K_votval", names=("got10k_vot_val_split",)),
            # Without the videos that VOT really forbids; published numbers were trained with the other two.
            Subset(yaml="GOT10K_vottrain_corrected", names=("got10k_vot_train_corrected_split",)),
            Subset(yaml="GOT10K_votval_corrected", names=("got10k_vot_val_corrected_split",)),
            Subset(yaml="GOT10K_train_full", names=("got10k_train_full_split",)),
        ),
        ("got10k_train",),
        lmdb=LmdbCopy(
            description="GOT-10k as LMDB",
            layout="data.mdb, whose keys are the paths of train/list.txt, train/<seq>/00000001.jpg ...",
            prefix="train/", inside="train", required=("*/groundtruth.txt",), subsets=("training",),
        ),
    ),
    DatasetSpec("got10k_val", ("got10k/val",), "GOT-10k validation, 180", _GOT10K, "got10k:Got10kDataset", (
        Subset("validation", 180, yaml="GOT10K_official_val"),
    ), options={"part": "val"}),
    DatasetSpec("got10k_test", ("got10k/test",), "GOT-10k test, 180",
        "list.txt, <seq>/{00000001.jpg, groundtruth.txt (first box only)}", "got10k:Got10kDataset",
        (Subset("test", 180),), options={"part": "test", "first_box_only": True},
    ),
    DatasetSpec("trackingnet", ("trackingnet",), "TrackingNet: training 30132, test 511",
        "TRAIN_0 .. TRAIN_11 and TEST, each with {frames/<video>/0.jpg (no padding), anno/<video>.txt}",
        "trackingnet:TrackingNetDataset", (
            Subset("training", 30132, yaml="TRACKINGNET", selection="chunks", check_options={"partial": True}),
            Subset("test", 511, options={"test": True}),
        ),
        lmdb=LmdbCopy(
            layout="seq_list.json and TRAIN_0_lmdb .. TRAIN_11_lmdb with keys anno/<video>.txt, frames/<video>/0.jpg",
            files=("anno", "frames"), chunked=True, subsets=("training",),
        ),
    ),
    DatasetSpec("coco", ("coco",), "COCO 2017 training pictures",
        "annotations/instances_train2017.json, images/train2017/*.jpg", "coco:CocoDataset",
        (Subset("training", yaml="COCO17"), Subset(yaml="COCO17_masks", options={"masks": True})), ("coco17",),
        lmdb=LmdbCopy(
            description="COCO 2017 as LMDB", files=("annotations/instances_train2017.json", "images/train2017"),
        ),
    ),
    DatasetSpec("imagenet", ("vid",), "ImageNet VID (ILSVRC2015)",
        "{Annotations,Data}/VID/train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000/000000.{xml,JPEG}",
        "imagenet_vid:ImagenetVidDataset", (Subset("training", yaml="VID"),), ("vid", "imagenet_vid"), lmdb=LmdbCopy(
            "vid_lmdb", "ImageNet VID as LMDB", "data.mdb, whose keys are the paths of cache.json, Data/VID/train/...",
            inside="ILSVRC2015", files=("cache.json", "Data/VID/train"), index="imagenet_vid:tracklet_index",
        ),
    ),
    DatasetSpec("tnl2k", ("tnl2k/train",), "TNL2K training, 1300", _TNL2K, "folders:Tnl2kDataset", (
        Subset("training", 1300, yaml="TNL2K_train"),
    ), lmdb=LmdbCopy(description="TNL2K as LMDB")),
    DatasetSpec("tnl2k_test", ("tnl2k/test",), "TNL2K test, 700", _TNL2K, "folders:Tnl2kDataset", (
        Subset("test", 700),
    )),
    DatasetSpec("vasttrack", ("VastTrack/unisot_train_final_backup", "vasttrack/train"), "VastTrack training, 47110",
        _VAST, "folders:VastTrackDataset", (Subset("training", 47110, yaml="VastTrack"),), lmdb=LmdbCopy(),
    ),
    DatasetSpec("vasttrack_test", ("VastTrack/test", "vasttrack/test"), "VastTrack test, 3500", _VAST,
        "folders:VastTrackDataset", (Subset("test", 3500, ("vasttrack_test",)),),
    ),
    DatasetSpec("nfs", ("nfs",), "NfS at 30 fps, test 100", "sequences/<name>/00001.jpg, anno/nfs_<name>.txt",
        "folders:TableDataset", (Subset("test", 100),), options={"table": "nfs_sequences"},
    ),
    DatasetSpec("otb", ("otb",), "OTB-2015, test 100", "<Video>/{img/0001.jpg, groundtruth_rect*.txt}",
        "folders:TableDataset", (Subset("test", 100),), ("otb100",), options={"table": "otb100_sequences"},
    ),
    DatasetSpec("uav", ("uav",), "UAV123 test", "data_seq/UAV123/<video>/000001.jpg, anno/UAV123/<name>.txt",
        "folders:TableDataset", (Subset("test", 123),), ("uav123",), options={"table": "uav123_sequences"},
    ),
    DatasetSpec("itb", ("itb",), "ITB test, 180", "<scene>/<video>/{*.jpg, groundtruth.txt}", "folders:ItbDataset", (
        Subset("test", 180),
    )),
    DatasetSpec("tc128", ("TC128", "tc128"), "TC128 test", "<name>/{img/0001.jpg, <name>_gt.txt, <name>_frames.txt}",
        "folders:Tc128Dataset", (Subset("test", natural_order=True),),
    ),
    *(
        DatasetSpec(f"vot{year}", (f"vot{year}",), f"VOT{year}", _VOT, "folders:VotDataset", (
            Subset("test", listing="list.txt", natural_order=True),
        ), (f"vot{year % 100}",))
        for year in (2018, 2019, 2022)
    ),
    DatasetSpec("lasher", ("lasher/trainingset",), "LasHeR training (thermal), 979", _RGBT, "rgbx:LasherDataset", (
            Subset("training", 979, ("lasher_splits/train_official_979",)),
            Subset(yaml="LasHeR_all", names=("lasher_splits/all_979",), own_sequences=True),
            Subset(yaml="LasHeR_train", names=("lasher_splits/train_881_sdstrack",), own_sequences=True, choices={
                "881": "lasher_splits/train_881_sdstrack", "882": "lasher_splits/train_882_cstrack",
            }),
            Subset(yaml="LasHeR_val", names=("lasher_splits/val_97",)),
        ),
        lmdb=LmdbCopy(description="LasHeR training as LMDB"),
    ),
    DatasetSpec("lasher_test", ("lasher/testingset",), "LasHeR test (thermal), 245", _RGBT, "rgbx:LasherDataset", (
        Subset("test", 245, ("lasher_splits/test_official_245",), own_sequences=True),
    ), ("lasher_testingset",)),
    DatasetSpec("rgbt234", ("rgbt234", "RGBT234"), "RGBT234 test (thermal), 234", _RGBT, "rgbx:LasherDataset", (
        Subset("test", 234, ("rgbt234_attributes/sequences",), own_sequences=True),
    ), options={"second_truth": "infrared.txt"}),
    DatasetSpec("rgbt210", ("rgbt210", "RGBT210"), "RGBT210 test (thermal), 210",
        "<seq>/{visible/*, infrared/*, init.txt}", "rgbx:LasherDataset", (
            Subset("test", 210, ("rgbt210_sequences",), own_sequences=True),
        ),
    ),
    DatasetSpec("gtot", ("gtot", "GTOT"), "GTOT test (thermal), 50",
        "<seq>/{v/*.png, i/*.png, groundTruth_v.txt, groundTruth_i.txt, init.txt}", "rgbx:GtotDataset", (
            Subset("test", 50, ("gtot_sequences",), own_sequences=True),
        ),
    ),
    DatasetSpec("vtuav", ("vtuav/test/short-term", "vtuav"), "VTUAV short-term test (thermal), 176", _VTUAV,
        "rgbx:VtuavDataset", (
            Subset("test", 176, ("vtuav_sequences/short_term_test",), listing="VTUAV-ST.txt", own_sequences=True),
        ), ("vtuav_st",),
    ),
    DatasetSpec("vtuav_lt", ("vtuav/test/long-term",), "VTUAV long-term test (thermal), 74",
        _VTUAV.replace("_ST_", "_LT_"), "rgbx:VtuavDataset", (
            Subset("test", 74, ("vtuav_sequences/long_term_test",), listing="VTUAV-LT.txt", own_sequences=True),
        ),
    ),
    DatasetSpec("depthtrack", ("depthtrack/train",), "DepthTrack training (depth), 150", _RGBD,
        "rgbx:DepthTrackDataset", (
            Subset("training", 152, ("depthtrack_splits/train_146_used", "depthtrack_splits/val_used")),
            Subset(yaml="DepthTrack_train", names=("depthtrack_splits/train_146_used",), own_sequences=True),
            Subset(yaml="DepthTrack_val", names=("depthtrack_splits/val_used",)),
        ),
        lmdb=LmdbCopy(description="DepthTrack training as LMDB"),
    ),
    DatasetSpec("depthtrack_test", ("depthtrack/test",), "DepthTrack test (depth), 50", f"list.txt, {_RGBD}",
        "rgbx:DepthTrackDataset", (Subset("test", 50, ("depthtrack_splits/test_50",), listing="list.txt"),),
        options={"min_side": 0},
    ),
    DatasetSpec("vot_rgbd22", ("vot_rgbd22", "votrgbd2022"), "VOT-RGBD2022 test (depth), 127",
        "list.txt, <seq>/{color/00000001.jpg, depth/00000001.png, groundtruth.txt, sequence, anchor.value}",
        "rgbx:DepthTrackDataset", (Subset("test", 127, listing="list.txt"),),
        ("votrgbd22", "vot22rgbd", "vot_rgbd2022"), options={"min_side": 0},
    ),
    DatasetSpec("visevent", ("visevent/train",), "VisEvent training (event), 500", f"trainlist.txt, {_RGBE}",
        "rgbx:VisEventDataset", (Subset("training", 500, yaml="VisEvent", listing="trainlist.txt"),),
        lmdb=LmdbCopy(description="VisEvent training as LMDB"),
    ),
    DatasetSpec("visevent_test", ("visevent/test",), "VisEvent test (event), 320", f"testlist.txt, {_RGBE}",
        "rgbx:VisEventDataset", (
            Subset("test", 320, ("visevent_splits/test_320",), listing="testlist.txt", own_sequences=True),
        ), options={"min_side": 0, "reuse_missing_events": True},
    ),
)  # fmt: skip

for _spec in _ROWS:
    register_dataset(_spec)
