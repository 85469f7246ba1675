r"""Write a tracker's network for another runtime: graphs, and a JSON file that describes their use.

  python tracking/export.py loretrack loretrack_128 --output exported/loretrack_128
  python tracking/export.py ostrack vitb_256_mae_ce_32x4_ep300 --output exported/ostrack --engine openvino
  python tracking/export.py loretrack loretrack_96 --output exported/loretrack_96 \
      --engine openvino-int8 --calibration GOT10K_vottrain

FOLDER/template.* is run once per target, FOLDER/frame.* once per frame; they read uint8 pixels, for any number of rows.
CSTrack has an update.*, for a new template, and SiamAttn a refine.*, for the box that was chosen.
FOLDER/graphs.json has names and shapes of their inputs and outputs, sizes and factors of the crops, and the weights'
SHA-256. Before anything is called done, the runtime computes all graphs and is compared with PyTorch.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import _bootstrap  # noqa: F401

from lib.command import run_command
from lib.config import add_experiment_options
from tracking._options import CommandParser, add_folder_options

PURPOSES = {"template": "target", "frame": "frame", "update": "new template", "refine": "chosen box"}
"""Purpose of each graph."""


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(description=__doc__)
    parser.add_argument("script", help="method: a folder of experiments/ (ostrack)")
    parser.add_argument("config", help="YAML file in experiments/SCRIPT, without its ending")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where to write")
    parser.add_argument(
        "--engine",
        "--format",
        default="onnx",
        choices=["onnx", "openvino", "onnx-int8", "openvino-int8"],
        help="whose files: ONNX (default) or OpenVINO's .xml and .bin; int8: most products in 8 bits",
    )
    parser.add_argument(
        "--calibration",
        default="",
        metavar="DATASET",
        help="for int8: data set, as in DATASETS_NAME of a configuration (default: procedural sequences)",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="weights, also in the checkpoint folder, or 'latest' (default: epoch TEST.EPOCH)",
    )
    parser.add_argument("--untrained", action="store_true", help="random weights, for a test")
    add_folder_options(parser, "where checkpoints are")
    add_experiment_options(parser)
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> None:
    from lib.bench import TrackerSpec, export_tracker
    from lib.files import require_writable
    from lib.paths import load_paths

    require_writable(options.output)
    paths = load_paths(data_dir=options.data_dir, save_dir=options.save_dir)
    protocol = "fast" if options.engine.endswith("int8") else "official"
    spec = TrackerSpec.from_options(options, protocol=protocol, device="cpu").resolve(paths)
    print(f"exporting {' '.join(spec.labels)} (a minute, for large networks) ...", flush=True)
    print(export_text(options.output, export_tracker(spec, options.output)))


def export_text(folder: Path, values: dict[str, Any]) -> str:
    """Summary of an export for a terminal.

    Args:
        folder: Where the graphs were written.
        values: Content of `graphs.json`, which `export_tracker` returned.
    """
    lines = []
    for name, graph in values["graphs"].items():
        files = folder.glob(f"{Path(graph['file']).stem}.*")  # the graph and its weight files
        size = sum(f.stat().st_size for f in files) / 2**20
        lines.append(f"{folder / graph['file']}: {size:.1f} MiB, once per {PURPOSES[name]}")
        for way in ("inputs", "outputs"):
            for tensor, about in graph[way].items():
                shape = " x ".join(str(n) for n in about["shape"])
                lines.append(f"  {way[:-1]:<7} {tensor:<18} {shape} {about['dtype']}")
    worst = max(values["parity"].values())
    lines.append(f"compared with PyTorch: mean deviation of outputs at most {worst:.1e} of their range")
    lines.append(f"description: {folder / 'graphs.json'}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    return run_command(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
