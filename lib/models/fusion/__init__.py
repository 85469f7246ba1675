"""Fusion of template and search region, and of two modalities."""

from lib.models.fusion.feature_fusion import FeatureFusion, FusionSize
from lib.models.fusion.spatial_compact import FusedSpatialCompact, SpatialCompactModule
