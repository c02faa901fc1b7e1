"""How much an export, and a checkpoint, disturb the learning: how much slower it is meanwhile, and how long it stops.

A catalogue of so many items is learnt from a log, with the service's default settings and one thread. First the student
learns alone. Then checkpoints are written beside it, whenever one is due and the one before is on the disk. Then a
bundle is made beside it too, by a process of its own. Each row says how long a step takes, in seconds on the clock and
of this process's processor time, and the longest time between two steps. The process that makes the bundle needs a core
of its own: where there is none, the clock says so and the processor time does not.

    python -m benchmarks.bench_export
    python -m benchmarks.bench_export --items 100000 --dim 24

It knows nothing of how a bundle is made.
"""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.forms import Options
from recdistill.config import DistilSettings, LogSettings, LossSettings, StudentSettings
from recdistill.features import FeatureSpec, HistorySpec, IdSpec
from recdistill.loops.wire import distil_from
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking, encode
from recdistill.stream import ITEMS, Log, open_log, standard_topics

_KINDS = 4096
"""Different examples; they come again and again."""


class Step(NamedTuple):
    """The end of a step."""

    clock_s: float
    work_s: float
    bundles: int
    checkpoints: int


def fill(log: Log, items: int, examples: int) -> None:
    """Writes a catalogue, and examples of 50 candidates and 20 events, a twentieth of them with a click."""
    log.create_topics(standard_topics())
    with log.stage("items").transaction() as transaction:
        for n in range(items):
            item = Item(f"item-{n}", 1, time_us=1)
            transaction.send("items", encode(item), key=item.id.encode())
    end = log.source([ITEMS]).bounds(ITEMS)[1]
    chance = random.Random(0)
    values = []
    for n in range(min(examples, _KINDS)):
        some = [f"item-{i}" for i in chance.sample(range(items), 70)]
        events = tuple(Event(item, 1_000_000 + k, "click") for k, item in enumerate(some[50:]))
        asked = Impression(f"list-{n}", 2_000_000, history=events, candidates=tuple(map(Candidate, some[:50])))
        scores = tuple(chance.gauss(0, 1) for _ in range(50))
        ranking = Ranking(asked, "t", "1", "logit", scores, (True,) * 50, catalogue_as_of=end)
        values.append(encode(Example(ranking, (0.0,) * 49 + (float(n % 20 == 0),), "closed")))
    with log.stage("examples").transaction() as transaction:
        for n in range(examples):
            transaction.send("examples", values[n % len(values)], partition=0, time_us=1_000_000)


def learn(log: Log, folder: Path, *, items: int, dim: int, alone: int, batch: int) -> list[Step]:
    """Learns `alone` steps, nine tenths of them with checkpoints; goes on until a bundle was made; tells each step."""
    spec = FeatureSpec(history=HistorySpec(length=20, actions=("click",)), id=IdSpec(capacity=items, hashed=64))
    settings = DistilSettings(
        directory=str(folder / "student"),
        batch=batch,
        checkpoint_every=alone // 10,
        export_every=alone,
        publish=False,
        threads=1,
        wait_s=0.1,
    )
    steps: list[Step] = []
    stop, counts = threading.Event(), Counter[str]()

    def look(_done: int, _total: int | None) -> None:
        steps.append(Step(time.monotonic(), time.process_time(), counts["bundles"], counts["checkpoints"]))
        if counts["bundles"]:
            stop.set()

    student = StudentSettings(dim=dim)
    distil_from(log, spec, student, LossSettings(), settings, stop=stop, drain=False, counts=counts, progress=look)
    return steps


def row(name: str, steps: Sequence[Step], **others_s: float) -> float:
    """Prints what some steps took, and how many times as long as those of other rows. Returns the seconds of one."""
    clock = np.diff([one.clock_s for one in steps])
    work = np.diff([one.work_s for one in steps])
    mean = float(np.mean(clock))
    ratio = "".join(f", {mean / other_s:.2f} times {other}" for other, other_s in others_s.items())
    print(
        f"{name:28} {len(clock):5} steps, {mean:.3f} s each ({np.mean(work):.3f} s of processor time){ratio}; "
        f"median {np.median(clock):.3f} s, longest {clock.max():.3f} s"
    )
    return mean


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, items=20_000, alone=200, most=900)
    parser.add_argument("--items", type=int, default=1_000_000, help="items of the catalogue (default: %(default)s)")
    parser.add_argument("--dim", type=int, default=64, help="student.dim (default: %(default)s)")
    parser.add_argument("--alone", type=int, default=300, help="steps before the bundle is made (default: %(default)s)")
    parser.add_argument("--most", type=int, default=3000, help="steps for which there are examples")
    parser.add_argument("--batch", type=int, default=256, help="lists of a step (default: %(default)s)")
    return parser


def main() -> None:
    """Prints the figures."""
    chosen = options().parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        log = open_log(LogSettings(path=str(folder / "log.sqlite")))
        fill(log, chosen.items, chosen.most * chosen.batch)
        steps = learn(log, folder, items=chosen.items, dim=chosen.dim, alone=chosen.alone, batch=chosen.batch)
        log.close()
    first = chosen.alone // 10
    print(f"{chosen.items:,} items of {chosen.dim} dimensions, {chosen.batch} lists a step")
    alone_s = row("alone", steps[5:first])
    saving_s = row("with checkpoints", steps[first - 1 : chosen.alone], alone=alone_s)
    during = [one for one in steps[chosen.alone - 1 :] if not one.bundles]
    row("while a bundle is made too", during, alone=alone_s, checkpoints=saving_s)
    if len(during) + chosen.alone >= chosen.most:
        raise SystemExit("bench_export: the examples were not enough until the bundle was made; set --most higher")


if __name__ == "__main__":
    main()
