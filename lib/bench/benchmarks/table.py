"""The table of benchmarks, and the runs of their sequences.

Readers, folders and counts are those of the data set's row in `lib.catalogue`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lib.bench.benchmarks.benchmark import Benchmark, BenchmarkVideo, register_benchmark
from lib.data import AnnotationError, parse_numbers
from lib.data.datasets import Annotation, positive, read_text


def from_first_present(sequence: BenchmarkVideo, annotation: Annotation) -> BenchmarkVideo:
    """One run from the first frame with a target (VisEvent).

    Args:
        sequence: The video with its labels.
        annotation: Its annotation.

    Raises:
        AnnotationError: No frame has a box.
    """
    usable = positive(sequence.boxes_xywh)
    if annotation.present is not None and (usable & annotation.present).any():
        usable = usable & annotation.present
    if not usable.any():
        raise AnnotationError("no frame with a box to start on")
    return replace(sequence, start=int(np.argmax(usable)))


def unsupervised(sequence: BenchmarkVideo, annotation: Annotation) -> BenchmarkVideo:
    """One run from the first frame, without re-initialisation (VOT's long-term experiment).

    The target is present where the annotation has a box, not `nan`.

    Args:
        sequence: The video with its labels.
        annotation: Its annotation.

    Raises:
        AnnotationError: The first frame has no box.
    """
    present = np.asarray(np.isfinite(sequence.boxes_xywh).all(axis=1))
    if not present[0]:
        raise AnnotationError("the first frame has no box to start on")
    return replace(sequence, present=present, run_name="{name}_001")


def from_anchors(sequence: BenchmarkVideo, annotation: Annotation) -> BenchmarkVideo:
    """A run from every anchor (VOT's multi-start experiment).

    `anchor.value` has a number per frame: 1 starts a run forward to the last frame, -1 backward to the first. The
    attributes are the `<attribute>.tag` files with a 1 in them.

    Args:
        sequence: The video with its labels.
        annotation: Its annotation.

    Raises:
        AnnotationError: `anchor.value` is missing or has no anchor, or an anchor's frame has no box.
    """
    store, folder = annotation.frames.store, annotation.folder
    key = f"{folder}/anchor.value"
    where = store.describe(key)
    if not store.exists(key):
        raise AnnotationError(f"no {where} (a number per frame: 1 start forward, -1 start backward, 0 no start)")
    frames = len(sequence)
    values = parse_numbers(read_text(store, key), where)[:frames]
    anchors = np.flatnonzero(values).tolist()
    if not anchors:
        raise AnnotationError(f"{where}: no anchor, all values are 0")
    if empty := [i for i in anchors if not (np.isfinite(b := sequence.boxes_xywh[i]).all() and b[2:].min() > 0)]:
        raise AnnotationError(f"{where}: an anchor on frame {empty[0]}, which has no box to start on")
    passes = tuple(range(i, frames) if values[i] > 0 else range(i, -1, -1) for i in anchors)
    tags = [name for name in store.listdir(folder) if name.endswith(".tag")]
    tags = [name.removesuffix(".tag") for name in tags if "1" in read_text(store, f"{folder}/{name}").split()]
    attributes = sequence.attributes | frozenset(tags)
    return replace(sequence, passes=passes, run_name="{name}_{first:08d}", attributes=attributes)


_VTUAV = "MPR/MSR as on RGBT234, on the annotated frames; not compared with the official MATLAB tool"
_VOT = "one-pass scores on the upright boxes round VOT's regions; VOT's own measures come from its toolkit"

for _benchmark in (
    Benchmark("lasot", "LaSOT", "lasot", needs=("present",), tag="lasot"),
    Benchmark("lasot_lmdb", "LaSOT from LMDB", "lasot_lmdb", needs=("present",), tag="lasot"),
    Benchmark(
        "lasot_extension_subset", "LaSOT extension", "lasot_extension_subset", needs=("present",),
        aliases=("lasot_ext", "lasotext", "lasot_extension"), tag="lasot_extension_subset",
    ),
    Benchmark(
        "synthetic", "Synthetic", "synthetic", needs=("present",), aliases=("synthetic_test",), tag="lasot",
        result_format="float_comma",
    ),
    Benchmark(
        "got10k_test", "GOT-10k test", "got10k_test", aliases=("got10k",), metric="got10k", scored=False,
        submission="got10k",
    ),
    Benchmark(
        "got10k_val", "GOT-10k validation", "got10k_val", "validation", needs=("visible_ratio",), sized=True,
        metric="got10k",
    ),
    # The training sequences that OSTrack's family holds out.
    Benchmark(
        "got10k_ltrval", "GOT-10k ltrval", "got10k", "ltrval", needs=("visible_ratio",), sized=True, metric="got10k"
    ),
    Benchmark(
        "trackingnet", "TrackingNet", "trackingnet", aliases=("trackingnet_test",), scored=False,
        submission="trackingnet",
    ),
    Benchmark("uav", "UAV123", "uav", aliases=("uav123",), tag="uav"),
    Benchmark("nfs", "NFS", "nfs", aliases=("nfs30",), tag="nfs"),
    Benchmark("otb", "OTB-2015", "otb", aliases=("otb100", "otb2015"), tag="otb"),
    Benchmark("itb", "ITB", "itb", tag="otb"),
    Benchmark("tc128", "TC-128", "tc128", tag="tc128"),
    Benchmark("tc128ce", "TC-128 (_ce)", "tc128", tag="tc128", options={"ending": "_ce"}),
    Benchmark("vot2018", "VOT2018, one pass", "vot2018", aliases=("vot18",), tag="vot", note=_VOT),
    Benchmark("vot2019", "VOT2019, one pass", "vot2019", aliases=("vot19",), tag="vot", note=_VOT),
    Benchmark("vot2022", "VOT2022, one pass", "vot2022", aliases=("vot22",), tag="vot", note=_VOT),
    Benchmark("tnl2k", "TNL2K", "tnl2k_test", aliases=("tnl2k_test",), tag="tnl2k"),
    Benchmark("vasttrack", "VastTrack", "vasttrack_test", aliases=("vasttrack_test",), tag="vasttrack"),
    Benchmark(
        "lasher", "LasHeR", "lasher_test", aliases=("lasher_test",), metric="lasher", result_format="float_space",
        attributes="lasher_test_attributes",
    ),
    Benchmark(
        "rgbt234", "RGBT234", "rgbt234", metric="rgbt234", result_format="float_space", attributes="rgbt234_attributes"
    ),
    Benchmark("rgbt210", "RGBT210", "rgbt210", metric="rgbt210", result_format="float_space"),
    Benchmark("gtot", "GTOT", "gtot", metric="gtot", result_format="float_space"),
    Benchmark(
        "vtuav", "VTUAV short-term", "vtuav", scored_every=10, aliases=("vtuav_st", "vtuavst"), metric="rgbt234",
        result_format="float_space", note=_VTUAV,
    ),
    Benchmark(
        "vtuav_lt", "VTUAV long-term", "vtuav_lt", scored_every=10, aliases=("vtuavlt",), metric="rgbt234",
        result_format="float_space", note=_VTUAV,
    ),
    Benchmark(
        "visevent", "VisEvent", "visevent_test", runs=from_first_present, aliases=("visevent_test",), metric="matlab",
        result_format="float_comma", attributes="visevent_test_attributes",
    ),
    Benchmark(
        "depthtrack", "DepthTrack", "depthtrack_test", runs=unsupervised, sized=True, aliases=("depthtrack_test",),
        metric="vot_longterm", result_format="vot",
    ),
    Benchmark(
        "vot_rgbd22", "VOT-RGBD2022", "vot_rgbd22", runs=from_anchors, sized=True,
        aliases=("votrgbd22", "vot_rgbd2022", "votrgbd2022", "vot22_rgbd", "vot22rgbd"), metric="vot_multistart",
        result_format="vot",
    ),
):  # fmt: skip
    register_benchmark(_benchmark)
