"""The live demo: the product's own processes on one machine, a stream that is played, and a page that draws it.

The processes are those of `services/`, as compose and Kubernetes start them, on an embedded log and a registry in a
file. A player writes a simulated world into the log in the time of the clock on the wall. The demo itself reads the
log, asks the ranker as a product would, shows what it finds, and does what somebody asks for: it kills the distiller,
pushes a worse student, or rolls back.

It makes no student and judges none: the processes do.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

import recdistill
from recdistill.config import Settings
from recdistill.demo.folder import emptied
from recdistill.demo.live.acts import BACK, KILL, STORY, WORSE, Acts, Doing
from recdistill.demo.live.asking import Asking
from recdistill.demo.live.chosen import (
    CONTROL,
    CONTROL_FOLDER,
    FREEZE,
    PAST,
    RECENT_S,
    SHIFT,
    WINDOW_S,
    control_of,
    log_of,
    settings_of,
    world_of,
)
from recdistill.demo.live.cost import Measured, cost_of
from recdistill.demo.live.distiller import Distiller
from recdistill.demo.live.family import Family
from recdistill.demo.live.figures import Figures
from recdistill.demo.live.page import RUNTIME, Page
from recdistill.demo.live.player import Play
from recdistill.demo.live.quality import Quality, Scorer
from recdistill.demo.live.stream import Stream
from recdistill.demo.live.students import Control, Frozen, OnDevice
from recdistill.errors import RecdistillError, RegistryError, StreamError
from recdistill.ledger import NO_KEYS, Ledger
from recdistill.records import Feedback, Impression
from recdistill.registry import CHAMPION, Registry
from recdistill.stream import Log, open_log, standard_topics

PLAYER: Final = "player"
COST: Final = "cost"

LONGEST_S: Final = 900.0
"""How long the stream is where nobody says it. The page stays until Ctrl-C."""

_LOOK_S: Final = 3.0  # how often the registry is looked at
_SHOW_S: Final = 0.5
_LAST_S: Final = 2.5  # longer than the page waits between two looks
_PATIENCE_S: Final = 120.0  # so long acts may last when the stream is over
_LITTLE: Final = 0.02
"""The worse student learns only the first lists of the past: so much, as a share of the length of the stream."""

_LITTLE_S: Final = 5.0
"""But so many seconds at least."""


@dataclass(frozen=True)
class LiveOptions:
    """The options of the command line."""

    output: Path = Path("recdistill-demo")
    seed: int = 0
    seconds: float | None = None
    """How long the stream lasts; then the demo ends by itself. None: until Ctrl-C."""
    port: int = 0
    rate: float = 25.0
    """Lists a second."""
    measured: float = 25.0
    """Lists a second that are measured, if so many come."""
    price: float | None = None
    """What an hour of one processor costs; None: the default of `status.processor_hour`."""
    kafka: str | None = None
    """Addresses of Kafka brokers. None: the log is a file."""
    by_hand: bool = False
    """Whether nothing is killed, pushed or rolled back unless somebody asks for it."""


def run_live(options: LiveOptions) -> dict[str, Any]:
    """Runs the live demo, and returns the summary that it also writes to `summary.json`.

    Raises:
        RecdistillError: A process ended, or a part failed. The error says which.
    """
    out = emptied(options.output).resolve()
    with ExitStack() as ending, _stopped_by_signals():
        live = _Live(options, out, ending)
        _tell(f"the page: {live.page.url}")
        try:
            live.watch(live.begin())
        except KeyboardInterrupt:
            _tell("stopping")
        finally:
            live.end()
        summary = live.summary()
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


class _Live:
    """The parts of a running demo."""

    def __init__(self, options: LiveOptions, out: Path, ending: ExitStack) -> None:
        self._options, self._out, self._ending = options, out, ending
        self._seconds = options.seconds or LONGEST_S
        rank, health, other = _free_ports(3)
        log = log_of(out, options.kafka, f"demo-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.")
        settings: Settings = settings_of(
            out, rank, seed=options.seed, seconds=self._seconds, log=log, price=options.price
        )
        self._settings = settings
        self._family = Family(
            out, {"RECDISTILL_CONFIG": str(out / "settings.toml"), "RECDISTILL_HEALTH_PORT": ""}, may_end=(PLAYER,)
        )
        self._distiller = Distiller(self._family, Path(settings.distil.directory), health)
        self._beside = Distiller(self._family, out / CONTROL_FOLDER, other, name=CONTROL, env=control_of(settings))
        story = () if options.by_hand else [(name, share * self._seconds) for name, share in STORY]
        acts = {KILL: self._distiller.kill, WORSE: self._worse, BACK: self._back}
        self._acts = Acts(acts, story, lambda: self._serves)
        self.page = Page(
            options.port,
            act=self._acts.ask,
            device=OnDevice(settings.registry.uri, settings.registry.name, out / "device"),
            runtime=_runtime(),
        )
        ending.callback(self.page.close)
        self._log: Log = open_log(settings.log)
        ending.callback(self._log.close)
        self._log.create_topics(standard_topics())
        self._ledger = Ledger(self._log, settings.registry.name, NO_KEYS)
        ending.callback(self._ledger.close)
        self._frozen, self._control = Frozen(out / "frozen"), Control(out / CONTROL_FOLDER)
        self._begin_s = 0.0
        self._serves = False  # whether there is a champion
        self._timed = False  # whether a process finds what answers cost, or has found it
        self._figures = Figures(self._seconds, SHIFT * self._seconds)
        self._figures.runtime = _runtime() is not None

    def begin(self) -> Registry:
        """Starts the processes, waits until the world is made, and lets the stream begin. Returns their registry."""
        play = Play(
            log=self._settings.log,
            features=self._settings.features.file,
            seconds=self._seconds,
            past_s=PAST * self._seconds,
            seed=self._options.seed,
            world=world_of(seconds=self._seconds, rate=self._options.rate),
        )
        file = self._out / "play.json"
        file.write_bytes(msgspec.json.encode(play))
        self._family.start(PLAYER, "recdistill.demo.live.player", str(file))
        settings = self._settings.registry
        registry = Registry(settings.uri, settings.name, timeout_s=settings.timeout_s)
        registry.versions()  # makes the file, so that no two processes make it at once
        for name in ("ranker", "promoter", "scorer", "joiner"):
            self._family.start(name, f"services.{name}")
        _tell("the processes start, and a world is made")
        self._family.wait(lambda: Path(play.features).exists(), "the simulated world")
        self._distiller.start()
        self._beside.start()
        self._family.wait(lambda: self._distiller.ready() and self._beside.ready(), "a distiller")
        self._begin_s = time.time()
        self._family.say(PLAYER, str(int(self._begin_s * 1e6)))
        turn = SHIFT * self._seconds
        _tell(f"the stream runs for {self._seconds:.0f} s; all tastes turn after {turn:.0f} s")
        return registry

    def watch(self, registry: Registry) -> None:
        """Reads, asks, acts and shows, until the time is over."""
        asking = Asking("127.0.0.1", self._settings.rank.port, lambda name: stream.made_s.get(name, float("inf")))
        self._ending.callback(asking.close)
        contenders: dict[str, Scorer] = {
            "teacher": _logged,
            "live": asking,
            "frozen": self._frozen,
            "control": self._control,
        }
        quality = Quality(contenders, wait_s=2 * WINDOW_S, recent_s=RECENT_S)

        def shown(impression: Impression) -> None:
            quality.shown(impression, self._now_s())

        def clicked(feedback: Feedback) -> None:
            quality.clicked(feedback, self._now_s())

        stream = Stream(self._log, per_s=self._options.measured, shown=shown, clicked=clicked)
        self._ending.callback(stream.close)
        looked = painted = -1e9
        while not self._over():
            stream.read(0.1)
            quality.settle(self._now_s())
            self._acts.step(self._now_s())
            now = time.monotonic()
            if now - looked >= _LOOK_S:
                self._look(registry)
                looked = time.monotonic()
            if now - painted >= _SHOW_S:
                self._figures.take(
                    begin_s=self._begin_s,
                    now_s=self._now_s(),
                    stream=stream,
                    asking=asking,
                    quality=quality,
                    learnt=self._distiller.learnt(),
                    worked_s=self._family.worked_s("ranker"),
                )
                self._figures.acts = {"names": self._acts.names, "running": self._acts.running, "told": self._acts.told}
                self.page.show(self._figures.page())
                painted = now
            self._family.check(but=(WORSE, BACK, COST))

    def end(self) -> None:
        """Stops every process, and kills what does not stop. The page hears of it before it is closed."""
        self._figures.ended = True
        self.page.show(self._figures.page())
        shown = time.monotonic()
        self._family.stop()
        time.sleep(max(0.0, shown + _LAST_S - time.monotonic()))

    def summary(self) -> dict[str, Any]:
        """What the demo found."""
        return {"seed": self._options.seed, "seconds": self._seconds, **self._figures.summary()}

    # Acts

    def _worse(self) -> Doing:
        until = int(self._begin_s - PAST * self._seconds + max(_LITTLE_S, _LITTLE * self._seconds)) + 1
        folder = self._out / f"worse-{len(self._acts.told)}"
        self._family.start(WORSE, "recdistill.demo.live.worse", str(folder), f"@{until}")

        def over() -> str | None:
            if (ended := self._family.ended(WORSE)) is None:
                return None
            code, words = ended
            return f"It was promoted: {words}" if code == 0 else f"It was not promoted. {words}"

        return "Somebody pushes a student that has seen the first lists of the past only.", over

    def _back(self) -> Doing:
        self._family.start(BACK, "recdistill", "rollback", "--quiet", "--why", "a person asked for it in the demo")

        def over() -> str | None:
            ended = self._family.ended(BACK)
            return None if ended is None else f"{ended[1]}."

        return "Somebody rolls back to the version before.", over

    # Parts

    def _over(self) -> bool:
        """Whether the time is over, and the acts with it."""
        late_s = self._now_s() - self._seconds - 2 * WINDOW_S
        if self._options.seconds is None or late_s < 0:
            return False
        return late_s > _PATIENCE_S or not (self._acts.running or (self._serves and self._acts.waiting))

    def _now_s(self) -> float:
        return time.time() - self._begin_s

    def _look(self, registry: Registry) -> None:
        """Looks at the versions, and at newer bundles of the control."""
        self._control.look()
        try:
            versions, ledger = registry.versions(), self._ledger.look().changes
            self._figures.versions(versions, ledger, begin_s=self._begin_s)
            self._serves = bool(ledger)
            self._time(registry)
            if self._now_s() >= FREEZE * SHIFT * self._seconds:
                self._frozen.look(registry)
        except (RegistryError, StreamError):  # busy at the moment; it is looked at again
            return

    def _time(self, registry: Registry) -> None:
        """Lets a process find what answers cost, as soon as there is a champion, and takes what it found."""
        if not self._timed and (champion := registry.find(CHAMPION)) is not None:
            bundle = registry.take(champion.content_hash, self._out / COST)
            folder = self._out / f"{COST}-teacher"
            self._family.start(COST, "recdistill.demo.live.cost", str(bundle.path), str(folder))
            self._timed = True
        elif self._timed and self._figures.cost is None and (ended := self._family.ended(COST)) is not None:
            code, words = ended
            if code != 0:
                raise RecdistillError(f"demo --live: the costs were not found: {words}")
            found = msgspec.json.decode(words, type=Measured)
            self._figures.cost = cost_of(found, price=self._settings.status.processor_hour)


def _runtime() -> Path | None:
    """The folder of onnxruntime-web, if `make setup-browser` has put it there."""
    found = Path(recdistill.__file__).parents[1] / ".cache" / "browser" / "node_modules" / "onnxruntime-web" / "dist"
    return found if all((found / name).is_file() for name in RUNTIME) else None


def _logged(impression: Impression) -> NDArray[Any]:
    """The teacher's order: its scores are in the list."""
    scores = [candidate.logged_score for candidate in impression.candidates]
    return np.array([np.nan if score is None else score for score in scores], np.float64)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """SIGTERM stops the demo as Ctrl-C does."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell(text: str) -> None:
    print(f"   {text}", file=sys.stderr, flush=True)
