"""What does it cost to make a teacher's scores comparable, and what happens to a student whose teacher changes?

Students are distilled from the log of a finished demo (`recdistill demo --output FOLDER`), from the lists before the
demo's held-out ones. There is one student for each way of reading the scores, and one for each thing that may happen to
a teacher half-way through the log. The table has each student's NDCG@10 over the whole catalogue, on those later lists
in which somebody took an item that was new to them.

`rounding alone` multiplies the scores by 1.00001. Standardising takes this out again, except for the last digits. So
the difference of such a student is chance.

    python -m benchmarks.bench_watch FOLDER --seeds 3 --json out.json
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
from references.finished_demo import FinishedDemo

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def train(
    demo: FinishedDemo, watch: WatchSettings, change: Change | None, *, version: bool, seed: int, passes: int | None
) -> Trainer:
    """A student; `change` alters the scores of a list in the second half of the stream, `version` names it anew."""
    trainer = make_trainer(demo.spec, demo.settings.student, demo.settings.loss, seed=seed, watch=watch)
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
    "standard": (WatchSettings(), None, False),
    "standard, spread from labels": (WatchSettings(spread=0), None, False),
    "scale (logits as they are)": (WatchSettings(comparable="scale"), None, False),
    "rank": (WatchSettings(comparable="rank"), None, False),
    "rescaled × 100 − 7": (WatchSettings(), rescaled(100, -7), False),
    "rescaled × 0.01 + 3": (WatchSettings(), rescaled(0.01, 3), False),
    "rounding alone": (WatchSettings(), rescaled(1.00001, 0), False),
    "rescaled × 100 − 7, scale": (WatchSettings(comparable="scale"), rescaled(100, -7), False),
    "shuffled": (WatchSettings(), shuffled, False),
    "shuffled, believed": (WatchSettings(act="notice"), shuffled, False),
    "a random new version": (WatchSettings(), shuffled, True),
    "a sound new version": (WatchSettings(), None, True),
}


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, only=["rescaled × 100 − 7", "shuffled"])
    parser.add_argument("folder", type=Path, nargs="?", help="a finished demo (default: a small one)")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--passes", type=int, help="(default: the demo's)")
    parser.add_argument("--lists", type=int, help="learn from the first so many lists (default: all)")
    parser.add_argument("--only", nargs="*", default=list(RUNS), help="some of the runs")
    parser.add_argument("--json", type=Path)
    return parser


def main() -> None:
    told = options().parse_args()
    use_threads(1)
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
        told.json.write_text(json.dumps({"folder": folder.name, "seeds": told.seeds, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
