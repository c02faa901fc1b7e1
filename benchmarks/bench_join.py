"""How much memory and processor time a list costs in the joiner, and how soon the joiner stands again after a restart.

The window is filled as the joiner fills it: with ids, times and places. Of some lists there is feedback. Each row says
how many lists are open, how much resident memory the process has more than before, for each of them, and how long the
snapshot takes to be written and read again. The last line sends rankings through a joiner, from bytes to bytes, and
says the processor time of one.

    python -m benchmarks.bench_join                         # 1.8 million open lists: 1,000 a second for half an hour
    python -m benchmarks.bench_join --lists 20000 --through 2000

It knows nothing of students.
"""

from __future__ import annotations

import gc
import multiprocessing
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.forms import Options
from recdistill.config import LogSettings
from recdistill.loops import join, snapshot
from recdistill.loops.window import PRODUCT, Window
from recdistill.records import Candidate, Event, Feedback, Impression, Ranking, encode
from recdistill.stream import open_log, standard_topics

BEGAN_US = 1_767_225_600_000_000
WINDOW_US = 1_800_000_000


def resident() -> int:
    """Resident memory of this process, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("bench_join: /proc/self/status says nothing of memory; run it on Linux")


def name_of(n: int) -> str:
    """An id of 36 characters, as a UUID has."""
    return f"{n:08x}-0000-4000-8000-{n * 2654435761 % 2**48:012x}"


def filled(lists: int, clicked: float) -> Window:
    """A window with so many open lists, the last half hour of a stream."""
    window = Window(WINDOW_US, {"click": 1.0})
    step = WINDOW_US / lists
    every = round(1 / clicked) if clicked else lists + 1
    for n in range(lists):
        time_us = BEGAN_US + round(n * step)
        window.add_list(name_of(n), time_us=time_us, came_us=time_us, partition=n % 8, offset=n // 8, flags=PRODUCT)
        if n % every == 0:
            click = Feedback(f"f{n}", name_of(n), f"item-{n % 1_000_003}", "click", time_us=time_us)
            window.add_feedback(click, time_us=time_us, came_us=time_us)
    return window


def measure(lists: int, clicked: float) -> None:
    """Prints the row of one window."""
    gc.collect()
    before, began = resident(), time.process_time()
    window = filled(lists, clicked)
    each = (resident() - before) / lists
    took = (time.process_time() - began) / lists * 1e6
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        content = window.content()
        made = snapshot.Snapshot(about="", n=1, moved=0, partitions={}, lists=content[0], given=content[1])
        snapshot.write(Path(folder), made)
        wrote = time.process_time() - began
        del made, content, window
        gc.collect()
        began, clock = time.process_time(), time.monotonic()
        found = snapshot.read(Path(folder), "")
        assert found is not None
        again = Window(WINDOW_US, {"click": 1.0})
        again.take(found.lists, found.given)
        again.resume(BEGAN_US + WINDOW_US, BEGAN_US + WINDOW_US, BEGAN_US)
        read, waited = time.process_time() - began, time.monotonic() - clock
    print(
        f"{lists:10,} open lists, {clicked:4.0%} with feedback: {each:4.0f} bytes a list, {took:4.1f} us to add one; "
        f"snapshot written in {wrote:.1f} s of processor time, {len(again):,} lists stand again in {read:.1f} s "
        f"({waited:.1f} s on the clock)"
    )


def through(lists: int) -> None:
    """Prints the processor time of a ranking of 50 candidates and 20 events, from the log to the log."""
    with tempfile.TemporaryDirectory() as folder:
        log = open_log(LogSettings(path=f"{folder}/log.sqlite"))
        log.create_topics(standard_topics())
        with log.stage("product").transaction() as transaction:
            for n in range(lists):
                at_us = BEGAN_US + n * 1000
                events = [Event(f"item-{(n * 31 + k) % 100_003}", at_us - 10**6 + k, "click") for k in range(20)]
                asked = Impression(
                    name_of(n),
                    at_us,
                    user=f"user-{n % 5000}",
                    history=tuple(events),
                    candidates=tuple(Candidate(f"item-{(n * 50 + k) % 100_003}") for k in range(50)),
                )
                scores = tuple(float(k) for k in range(50))
                ranking = Ranking(asked, "t", "1", "logit", scores=scores, scored=(True,) * 50)
                transaction.send("rankings", encode(ranking), key=asked.id.encode(), time_us=at_us)
                if n % 20 == 0:
                    click = Feedback(f"f{n}", asked.id, asked.candidates[3].item, "click", time_us=at_us + 500)
                    transaction.send("feedback", encode(click), key=asked.id.encode(), time_us=at_us)
        began = time.process_time()
        counts = join.run(log, window_s=1.0, wait_s=0.01, stop=threading.Event(), drain=True, flush=True)
        took = (time.process_time() - began) / lists * 1e6
        log.close()
    print(
        f"{counts['rankings']:,} rankings through the joiner, {counts['labelled']:,} of them labelled: "
        f"{took:.0f} us of processor time each, {1e6 / took:,.0f} a second on one core"
    )


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, lists=50_000, through=2_000)
    parser.add_argument("--lists", type=int, default=1_800_000, help="open lists (default: %(default)s)")
    parser.add_argument("--through", type=int, default=20_000, help="rankings that are joined (default: %(default)s)")
    return parser


def main() -> None:
    """Prints the figures."""
    args = options().parse_args()
    for clicked in (0.05, 0.6):  # each in a process of its own, so that none reuses the memory of the other
        one = multiprocessing.get_context("spawn").Process(target=measure, args=(args.lists, clicked))
        one.start()
        one.join()
        if one.exitcode:
            raise SystemExit(one.exitcode)
    through(args.through)


if __name__ == "__main__":
    main()
