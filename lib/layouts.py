"""One table of every data set folder the project knows: its key, where it lies under the data folder, its layout.

Everything that speaks of a data set's place reads this table: `lib.paths`, the file that
``tracking/create_default_local_file.py`` writes, the data checker and the documentation.
Pure RGB sets come first, RGB-X sets behind them. A key names the training part; a separate test part has its own key.
"""

from __future__ import annotations

from dataclasses import dataclass

from lib.registry import suggest


@dataclass(frozen=True, slots=True)
class Layout:
    """Where one data set lies and what is in there.

    key: its name in ``local.yaml``; ``TRACKING_<KEY>_DIR`` in the environment.
    folders: default places under the data folder, the first that exists is taken.
    tree: the layout in one line, seen from that folder.
    purpose: what it is for.
    aliases: other names by which `layout_of` knows it.
    """

    key: str
    folders: tuple[str, ...]
    tree: str
    purpose: str
    aliases: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """The environment variable that sets this folder."""
        return f"TRACKING_{self.key.upper()}_DIR"


class UnknownKeyError(KeyError):
    """A data set key that the table has not."""

    def __str__(self) -> str:
        return str(self.args[0])


_LASOT = "<class>/<class>-<n>/{img/00000001.jpg, groundtruth.txt, full_occlusion.txt, out_of_view.txt}"
_GOT10K = "list.txt, <seq>/{00000001.jpg, groundtruth.txt, absence.label, cover.label, meta_info.ini}"
_GOT10K_TEST = "list.txt, <seq>/{00000001.jpg, groundtruth.txt (first box only)}"
_RGBT = "<seq>/{visible/*.jpg, infrared/*.jpg, visible.txt, infrared.txt, init.txt}"
_RGBD = "<seq>/{color/00000001.jpg, depth/00000001.png (16 bit), groundtruth.txt}"
_RGBE = "<seq>/{vis_imgs/frame0000.bmp, event_imgs/frame0000.bmp, groundtruth.txt, absent_label.txt}"
_VTUAV = "test_ST_001/animal_001/{rgb/000001.jpg, ir/000001.jpg, rgb.txt, ir.txt (every 10th frame)}"
_VOT = "list.txt (optional), <seq>/{color/00000001.jpg, groundtruth.txt (boxes, polygons or masks)}"
_VAST = "<Class>/<Class>-<n>/{imgs/00001.jpg, Groundtruth.txt, nlp.txt}"
_LMDB = "data.mdb, whose keys are the paths of "

_ROWS = (
    Layout("synthetic", ("synthetic",), "written by tracking/make_synthetic_data.py", "synthetic sequences, demo"),
    Layout("lasot", ("lasot",), _LASOT, "LaSOT: training 1120, test 280"),
    Layout("lasot_lmdb", ("lasot_lmdb",), _LMDB + _LASOT, "LaSOT as LMDB"),
    Layout(
        "lasot_extension_subset",
        ("lasot_extension_subset",),
        _LASOT,
        "LaSOT extension, test 150",
        ("lasot_ext", "lasotext"),
    ),
    Layout("got10k", ("got10k/train",), _GOT10K, "GOT-10k training, 9335", ("got10k_train",)),
    Layout("got10k_val", ("got10k/val",), _GOT10K, "GOT-10k validation, 180"),
    Layout("got10k_test", ("got10k/test",), _GOT10K_TEST, "GOT-10k test, 180"),
    Layout("got10k_lmdb", ("got10k_lmdb",), _LMDB + "train/list.txt, train/<seq>/00000001.jpg ...", "GOT-10k as LMDB"),
    Layout(
        "trackingnet",
        ("trackingnet",),
        "TRAIN_0 .. TRAIN_11 and TEST, each with {frames/<video>/0.jpg (no padding), anno/<video>.txt}",
        "TrackingNet: training 30132, test 511",
    ),
    Layout(
        "trackingnet_lmdb",
        ("trackingnet_lmdb",),
        "seq_list.json and TRAIN_0_lmdb .. TRAIN_11_lmdb with keys anno/<video>.txt, frames/<video>/0.jpg",
        "TrackingNet as LMDB",
    ),
    Layout(
        "coco",
        ("coco",),
        "annotations/instances_train2017.json, images/train2017/*.jpg",
        "COCO 2017 training pictures",
        ("coco17",),
    ),
    Layout(
        "coco_lmdb",
        ("coco_lmdb",),
        _LMDB + "annotations/instances_train2017.json, images/train2017/*.jpg",
        "COCO 2017 as LMDB",
    ),
    Layout(
        "imagenet",
        ("vid",),
        "{Annotations,Data}/VID/train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000/000000.{xml,JPEG}",
        "ImageNet VID (ILSVRC2015)",
        ("vid", "imagenet_vid"),
    ),
    Layout(
        "imagenet_lmdb",
        ("vid_lmdb",),
        _LMDB + "cache.json, Data/VID/train/...",
        "ImageNet VID as LMDB",
        ("vid_lmdb",),
    ),
    Layout("tnl2k", ("tnl2k/train",), "<seq>/{imgs/*, groundtruth.txt, language.txt}", "TNL2K training, 1300"),
    Layout("tnl2k_test", ("tnl2k/test",), "<seq>/{imgs/*, groundtruth.txt, language.txt}", "TNL2K test, 700"),
    Layout("vasttrack", ("VastTrack/unisot_train_final_backup", "vasttrack/train"), _VAST, "VastTrack training, 47110"),
    Layout("vasttrack_test", ("VastTrack/test", "vasttrack/test"), _VAST, "VastTrack test, 3500"),
    Layout("nfs", ("nfs",), "sequences/<name>/00001.jpg, anno/nfs_<name>.txt", "NfS at 30 fps, test 100"),
    Layout("otb", ("otb",), "<Video>/{img/0001.jpg, groundtruth_rect*.txt}", "OTB-2015, test 100", ("otb100",)),
    Layout("uav", ("uav",), "data_seq/UAV123/<video>/000001.jpg, anno/UAV123/<name>.txt", "UAV123 test", ("uav123",)),
    Layout("itb", ("itb",), "<scene>/<video>/{*.jpg, groundtruth.txt}", "ITB test, 180"),
    Layout("tc128", ("TC128", "tc128"), "<name>/{img/0001.jpg, <name>_gt.txt, <name>_frames.txt}", "TC128 test"),
    Layout("vot2018", ("vot2018",), _VOT, "VOT2018", ("vot18",)),
    Layout("vot2019", ("vot2019",), _VOT, "VOT2019", ("vot19",)),
    Layout("vot2022", ("vot2022",), _VOT, "VOT2022", ("vot22",)),
    Layout("lasher", ("lasher/trainingset",), _RGBT, "LasHeR training (thermal), 979"),
    Layout("lasher_test", ("lasher/testingset",), _RGBT, "LasHeR test (thermal), 245", ("lasher_testingset",)),
    Layout("lasher_lmdb", ("lasher_lmdb",), _LMDB + _RGBT, "LasHeR training as LMDB"),
    Layout("rgbt234", ("rgbt234", "RGBT234"), _RGBT, "RGBT234 test (thermal), 234"),
    Layout("rgbt210", ("rgbt210", "RGBT210"), "<seq>/{visible/*, infrared/*, init.txt}", "RGBT210 test (thermal), 210"),
    Layout(
        "gtot",
        ("gtot", "GTOT"),
        "<seq>/{v/*.png, i/*.png, groundTruth_v.txt, groundTruth_i.txt, init.txt}",
        "GTOT test (thermal), 50",
    ),
    Layout("vtuav", ("vtuav/test/short-term", "vtuav"), _VTUAV, "VTUAV short-term test (thermal), 176", ("vtuav_st",)),
    Layout(
        "vtuav_lt",
        ("vtuav/test/long-term",),
        _VTUAV.replace("_ST_", "_LT_"),
        "VTUAV long-term test (thermal), 74",
    ),
    Layout("depthtrack", ("depthtrack/train",), _RGBD, "DepthTrack training (depth), 150"),
    Layout("depthtrack_test", ("depthtrack/test",), "list.txt, " + _RGBD, "DepthTrack test (depth), 50"),
    Layout("depthtrack_lmdb", ("depthtrack_lmdb",), _LMDB + _RGBD, "DepthTrack training as LMDB"),
    Layout(
        "vot_rgbd22",
        ("vot_rgbd22", "votrgbd2022"),
        "list.txt, <seq>/{color/00000001.jpg, depth/00000001.png, groundtruth.txt, sequence, anchor.value}",
        "VOT-RGBD2022 test (depth), 127",
        ("votrgbd22", "vot22rgbd", "vot_rgbd2022"),
    ),
    Layout("visevent", ("visevent/train",), "trainlist.txt, " + _RGBE, "VisEvent training (event), 500"),
    Layout("visevent_test", ("visevent/test",), "testlist.txt, " + _RGBE, "VisEvent test (event), 320"),
    Layout("visevent_lmdb", ("visevent_lmdb",), _LMDB + "trainlist.txt, " + _RGBE, "VisEvent training as LMDB"),
    Layout("tnl2k_lmdb", ("tnl2k_lmdb",), _LMDB + "<seq>/{imgs/*, groundtruth.txt, language.txt}", "TNL2K as LMDB"),
    Layout("vasttrack_lmdb", ("vasttrack_lmdb",), _LMDB + _VAST, "VastTrack training as LMDB"),
)

LAYOUTS: dict[str, Layout] = {row.key: row for row in _ROWS}
_ALIASES: dict[str, str] = {alias: row.key for row in _ROWS for alias in row.aliases}


def layout_of(key: str) -> Layout:
    """The row of a key or of one of its aliases, in any case; raises `UnknownKeyError` with the nearest known key."""
    folded = key.lower()
    folded = _ALIASES.get(folded, folded)
    if folded not in LAYOUTS:
        known = list(LAYOUTS)
        raise UnknownKeyError(f"unknown data set key {key!r}{suggest(key, known)} (known: {', '.join(known)})")
    return LAYOUTS[folded]
