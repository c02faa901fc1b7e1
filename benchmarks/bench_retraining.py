"""How often must a student be renewed, and does looking back help? Predict first, then learn, in the order of time.

The student learns the first part of the lists, and then each list of the rest in its turn. Before a list is learnt, it
is answered by the students that would be served at that moment. So every figure is of lists that nobody had learnt.

| row | which student answers |
| --- | --- |
| never | the one of the first part |
| daily | the one that stood at the last midnight |
| hourly | the one that stood at the last full hour |
| continuous | the one that has learnt every list before |
| continuous, replay | the same, when it looks at kept lists again in each step |
| continuous, previous | the same, when it stays near an earlier copy of itself |
| continuous, replay, previous | both |
| continuous, rebuilt | the same, made anew from the newest lists each time that a detector finds a drift |

The form is that of Monolith's table (Liu et al., 2022): the interval between two renewals, and what it costs. The first
four rows are one student that learns once: they differ in what is served. The others learn on their own. Scores come at
once; labels come 20 lists later. Settings are those of the service, from `deploy/config`, but for the replay.

`world` is a simulated world in which all tastes turn during the rest; the teacher knows them with some noise, NDCG@10
is over all items that are allowed, by their true chances. `ml-100k` is MovieLens in the order of time, from
`shared/data` beside the clone; the teacher is the built-in one, which learns the first part. Neither teacher learns the
rest. There NDCG@10 is of the film that was chosen next, among all that the user has not rated. Intervals are 95%, of
the paired difference to *never*, bootstrapped over users. Each row is kept in `--rows`, so a run that was cut off goes
on.

    python -m benchmarks.bench_retraining --data world
    python -m benchmarks.bench_retraining --data ml-100k
"""

from __future__ import annotations

import argparse
import json
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from benchmarks.bench_one_pass import SERVICE, in_order
from benchmarks.forms import Options
from benchmarks.inputs import KEPT
from recdistill.config import Settings, load_settings
from recdistill.data.simulated import SimulatorSettings, simulate
from recdistill.features import FeatureSpec
from recdistill.loops.trainers import make_trainer
from recdistill.metrics import ndcg, paired_interval
from recdistill.records import Example, Item
from recdistill.train import Trainer, use_threads

HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000

SERVED = {"never": 0, "daily": DAY_US, "hourly": HOUR_US, "continuous": 1}
"""What is served of one student that learns on: microseconds between two renewals, 0: none."""


class Policy(NamedTuple):
    """What a student does beside learning each list once."""

    replay: bool = False
    previous: bool = False
    rebuilt: bool = False


LOOKING_BACK = {
    "continuous, replay": Policy(replay=True),
    "continuous, previous": Policy(previous=True),
    "continuous, replay, previous": Policy(replay=True, previous=True),
    "continuous, rebuilt": Policy(rebuilt=True),
}


class World(NamedTuple):
    """Lists in the order of time, and what is right about each."""

    spec: FeatureSpec
    items: list[Item]
    first: list[Example]
    rest: list[Example]
    names: list[str]
    """Items by column of the gains."""
    gains: dict[str, np.ndarray]
    """By list of the rest: the gain of each item, f32 `[N]`, 0 where it may not be answered."""
    allowed: dict[str, np.ndarray]
    """By list of the rest: what may be answered, bool `[N]`."""


def of_world(seed: int, told: argparse.Namespace) -> World:
    """A simulated world, in which all tastes turn in the rest."""
    chosen = SimulatorSettings(
        kind="deep",
        items=told.items,
        users=told.lists // 8,
        impressions=told.lists,
        days=60,
        shortest=20,
        longest=40,
        history=20,
        click_rate=0.3,
        shift=told.shift,
    )
    data, truth = simulate(chosen, seed=seed)
    taken: dict[str, set[str]] = {}
    for click in data.feedback:
        taken.setdefault(click.impression_id, set()).add(click.item)
    lists = [one for one in data.impressions if one.candidates]
    cut = int(told.first * len(lists))
    rest = lists[cut:]
    return World(
        data.spec,
        list(data.items),
        in_order(lists[:cut], taken),
        in_order(rest, taken),
        list(truth.item_ids),
        {one.id: np.asarray(truth.attractions(one.id), np.float32) for one in rest},
        {one.id: np.asarray(truth.allowed(one), bool) for one in rest},
    )


def of_movielens(told: argparse.Namespace) -> World:
    """MovieLens in the order of time, scored by the built-in teacher of the first part."""
    from benchmarks.films import Films

    films = Films.read()
    lists = [one for one in films.data.impressions if one.candidates][: told.lists]
    cut = int(told.first * len(lists))
    lists = list(films.scored(lists[:cut], lists))
    right = {one.id: films.right(one) for one in lists[cut:] if films.taken.get(one.id)}
    made = in_order(lists[:cut], films.taken), in_order(lists[cut:], films.taken)
    gains = {name: gains_N for name, (gains_N, _) in right.items()}
    allowed = {name: allowed_N for name, (_, allowed_N) in right.items()}
    return World(films.data.spec, list(films.data.items), *made, films.names, gains, allowed)


class Figures(NamedTuple):
    """What is known of one row.

    Attributes:
        values: NDCG@10 of each list of the rest, in their order.
        users: Whose list each is.
        seconds: Processor time of learning the rest.
        renewals: How often another student was served.
    """

    values: list[float]
    users: list[str]
    seconds: float
    renewals: int

    def by_user(self) -> np.ndarray:
        """The mean of each user's lists, users in the order of their names."""
        _, owner = np.unique(self.users, return_inverse=True)
        return np.asarray(np.bincount(owner, self.values) / np.bincount(owner))


class Server:
    """One student as it was served last.

    Args:
        every_us: Microseconds between two renewals; 0: never, 1: after each batch.
    """

    def __init__(self, every_us: int) -> None:
        self.every_us, self.renewals = every_us, 0
        self._period = -1
        self._held: Trainer | None = None

    def at(self, learner: Trainer, fresh: Trainer | None, time_us: int) -> Trainer:
        """Who answers at this moment.

        Args:
            learner: The student that learns on.
            fresh: Takes a copy of it, the first time; the same object must come each time.
            time_us: Of the lists that are asked.
        """
        if self.every_us == 1 or fresh is None:
            return learner
        period = time_us // self.every_us if self.every_us else 0
        if self._held is None or period != self._period:
            fresh.restore(*learner.state())
            self.renewals += self._held is not None
            self._held, self._period = fresh, period
        return self._held


def settings_of(told: argparse.Namespace, policy: Policy) -> Settings:
    """The service's settings, with what a policy changes."""
    settings = load_settings(SERVICE, {})
    loss = msgspec.structs.replace(
        settings.loss,
        replay_lists=told.kept if policy.replay else 0,
        previous=told.near if policy.previous else 0.0,
        previous_every=told.every,
    )
    distil = msgspec.structs.replace(settings.distil, rebuild_lists=told.newest if policy.rebuilt else 0)
    return msgspec.structs.replace(settings, loss=loss, distil=distil)


def trainer_of(world: World, settings: Settings) -> Trainer:
    """A fresh student."""
    size = settings.distil.batch
    return make_trainer(world.spec, settings.student, settings.loss, seed=0, watch=settings.watch, batch=size)


def made_anew(learner: Trainer, fresh: Trainer, newest: Iterable[list[Example]]) -> Trainer:
    """A student that begins anew and learns the newest lists, as the distiller does it after a drift."""
    fresh.restore(*learner.state_anew(fresh))
    for batch in newest:
        fresh.learn(fresh.encode(batch).once_more())
    return fresh


def measured(world: World, settings: Settings, served: dict[str, int]) -> dict[str, Figures]:
    """Learns the first part, and then answers and learns the rest.

    Args:
        world: The lists.
        settings: Of the student.
        served: Rows, and how often each is renewed.
    """
    learner, size = trainer_of(world, settings), settings.distil.batch
    learner.apply_items(world.items)
    for start in range(0, len(world.first), size):
        learner.learn(learner.encode(world.first[start : start + size]))
    servers = {name: Server(every) for name, every in served.items()}
    copies = {name: None if every == 1 else trainer_of(world, settings) for name, every in served.items()}
    values: dict[str, list[float]] = {name: [] for name in served}
    users: list[str] = []
    seconds, batches = 0.0, 0
    newest: deque[list[Example]] = deque(
        world.first[start : start + size] for start in range(0, len(world.first), size)
    )
    limit = -(-settings.distil.rebuild_lists // size)
    if learner.watch is not None:
        learner.watch.drifted.clear()  # what drifted in the first part is past
    for start in range(0, len(world.rest), size):
        batch = world.rest[start : start + size]
        asked = [one.ranking.impression for one in batch if one.label_state != "labels"]
        asked = [one for one in asked if one.id in world.gains]
        if asked:
            gains_BN = np.stack([world.gains[one.id] for one in asked])
            allowed_BN = np.stack([world.allowed[one.id] for one in asked])
            for name, server in servers.items():
                student = server.at(learner, copies[name], asked[0].time_us)
                scores_BN = student.score(asked, student.catalogue.slots(world.names))
                values[name] += ndcg(scores_BN, gains_BN, where=allowed_BN, k=10).tolist()
            users += [one.user for one in asked]
        began = time.process_time()
        learner.learn(learner.encode(batch))
        newest.append(batch)
        while len(newest) > limit:
            newest.popleft()
        if limit and learner.watch is not None and learner.watch.drifted:
            learner.watch.drifted.clear()
            learner = made_anew(learner, trainer_of(world, settings), newest)
        seconds += time.process_time() - began
        batches += 1
    return {
        name: Figures(values[name], users, seconds, batches if server.every_us == 1 else server.renewals)
        for name, server in servers.items()
    }


def rows_of(told: argparse.Namespace, seed: int) -> dict[str, Figures]:
    """All rows of one seed: from the disk where they were measured before."""
    apart = ("rows", "seeds", "short", "only", "newest")  # `newest` bears on one row alone
    same = {name: str(value) for name, value in vars(told).items() if name not in apart}
    file: Path = told.rows
    lines = map(json.loads, file.read_text().splitlines()) if file.is_file() else ()
    kept = {(one["key"], one["row"]): Figures(**one["figures"]) for one in lines}
    key = json.dumps(same | {"seed": seed}, sort_keys=True)
    wanted = told.only.split(";") if told.only else [*SERVED, *LOOKING_BACK]
    world: World | None = None
    found: dict[str, Figures] = {}
    for served, back in [(SERVED, Policy()), *(({name: 1}, back) for name, back in LOOKING_BACK.items())]:
        mine = {name: every for name, every in served.items() if name in wanted}
        if mine and any((key, name) not in kept for name in mine):
            if world is None:
                world = of_world(seed, told) if told.data == "world" else of_movielens(told)
            made = measured(world, settings_of(told, back), mine)
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a") as out:
                for name, figures in made.items():
                    out.write(json.dumps({"key": key, "row": name, "figures": figures._asdict()}) + "\n")
                    kept[key, name] = figures
        for name in mine:
            found[name] = kept[key, name]
            print(f"seed {seed}, {name}: NDCG@10 {np.mean(found[name].values):.4f}", flush=True)
    return found


def table(found: list[dict[str, Figures]]) -> list[str]:
    """One line for each row; differences to *never* are of the same users and seeds."""
    lines = [f"{'renewed':30}{'times':>8}{'NDCG@10':>10}{'less never':>12}{'95% interval':>20}{'seconds':>10}"]
    base = [rows.get("never") for rows in found]
    for name in found[0]:
        mine = [rows[name] for rows in found]
        mean = float(np.mean([np.mean(one.values) for one in mine]))
        times = float(np.mean([one.renewals for one in mine]))
        seconds = float(np.mean([one.seconds for one in mine]))
        line = f"{name:30}{times:>8,.0f}{mean:>10.4f}"
        before = [one for one in base if one is not None]
        if len(before) == len(mine) and name != "never":
            pair = paired_interval(
                np.concatenate([one.by_user() for one in mine]), np.concatenate([one.by_user() for one in before])
            )
            line += f"{pair.mean:>+12.4f}{f'{pair.low:+.4f} to {pair.high:+.4f}':>20}"
        else:
            line += f"{'':>32}"
        lines.append(line + f"{seconds:>10.0f}")
    return lines


def options() -> Options:
    """What it can be told."""
    parser = Options(
        __doc__, lists=1500, items=200, kept=256, every=20, newest=512, rows=KEPT / "retraining-short.jsonl"
    )
    parser.add_argument("--data", choices=("world", "ml-100k"), default="world")
    parser.add_argument("--seeds", type=int, default=1, help="worlds")
    parser.add_argument("--lists", type=int, default=100_000, help="most lists; a world has 24,000 at most")
    parser.add_argument("--items", type=int, default=1000, help="of a world")
    parser.add_argument("--first", type=float, default=0.7, help="share of the lists that are learnt first")
    parser.add_argument("--shift", type=float, default=0.8, help="when a world's tastes turn, as a share of its days")
    parser.add_argument("--kept", type=int, default=2048, help="lists that are looked at again, see loss.replay_lists")
    parser.add_argument("--near", type=float, default=0.3, help="see loss.previous")
    parser.add_argument("--every", type=int, default=200, help="see loss.previous_every")
    parser.add_argument("--newest", type=int, default=8192, help="see distil.rebuild_lists")
    parser.add_argument("--only", default="", help="rows, with semicolons")
    parser.add_argument("--rows", type=Path, default=KEPT / "retraining.jsonl", help="rows that were measured")
    return parser


def main() -> None:
    told = options().parse_args()
    use_threads(1)
    if told.data == "world":
        told.lists = min(told.lists, 24_000)
    found = [rows_of(told, seed) for seed in range(told.seeds if told.data == "world" else 1)]
    print()
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
