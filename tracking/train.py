"""Train a tracker: starts one process, or one per GPU by torchrun, and passes on their exit code.

python tracking/train.py --script ostrack --config vitb_256_mae_ce_32x4_ep300 --save_dir ./output --mode multiple \
    --nproc_per_node 4
"""

from __future__ import annotations

import _bootstrap  # noqa: F401

from tracking._launch import main

if __name__ == "__main__":
    raise SystemExit(main())
