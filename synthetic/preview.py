"""A contact sheet of worlds, with their true boxes, to look at what a seed and its settings give."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from lib.data import Frame, Image
from synthetic.dataset import SyntheticDataset

_BOX, _INK = (255, 230, 0), (255, 255, 255)


def _cell(frame: Frame, box_xywh: np.ndarray, label: str) -> Image:
    pictures = [frame.rgb] if frame.aux is None else [frame.rgb, frame.aux]
    drawn = []
    for picture in pictures:
        picture = np.ascontiguousarray(picture)
        x, y, w, h = box_xywh
        if w > 0:
            corner = (round(x + w) - 1, round(y + h) - 1)
            cv2.rectangle(picture, (round(x), round(y)), corner, _BOX, 1)
        drawn.append(picture)
    cell = np.concatenate(drawn, axis=0)
    cv2.rectangle(cell, (0, 0), (7 * len(label) + 4, 13), (0, 0, 0), -1)
    cv2.putText(cell, label, (2, 10), cv2.FONT_HERSHEY_SIMPLEX, 0.36, _INK, 1, cv2.LINE_AA)
    return cell


def contact_sheet(dataset: SyntheticDataset, sequences: int = 8, moments: int = 4) -> Image:
    """RGB picture: one row per sequence, `moments` frames across; aux pictures stand below their frames."""
    rows = []
    for k in range(min(sequences, len(dataset))):
        sequence = dataset[k]
        assert sequence.visible_ratio is not None
        cells = []
        for t in np.linspace(0, len(sequence) - 1, moments).round().astype(int).tolist():
            seen = f"{t}: {sequence.visible_ratio[t]:.2f}"
            label = f"{k} " + " ".join(sorted(sequence.attributes)) if t == 0 else seen
            cells.append(_cell(sequence.read_frame(t), sequence.boxes_xywh[t], label))
        rows.append(np.concatenate(cells, axis=1))
    return np.concatenate(rows, axis=0)


def save_sheet(sheet: Image, path: Path) -> None:
    """Write the sheet as a picture file. Raises OSError when that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR)):
        raise OSError(f"cannot write {path}")
