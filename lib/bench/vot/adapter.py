"""The tracker process of the VOT toolkit: one of our trackers behind the TraX protocol (`python -m lib.bench.vot`).

The toolkit starts it in a temporary folder with the environment that `trackers.ini` gives (see `Choice`). The network
is loaded before the handshake, and one process serves all runs of a sequence: it never announces `vot=python`, which
would have it restarted for each. What goes wrong is told to the toolkit as the reason of the farewell, on stderr in one
sentence, and in the log file in full.
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

from lib.bench.manifest import versions
from lib.bench.runner import describe
from lib.bench.testing import TrackerChoice
from lib.data import AuxRecipe, DirectoryStore, Frame, read_frame
from lib.paths import load_paths
from lib.track import Box, TrackerSession

log = logging.getLogger(__name__)

PREFIX = "TRACKING_"
RECIPES = {"depth": AuxRecipe("depth"), "ir": AuxRecipe("picture")}
CHANNELS = (("color",), ("color", "depth"), ("color", "ir"))


@dataclass(frozen=True)
class Choice:
    """What the environment says, each name with `TRACKING_` before it.

    tracker: SCRIPT, CONFIG, CHECKPOINT, and OPTIONS, a JSON object of further fields of `TrackerChoice`.
    SAVE_DIR: where checkpoints are. BENCHMARK: for settings that a method has for it. LOG: the log file.
    CHANNELS: pictures of a frame, "color,depth", "color,ir" or "color".
    IDENTITY: hash of the tracker that the workspace was made for.
    WORKSPACE: whose cached analyses are out of date once this tracker has run.
    """

    tracker: TrackerChoice
    save_dir: str | None = None
    benchmark: str | None = None
    channels: tuple[str, ...] = ("color", "depth")
    identity: str | None = None
    workspace: Path | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Choice:
        """Raises ValueError naming the variable that is wrong."""
        given = {k.removeprefix(PREFIX): v for k, v in environment.items() if k.startswith(PREFIX) and v}
        try:
            more = json.loads(given.get("OPTIONS", "{}"))
            more = {k: tuple(v) if isinstance(v, list) else v for k, v in more.items()}
            named = {k.lower(): given[k] for k in ("SCRIPT", "CONFIG", "CHECKPOINT") if k in given}
            tracker = TrackerChoice(**{**more, **named})
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{PREFIX}OPTIONS: expected a JSON object of tracker options ({error})") from None
        if not tracker.reference and not (tracker.script and tracker.config):
            raise ValueError(
                f"{PREFIX}SCRIPT and {PREFIX}CONFIG are not set; tracking/vot_workspace.py writes them to trackers.ini"
            )
        channels = tuple(given.get("CHANNELS", "color,depth").split(","))
        if channels not in CHANNELS:
            known = " or ".join(map(",".join, CHANNELS))
            raise ValueError(f"{PREFIX}CHANNELS is {','.join(channels)!r}; expected {known}")
        workspace = given.get("WORKSPACE")
        return cls(
            tracker,
            given.get("SAVE_DIR"),
            given.get("BENCHMARK"),
            channels,
            given.get("IDENTITY"),
            Path(workspace) if workspace else None,
        )

    def open(self) -> TrackerSession:
        """The tracker, ready to be initialised; raises what building it raises, and ValueError for another identity."""
        factory = self.tracker.factory(load_paths(save_dir=self.save_dir), self.benchmark)
        found = factory.identity().hash
        if self.identity and found != self.identity:
            raise ValueError(
                "weights, configuration or precision are not those that this workspace was made for; "
                "tracking/vot_workspace.py sets old results aside and makes it anew"
            )
        log.info("tracker %s, identity %s, device %s", "/".join(factory.labels), found, factory.execution(0))
        return TrackerSession(factory.build(0))


class Channel:
    """The server side of TraX, alike for vot-trax 4 and 3, which has one object and no list of them."""

    def __init__(self, trax: ModuleType, channels: Sequence[str]) -> None:
        self._trax = trax
        self._lists = "multiobject" in inspect.signature(trax.Server.__init__).parameters
        self._server = trax.Server(["rectangle"], [trax.Image.PATH], list(channels))

    def wait(self) -> Any:
        """The next request."""
        return self._server.wait()

    def region(self, request: Any) -> Box:
        """The box x, y, w, h of an initialisation: the four decimals that TraX sends, not what single precision makes
        of them.
        """
        x, y, w, h = (request.objects[0][0] if self._lists else request.region).bounds()
        return round(x, 4), round(y, 4), round(w, 4), round(h, 4)

    def reply(self, box_xywh: Box, confidence: float | None = None) -> None:
        """Answer the request."""
        region = self._trax.Rectangle.create(*box_xywh)
        properties = {} if confidence is None else {"confidence": confidence}
        if self._lists:
            self._server.status([(region, properties)])
        else:
            self._server.status(region, properties)

    def quit(self, reason: str | None = None) -> None:
        """Say farewell; vot-trax 3 cannot give a reason."""
        if reason is not None and self._lists:
            self._server.quit(reason)
        else:
            self._server.quit()


def pictures(request: Any, channels: Sequence[str]) -> Frame:
    """The frame of a request: files by channel, colour first, the second one by the recipe of its kind."""
    paths = [image.path() for _, image in request.image.items()]
    if len(paths) != len(channels):
        raise ValueError(f"{len(paths)} pictures in a frame, expected {', '.join(channels)}")
    recipe = RECIPES[channels[1]] if len(channels) > 1 else None
    return read_frame(DirectoryStore(Path()), paths[0], paths[1] if len(paths) > 1 else None, recipe)


def serve(session: TrackerSession, channel: Channel, channels: Sequence[str]) -> None:
    """Answer requests until the toolkit says quit. What goes wrong is raised; the channel is still open then."""
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
            box, score = session.update(frame)
            channel.reply(box, score)
        frames += 1


def main(environment: Mapping[str, str] | None = None) -> int:
    """The process; 0 when the toolkit said quit, 1 when something went wrong."""
    environment = os.environ if environment is None else environment
    _open_log(environment.get(f"{PREFIX}LOG"))
    try:
        import trax
    except ImportError:
        return _failed("vot-trax is not installed in this interpreter: pip install vot-trax==4.0.2")
    channels: Sequence[str] = ("color",)
    session, trouble = None, ""
    try:
        choice = Choice.from_environment(environment)
        channels = choice.channels
        session = choice.open()
        _forget_analyses(choice.workspace)
    except Exception as error:
        log.info("the tracker cannot start", exc_info=error)
        trouble = f"the tracker cannot start: {describe(error)}"
    channel = Channel(trax, channels)
    log.info("connected by %s", trax.__file__)
    try:
        if session is None:
            channel.wait()  # the reason of a farewell is heard in answer to a request only
            return _failed(trouble, channel)
        serve(session, channel, channels)
    except Exception as error:
        log.info("stopped", exc_info=error)
        return _failed(f"the tracker stopped: {describe(error)}", channel)
    return 0


def _open_log(path: str | None) -> None:
    """Where the log goes: to the file, or nowhere."""
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
    log.error("error: %s", reason)
    print(f"error: {reason}", file=sys.stderr, flush=True)
    if channel is not None:
        try:
            channel.quit(reason)
        except Exception as error:  # the toolkit may be gone; the reason is in the log all the same
            log.info("no farewell: %s", describe(error))
    return 1


def _forget_analyses(workspace: Path | None) -> None:
    """The toolkit keeps analyses by the tracker's name, and would give the old ones after new results."""
    if workspace is not None:
        shutil.rmtree(workspace / "cache" / "analysis", ignore_errors=True)
