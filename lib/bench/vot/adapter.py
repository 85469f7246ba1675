"""The tracker process of the VOT toolkit: one of our trackers behind the TraX protocol (`python -m lib.bench.vot`).

The toolkit starts it in a temporary folder with the environment that `trackers.ini` gives (see `AdapterOptions`). The
network is loaded before the handshake, and one process serves all runs of a sequence: it never announces `vot=python`,
with which the toolkit would restart it for each. An error goes to the toolkit as the reason of `quit`, to stderr in one
sentence, and to the log file in full.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from lib.bench.benchmarks import axis_aligned_boxes
from lib.bench.results import versions
from lib.bench.runner import describe
from lib.bench.spec import TrackerSpec
from lib.data import AuxRecipe, DirectoryStore, Frame, read_frame
from lib.paths import load_paths
from lib.track import Box, Prediction, TrackerSession, TrackingError

log = logging.getLogger(__name__)

PREFIX = "TRACKING_"
RECIPES = {"depth": AuxRecipe("depth"), "ir": AuxRecipe("picture")}
REGIONS = ("rectangle", "polygon", "mask")
CHANNELS = (("color",), ("color", "depth"), ("color", "ir"))


@dataclass(frozen=True)
class AdapterOptions:
    """Options from environment variables, each with `TRACKING_` before its name.

    Attributes:
        spec: The tracker: SCRIPT, CONFIG, CHECKPOINT, and OPTIONS, a JSON object of further fields of `TrackerSpec`.
        save_dir: SAVE_DIR, where checkpoints are.
        benchmark: BENCHMARK, for settings by benchmark.
        channels: CHANNELS, pictures of a frame: "color,depth", "color,ir" or "color".
        region: REGION, kind of the replies: "rectangle", "polygon" or "mask".
        identity: IDENTITY, hash of the tracker that the workspace was made for.
        workspace: WORKSPACE, whose cached analyses are out of date once this tracker has run.
    """

    spec: TrackerSpec
    save_dir: str | None = None
    benchmark: str | None = None
    channels: tuple[str, ...] = ("color", "depth")
    region: str = REGIONS[0]
    identity: str | None = None
    workspace: Path | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> AdapterOptions:
        """Read the options.

        Args:
            environment: Variables; those without the prefix, and empty ones, are ignored.

        Raises:
            ValueError: A variable is wrong; the message names it.
        """
        given = {k.removeprefix(PREFIX): v for k, v in environment.items() if k.startswith(PREFIX) and v}
        try:
            more = json.loads(given.get("OPTIONS", "{}"))
            more = {k: tuple(v) if isinstance(v, list) else v for k, v in more.items()}
            named = {k.lower(): given[k] for k in ("SCRIPT", "CONFIG", "CHECKPOINT") if k in given}
            spec = TrackerSpec(**{**more, **named})
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{PREFIX}OPTIONS: expected a JSON object of tracker options ({error})") from None
        if not spec.reference and not (spec.script and spec.config):
            remedy = "tracking/vot_workspace.py writes them to trackers.ini"
            raise ValueError(f"{PREFIX}SCRIPT and {PREFIX}CONFIG are not set; {remedy}")
        channels = tuple(given.get("CHANNELS", "color,depth").split(","))
        if channels not in CHANNELS:
            known = " or ".join(map(",".join, CHANNELS))
            raise ValueError(f"{PREFIX}CHANNELS is {','.join(channels)!r}; expected {known}")
        region = given.get("REGION", REGIONS[0])
        if region not in REGIONS:
            raise ValueError(f"{PREFIX}REGION is {region!r}; expected {' or '.join(REGIONS)}")
        workspace = Path(given["WORKSPACE"]) if "WORKSPACE" in given else None
        save_dir, benchmark, identity = (given.get(name) for name in ("SAVE_DIR", "BENCHMARK", "IDENTITY"))
        return cls(spec, save_dir, benchmark, channels, region, identity, workspace)

    def open(self) -> TrackerSession:
        """Build the tracker.

        Returns:
            A session that can be initialised.

        Raises:
            ValueError: The tracker is not the one that the workspace was made for; also what building it raises.
        """
        spec = self.spec.resolve(load_paths(save_dir=self.save_dir), self.benchmark)
        found = spec.identity().hash
        if self.identity and found != self.identity:
            remedy = "tracking/vot_workspace.py sets old results aside and makes it again"
            differs = "weights, configuration or precision are not those that this workspace was made for"
            raise ValueError(f"{differs}; {remedy}")
        log.info("tracker %s, identity %s, device %s", "/".join(spec.labels), found, spec.execution(0))
        tracker = spec.build()
        if self.region != REGIONS[0]:
            tracker.request_regions(self.region)
        return TrackerSession(tracker)


class Channel:
    """Server side of TraX, for vot-trax 4, and for 3, which has one object in place of a list."""

    def __init__(self, trax: ModuleType, channels: Sequence[str], region: str = REGIONS[0]) -> None:
        """Connect to the toolkit.

        Args:
            trax: The module of vot-trax.
            channels: Pictures of a frame.
            region: Kind of region in replies, announced in addition to rectangles and polygons.
        """
        self._trax = trax
        self._lists = "multiobject" in inspect.signature(trax.Server.__init__).parameters
        regions = dict.fromkeys([*REGIONS[:2], region])
        self._server = trax.Server(list(regions), [trax.Image.PATH], list(channels))
        self.wait = self._server.wait
        """The next request."""

    def region(self, request: Any) -> Box:
        """Read the box of an initialisation.

        Args:
            request: An "initialize" request.

        Returns:
            Box x, y, w, h, image pixels, rounded to TraX's four decimals (it arrives in single precision); of a polygon
            the box that the native evaluation gives.
        """
        region = request.objects[0][0] if self._lists else request.region
        if isinstance(region, self._trax.Polygon):
            corners = np.array([list(region)]).round(4)
            x, y, w, h = axis_aligned_boxes(corners.reshape(1, -1))[0].tolist()
            return x, y, w, h
        x, y, w, h = region.bounds()
        return round(x, 4), round(y, 4), round(w, 4), round(h, 4)

    def reply(self, box_xywh: Box, confidence: float | None = None, prediction: Prediction | None = None) -> None:
        """Answer the request, with the prediction's mask or polygon if it has one, else with the box.

        Args:
            box_xywh: Box, image pixels.
            confidence: Score; None for none.
            prediction: Of one row.
        """
        region = self._trax.Rectangle.create(*box_xywh)
        if prediction is not None and prediction.masks is not None:
            region = self._trax.Mask.create(prediction.masks[0].astype(np.uint8))
        elif prediction is not None and prediction.polygons is not None:
            region = self._trax.Polygon.create([(x, y) for x, y in prediction.polygons[0].tolist()])
        properties = {} if confidence is None else {"confidence": confidence}
        if self._lists:
            self._server.status([(region, properties)])
        else:
            self._server.status(region, properties)

    def quit(self, reason: str | None = None) -> None:
        """End the session.

        Args:
            reason: For the toolkit; vot-trax 3 cannot transmit it.
        """
        if reason is not None and self._lists:
            self._server.quit(reason)
        else:
            self._server.quit()


def pictures(request: Any, channels: Sequence[str]) -> Frame:
    """Read the frame of a request.

    Args:
        request: With a file per channel, colour first.
        channels: Their names; the second one is read by the recipe of its kind.

    Raises:
        ValueError: The request has another number of files.
    """
    paths = [image.path() for _, image in request.image.items()]
    if len(paths) != len(channels):
        raise ValueError(f"{len(paths)} pictures in a frame, expected {', '.join(channels)}")
    recipe = RECIPES[channels[1]] if len(channels) > 1 else None
    root = Path(paths[0]).absolute().anchor
    keys = [os.path.abspath(p).removeprefix(root) for p in paths]
    return read_frame(DirectoryStore(Path(root)), keys[0], keys[1] if len(keys) > 1 else None, recipe)


def serve(session: TrackerSession, channel: Channel, channels: Sequence[str]) -> None:
    """Answer requests until the toolkit quits.

    Args:
        session: The tracker.
        channel: Connection to the toolkit; it is still open if an error is raised.
        channels: Pictures of a frame.
    """
    frames = 0
    while True:
        request = channel.wait()
        if request.type == "quit":
            log.info("quit after %d frames", frames)
            return
        frame = pictures(request, channels)
        if request.type == "initialize":
            box = channel.region(request)
            log.info("run from %s, box %s", next(iter(request.image.values())).path(), ", ".join(f"{v:g}" for v in box))
            session.init(frame, box)
            channel.reply(box)
        else:
            try:
                box, score = session.update(frame)
            except TrackingError as error:
                raise TrackingError(f"{next(iter(request.image.values())).path()}: {error}") from None
            channel.reply(box, score, session.prediction)
        frames += 1


def main(environment: Mapping[str, str] | None = None) -> int:
    """Run the tracker process.

    Args:
        environment: Variables of `AdapterOptions`; None for those of the process.

    Returns:
        Exit code: 0 when the toolkit has quit, 1 after an error.
    """
    environment = os.environ if environment is None else environment
    _open_log(environment.get(f"{PREFIX}LOG"))
    try:
        import trax
    except ImportError:
        return _failed("vot-trax is not installed in this interpreter: pip install vot-trax==4.0.2")
    channels: Sequence[str] = ("color",)
    region = REGIONS[0]
    session, trouble = None, ""
    try:
        options = AdapterOptions.from_environment(environment)
        channels, region = options.channels, options.region
        session = options.open()
        if options.workspace is not None:
            # The toolkit keeps analyses by the tracker's name, and would give the old ones after new results.
            shutil.rmtree(options.workspace / "cache" / "analysis", ignore_errors=True)
    except Exception as error:
        log.info("the tracker cannot start", exc_info=error)
        trouble = f"the tracker cannot start: {describe(error)}"
    channel = Channel(trax, channels, region)
    log.info("connected by %s", trax.__file__)
    try:
        if session is None:
            channel.wait()  # the toolkit reads a reason in answer to a request only
            return _failed(trouble, channel)
        serve(session, channel, channels)
    except Exception as error:
        log.info("stopped", exc_info=error)
        return _failed(trouble or f"the tracker stopped: {describe(error)}", channel)
    return 0


def _open_log(path: str | None) -> None:
    """Direct the log to the file, or to nowhere, and write the versions of the libraries."""
    log.setLevel(logging.INFO)
    log.propagate = False
    log.handlers.clear()
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8") if path else logging.NullHandler()
    handler.setFormatter(logging.Formatter(f"%(asctime)s [{os.getpid()}] %(message)s"))
    log.addHandler(handler)
    log.info("started: %s", ", ".join(f"{name} {version}" for name, version in versions().items()))


def _failed(reason: str, channel: Channel | None = None) -> int:
    """Report an error to log, stderr and toolkit; returns the exit code 1."""
    log.error("error: %s", reason)
    print(f"error: {reason}", file=sys.stderr, flush=True)
    if channel is not None:
        try:
            channel.quit(reason)
        except Exception as error:  # the toolkit may be gone; the reason is in the log all the same
            log.info("quit was not sent: %s", describe(error))
    return 1
