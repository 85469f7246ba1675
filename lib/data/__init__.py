"""Data path: stores, readers of data sets, frame sampling, crops, augmentation, loading. Imports no network."""

import lib.data._opencv
from lib.data.affine import warp_affine
from lib.data.augment import (
    AUGMENTATIONS,
    Augmentation,
    CropDraw,
    CrossBlur,
    Draws,
    Filter,
    PcaColour,
    becomes_grey,
    grey_picture,
    mirror_box,
    mirror_box_in_crop,
    plan_crop,
)
from lib.data.boxes import (
    centred_boxes,
    clip_box,
    clip_boxes,
    clip_centres,
    corners_to_xywh,
    cxcywh_to_xyxy,
    iou_xywh,
    jitter_box,
    soft_masks,
    soft_masks_of_targets,
    xywh_to_corners,
    xywh_to_cxcywh,
    xywh_to_xyxy,
)
from lib.data.check import CheckPart, CheckResult, check_part, check_parts, choose_parts
from lib.data.clips import (
    CLIP_SAMPLERS,
    AnnotatedClipSampler,
    CopyChanges,
    VisibleClipSampler,
    WholeFrames,
    changed_copy,
    copy_region,
    pack_clip,
    unpack_clip,
)
from lib.data.crop import (
    CROP_STYLES,
    Colours,
    CropError,
    CropPlan,
    CropRegion,
    CropStyle,
    PictureChanges,
    Pixels,
    TooLargeBoxError,
    TooSmallBoxError,
)
from lib.data.crop_styles import PySOTStyle, context_side, mean_colour, warp
from lib.data.degradation import Corruption, Degradation
from lib.data.device_crop import resize_cuts
from lib.data.inside_crop import InsideStyle, PatchStyle
from lib.data.io import (
    AnnotationError,
    BrokenFiles,
    BrokenReport,
    DecodeError,
    TooManyBadSamplesError,
    decode_depth,
    decode_image,
    decode_text,
    expect_form,
    number_array,
    number_rows,
    parse_boxes,
    parse_numbers,
    regular_table,
    to_number,
)
from lib.data.jpeg import JpegDecoder, gpu_jpeg_decoder, jpeg_decoder_name, use_jpeg_decoder
from lib.data.listing import check_name, picture_names
from lib.data.lmdb_build import (
    BuildError,
    PlanError,
    build_lmdb,
    count_files,
    finished_build,
    partial_folder,
    plan_lmdb,
    write_broken_list,
    write_sequence_list,
)
from lib.data.loader import (
    COLLATES,
    MAIN_GUARD,
    BatchLoader,
    WorkerError,
    build_clip_loader,
    build_loader,
    collate,
    machine_trouble,
)
from lib.data.modalities import (
    AuxRecipe,
    as_read,
    clip_depth,
    depth_to_levels,
    depth_to_picture,
    doubled,
    read_frame,
    rgb_alone,
)
from lib.data.normalise import Normalise, normalise_batch
from lib.data.processing import Processing
from lib.data.pseudo_labels import (
    LabelSettings,
    best_path,
    candidate_boxes,
    corner_scores,
    make_track,
    path_agreement,
    smooth_windows,
    window_agreement,
)
from lib.data.pseudo_labels_run import AdaptiveFlow, LabelJob, LabelReport, StoredFlow, make_labels
from lib.data.sampling import FRAME_SAMPLERS, FrameIds, FrameSampler, TrackingSampler, random_streams
from lib.data.sources import FrameSource, Grab, Source, SourceError, encode_picture, open_source
from lib.data.store import DirectoryStore, LmdbStore, Store, ZipStore, open_store
from lib.data.types import (
    Batch,
    Box,
    Boxes,
    ClipBatch,
    Dataset,
    Frame,
    FrameSet,
    Image,
    InvalidSampleError,
    Levels,
    Mask,
    Modality,
    Qualities,
    Rows,
    Sample,
    Video,
)
from lib.data.vot_lists import VotList, write_vot_list
