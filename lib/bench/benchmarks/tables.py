"""UAV123 (Mueller et al., ECCV 2016), NFS at 30 fps (Kiani Galoogahi et al., ICCV 2017), OTB-2015 (Wu et al., 2015).

Their sequences are cut from image folders; tables say which frames: `<path>/<k with nz digits>.<ext>` for
k = startFrame + initOmit ... endFrame, ground truth from row initOmit on.
"""

from __future__ import annotations

from functools import partial

from lib.bench.benchmarks.benchmark import Benchmark, register
from lib.data import AnnotationError, Store
from lib.data.datasets import Annotation, FrameFiles, StoredDataset, locate_root, numbered_files, positive, read_boxes
from lib.data.lists import load_list
from lib.layouts import layout_of


class TableDataset(StoredDataset):
    """Sequences of a table (a list file), named as result files are: `uav_bike1`, `nfs_Gymnastics`, `Basketball`."""

    def __init__(self, store: Store, table: str, name: str) -> None:
        rows = load_list(table)

        def looks_right(root: Store) -> bool:
            return any(root.exists(folder) for folder in {row["path"].partition("/")[0] for row in rows})

        root = locate_root(store, looks_right, name, layout_of(name).tree)
        super().__init__(root, [row["name"] for row in rows], name)
        self._rows = {row["name"]: row for row in rows}

    def _read(self, index: int) -> Annotation:
        row = self._rows[self.names[index]]
        omit = int(row.get("initOmit", 0))
        first, last = int(row["startFrame"]) + omit, int(row["endFrame"])
        wanted = last - first + 1
        boxes = read_boxes(self.store, row["anno_path"])[omit:]
        if len(boxes) < wanted - 1:
            where = self.store.describe(row["anno_path"])
            raise AnnotationError(f"{len(boxes)} rows in {where} for frames {first} to {last}")
        pattern = f"%0{row['nz']}d.{row['ext']}"
        files = numbered_files(self.store, row["path"], pattern, first, min(wanted, len(boxes)))
        if len(files) < wanted - 1:
            raise AnnotationError(f"{len(files)} frames in {self.store.describe(row['path'])}, expected {wanted}")
        boxes = boxes[: len(files)]
        valid = positive(boxes)
        return Annotation(boxes, valid, valid, FrameFiles(self.store, files), object_class=row.get("object_class"))


for _name, _title, _table, _aliases, _count in (
    ("uav", "UAV123", "uav123_sequences", ("uav123",), 123),
    ("nfs", "NFS", "nfs_sequences", ("nfs30",), 100),
    ("otb", "OTB-2015", "otb100_sequences", ("otb100", "otb2015"), 100),
):
    register(
        Benchmark(
            _name,
            _title,
            _name,
            partial(TableDataset, table=_table, name=_name),
            truth_files=(),
            aliases=_aliases,
            tag=_name,
            complete=_count,
        )
    )
