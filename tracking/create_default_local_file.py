"""Write one commented `local.yaml`: where data, weights and results lie on this machine."""

import argparse
import sys
from pathlib import Path

import _bootstrap  # noqa: F401

from lib.paths import default_local_yaml, local_yaml_path, write_local_yaml


def main() -> int:
    """Parse, write, say what was written; 2 when the file exists already."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace_dir", default=".", help="the checkout (default: here)")
    parser.add_argument("--data_dir", help="parent of the data set folders (default: WORKSPACE/data)")
    parser.add_argument("--save_dir", help="checkpoints, logs and results (default: WORKSPACE/output)")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")
    args = parser.parse_args()
    workspace = Path(args.workspace_dir)
    data_dir, save_dir = args.data_dir or workspace / "data", args.save_dir or workspace / "output"
    path = local_yaml_path()
    try:
        write_local_yaml(path, default_local_yaml(workspace, data_dir, save_dir), args.force)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {path}: data in {Path(data_dir).resolve()}, results in {Path(save_dir).resolve()}")
    print("edit it where a data set lies elsewhere; `python tracking/check_data.py` says what is found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
