"""Visual object tracking: training and evaluation of RGB and RGB+X trackers in one library.

Floors, top to bottom: ``bench``, ``train`` > ``methods`` > ``deploy`` > ``objectives`` > ``track``, ``models`` >
``data``, ``viz`` > ``config`` > the single modules of this folder: ``catalogue`` (one row per data set), ``paths``,
``registry``, ``files`` (writing in one step), ``device``, ``cores``, ``distributed`` and ``launch`` (processes),
``command`` (exit codes). An import never goes up.
"""

import os

# Threads of a network that wait for each other give their core away instead of spinning: beside other work a small
# network is ten times as fast that way. Only what is set before torch is imported counts.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
