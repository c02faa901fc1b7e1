"""What does it cost to score lists before they are learnt?

A log of made-up lists is written: `--lists` of 20 candidates, with histories of 20 events; labels come as examples of
their own, for one list in ten. A student learns the first half and makes a bundle, which is the champion from then on.
Copies of it learn the second half: without scoring, and with each share, without and with the champion. Processor time
of the whole process is counted, from the opening of the student to its last checkpoint; each row is the least of
`--repeats`, taken in turns. The ratio is to the row without scoring.

It also says whether the weights of all copies are the same bytes.

    python -m benchmarks.bench_prequential
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from benchmarks.forms import Options
from recdistill import checkpoint
from recdistill.bundle import open_bundle
from recdistill.config import DistilSettings, LogSettings, LossSettings, StudentSettings
from recdistill.features import FeatureSpec, HistorySpec, IdSpec
from recdistill.loops.distil import Ahead
from recdistill.loops.feed import feed
from recdistill.loops.prequential import FILE, Following, Found, Prequential, ndcg
from recdistill.loops.wire import distil_from
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking
from recdistill.serve import Recommender
from recdistill.stream import ITEMS, Log, open_log, standard_topics

SECOND = 1_000_000
LENGTH, HISTORY = 20, 20


class InFolder:
    """One bundle, which is the champion."""

    def __init__(self, folder: Path) -> None:
        self._bundle = open_bundle(folder)

    def now(self) -> str:
        """Its content hash."""
        return self._bundle.content_hash

    def open(self, content_hash: str) -> Found:
        """The bundle, opened."""
        return Found(content_hash, Recommender(self._bundle))


def write(log: Log, lists: range, items: int, as_of: int, random: np.random.Generator) -> None:
    """Writes lists as examples, each tenth a second time with its label, 200 lists later."""
    waiting: list[Example] = []
    examples = []
    for number in lists:
        time_us = 1_700_000_000 * SECOND + number * SECOND
        chosen = (items * random.random(LENGTH + HISTORY) ** 2).astype(int)
        history = tuple(Event(f"i{n}", time_us - 60 * SECOND * (HISTORY - at)) for at, n in enumerate(chosen[LENGTH:]))
        shown = tuple(Candidate(f"i{n}") for n in dict.fromkeys(chosen[:LENGTH].tolist()))
        scores = random.normal(size=len(shown))
        asked = Impression(f"l{number}", time_us, f"u{number % 997}", history, {}, shown)
        ranking = Ranking(asked, "t", "1", "logit", tuple(scores.tolist()), (True,) * len(shown), catalogue_as_of=as_of)
        examples.append(Example(ranking, (0.0,) * len(shown), "none"))
        if number % 10 == 0:
            labels = [0.0] * len(shown)
            labels[int(np.argmax(scores + random.normal(size=len(shown))))] = 1.0
            waiting.append(Example(ranking, tuple(labels), "labels"))
        if len(waiting) > 20:
            examples.append(waiting.pop(0))
    feed(log, [*examples, *waiting])


def learn(log: Log, spec: FeatureSpec, folder: Path, ahead: Ahead | None) -> float:
    """Learns what the log has; processor seconds."""
    chosen = DistilSettings(directory=str(folder), threads=1, publish=False)
    began = time.process_time()
    distil_from(log, spec, StudentSettings(), LossSettings(), chosen, stop=threading.Event(), drain=True, ahead=ahead)
    return time.process_time() - began


def options() -> Options:
    """The options."""
    parser = Options(__doc__, lists=6_000, repeats=1)
    parser.add_argument("--lists", type=int, default=40_000)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.05, 0.2])
    return parser


def main() -> None:
    """Prints the table."""
    args = options().parse_args()
    random, spec = (
        np.random.default_rng(0),
        FeatureSpec(history=HistorySpec(length=HISTORY), id=IdSpec(capacity=20_000)),
    )
    with tempfile.TemporaryDirectory() as scratch, closing(open_log(LogSettings(path=f"{scratch}/log.sqlite"))) as log:
        log.create_topics(standard_topics())
        feed(log, [Item(f"i{number}") for number in range(args.items)])
        with closing(log.source([ITEMS])) as source:
            as_of = source.bounds(ITEMS)[1]
        half = Path(scratch) / "half"
        write(log, range(args.lists // 2), args.items, as_of, random)
        learn(log, spec, half, None)
        [champion] = (half / "bundles").iterdir()
        write(log, range(args.lists // 2, args.lists), args.items, as_of, random)

        def ahead(share: float, with_champion: bool) -> Ahead:
            following = Following(InFolder(champion), every_s=3600) if with_champion else None
            return Ahead(Prequential(share=share), following)

        ndcg([np.zeros(2)], [np.ones(2)])  # what it brings along is read once, before anything is timed
        rows = [(0.0, False), *((share, kind) for share in args.shares for kind in (False, True))]
        taken: dict[tuple[float, bool], list[float]] = {row: [] for row in rows}
        hashes, sizes = set[str](), dict[tuple[float, bool], int]()
        for repeat in range(args.repeats):
            for row in rows:
                folder = Path(scratch) / f"{repeat}-{row[0]}-{row[1]}"
                shutil.copytree(half, folder)
                taken[row].append(learn(log, spec, folder, ahead(*row) if row[0] else None))
                found = checkpoint.latest(folder / "checkpoints")
                if found is not None:
                    hashes.add(found.files[checkpoint.TENSORS].sha256)
                    sizes[row] = found.files[FILE].size if FILE in found.files else 0
                shutil.rmtree(folder)
    plain = min(taken[rows[0]])
    print(f"{args.lists // 2:,} lists of {LENGTH} candidates learnt, {args.items:,} items; the least of {args.repeats}")
    print(f"{'share scored':>13}{'champion':>10}{'processor s':>13}{'ratio':>8}{'ms a scored list':>18}{'file kB':>9}")
    for row in rows:
        seconds = min(taken[row])
        each = 1000 * (seconds - plain) / (row[0] * args.lists / 2) if row[0] else 0.0
        kind = "yes" if row[1] else "no"
        print(f"{row[0]:>13.2f}{kind:>10}{seconds:>13.2f}{seconds / plain:>8.3f}{each:>18.2f}{sizes[row] / 1000:>9.0f}")
    print(f"weights: {'the same bytes in all runs' if len(hashes) == 1 else f'{len(hashes)} DIFFERENT files'}")


if __name__ == "__main__":
    main()
