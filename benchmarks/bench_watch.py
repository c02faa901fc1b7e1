"""How often is a sound teacher accused? And what happens to a student whose teacher changes?

The first table counts accusations on made-up streams (`references/stories.py`): a teacher that never changes, in a
stream of stories that come and go; then the same teacher, shuffled in mid-stream, and after how many lists that is
found.

The second table needs a finished demo.

Students are distilled from the log of a finished demo (`recdistill demo --output FOLDER`), from the lists before the
demo's held-out ones. There is one student for each way of reading the scores, and one for each thing that may happen to
a teacher half-way through the log. The table has each student's NDCG@10 over the whole catalogue, on those later lists
in which somebody took an item that was new to them.

`rounding alone` multiplies the scores by 1.00001. Standardising takes this out again, except for the last digits. So
the difference of such a student is chance.

    python -m benchmarks.bench_watch --streams 200 --only
    python -m benchmarks.bench_watch FOLDER --streams 0 --seeds 3 --json out.json
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.forms import Options
from benchmarks.inputs import demo_or
from recdistill.config import WatchSettings
from recdistill.features import Lists
from recdistill.loops.trainers import make_trainer
from recdistill.train import Trainer, use_threads
from recdistill.watch import Watch
from references.finished_demo import FinishedDemo
from references.stories import Stories

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def train(
    demo: FinishedDemo, watch: WatchSettings, change: Change | None, *, version: bool, seed: int, passes: int | None
) -> Trainer:
    """A student; `change` alters the scores of a list in the second half of the stream, `version` names it anew."""
    student, loss, batch = demo.settings.student, demo.settings.loss, demo.settings.distil.batch
    trainer = make_trainer(demo.spec, student, loss, seed=seed, watch=watch, batch=batch)
    half, random = len(demo.learnt) // 2, np.random.default_rng(seed)

    def alter(start: int, lists: Lists) -> list[str]:
        if change is not None:
            _alter(lists, change, max(0, half - start), random)
        return ["teacher@2" if version and start + i >= half else "teacher@1" for i in range(len(lists.scored_BL))]

    demo.train(trainer, passes or demo.settings.distil.passes, alter=alter)
    return trainer


def _alter(lists: Lists, change: Change, first: int, random: np.random.Generator) -> None:
    for row in range(first, len(lists.scored_BL)):
        real = lists.scored_BL[row]
        lists.teacher_scores_BL[row, real] = change(lists.teacher_scores_BL[row, real], random)


def shuffled(scores: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return random.permutation(scores)


def rescaled(factor: float, offset: float) -> Change:
    return lambda scores, _: factor * scores + offset


RUNS: dict[str, tuple[WatchSettings, Change | None, bool]] = {
    "standard": (WatchSettings(comparable="standard", act="quarantine"), None, False),
    "standard, spread from labels": (WatchSettings(comparable="standard", act="quarantine", spread=0), None, False),
    "scale (logits as they are)": (WatchSettings(act="quarantine", comparable="scale"), None, False),
    "rank": (WatchSettings(act="quarantine", comparable="rank"), None, False),
    "rescaled × 100 − 7": (WatchSettings(comparable="standard", act="quarantine"), rescaled(100, -7), False),
    "rescaled × 0.01 + 3": (WatchSettings(comparable="standard", act="quarantine"), rescaled(0.01, 3), False),
    "rounding alone": (WatchSettings(comparable="standard", act="quarantine"), rescaled(1.00001, 0), False),
    "rescaled × 100 − 7, scale": (WatchSettings(act="quarantine", comparable="scale"), rescaled(100, -7), False),
    "shuffled": (WatchSettings(comparable="standard", act="quarantine"), shuffled, False),
    "shuffled, believed": (WatchSettings(comparable="standard", act="notice"), shuffled, False),
    "a random new version": (WatchSettings(comparable="standard", act="quarantine"), shuffled, True),
    "a sound new version": (WatchSettings(comparable="standard", act="quarantine"), None, True),
}


SLOW = {"rate": 0.003, "replaced": 0.9, "burst": 1000.0}
"""A student that learns slowly, and a front page that is nearly all new every thousand lists."""

STREAMS: dict[str, dict[str, float]] = {
    "stories that stay": {"burst": 1e9, "life": 1e9},
    "stories": {},
    "stories, lists of six": {"length": 6},
    "stories, a weak teacher": {"noise": 4.0},
    "stories, a slow student": SLOW,
    "stories, a slow student, lists of six": {"length": 6, **SLOW},
    "stories, a slow student, a weak teacher": {"noise": 2.0, **SLOW},
    "stories, a slow student, asked again": {"asked_again": 1.0, **SLOW},
}
LISTS = 8_000
"""Of one stream."""

SHUFFLED = 4_000
"""From this list on, the teacher of the second count is shuffled."""


def accusations(streams: int) -> list[dict[str, object]]:
    """Prints and returns, for each kind of stream, how often a sound teacher is accused and when a broken one is."""
    print(f"{streams} streams of {LISTS:,} lists; a shuffled teacher: how often it is found, after how many lists")
    print(f"{'':42} accused  its lists  shuffled: found  median  worst")
    rows: list[dict[str, object]] = []
    for name, more in STREAMS.items():
        news, weighed = [], 0
        for seed in range(streams):
            said, out = _watched(Stories(seed, **more))  # type: ignore[arg-type]
            news.append(said)
            weighed += out
        broken = {**more, **({"asked_again": None} if "asked_again" in more else {})}
        delays = [delay for seed in range(streams) if (delay := _delay(seed, broken)) is not None]
        accused = sum(bool(said) for said in news)
        found = f"{len(delays):15}  {int(np.median(delays)):6}  {max(delays):5}" if delays else f"{0:15}"
        print(f"{name:42} {accused:7}  {weighed / (streams * LISTS):9.1%}  {found}", flush=True)
        rows.append({"stream": name, "accused": accused, "lists_accused": weighed, "found": delays})
    return rows


def _watched(stories: Stories) -> tuple[list[str], int]:
    """What was said of a teacher that never changed, and how many of its lists were not believed."""
    watch, out = Watch(act="quarantine"), 0
    while stories.at < LISTS:
        out += int((watch.weigh(stories.batch(64)) == 0).sum())
    return [said for said in watch.news if "quarantined" in said], out


def _delay(seed: int, more: dict[str, float]) -> int | None:
    """How many lists after it broke a shuffled teacher is accused; None: it was never found."""

    def broken(at: int, scores: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return random.permutation(scores) if at >= SHUFFLED else scores

    stories, watch = Stories(seed, change=broken, **more), Watch(act="quarantine")  # type: ignore[arg-type]
    while stories.at < LISTS:
        out_B = watch.weigh(stories.batch(64)) == 0
        if stories.at > SHUFFLED + 64 and out_B.any():
            return stories.at - SHUFFLED
    return None


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, only=["rescaled × 100 − 7", "shuffled"], streams=3)
    parser.add_argument("folder", type=Path, nargs="?", help="a finished demo (default: a small one)")
    parser.add_argument("--streams", type=int, default=100, help="made-up streams of each kind; 0: none")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--passes", type=int, help="(default: the demo's)")
    parser.add_argument("--lists", type=int, help="learn from the first so many lists (default: all)")
    parser.add_argument("--only", nargs="*", default=list(RUNS), help="some of the runs")
    parser.add_argument("--json", type=Path)
    return parser


def main() -> None:
    told = options().parse_args()
    use_threads(1)
    counted = accusations(told.streams) if told.streams else []
    if not told.only:  # the first table alone
        return
    folder = demo_or(told.folder)
    demo = FinishedDemo.load(folder)
    demo = demo._replace(learnt=demo.learnt[: told.lists])
    rows, base = [], {}
    for name in ["standard", *[name for name in told.only if name != "standard"]]:
        watch, change, version = RUNS[name]
        means, counts, news, began = [], {}, [], time.process_time()
        for seed in range(told.seeds):
            trainer = train(demo, watch, change, version=version, seed=seed, passes=told.passes)
            values = demo.ndcg(trainer)
            base.setdefault(seed, float(values.mean()))
            means.append(float(values.mean()))
            assert trainer.watch is not None
            counts, news = dict(trainer.watch.counts), list(trainer.watch.news)
        moved = [100 * (mean / base[seed] - 1) for seed, mean in enumerate(means)]
        seconds = (time.process_time() - began) / told.seeds
        rows.append(
            {"run": name, "ndcg@10": means, "moved_percent": moved, "counts": counts, "news": news, "cpu_s": seconds}
        )
        print(
            f"{name:30} {np.mean(means):.4f}  {np.mean(moved):+.2f}% ± {np.std(moved):.2f}  {seconds:.0f} s  {counts}",
            flush=True,
        )
        for sentence in news:
            print("   ", sentence)
    if told.json:
        told.json.write_text(
            json.dumps({"folder": folder.name, "seeds": told.seeds, "streams": counted, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
