"""Print the state of the environment: versions, device, engines, JPEG decoder, VOT toolkit."""

from __future__ import annotations

import platform
import sys

import _bootstrap  # noqa: F401

from lib.command import run_command
from tracking._options import CommandParser


def print_environment() -> None:
    """Print versions, device, engines and JPEG decoder, a line each."""
    import torch

    from lib.bench import package_version
    from lib.data import jpeg_decoder_name
    from lib.device import choose_device

    device, reason = choose_device("auto")
    torchvision = package_version("torchvision")
    vot = package_version("vot-toolkit")
    engines = {name: package_version(package) for name, package in (("onnx", "onnxruntime"), ("openvino", "openvino"))}
    lines = {
        "python": platform.python_version(),
        "torch": f"{torch.__version__}, torchvision {torchvision}, {torch.get_num_threads()} threads",
        "device": f"{device} ({reason})",
        "engines": ", ".join(["torch", *(f"{name} {version}" for name, version in engines.items() if version)]),
        "JPEG decoder": jpeg_decoder_name(),
        "vot": f"toolkit {vot}" if vot else "not installed (bash install.sh)",
    }
    for topic, text in lines.items():
        print(f"  {topic + ':':<14} {text}")


if __name__ == "__main__":
    CommandParser(description=__doc__).parse_args()
    sys.exit(run_command(print_environment))
