"""TrDiMP: transformer-assisted tracking by an online filter (Wang et al., CVPR 2021)."""

from __future__ import annotations

from lib.methods.trdimp.config import TrDiMPConfig, TrDiMPModel
from lib.methods.trdimp.network import ImageFeatures, TrDiMP, TrDiMPOutput
