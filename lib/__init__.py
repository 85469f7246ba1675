"""Visual object tracking: training and evaluation of RGB and RGB+X trackers in one library.

Floors, top to bottom: ``bench``, ``train`` > ``methods`` > ``deploy`` > ``objectives`` > ``track``, ``models`` >
``data``, ``viz`` > ``config`` > the single modules of this folder: ``catalogue`` (one row per data set), ``paths``,
``registry``, ``files`` (writing in one step), ``device``, ``cores``, ``distributed`` and ``launch`` (processes),
``command`` (exit codes). An import never goes up.
"""

import os
import sys

# ONNX Runtime and OpenVINO report to their makers over the network that they are used, unless this stands before their
# import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

# Threads that spin while they wait for each other are quickest on an idle machine and many times slower on a busy one,
# where they take the cores that they wait for. Only what is set before torch is imported counts.
if hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.5 * (os.cpu_count() or 1):
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
