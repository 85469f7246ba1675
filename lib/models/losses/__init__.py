"""Losses on boxes and maps; no network in them."""

from lib.models.losses.box import generalised_iou, giou_loss
from lib.models.losses.distillation import disc_kd, kd_loss, qkv_kd, resize_map, saliency
from lib.models.losses.heatmap import focal_loss, gaussian_heatmap
from lib.models.losses.matching import cells_under
