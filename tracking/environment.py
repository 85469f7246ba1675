"""Print the state of the environment: versions, device, JPEG decoder, VOT toolkit."""

import _bootstrap  # noqa: F401

from lib.bench import print_environment

if __name__ == "__main__":
    print_environment()
