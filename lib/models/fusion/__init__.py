"""How template and search region are brought together."""

from lib.models.fusion.feature_fusion import FeatureFusion, FusionSize
from lib.models.fusion.spatial_compact import FusedSpatialCompact, SpatialCompactModule
