"""Whether a joiner and a distiller that run for a long time need more and more memory.

Each works through a log in a process of its own. The row says how much resident memory it has after a tenth of the
work, and how much after all of it: ten times the work. What grows by design is small: the joiner's window is full
after the tenth, and the distiller's catalogue does not change. The distiller makes checkpoints and bundles meanwhile.
The last row is a distiller whose trainer stands still, with a long log behind it: the memory before, and the largest
that was seen while it stood.

    python -m benchmarks.bench_memory
    python -m benchmarks.bench_memory --lists 400000 --steps 20000

It knows nothing of how either of them works.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench_export import fill
from benchmarks.bench_join import BEGAN_US, name_of, resident
from benchmarks.forms import Options
from recdistill.config import DistilSettings, LogSettings, LossSettings, StudentSettings
from recdistill.features import FeatureSpec, HistorySpec, IdSpec
from recdistill.loops import join
from recdistill.loops.wire import distil_from
from recdistill.records import Candidate, Feedback, Impression, Ranking, encode
from recdistill.stream import open_log, standard_topics

WINDOW_LISTS = 500
"""Lists whose window is open at one time."""

_BATCH = 32

_BEFORE = 100
"""Steps before the one that does not end: caches are full by then."""


class Watched:
    """Looks at the memory after a tenth of the work, and at the end.

    Args:
        work: How much there is.
    """

    def __init__(self, work: int) -> None:
        self._work = work
        self.early = 0

    def look(self, done: int) -> None:
        """So much is done."""
        if not self.early and 10 * done >= self._work:
            self.early = resident()

    def row(self, name: str) -> None:
        """Prints the row."""
        late = resident()
        growth = late / self.early - 1
        print(f"{name}: {self.early / 1e6:.0f} MB after a tenth, {late / 1e6:.0f} MB after all ({growth:+.1%})")


def joiner(lists: int) -> None:
    """Joins rankings with a click on each twentieth."""
    with tempfile.TemporaryDirectory() as folder:
        log = open_log(LogSettings(path=f"{folder}/log.sqlite"))
        log.create_topics(standard_topics())
        stage = log.stage("product")
        for start in range(0, lists, 5000):
            with stage.transaction() as transaction:
                for n in range(start, min(lists, start + 5000)):
                    at_us = BEGAN_US + n * 1_000_000 // WINDOW_LISTS
                    candidates = tuple(Candidate(f"item-{(n * 10 + k) % 100_003}") for k in range(10))
                    asked = Impression(name_of(n), at_us, user=f"user-{n}", candidates=candidates)
                    ranking = Ranking(asked, "t", "1", "logit", scores=(0.5,) * 10, scored=(True,) * 10)
                    transaction.send("rankings", encode(ranking), key=asked.id.encode(), time_us=at_us)
                    if n % 20 == 0:
                        click = Feedback(f"f{n}", asked.id, candidates[3].item, "click", time_us=at_us + 500)
                        transaction.send("feedback", encode(click), key=asked.id.encode(), time_us=at_us)
        watched = Watched(lists)
        join.run(
            log,
            window_s=1.0,
            wait_s=0.01,
            directory=Path(folder) / "join",
            snapshot_s=1.0,
            stop=threading.Event(),
            drain=True,
            progress=lambda done, _total: watched.look(done),
        )
        watched.row(f"joiner, {lists:,} lists, {WINDOW_LISTS} of them open")
        log.close()


def distiller(steps: int) -> None:
    """Learns from examples; the prepared batch, checkpoints and bundles come and go."""
    watched = Watched(steps)

    def look(made: int) -> bool:
        watched.look(made)
        return made == steps

    _learn(steps, look)
    watched.row(f"distiller, {steps:,} steps of {_BATCH} lists, 5,000 items")


def stalled(seconds: int) -> None:
    """Learns a tenth of a log; then a step does not end for so many seconds."""
    steps, most = 10 * _BEFORE, 0
    watched = Watched(steps)

    def look(made: int) -> bool:
        nonlocal most
        watched.look(made)
        if made < _BEFORE:
            return False
        for _ in range(seconds):
            time.sleep(1)
            most = max(most, resident())
        return True

    _learn(steps, look)
    early = watched.early
    print(
        f"distiller, a step of {seconds} s: {early / 1e6:.0f} MB before it, {most / 1e6:.0f} MB at most while it lasts "
        f"({most / early - 1:+.1%}); {(steps - _BEFORE) * _BATCH:,} examples wait in the log"
    )


def _learn(steps: int, look: Callable[[int], bool]) -> None:
    """Learns a log of so many steps, until the look after a step says that it is over."""
    with tempfile.TemporaryDirectory() as folder:
        log = open_log(LogSettings(path=f"{folder}/log.sqlite"))
        fill(log, 5000, steps * _BATCH)
        stop, made = threading.Event(), 0

        def progress(_done: int, _total: int | None) -> None:
            nonlocal made
            made += 1
            if not stop.is_set() and look(made):
                stop.set()

        settings = DistilSettings(
            directory=f"{folder}/student",
            batch=_BATCH,
            checkpoint_every=max(1, steps // 50),
            export_every=max(1, steps // 20),
            publish=False,
            threads=1,
        )
        spec = FeatureSpec(history=HistorySpec(length=20, actions=("click",)), id=IdSpec(capacity=5000, hashed=64))
        student = StudentSettings(dim=16)
        distil_from(log, spec, student, LossSettings(), settings, stop=stop, drain=False, progress=progress)
        log.close()


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, lists=20_000, steps=300, stalled=3)
    parser.add_argument("--lists", type=int, default=100_000, help="rankings to join (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=3000, help="steps to learn (default: %(default)s)")
    parser.add_argument("--stalled", type=int, default=60, help="seconds of the last row (default: %(default)s)")
    return parser


def main() -> None:
    """Prints the figures, each of a process of its own."""
    args = options().parse_args()
    kinds: list[tuple[Callable[[int], None], int]] = [
        (joiner, args.lists),
        (distiller, args.steps),
        (stalled, args.stalled),
    ]
    for work, amount in kinds:
        one = multiprocessing.get_context("spawn").Process(target=work, args=(amount,))
        one.start()
        one.join()
        if one.exitcode:
            raise SystemExit(one.exitcode)


if __name__ == "__main__":
    main()
