"""`python -m lib.bench.vot`, as `trackers.ini` has it."""

import sys

from lib.bench.vot.adapter import main

if __name__ == "__main__":
    sys.exit(main())
