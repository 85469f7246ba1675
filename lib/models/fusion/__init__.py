"""Fusion of template and search region, and of two modalities."""

from lib.models.fusion.denoising_unet import DenoisingUNet, UNetSize
from lib.models.fusion.diffusion import Conditions, Diffusion, DiffusionDraws, NoiseLevel, cosine_schedule
from lib.models.fusion.feature_fusion import FeatureFusion, FusionSize
from lib.models.fusion.graph import AdjacencyGenerator, GraphFusion, rank
from lib.models.fusion.pyramid import FeatureEnhance, PyramidFusion, channel_attention
from lib.models.fusion.spatial_compact import FusedSpatialCompact, SpatialCompactModule
