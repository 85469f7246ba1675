"""Track RGB-E benchmarks; -h lists the options."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tracking._rgbx import RGBE, main

if __name__ == "__main__":
    sys.exit(main(RGBE, Path(__file__)))
