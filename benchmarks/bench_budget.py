"""How good does the student stay when the teacher is asked for only a part of the scores?

The log of a finished demo holds the teacher's score of every candidate. From it a stream under a budget is made: scores
are hidden. The scorer's own `Chooser` goes over the examples in their order, and is told only the scores that it has
asked for. Then the distiller itself learns from each stream, with the demo's settings. The student is judged on the
lists that the demo kept back: NDCG@10 over the whole catalogue, with paired 95% intervals over these lists (all seeds
of a list averaged).

- `full`: every score. `none`: no score at all, the labels alone.
- `lists`: whole lists, by chance. `candidates`: chosen as the scorer does. `even-candidates`: the same by chance.
- `champion-candidates`: the first fifth of the stream is scored evenly, and a student learns from it. This student
  answers every later request. So the scorer knows its scores, as with `rank.write_back` and the prober.

    recdistill demo --dataset ml-100k --data DIR --output folder
    python -m benchmarks.bench_budget folder                         # full, none, and the three ways at .3
    python -m benchmarks.bench_budget folder --ways full,lists,candidates --budget 0.3,0.05 --seeds 3 --json out.json
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.forms import Options
from benchmarks.inputs import demo_or
from recdistill.budget import Chooser
from recdistill.bundle import open_bundle
from recdistill.config import LogSettings
from recdistill.judge import BundleContender
from recdistill.loops.wire import distil_from
from recdistill.metrics import Interval, bootstrap_interval, paired_interval
from recdistill.records import Candidate, Example, Item, Record, encode, key_of
from recdistill.serve import Recommender
from recdistill.stream import Log, TopicPartition, open_log, standard_topics
from references.finished_demo import FinishedDemo

WAYS = ("full", "none", "lists", "even-candidates", "candidates")
ALL = (*WAYS, "champion-candidates")
FIRST = 0.2  # part of the stream that makes the champion
IMPRESSIONS = TopicPartition("impressions", 0)


def under_budget(examples: list[Example], chooser: Chooser, salt: str) -> Iterator[Example]:
    """The examples as they would be, had the scorer kept the budget."""
    for offset, example in enumerate(examples):
        ranking = example.ranking
        asked = msgspec.structs.replace(ranking.impression, id=f"{salt}{ranking.impression.id}")
        choice = chooser.choose(asked, IMPRESSIONS, offset)
        scored = tuple(bool(chosen and real) for chosen, real in zip(choice.chosen_L, ranking.scored, strict=True))
        ranking = msgspec.structs.replace(
            ranking,
            scored=scored,
            scores=tuple(score if real else 0.0 for score, real in zip(ranking.scores, scored, strict=True)),
            sampled=choice.sampled,
            candidates_sampled=choice.candidates_sampled,
        )
        chooser.learn(msgspec.structs.replace(ranking, impression=asked), IMPRESSIONS, offset)
        yield msgspec.structs.replace(example, ranking=ranking)


def answered_by(champion: Path, examples: list[Example]) -> list[Example]:
    """The examples with a student's scores of their candidates, as if it had answered."""
    recommender = Recommender(open_bundle(champion))
    column = {item: place for place, item in enumerate(recommender.ids)}
    out = []
    for start in range(0, len(examples), 256):
        block = examples[start : start + 256]
        scores_BT = recommender.score_all([example.ranking.impression for example in block])
        for example, scores_T in zip(block, scores_BT, strict=True):
            impression = example.ranking.impression
            given = [scores_T[column[c.item]] if c.item in column else -np.inf for c in impression.candidates]
            lowest = min((score for score in given if np.isfinite(score)), default=0.0)
            candidates = tuple(
                Candidate(c.item, float(score if np.isfinite(score) else lowest))
                for c, score in zip(impression.candidates, given, strict=True)
            )
            asked = msgspec.structs.replace(impression, candidates=candidates, served_by=recommender.content_hash)
            out.append(
                msgspec.structs.replace(example, ranking=msgspec.structs.replace(example.ranking, impression=asked))
            )
    return out


def distilled(
    demo: FinishedDemo, examples: list[Example], folder: Path, seed: int, *, soft: bool = True
) -> tuple[Path, float]:
    """Distils a stream with the demo's settings; the bundle, and the seconds of processor time."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log = open_log(LogSettings(path=str(folder / "log.sqlite")))
    log.create_topics(standard_topics())
    _write(log, [item for _, item in demo.items])
    source = log.source(["items"])
    placed = []
    while messages := source.read(1000, 0.0):
        placed += [message.offset for message in messages]
    source.close()
    olds = [offset for offset, _ in demo.items]

    def moved(example: Example) -> Example:
        known = bisect_left(olds, example.ranking.catalogue_as_of)
        as_of = placed[known - 1] + 1 if known else 0
        return msgspec.structs.replace(example, ranking=msgspec.structs.replace(example.ranking, catalogue_as_of=as_of))

    _write(log, [moved(example) for example in examples])
    settings = demo.settings
    loss = settings.loss if soft else msgspec.structs.replace(settings.loss, soft=0.0, label=1.0)
    chosen = msgspec.structs.replace(settings.distil, directory=str(folder / "student"), seed=seed)
    began = time.process_time()
    stop = threading.Event()
    distil_from(log, demo.spec, settings.student, loss, chosen, settings.watch, stop=stop, drain=True)
    seconds = time.process_time() - began
    log.close()
    (folder / "log.sqlite").unlink()
    return sorted((folder / "student" / "bundles").glob("step-*"))[-1], seconds


def _write(log: Log, records: list[Record] | list[Item] | list[Example]) -> None:
    stage = log.stage("bench")
    for start in range(0, len(records), 2000):
        with stage.transaction() as transaction:
            for record in records[start : start + 2000]:
                topic = "items" if isinstance(record, Item) else "examples"
                transaction.send(topic, encode(record), key=key_of(record), partition=0)
    stage.close()


def stream_of(way: str, demo: FinishedDemo, budget: float, seed: int, scratch: Path) -> list[Example]:
    """The examples that one way of spending the budget leaves."""
    if way in ("full", "none"):
        return demo.learnt
    by: Any = way.rpartition("-")[2]
    chooser = Chooser(budget, by, even=way.startswith("even"))
    if not way.startswith("champion"):
        return list(under_budget(demo.learnt, chooser, f"{seed}/"))
    cut = int(FIRST * len(demo.learnt))
    first = list(under_budget(demo.learnt[:cut], Chooser(budget, by, even=True), f"{seed}/"))
    champion, _ = distilled(demo, first, scratch / "champion", seed)
    rest = list(under_budget(answered_by(champion, demo.learnt[cut:]), chooser, f"{seed}/"))
    return first + rest


def _against(a: Interval) -> str:
    return f"{a.mean:+.4f} [{a.low:+.4f}, {a.high:+.4f}]"


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, ways="full,none,lists")
    parser.add_argument("folder", type=Path, nargs="?", help="of a finished demo (default: a small one)")
    parser.add_argument("--ways", default=",".join(WAYS), help=f"of {', '.join(ALL)}")
    parser.add_argument("--budget", default="0.3", help="shares, one after another")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    return parser


def main() -> None:
    """Runs every way and prints a row as soon as it is known."""
    args = options().parse_args()
    ways = [way.strip() for way in args.ways.split(",")]
    if unknown := set(ways) - set(ALL):
        options().error(f"there is no way called {sorted(unknown)[0]!r}; there are {', '.join(ALL)}")
    budgets = [float(text) for text in args.budget.split(",")]
    demo = FinishedDemo.load(demo_or(args.folder))
    print(f"{len(demo.learnt):,} examples, {len(demo.held):,} held-out lists", flush=True)
    titles = (
        f"{'way':22}{'budget':>7}{'calls':>7}{'NDCG@10':>9}{'of full':>9}  {'less full':26}{'less even':26}{'CPU s':>6}"
    )
    print(titles, flush=True)
    fixed = [(way, 1.0 if way == "full" else 0.0) for way in ways if way in ("full", "none")]
    found: dict[tuple[str, float], list[np.ndarray]] = {}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for way, budget in fixed + [(way, b) for b in budgets for way in ways if way not in ("full", "none")]:
            shares, seconds = [], []
            for seed in range(args.seeds):
                examples = stream_of(way, demo, budget, seed, Path(scratch))
                bundle, took = distilled(demo, examples, Path(scratch) / "run", seed, soft=way != "none")
                found.setdefault((way, budget), []).append(
                    demo.ndcg_of(BundleContender(open_bundle(bundle), "student"))
                )
                marks = [mark for example in examples for mark in example.ranking.scored]
                shares.append(0.0 if way == "none" else sum(marks) / len(marks))
                seconds.append(took)
            row = _row(way, budget, {key: np.mean(runs, 0) for key, runs in found.items()}, float(np.mean(shares)))
            rows.append(row | {"seconds": seconds, "by_seed": [float(run.mean()) for run in found[way, budget]]})
            compared = [_against(Interval(**row[key])) if key in row else "" for key in ("less_full", "less_even")]
            print(
                f"{way:22}{budget:7.2g}{row['calls']:7.1%}{row['ndcg@10']['mean']:9.4f}"
                f"{row.get('of_full', float('nan')):9.3f}  {compared[0]:26}{compared[1]:26}{np.mean(seconds):6.0f}",
                flush=True,
            )
            if args.json:
                args.json.write_text(json.dumps({"seeds": args.seeds, "rows": rows}, indent=2) + "\n")


def _row(way: str, budget: float, means: dict[tuple[str, float], np.ndarray], calls: float) -> dict[str, Any]:
    own = means[way, budget]
    row: dict[str, Any] = {
        "way": way,
        "budget": budget,
        "calls": calls,
        "ndcg@10": msgspec.to_builtins(bootstrap_interval(own)),
    }
    if (full := means.get(("full", 1.0))) is not None:
        row["of_full"] = float(own.mean() / full.mean())
        row["less_full"] = msgspec.to_builtins(paired_interval(own, full))
    even = means.get(("even-" + way.rpartition("-")[2], budget))
    if even is not None and not way.startswith("even"):
        row["less_even"] = msgspec.to_builtins(paired_interval(own, even))
    return row


if __name__ == "__main__":
    main()
