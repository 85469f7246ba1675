"""The tracker contract (`tracker`, `state`), the base of one-stream trackers, roll-outs, a session for one video."""

from lib.track.box_refinement import BoxRules
from lib.track.confidence import (
    FEATURES,
    Calibration,
    ConfidenceTracker,
    confidence_file,
    confidence_init,
    histogram_of_colours,
    measure_features,
    measured_step,
    status_of,
)
from lib.track.first_frame import FirstFrameAugment
from lib.track.localisation import Flag, LocalisationRules
from lib.track.one_stream import CropSettings, OneStreamState, OneStreamTracker, hann2d, hanning2d, mix_window
from lib.track.online_filter import OnlineFilter
from lib.track.reacquire import ReacquiringTracker, tile_boxes
from lib.track.regions import paste_mask, polygon_of, with_regions
from lib.track.rollout import Rollout, roll_out
from lib.track.sample_memory import MemoryRules, SampleMemory
from lib.track.session import Box, TrackerSession, TrackingError, check_box, check_prediction
from lib.track.state import Frames, Noise, Slots, State, row_noise, sequence_keys, update_rows
from lib.track.tracker import (
    Policy,
    Prediction,
    SearchRegion,
    StagedTracker,
    TemplateRegion,
    Tracker,
    TrackerOutput,
    WrappedTracker,
    checked_boxes,
)
