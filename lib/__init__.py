"""Visual object tracking: training and evaluation of RGB and RGB+X trackers in one library.

Floors, top to bottom: ``bench``, ``train`` > ``methods`` > ``objectives`` > ``track``, ``models`` > ``data``,
``viz`` > ``config`` > ``registry``, ``paths`` and the other single modules of this folder: ``layouts`` (keys and
layouts of the data sets), ``local_file`` (a fresh ``local.yaml``), ``files`` (writing in one step), ``device``,
``cores``. An import never goes up.
"""

__version__ = "0.1.0"
