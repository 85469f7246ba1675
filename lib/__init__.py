"""Visual object tracking: training and evaluation of RGB and RGB+X trackers in one library.

Floors, top to bottom: ``bench``, ``train`` > ``methods`` > ``objectives`` > ``track``, ``models`` > ``data``,
``viz`` > ``config`` > ``registry``, ``paths``. An import never goes up.
"""

__version__ = "0.1.0"
