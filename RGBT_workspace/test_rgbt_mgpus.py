"""Track RGB-T benchmarks; -h lists the options."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tracking._rgbx import RGBT, main

if __name__ == "__main__":
    sys.exit(main(RGBT, Path(__file__)))
