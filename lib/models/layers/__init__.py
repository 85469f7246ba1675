"""Building blocks of backbones."""

from lib.models.layers.adapted_block import AdaptedBlock
from lib.models.layers.candidate_elimination import (
    box_rows,
    center_rows,
    drop_candidates,
    keep_rate,
    put_back,
    template_attention,
)
from lib.models.layers.coded_attention import KEY, QUERY, VALUE, CodedAttention, CodedProjection
from lib.models.layers.drop_path import DropPath
from lib.models.layers.fused import (
    Convolution,
    FuseOptions,
    Product,
    attention_by_products,
    fuse_module,
    packing_works,
    with_fused_children,
)
from lib.models.layers.masking import MaskRates, PatchMasks, hide
from lib.models.layers.sine_code import sine_code
from lib.models.layers.stem import sample_pictures
from lib.models.layers.transformer import split_heads
