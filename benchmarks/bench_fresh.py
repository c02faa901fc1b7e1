"""How long it takes until a student has learnt what a teacher said, and what somebody clicked.

The processes are those of `services/`, as compose starts them, with their default settings: a teacher behind HTTP, a
scorer, a joiner and a distiller, on an embedded log or, with `--kafka`, on a broker. This process is the product. It
writes lists at a steady rate, each with the time of the clock as its own time, and a second later a click on one list
of twenty. It asks the distiller again and again how many examples it has learnt, and reads the order of the examples
in the end. So it knows of each list when the teacher scored it and when the student had learnt it.

The window for clicks is short here, since nobody wants to wait half an hour. What is told of clicks is the time beyond
the window: from the end of the window to the moment when the label is learnt. The distiller makes bundles meanwhile.
The stream ends in silence, and the last lists are learnt all the same.

    python -m benchmarks.bench_fresh
    python -m benchmarks.bench_fresh --kafka

It knows nothing of how a student learns.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import threading
import time
import urllib.request
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from benchmarks.forms import Options, absent
from benchmarks.inputs import ROOT
from recdistill.config import (
    DistilSettings,
    FeatureSettings,
    HeldOutSettings,
    HttpTeacherSettings,
    JoinSettings,
    LogSettings,
    Settings,
    TeacherSettings,
    to_toml,
)
from recdistill.features import FeatureSpec, HistorySpec, IdSpec
from recdistill.loops.feed import feed
from recdistill.records import Candidate, Event, Feedback, Impression, Item
from recdistill.stream import Lanes, Log, open_log, standard_topics
from tools import processes
from tools.kafka_broker import KafkaBroker, missing_parts

SERVICES = ("scorer", "joiner", "distiller")
CLICKED = 20
"""One list of so many is clicked on."""

_TICK_S = 0.05
_PATIENCE_S = 180.0


class Shown(NamedTuple):
    """The figures of one kind of record, in seconds."""

    median: float
    late: float
    """p99."""
    latest: float
    count: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Shown:
        """The figures of some records; there must be at least one."""
        median, late = np.quantile(seconds, (0.5, 0.99))
        return cls(float(median), float(late), float(max(seconds)), len(seconds))

    def __str__(self) -> str:
        return f"p50 {self.median:.2f} s, p99 {self.late:.2f} s, longest {self.latest:.2f} s ({self.count:,} records)"


class Learnt:
    """Asks the distiller how many examples it has learnt, in a thread of its own.

    Args:
        count: Asks once; None where there is no answer.
        every_s: How often.
    """

    def __init__(self, count: Callable[[], int | None], every_s: float = 0.05) -> None:
        self._count, self._every_s = count, every_s
        self._ended = threading.Event()
        self.counts: list[int] = []
        self.times: list[float] = []
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    @property
    def count(self) -> int:
        """How many are learnt now."""
        return self.counts[-1] if self.counts else 0

    def at(self, place: int) -> float | None:
        """When the example at a place of the one order was learnt, at the latest; None: it is not."""
        found = bisect_right(self.counts, place)
        return self.times[found] if found < len(self.times) else None

    def close(self) -> None:
        """Ends the thread."""
        self._ended.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._ended.wait(self._every_s):
            if (count := self._count()) is not None and count > self.count:
                self.times.append(time.time())
                self.counts.append(count)


def settings_of(folder: Path, log: LogSettings, teacher: str, window_s: float) -> Settings:
    """The services' defaults, but for the window, for one thread, for bundles that stay in their folder, and nobody is
    held out: so it is known how many lists there must be.
    """
    features = folder / "features.toml"
    spec = FeatureSpec(history=HistorySpec(length=20, actions=("click",)), id=IdSpec(capacity=100_000, hashed=64))
    features.write_text(to_toml(msgspec.to_builtins(spec)), encoding="utf-8")
    http = HttpTeacherSettings(url=teacher, model="strong", inputs={"items": "candidates"})
    return Settings(
        log=log,
        features=FeatureSettings(file=str(features)),
        teacher=TeacherSettings(kind="http", id="strong", scale="logit", http=http),
        join=JoinSettings(window_s=window_s, directory=str(folder / "join")),
        held_out=HeldOutSettings(most=0.0),
        distil=DistilSettings(
            directory=str(folder / "student"),
            checkpoint_every=100,
            export_every=0,
            export_every_examples=2048,
            publish=False,
            threads=1,
        ),
    )


def lists(count: int, first: int, items: int, now_us: int) -> list[Impression]:
    """Lists of 50 candidates and 20 events, which have this time."""
    made = []
    for n in range(first, first + count):
        chance = random.Random(n)
        some = chance.sample(range(items), 70)
        events = [Event(f"item-{i}", now_us - 60_000_000 + k, "click") for k, i in enumerate(some[50:])]
        candidates = tuple(Candidate(f"item-{i}") for i in some[:50])
        made.append(
            Impression(f"list-{n}", now_us, user=f"user-{n % 5000}", history=tuple(events), candidates=candidates)
        )
    return made


def play(log: Log, *, first: int, seconds: float, rate: float, items: int) -> int:
    """Writes lists and clicks as time goes by. Returns how many lists."""
    began, written, waiting = time.time(), 0, list[tuple[float, Feedback]]()
    while (now := time.time()) - began < seconds:
        due = int((now - began) * rate) - written
        now_us = time.time_ns() // 1000
        some = lists(due, first + written, items, now_us)
        written += due
        waiting += [
            (now + 1.0, Feedback(f"f-{one.id}", one.id, one.candidates[3].item, "click", time_us=now_us + 1_000_000))
            for one in some
            if int(one.id.split("-")[1]) % CLICKED == 0
        ]
        clicks = [click for at_s, click in waiting if at_s <= now]
        waiting = [one for one in waiting if one[0] > now]
        if some or clicks:
            feed(log, [*some, *clicks])
        time.sleep(_TICK_S)
    return written


class _Teacher(BaseHTTPRequestHandler):
    """Answers as a server of the Open Inference Protocol does; the score is that of the item alone."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        tensor = {"datatype": "FP32", "shape": [-1, -1]}
        inputs = [{"name": "items", "datatype": "BYTES", "shape": [-1, -1]}]
        self._say({"name": "strong", "versions": ["1"], "inputs": inputs, "outputs": [{"name": "scores", **tensor}]})

    def do_POST(self) -> None:
        [asked] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]
        scores = [int(item[5:]) * 2654435761 % 1000 / 200 for item in asked["data"]]
        output = {"name": "scores", "datatype": "FP32", "shape": asked["shape"], "data": scores}
        self._say({"model_name": "strong", "model_version": "1", "outputs": [output]})

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def _say(self, answer: Any) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def measure(folder: Path, log_settings: LogSettings, chosen: Any) -> tuple[Shown, Shown]:
    """Runs the stream. Returns what is known of scores, and of labels beyond the window.

    Raises:
        SystemExit: A process ended, or did not begin, or something was never learnt.
    """
    port, health = processes.free_ports(2)
    settings = settings_of(folder, log_settings, f"http://127.0.0.1:{port}", chosen.window)
    config = folder / "settings.toml"
    config.write_text(to_toml(msgspec.to_builtins(settings)), encoding="utf-8")
    log = open_log(log_settings)
    running: dict[str, Any] = {}
    with ExitStack() as ending:
        ending.callback(log.close)
        log.create_topics(standard_topics(partitions=chosen.partitions, lanes=chosen.lanes))
        feed(log, [Item(f"item-{n}", 1, time_us=1) for n in range(chosen.items)])
        env = {**os.environ, "RECDISTILL_CONFIG": str(config), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        modules = {"teacher": ("benchmarks.bench_fresh", "--serve", str(port))}
        modules |= {name: (f"services.{name}",) for name in SERVICES}

        def begin(name: str) -> None:
            own = {**env, "RECDISTILL_HEALTH_PORT": str(health) if name == "distiller" else ""}
            command = [sys.executable, "-m", *modules[name]]
            running[name] = processes.spawn(command, log=folder / f"{name}.log", env=own)
            ending.callback(processes.end, running[name], patience_s=30.0)

        begin("teacher")
        _wait(lambda: _answers(f"http://127.0.0.1:{port}/v2/models/strong"), running, folder, "the teacher's answer")
        for name in SERVICES:
            begin(name)
        learnt = Learnt(lambda: _learnt(health))
        ending.callback(learnt.close)
        # What each process loads when it begins is not what is measured.
        feed(log, lists(chosen.warm, 0, chosen.items, time.time_ns() // 1000))
        _wait(lambda: learnt.count > 0, running, folder, "the first lists to be learnt")
        count = play(log, first=chosen.warm, seconds=chosen.seconds, rate=chosen.rate, items=chosen.items)
        print(f"{count:,} lists were written in {chosen.seconds:.0f} s", file=sys.stderr, flush=True)
        order: list[tuple[str, str, float, float]] = []
        scored = labelled = 0
        lanes = Lanes(log, dead_letters=_refused)
        ending.callback(lanes.close)

        def whole() -> bool:
            nonlocal scored, labelled
            for one in lanes.next(5000, 0.2):
                asked = one.ranking.impression
                order.append(
                    (asked.id, one.label_state, one.ranking.scored_at_us / 1e6, asked.time_us / 1e6 + chosen.window)
                )
            new = [one for one in order if int(one[0].split("-")[1]) >= chosen.warm]
            scored = sum(state == "none" for _, state, _, _ in new)
            labelled = sum(state == "labels" for _, state, _, _ in new)
            return scored >= count and learnt.count >= len(order)

        _wait(whole, running, folder, "all lists to be learnt")
        fresh, beyond = [], []
        for place, (name, state, scored_s, closed_s) in enumerate(order):
            if int(name.split("-")[1]) < chosen.warm or (at_s := learnt.at(place)) is None:
                continue
            fresh += [at_s - scored_s] if state == "none" else []
            beyond += [at_s - closed_s] if state == "labels" else []
        if not beyond:
            raise SystemExit("bench_fresh: no window was over before the stream ended; make --seconds longer")
        return Shown.of(fresh), Shown.of(beyond)


def _refused(_message: object, error: Exception) -> None:
    raise SystemExit(f"bench_fresh: an example cannot be read: {error}")


def _answers(address: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(address, timeout=1):
        return True
    return False


def _learnt(port: int) -> int | None:
    """How many examples the distiller has learnt, as it tells Prometheus."""
    with suppress(OSError, ValueError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
        for line in answer.read().decode().splitlines():
            name, _, value = line.partition(" ")
            if name == "recdistill_distiller_examples_total":
                return int(value)
    return None


def _wait(done: Callable[[], bool], running: dict[str, Any], folder: Path, what: str) -> None:
    until = time.monotonic() + _PATIENCE_S
    while not done():
        ended = [name for name, process in running.items() if process.poll() is not None]
        if ended or time.monotonic() > until:
            name = ended[0] if ended else "distiller"
            said = (folder / f"{name}.log").read_text(errors="replace")[-1500:]
            raise SystemExit(f"bench_fresh: waited for {what}: {ended or 'too long'}\n{name}: {said}")
        time.sleep(_TICK_S)


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, seconds=12.0, items=2000)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the stream (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=200.0, help="lists a second (default: %(default)s)")
    parser.add_argument("--window", type=float, default=5.0, help="join.window_s (default: %(default)s)")
    parser.add_argument("--items", type=int, default=20_000, help="items of the catalogue (default: %(default)s)")
    parser.add_argument("--warm", type=int, default=600, help="lists before the measured ones (default: %(default)s)")
    parser.add_argument("--partitions", type=int, default=4, help="(default: %(default)s)")
    parser.add_argument("--lanes", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--kafka", action="store_true", help="on a broker of its own, not on the embedded log")
    parser.add_argument("--serve", type=int, default=0, help="only be the teacher, at this port")
    return parser


def main() -> None:
    """Prints the figures."""
    chosen = options().parse_args()
    if chosen.serve:
        ThreadingHTTPServer(("127.0.0.1", chosen.serve), _Teacher).serve_forever()
    with tempfile.TemporaryDirectory() as place, ExitStack() as ending:
        folder = Path(place)
        log = LogSettings(path=str(folder / "log.sqlite"))
        if chosen.kafka:
            if why := missing_parts():
                absent(why)
            (folder / "broker").mkdir()
            broker = ending.enter_context(KafkaBroker(folder / "broker"))
            log = LogSettings(kind="kafka", brokers=broker.bootstrap, prefix="fresh-")
        fresh, beyond = measure(folder, log, chosen)
        kind = "Kafka" if chosen.kafka else "the embedded log"
        print(f"{chosen.rate:.0f} lists a second on {kind}, for {chosen.seconds:.0f} s, {chosen.items:,} items:")
        print(f"  from scored to learnt: {fresh}")
        print(f"  from the end of the window of {chosen.window:.0f} s to labels learnt: {beyond}")


if __name__ == "__main__":
    main()
