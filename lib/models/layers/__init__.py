"""Building blocks of backbones."""

from lib.models.layers.attention import (
    KEY,
    QUERY,
    VALUE,
    PosEmbedAttention,
    PosEmbedProjection,
    sincos_pos_embed,
    sine_pos_embed,
    split_heads,
)
from lib.models.layers.blocks import DropPath
from lib.models.layers.candidate_elimination import (
    box_rows,
    center_rows,
    drop_candidates,
    keep_rate,
    put_back,
    template_attention,
)
from lib.models.layers.conv_norm import convolution_norm
from lib.models.layers.deformable import DeformConv, DeformRoIPool, FusedDeformConvs, deform_conv, deform_roi_pool
from lib.models.layers.fused import (
    Convolution,
    FuseOptions,
    Product,
    attention_by_products,
    fuse_module,
    packed_products_win,
    packing_works,
    with_fused_children,
)
from lib.models.layers.masking import MaskRates, PatchMasks, hide
from lib.models.layers.numeric import at_least_float32, instance_l2_norm
from lib.models.layers.precise_roi_pool import LevelPooling, precise_roi_pool
from lib.models.layers.stem import sample_pictures
