"""The built-in teacher beside a plain SASRec, EASE, ItemKNN and popularity: leave one out in time, all films ranked.

MovieLens 100K, films and users with at least `--least` ratings. Each user's last event is the test, and the one before
it is the validation. All earlier events are learnt from. At the test the history holds the validation event, but nobody
learns from it. This is the split of RecBole's `LS: valid_and_test` with `mode: full`. It also ranks films that the user
has had: the first two columns. The last two columns leave these films out, in every row. A product does not offer what
the user has had, so the built-in teacher has no such films in its softmax and learns nothing about them. Validation
leaves them out, too.

| row | what it learns from |
| --- | --- |
| popularity, itemknn, ease | who had what; the ridge of EASE is chosen on the validation event |
| sasrec | the order of each user's films (`references/plain_sasrec.py`); the epoch is chosen on the validation event |
| builtin, order alone | the same: no time, no attribute, no context |
| builtin | films' genres, year and title, times, and each request's context: the product's own form |

Hits and NDCG at 10 are means over users and seeds. Intervals are 95%, bootstrapped over users; the seeds of a user are
averaged first.

    python -m benchmarks.bench_builtin                       # some 7 minutes of one core
    python -m benchmarks.bench_builtin --seeds 3 --json builtin.json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from scipy import sparse

from benchmarks.forms import Options, absent
from benchmarks.inputs import data_set
from recdistill import linear
from recdistill.data import movielens
from recdistill.errors import RecdistillError
from recdistill.features import FeatureSpec, HistorySpec, IdSpec
from recdistill.metrics import bootstrap_interval, paired_interval
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking, Value
from recdistill.teachers.builtin import Training
from recdistill.teachers.builtin.teacher import BuiltinTeacher, train_teacher
from references.plain_sasrec import PlainSasrec
from references.plain_sasrec import fit as fit_sasrec

CUT = 10
LENGTH = 50
RIDGES = (100.0, 300.0, 1000.0)
Asked = list[list[int]]
"""A history of item numbers for each user."""


@dataclass(frozen=True)
class Moment:
    """One rating: which film, when, and what the request knew."""

    item: int
    time_us: int
    context: dict[str, Value]


@dataclass(frozen=True)
class World:
    """The data set, users by number."""

    items: list[Item]
    spec: FeatureSpec
    lines: list[list[Moment]]

    def histories(self, before: int) -> Asked:
        """All films but each user's last `before`."""
        return [[moment.item for moment in line[:-before]] for line in self.lines]

    def table(self, histories: Asked) -> Any:
        """Histories as a matrix of ones."""
        rows = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
        columns = np.concatenate([np.array(history) for history in histories])
        return sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), (len(histories), len(self.items)))


def read(folder: Path, least: int) -> World:
    """Reads the ratings; films and then users with fewer than `least` are left out until none is."""
    data = movielens.load(folder, candidates=1, min_history=0, history=1)
    rows = [
        (asked.user or "", told.item, asked.time_us, asked.context)
        for asked, told in zip(data.impressions, data.feedback, strict=True)
    ]
    while True:
        kept = rows
        for place in (0, 1):
            _, number_E, count_N = np.unique([row[place] for row in kept], return_inverse=True, return_counts=True)
            kept = [row for row, number in zip(kept, number_E.tolist(), strict=True) if count_N[number] >= least]
        if len(kept) == len(rows):
            break
        rows = kept
    present = {item for _, item, _, _ in rows}
    items = [item for item in data.items if item.id in present]
    number = {item.id: n for n, item in enumerate(items)}
    lines: dict[str, list[Moment]] = {}
    for user, item, time_us, context in rows:
        lines.setdefault(user, []).append(Moment(number[item], time_us, context))
    spec = movielens.specification(items, history=LENGTH)
    return World(items, spec, [line for line in lines.values() if len(line) > 3])


def ranks(scores_UN: np.ndarray, targets_U: np.ndarray, had: Asked | None) -> np.ndarray:
    """Each target's rank, from 1, equals before it; with `had`, among the films that the user has not had."""
    scores_UN = scores_UN.copy()
    own_U = scores_UN[np.arange(len(targets_U)), targets_U].copy()
    for user, items in enumerate(had or []):
        scores_UN[user, items] = -np.inf
    scores_UN[np.arange(len(targets_U)), targets_U] = own_U
    return np.asarray((scores_UN >= own_U[:, None]).sum(1))


def figures(ranks_U: np.ndarray) -> dict[str, np.ndarray]:
    """Hit and NDCG at 10, one value a user."""
    hit_U = ranks_U <= CUT
    return {"hit@10": hit_U.astype(float), "ndcg@10": np.where(hit_U, 1 / np.log2(1 + ranks_U), 0.0)}


# Rankers: scores f32 [U, N] for the films before each user's last `before`.

Ranker = Callable[[int], np.ndarray]


def popularity(world: World) -> Ranker:
    counts_N = np.asarray(world.table(world.histories(2)).sum(0)).ravel()
    return lambda _: np.tile(counts_N, (len(world.lines), 1))


def itemknn(world: World) -> Ranker:
    scorer = linear.itemknn(world.table(world.histories(2)))
    return lambda before: scorer(world.table(world.histories(before)))


def ease(world: World) -> Ranker:
    table = world.table(world.histories(2))
    scorers = [linear.ease(table, ridge) for ridge in RIDGES]
    best = max(scorers, key=lambda scorer: _valid(world, scorer(table)))
    return lambda before: best(world.table(world.histories(before)))


def sasrec(world: World, seed: int) -> Ranker:
    learnt = world.histories(2)

    def valid(model: PlainSasrec) -> float:
        return _valid(world, model.scores(learnt))

    model = fit_sasrec(learnt, len(world.items), valid, seed=seed, length=LENGTH)
    return lambda before: model.scores(world.histories(before))


def builtin(world: World, settings: Training, *, alone: bool) -> Ranker:
    """The built-in teacher; `alone`: of the order of films, and nothing else."""
    items = [Item(item.id) for item in world.items] if alone else world.items
    ids = IdSpec(capacity=len(items), hashed=1)
    history = HistorySpec(length=LENGTH)
    spec = FeatureSpec(history=history, id=ids) if alone else world.spec

    def asked(line: Sequence[Moment], user: int, at: int, candidates: tuple[Candidate, ...] = ()) -> Impression:
        events = line[max(0, at - LENGTH) : at]
        return Impression(
            f"{user}-{at}",
            0 if alone else line[at].time_us,
            user=str(user),
            history=tuple(Event(items[one.item].id, 0 if alone else one.time_us, "rate") for one in events),
            context={} if alone else line[at].context,
            candidates=candidates,
        )

    examples = []
    for user, line in enumerate(world.lines):
        for at in [len(line) - 3] if alone else range(len(line) - 2):
            one = asked(line, user, at, (Candidate(items[line[at].item].id),))
            examples.append(Example(Ranking(one, "", "", "rank", (0.0,), (False,)), (1.0,)))
    with tempfile.TemporaryDirectory() as folder:
        train_teacher(examples, items, spec, settings, Path(folder, "teacher"))
        teacher = BuiltinTeacher.load(Path(folder, "teacher"))
    column = {item: n for n, item in enumerate(teacher.item_ids)}
    columns_N = [column[item.id] for item in items]
    return lambda before: teacher.catalogue_scores(
        [asked(line, user, len(line) - before) for user, line in enumerate(world.lines)]
    )[:, columns_N]


def _valid(world: World, scores_UN: np.ndarray) -> float:
    """NDCG@10 of the validation event among the films that the user had not had."""
    targets_U = np.array([line[-2].item for line in world.lines])
    return float(figures(ranks(scores_UN, targets_U, world.histories(2)))["ndcg@10"].mean())


# The table


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    """All rows."""
    world = read(chosen.data, chosen.least)
    targets_U = np.array([line[-1].item for line in world.lines])
    had = world.histories(1)
    size = {"users": len(world.lines), "items": len(world.items), "events": sum(map(len, world.lines))}
    print(json.dumps(size), file=sys.stderr, flush=True)
    settings = msgspec.convert(json.loads(chosen.settings), Training)
    seeds = range(chosen.seeds)
    plan: dict[str, list[Callable[[], Ranker]]] = {
        "popularity": [lambda: popularity(world)],
        "itemknn": [lambda: itemknn(world)],
        "ease": [lambda: ease(world)],
        "sasrec": [lambda seed=seed: sasrec(world, seed) for seed in seeds],  # type: ignore[misc]
    }
    for name, alone in (("builtin, order alone", True), ("builtin", False)):
        plan[name] = [
            lambda seed=seed, alone=alone: builtin(  # type: ignore[misc]
                world, msgspec.structs.replace(settings, seed=seed), alone=alone
            )
            for seed in seeds
        ]
    rows: dict[str, dict[str, np.ndarray]] = {}
    told: dict[str, Any] = {}
    for name, makers in plan.items():
        if chosen.only and name not in chosen.only.split(";"):
            continue
        found: list[dict[str, np.ndarray]] = []
        valid, seconds = [], []
        for make in makers:
            began = time.process_time()
            ranker = make()
            seconds.append(time.process_time() - began)
            valid.append(_valid(world, ranker(2)))
            scores_UN = ranker(1)
            one = figures(ranks(scores_UN, targets_U, None))
            found.append(one | {f"{n}, new": v for n, v in figures(ranks(scores_UN, targets_U, had)).items()})
            print(
                f"{name}: ndcg@10, new: valid {valid[-1]:.4f}, test {found[-1]['ndcg@10, new'].mean():.4f}, "
                f"{seconds[-1]:.0f} s of CPU",
                file=sys.stderr,
                flush=True,
            )
        rows[name] = {metric: np.mean([one[metric] for one in found], 0) for metric in found[0]}
        told[name] = {
            metric: {
                "mean": float(values.mean()),
                "interval": [(interval := bootstrap_interval(values)).low, interval.high],
                "seeds": [float(one[metric].mean()) for one in found],
            }
            for metric, values in rows[name].items()
        } | {"valid": valid, "cpu_seconds": seconds}
    tell(rows, told)
    return {"size": size, "rows": told}


def tell(rows: dict[str, dict[str, np.ndarray]], told: dict[str, Any]) -> None:
    """Prints the rows, and each less SASRec."""
    metrics = list(next(iter(rows.values())))
    print(f"{'ranker':22}" + "".join(f"{metric:>28}" for metric in metrics) + f"{'CPU s':>8}")
    for name, values in rows.items():
        cells = [bootstrap_interval(values[metric]) for metric in metrics]
        print(
            f"{name:22}"
            + "".join(f"{one.mean:.4f} [{one.low:.4f}, {one.high:.4f}]".rjust(28) for one in cells)
            + f"{np.mean(told[name]['cpu_seconds']):>8.0f}"
        )
    if "sasrec" not in rows:
        return
    print("\nless sasrec, paired over users")
    for name, values in rows.items():
        if name != "sasrec":
            gaps = [paired_interval(values[metric], rows["sasrec"][metric]) for metric in metrics]
            print(f"{name:22}" + "".join(f"{g.mean:+.4f} [{g.low:+.4f}, {g.high:+.4f}]".rjust(28) for g in gaps))


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, only="popularity;itemknn;ease;builtin, order alone")
    parser.add_argument("--data", type=Path, default=data_set("ml-100k"), metavar="FOLDER")
    parser.add_argument("--least", type=int, default=5, metavar="N", help="ratings of a film or user (default: 5)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N")
    parser.add_argument("--only", help="rows to make, with semicolons")
    parser.add_argument("--settings", default="{}", help="of the built-in teacher, as JSON ([teacher_training])")
    parser.add_argument("--json", type=Path, metavar="OUT")
    return parser


def main() -> None:
    chosen = options().parse_args()
    torch.set_num_threads(1)
    if not chosen.data.is_dir():
        absent(f"{chosen.data} is not here; name the folder of MovieLens 100K with --data")
    try:
        found = run(chosen)
    except (RecdistillError, msgspec.MsgspecError) as e:
        sys.exit(f"bench_builtin: {e}")
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
