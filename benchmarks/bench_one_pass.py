"""How good is a student that meets each example once, beside the best student of many passes over the same examples?

A simulated world is cut in time. The student learns the first part in the order of the stream: the scores of a list at
once, and its labels some lists later. It is judged on the last tenth: all items ranked, those that the user has had
left out. The gain of an item is its true chance of a click, so the figure has little noise; 1 is the best order. *Many*
is the best of 1 to `--passes` passes; no more are made when `--patience` passes in a row were no better. *Alone* are
the same students without the teacher. The last columns are the share of many's figure that one pass reaches, and the
share of its gain over the student alone.

With `--data ml-100k` the lists are those of MovieLens in the order of time, from `shared/data` beside the clone; the
teacher is the built-in one, which learnt the first part, and the gains are the held-out likes.

Settings are those of the service, from `deploy/config`. `--set` changes one, for all students. Each row is kept in
`--rows`, so a run that was cut off goes on.

    python -m benchmarks.bench_one_pass --worlds 0,1,2,3,4
    python -m benchmarks.bench_one_pass --worlds 5 --labelled 0.05 --narrow 0.3
    python -m benchmarks.bench_one_pass --worlds 5,6,7 --only once --set distil.batch=512
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from benchmarks.forms import Options
from benchmarks.inputs import KEPT, ROOT
from recdistill.config import Settings, load_settings
from recdistill.data.simulated import SimulatorSettings, simulate
from recdistill.features import FeatureSpec
from recdistill.loops.trainers import make_trainer
from recdistill.metrics import ndcg
from recdistill.records import Example, Impression, Item, Ranking
from recdistill.train import Batch, Trainer, use_threads

SERVICE = ROOT / "deploy" / "config" / "settings.toml"
"""What the processes of compose read."""

LATER = 20
"""The labels of a list come this many lists after its scores."""


class Stream(NamedTuple):
    """A part of a world to learn from, and lists to be judged on."""

    spec: FeatureSpec
    items: list[Item]
    examples: list[Example]
    asked: list[Impression]
    names: list[str]
    """Items by column of `gains_BN`."""
    gains_BN: np.ndarray
    allowed_BN: np.ndarray


def of_world(seed: int, told: argparse.Namespace) -> Stream:
    """A simulated world."""
    chosen = SimulatorSettings(
        kind=told.world,
        items=told.items,
        users=told.lists // 8,
        impressions=told.lists,
        days=60,
        shortest=20,
        longest=40,
        history=20,
        click_rate=told.labelled,
        narrow=told.narrow,
    )
    data, truth = simulate(chosen, seed=seed)
    taken: dict[str, set[str]] = {}
    for click in data.feedback:
        taken.setdefault(click.impression_id, set()).add(click.item)
    asked = list(data.parts().test)[: told.judged]
    return Stream(
        data.spec,
        list(data.items),
        in_order([one for one in data.parts().train if one.candidates], taken),
        asked,
        truth.item_ids,
        np.array([truth.attractions(one.id) for one in asked]),
        np.array([truth.allowed(one) for one in asked]),
    )


def in_order(impressions: Sequence[Impression], taken: dict[str, set[str]], *, later: int = LATER) -> list[Example]:
    """Scores at once, and the labels of lists that have some `later` lists later."""
    made: list[Example] = []
    waiting: list[Example | None] = [None] * later
    for one in impressions:
        scores = tuple(float(c.logged_score or 0.0) for c in one.candidates)
        ranking = Ranking(one, "t", "1", "logit", scores, (True,) * len(scores))
        labels = tuple(float(c.item in taken.get(one.id, ())) for c in one.candidates)
        made.append(Example(ranking, (0.0,) * len(labels), "none"))
        waiting.append(Example(ranking, labels, "labels") if any(labels) else None)
        if (due := waiting.pop(0)) is not None:
            made.append(due)
    return made + [due for due in waiting if due is not None]


def of_movielens(told: argparse.Namespace) -> Stream:
    """MovieLens in the order of time, scored by the built-in teacher, which has learnt the same part."""
    from benchmarks.films import Films

    films = Films.read()
    train = [one for one in films.data.parts().train if one.candidates]
    asked = [one for one in films.data.parts().test if films.taken.get(one.id)][: told.judged]
    gains, allowed = zip(*(films.right(one) for one in asked), strict=True)
    learnt = in_order(list(films.scored(train, train)), films.taken)
    return Stream(
        films.data.spec, list(films.data.items), learnt, asked, films.names, np.stack(gains), np.stack(allowed)
    )


class Student:
    """One student of a stream, and how good it is."""

    def __init__(self, stream: Stream, settings: Settings, *, alone: bool) -> None:
        loss = msgspec.structs.replace(settings.loss, soft=0.0, label=1.0) if alone else settings.loss
        self.stream, self.size = stream, settings.distil.batch
        self.trainer: Trainer = make_trainer(
            stream.spec, settings.student, loss, seed=0, watch=settings.watch, batch=self.size
        )
        self.trainer.apply_items(stream.items)
        self.batches: list[Batch] = []
        self.seconds = 0.0
        # A list of scores alone teaches a student without a teacher nothing.
        self.examples = [one for one in stream.examples if not alone or one.label_state == "labels"]

    def learn(self) -> float:
        """One more pass. Returns NDCG@10 after it."""
        trainer, again = self.trainer, bool(self.batches)
        if again and trainer.watch is not None:
            trainer.watch.rewind()
        begun = time.process_time()
        for number, start in enumerate(range(0, len(self.examples), self.size)):
            if not again:
                self.batches.append(trainer.encode(self.examples[start : start + self.size]))
            trainer.learn(self.batches[number].once_more() if again else self.batches[number])
        self.seconds += time.process_time() - begun
        return self.judged()

    def judged(self) -> float:
        """NDCG@10 over all items."""
        stream, values = self.stream, []
        slots_N = self.trainer.catalogue.slots(stream.names)
        for start in range(0, len(stream.asked), 256):
            part = slice(start, start + 256)
            scores_BN = self.trainer.score(stream.asked[part], slots_N)
            allowed_BN = stream.allowed_BN[part]
            values.extend(ndcg(scores_BN, stream.gains_BN[part], where=allowed_BN, k=10).tolist())
        return float(np.mean(values))


def settings_of(changes: Sequence[str]) -> Settings:
    """The service's settings, with some changed."""
    env = {}
    for change in changes:
        path, _, value = change.partition("=")
        env["RECDISTILL__" + path.replace(".", "__").upper()] = value
    return load_settings(SERVICE, env)


def row_of(key: dict[str, Any], stream_of: Any, told: argparse.Namespace) -> dict[str, float]:
    """One row: from the disk when it was measured before."""
    name = json.dumps(key, sort_keys=True)
    kept = [json.loads(line) for line in told.rows.read_text().splitlines()] if told.rows.is_file() else []
    for one in kept:
        if one["key"] == name:
            row: dict[str, float] = one["row"]
            return row
    stream, settings = stream_of(), settings_of(key["set"])
    row = {}
    for who, alone in (("", False), ("alone ", True)):
        if alone and told.only == "once":
            continue
        student = Student(stream, settings, alone=alone)
        found = [student.learn()]
        row[f"{who}once"], row[f"{who}seconds"] = found[0], student.seconds
        row[f"{who}lists"] = float(len(student.examples))
        if told.only == "all":
            while len(found) < told.passes and int(np.argmax(found)) >= len(found) - told.patience:
                found.append(student.learn())
            row[f"{who}many"], row[f"{who}best"] = max(found), 1.0 + int(np.argmax(found))
    told.rows.parent.mkdir(parents=True, exist_ok=True)
    with told.rows.open("a") as file:
        file.write(json.dumps({"key": name, "row": row}) + "\n")
    return row


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, lists=2000, items=300, passes=2, judged=100, rows=KEPT / "one-pass-short.jsonl")
    parser.add_argument("--worlds", default="5", help="seeds of the worlds, with commas")
    parser.add_argument("--world", default="deep", choices=("plain", "deep"))
    parser.add_argument("--data", choices=("ml-100k",), help="take this data set, not a world")
    parser.add_argument("--lists", type=int, default=24_000)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--judged", type=int, default=800, help="most lists that are judged")
    parser.add_argument("--labelled", type=float, default=0.3, help="share of lists with a click")
    parser.add_argument("--narrow", type=float, default=0.0, help="share of lists of near equals")
    parser.add_argument("--passes", type=int, default=12)
    parser.add_argument("--patience", type=int, default=3, help="passes without a better one, after which none follows")
    parser.add_argument("--only", choices=("all", "once", "pairs"), default="all", help="pairs: no many-pass students")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another setting")
    parser.add_argument("--rows", type=Path, default=KEPT / "one-pass.jsonl", help="rows that were measured")
    return parser


def main() -> None:
    told = options().parse_args()
    use_threads(1)
    names = ("once", "many", "best", "alone once", "alone many", "lists/s")
    print(f"{'world':>10}" + "".join(f"{name:>12}" for name in names) + f"{'share':>9}{'of gain':>9}")
    for world in ["ml-100k"] if told.data else told.worlds.split(","):
        asked = {name: getattr(told, name) for name in ("world", "lists", "items", "judged", "labelled", "narrow")}
        key: dict[str, Any] = {"of": world, **({} if told.data else asked), "set": told.set, "only": told.only}
        key |= {"passes": told.passes, "patience": told.patience} if told.only == "all" else {}
        row = row_of(key, lambda world=world: of_movielens(told) if told.data else of_world(int(world), told), told)
        shown = row | {"lists/s": row["lists"] / row["seconds"] if told.only != "all" else np.nan}
        line = f"{world:>10}" + "".join(f"{shown.get(name, np.nan):>12.4f}" for name in names)
        if "many" in row:
            alone = max(row["alone once"], row["alone many"])
            gain = (row["once"] - alone) / (row["many"] - alone)
            line += f"{row['once'] / row['many']:>9.3f}{gain:>9.3f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
