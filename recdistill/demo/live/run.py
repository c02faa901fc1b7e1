"""The live demo: the product's own processes on one machine, a stream that is played, and a page that draws it.

The processes are those of `services/`, as compose and Kubernetes start them, on an embedded log and a registry in a
file. A player writes a simulated world into the log in the time of the clock on the wall. The demo itself reads the
log, asks the ranker as a product would, and shows what it finds.

It makes no student and judges none: the processes do.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

import recdistill
from recdistill.config import Settings
from recdistill.demo.folder import emptied
from recdistill.demo.live.asking import Asking
from recdistill.demo.live.chosen import SHIFT, WINDOW_S, settings_of, world_of
from recdistill.demo.live.figures import Figures
from recdistill.demo.live.member import Member
from recdistill.demo.live.page import Page
from recdistill.demo.live.player import Play
from recdistill.demo.live.quality import Quality
from recdistill.demo.live.stream import Stream
from recdistill.errors import RecdistillError, RegistryError, UsageError
from recdistill.judge import BundleContender
from recdistill.records import Feedback, Impression
from recdistill.registry import Registry
from recdistill.stream import Log, open_log, standard_topics

SERVICES: Final = ("scorer", "joiner", "distiller", "promoter", "ranker")
PLAYER: Final = "player"

LONGEST_S: Final = 900.0
"""How long the stream is where nobody says it. The page stays until Ctrl-C."""

_PATIENCE_S: Final = 180.0  # for the world and for the processes, on a slow machine
_STOP_S: Final = 30.0
_LOOK_S: Final = 2.0  # how often the registry is looked at
_SHOW_S: Final = 0.5
_RECENT_S: Final = 30.0


@dataclass(frozen=True)
class LiveOptions:
    """The options of the command line."""

    output: Path = Path("recdistill-demo")
    seed: int = 0
    seconds: float | None = None
    """How long the stream lasts; then the demo ends by itself. None: until Ctrl-C."""
    port: int = 0
    rate: float = 40.0
    """Lists a second."""
    measured: float = 12.0
    """Lists a second that are measured."""


def run_live(options: LiveOptions) -> dict[str, Any]:
    """Runs the live demo, and returns the summary that it also writes to `summary.json`.

    Raises:
        RecdistillError: A process ended, or a part failed. The error says which.
    """
    out = emptied(options.output).resolve()
    with ExitStack() as ending, _stopped_by_signals():
        page = Page(options.port)
        ending.callback(page.close)
        _tell(f"the page: {page.url}")
        live = _Live(options, out, page, ending)
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

    def __init__(self, options: LiveOptions, out: Path, page: Page, ending: ExitStack) -> None:
        self._options, self._out, self._page, self._ending = options, out, page, ending
        self._seconds = options.seconds or LONGEST_S
        self._members: dict[str, Member] = {}
        rank, self._health = _free_ports(2)
        self._settings: Settings = settings_of(out, rank, seed=options.seed)
        self._log: Log = open_log(self._settings.log)
        ending.callback(self._log.close)
        self._log.create_topics(standard_topics())
        self._frozen: BundleContender | None = None
        self._begin_s = 0.0
        self._figures = Figures(self._seconds, SHIFT * self._seconds)

    def begin(self) -> Registry:
        """Starts the processes, waits until the world is made, and lets the stream begin. Returns their registry."""
        play = Play(
            log=self._settings.log.path,
            features=self._settings.features.file,
            seconds=self._seconds,
            seed=self._options.seed,
            world=world_of(seconds=self._seconds, rate=self._options.rate),
        )
        file = self._out / "play.json"
        file.write_bytes(msgspec.json.encode(play))
        self._start(PLAYER, "recdistill.demo.live.player", str(file))
        settings = self._settings.registry
        registry = Registry(settings.uri, settings.name, timeout_s=settings.timeout_s)
        registry.versions()  # makes the file, so that no two processes make it at once
        for name in ("ranker", "promoter", "scorer", "joiner"):
            self._service(name)
        _tell("the processes start, and a world is made")
        self._wait(lambda: Path(play.features).exists(), "the simulated world")
        self._service("distiller")
        self._begin_s = time.time()
        self._members[PLAYER].say(str(int(self._begin_s * 1e6)))
        turn = SHIFT * self._seconds
        _tell(f"the stream runs for {self._seconds:.0f} s; all tastes turn after {turn:.0f} s")
        return registry

    def watch(self, registry: Registry) -> None:
        """Reads, asks and shows, until the time is over."""
        asking = Asking("127.0.0.1", self._settings.rank.port, lambda name: stream.made_s.get(name, float("inf")))
        self._ending.callback(asking.close)
        quality = Quality(
            {"teacher": _logged, "live": asking, "frozen": self._first}, wait_s=2 * WINDOW_S, recent_s=_RECENT_S
        )

        def shown(impression: Impression) -> None:
            quality.shown(impression, self._now_s())

        def clicked(feedback: Feedback) -> None:
            quality.clicked(feedback, self._now_s())

        stream = Stream(self._log, per_s=self._options.measured, shown=shown, clicked=clicked)
        self._ending.callback(stream.close)
        looked = painted = -1e9
        while self._options.seconds is None or self._now_s() < self._seconds + 2 * WINDOW_S:
            stream.read(0.1)
            quality.settle(self._now_s())
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
                    learnt=self._learnt(),
                )
                self._page.show(self._figures.page())
                painted = now
            self._check()

    def end(self) -> None:
        """Stops every process, and kills what does not stop."""
        for member in self._members.values():
            member.stop()
        until = time.monotonic() + _STOP_S
        for member in self._members.values():
            member.wait(max(0.0, until - time.monotonic()))
        self._figures.ended = True
        self._page.show(self._figures.page())

    def summary(self) -> dict[str, Any]:
        """What the demo found."""
        return {"seed": self._options.seed, "seconds": self._seconds, **self._figures.summary()}

    # Parts

    def _now_s(self) -> float:
        return time.time() - self._begin_s

    def _service(self, name: str) -> None:
        self._start(name, f"services.{name}")

    def _start(self, name: str, module: str, *arguments: str) -> None:
        root = Path(recdistill.__file__).parents[1]
        if not (root / "services").is_dir():
            raise UsageError(
                "demo --live: runs the processes of services/, which an installed package does not have; run it from a "
                "clone of recdistill"
            )
        env = {
            **os.environ,
            "RECDISTILL_CONFIG": str(self._out / "settings.toml"),
            "RECDISTILL_HEALTH_PORT": str(self._health) if name == "distiller" else "",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")])),
            "OMP_NUM_THREADS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        }
        self._members[name] = Member(name, module, *arguments, log=self._out / f"{name}.log", env=env, folder=self._out)

    def _wait(self, done: Any, what: str) -> None:
        until = time.monotonic() + _PATIENCE_S
        while not done():
            self._check()
            if time.monotonic() > until:
                raise RecdistillError(f"demo --live: {what} was not ready after {_PATIENCE_S:.0f} s; see {self._out}")
            time.sleep(0.05)

    def _check(self) -> None:
        """Makes sure that every process runs. The player may have come to its end."""
        for name, member in self._members.items():
            code = member.ended()
            if code is not None and not (name == PLAYER and code == 0):
                raise RecdistillError(f"demo --live: the {name} ended with code {code}: {member.last_words()}")

    def _look(self, registry: Registry) -> None:
        """Looks at the versions; the first champion becomes the frozen student."""
        try:
            versions, ledger = registry.versions(), registry.ledger()
            self._figures.versions(versions, ledger, begin_s=self._begin_s)
            if self._frozen is None and ledger:
                first = min(ledger, key=lambda entry: entry.step)
                self._frozen = BundleContender(registry.take(first.content_hash, self._out / "frozen"), "frozen")
        except RegistryError:  # busy at the moment; it is looked at again
            return

    def _first(self, impression: Impression) -> NDArray[Any] | None:
        return None if self._frozen is None else self._frozen.scores([impression])[0]

    def _learnt(self) -> int | None:
        """How many examples the distiller has learnt, as it tells Prometheus; None where it does not answer."""
        with suppress(OSError, ValueError):
            with urllib.request.urlopen(f"http://127.0.0.1:{self._health}/metrics", timeout=1) as answer:
                for line in answer.read().decode().splitlines():
                    name, _, value = line.partition(" ")
                    if name == "recdistill_distiller_examples_total":
                        return int(value)
            return 0
        return None


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
