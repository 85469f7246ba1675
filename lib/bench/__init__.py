"""Evaluation: benchmarks, the runner and its queue, metrics, reports, and tools that measure or show a tracker."""

from lib.bench.analysis import Comparison, ResultSource, Scoring, load_runs, read_truth, with_attributes
from lib.bench.annotate import check_new_sequence, parse_marks, propagate, write_sequences, write_truth
from lib.bench.annotation_files import (
    read_coco,
    read_cvat,
    read_label_studio,
    read_labelme,
    read_mot,
    read_via,
    read_yolo,
    write_cvat,
    write_labelme,
)
from lib.bench.calibrate import ConfidenceSamples, calibrate_scores, collect_samples
from lib.bench.classical import REFERENCES, StaticTracker
from lib.bench.commands import (
    check_jobs,
    check_requests,
    run_test,
    run_tests,
    select_videos,
    start_processes,
    write_videos,
)
from lib.bench.cost import Cost, counting
from lib.bench.demo import SHIPPED, DemoResult, demo_spec, first_frame, track_frames, track_video
from lib.bench.evaluate import EvalJob, Outcome, run_evaluation
from lib.bench.export import export_tracker
from lib.bench.foreign import ForeignSpec
from lib.bench.profile import Effort, ProfileError, made_up_picture, profile_text, profile_tracker, time_calls
from lib.bench.queue import Summary, Team, WorkQueue
from lib.bench.result_files import (
    FORMATS,
    ResultFileError,
    read_boxes,
    read_column,
    read_rows,
    write_boxes,
    write_column,
)
from lib.bench.results import (
    FolderFiles,
    Identity,
    Result,
    ResultFolder,
    ResultsInUseError,
    find_results,
    package_version,
    read_manifest,
    read_results,
)
from lib.bench.robustness import (
    Curve,
    Robustness,
    Sweep,
    curves_by_kind,
    measure_robustness,
    robustness_table,
    write_robustness,
)
from lib.bench.run_differences import compare_runs
from lib.bench.runner import PictureSize, Runner, Supervised
from lib.bench.search_space import Span, settings_to_try
from lib.bench.spec import Execution, LoadedTracker, TrackerSpec, choose_dtype, engine_execution
from lib.bench.submit import SubmissionError, pack_submission, shortfall
from lib.bench.tune import Tuning, tune
from lib.bench.ways import Way, WayTiming, keep_ways, measure_ways, quickest, single_steps, ways_here, ways_text
