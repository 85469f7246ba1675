"""The tracker contract (`protocol`), what trackers share, and a session for one video."""

from lib.track.exploring import SearchRegion, StagedTracker, TemplateRegion, TrackerOutput, windowed_scores_of
from lib.track.one_stream import CropSettings, OneStreamState, OneStreamTemplate, OneStreamTracker
from lib.track.protocol import Policy, Prediction, State, Tracker, checked_boxes, greedy
from lib.track.rollout import Rollout, roll_out
from lib.track.session import Box, TrackerSession, check_box
from lib.track.window import hann2d, hanning2d
