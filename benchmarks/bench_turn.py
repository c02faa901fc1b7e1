"""How soon does a student find tastes that turn at once? The world of `demo --live`, replayed without its processes.

The student has the settings of the demo. It learns the lists in the order of the stream. Each list is ordered just
before it is learnt. *Share* is what the demo's page says: the lead over popularity in the last third of the five
minutes after the turn, divided by the lead before it. The last columns are the lead in the six parts of these five
minutes. `--set` changes a setting of the demo.

A replay takes a third of a minute, so settings can be compared on many worlds. It proves nothing about the demo itself:
here the newest student answers at once, it learns from all users, and nothing else runs on the machine.

    python -m benchmarks.bench_turn --seeds 5,6,7,8,9,10,11,12
    python -m benchmarks.bench_turn --seeds 5,6,7,8 --set distil.batch=32

It knows nothing of processes, logs or pages.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.bench_one_pass import in_order
from benchmarks.forms import Options
from recdistill.config import LogSettings, Settings, load_settings
from recdistill.data.simulated import SimulatorSettings, simulate
from recdistill.demo.live.chosen import PAST, RECENT_S, SHIFT, WINDOW_S, settings_of, world_of
from recdistill.demo.live.player import Clock
from recdistill.demo.live.quality import Quality
from recdistill.demo.live.showed import WITHIN_S, Points, recovered
from recdistill.loops.trainers import make_trainer
from recdistill.records import Feedback, Impression, Item
from recdistill.train import Trainer, use_threads

PARTS: Final = 6
"""Of the time after the turn."""


def settings_for(seed: int, seconds: float, changes: Sequence[str]) -> Settings:
    """The settings of the demo, with some changed."""
    env = {}
    for change in changes:
        path, _, value = change.partition("=")
        env["RECDISTILL__" + path.replace(".", "__").upper()] = value
    with tempfile.TemporaryDirectory() as place:
        settings_of(Path(place), 1, seed=seed, seconds=seconds, log=LogSettings(path="log.sqlite"))
        return load_settings(Path(place) / "settings.toml", env)


class Replay:
    """One world, on the clock of the wall that the demo would show it in.

    Args:
        world: What the world is like.
        seed: Of the world.
        seconds: How long the stream lasts; what lies before it has times below 0.
    """

    def __init__(self, world: SimulatorSettings, *, seed: int, seconds: float) -> None:
        data, _ = simulate(world, seed=seed)
        # A second after 1970 is a second after the beginning of the past, so no time is 0: that would be unknown.
        clock = Clock(1_000_000, (PAST + 1) * seconds, world.days)
        self._began_s = 1.0 + PAST * seconds
        self.spec = data.spec
        self.records = [clock.move(one) for one in data.timeline()]
        self.taken: dict[str, set[str]] = {}
        for one in self.records:
            if isinstance(one, Feedback):
                self.taken.setdefault(one.impression_id, set()).add(one.item)

    def at_s(self, record: Item | Impression | Feedback) -> float:
        """When a record comes, in seconds of the stream."""
        return record.time_us / 1e6 - self._began_s

    def points(self, trainer: Trainer, batch: int, *, later: int, until_s: float) -> Points:
        """Learns the world in its order, up to a time, and measures each list of the stream just before it is learnt.

        Args:
            trainer: The student.
            batch: Examples of a step.
            later: The labels of a list come so many lists later.
            until_s: The time.
        """
        scores: dict[str, np.ndarray] = {}
        quality = Quality(
            {
                "live": lambda one: scores.pop(one.id),
                "teacher": lambda one: np.array([c.logged_score for c in one.candidates], np.float64),
            },
            wait_s=2 * WINDOW_S,
            recent_s=RECENT_S,
        )
        items = [one for one in self.records if isinstance(one, Item)]
        trainer.apply_items(items)
        lists = [one for one in self.records if isinstance(one, Impression) and one.candidates]
        order, learnt = iter(self.records), 0
        examples = in_order(lists, self.taken, later=later)
        for start in range(0, len(examples), batch):
            part = examples[start : start + batch]
            fresh = [one.ranking.impression for one in part if one.label_state != "labels"]
            for one, row in zip(fresh, _scores(trainer, fresh), strict=True):
                scores[one.id] = row
            learnt += len(fresh)
            while len(scores) > 0:
                record = next(order)
                now_s = self.at_s(record)
                if now_s >= until_s:
                    return quality.points
                quality.settle(now_s)
                if isinstance(record, Feedback):
                    quality.clicked(record, now_s)
                elif isinstance(record, Impression) and record.candidates:
                    if now_s >= 0:
                        quality.shown(record, now_s)
                    scores.pop(record.id, None)
            trainer.learn(trainer.encode(part))
        return quality.points


def _scores(trainer: Trainer, lists: Sequence[Impression]) -> list[np.ndarray]:
    """The student's scores of each list's candidates."""
    if not lists:
        return []
    names = sorted({candidate.item for one in lists for candidate in one.candidates})
    column = {name: n for n, name in enumerate(names)}
    scores_BN = np.asarray(trainer.score(lists, trainer.catalogue.slots(names)))
    return [row[[column[c.item] for c in one.candidates]] for one, row in zip(lists, scores_BN, strict=True)]


def row_of(seed: int, told: Any) -> str:
    """One world: what was found of it."""
    settings = settings_for(seed, told.seconds, told.set)
    replay = Replay(world_of(seconds=told.seconds, rate=told.rate), seed=seed, seconds=told.seconds)
    batch, turn_s = settings.distil.batch, SHIFT * told.seconds
    trainer = make_trainer(replay.spec, settings.student, settings.loss, seed=seed, watch=settings.watch, batch=batch)
    until_s = min(told.seconds, turn_s + WITHIN_S)
    points = replay.points(trainer, batch, later=round(WINDOW_S * told.rate), until_s=until_s)
    found = recovered(points, shift_s=turn_s, seconds=told.seconds)
    edges = np.linspace(turn_s, until_s, PARTS + 1)
    leads = "".join(f"{lead(points, begin, end):>8.3f}" for begin, end in pairwise(edges))
    live = found["live"]
    share = f"{live['share']:.2f} [{live['low']:.2f}, {live['high']:.2f}]"
    return f"{seed:>5}{len(points):>8}{found['lead']:>8.3f}  {share:<20}{leads}"


def lead(points: Points, begin_s: float, end_s: float) -> float:
    """The mean lead of the student over popularity between two times."""
    return float(np.mean([v["live"] - v["popularity"] for at_s, v in points if begin_s <= at_s < end_s]))


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, seeds="5", seconds=100.0)
    parser.add_argument("--seeds", default="5,6,7,8", help="of the worlds, with commas (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=450.0, help="of the stream (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=25.0, help="lists a second (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another setting")
    return parser


def main() -> None:
    """Prints a row for each world."""
    told = options().parse_args()
    use_threads(1)
    parts = "".join(f"{f'part {n + 1}':>8}" for n in range(PARTS))
    print(f"{'seed':>5}{'lists':>8}{'before':>8}  {'share':<20}{parts}")
    for seed in told.seeds.split(","):
        print(row_of(int(seed), told), flush=True)


if __name__ == "__main__":
    main()
