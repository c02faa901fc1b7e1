"""Plays a simulated world in the time of the clock on the wall: half a year in some minutes.

All times of the world are moved and shortened by one rule, so everything keeps its order. A record is written when its
new time has come, as a product would write it. What lies before the beginning of the stream is written at once: the log
of a product that starts. At one moment of this world all tastes turn.

It knows nothing of teachers, students or pages.

    python -m recdistill.demo.live.player FILE   (the demo starts it; FILE is a `Play` as JSON)

Example:
    >>> clock = Clock(begin_us=1_000_000_000, seconds=180.0, days=180)
    >>> clock.wall(START_US), clock.wall(START_US + 86_400_000_000)
    (1000000000, 1001000000)
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from recdistill.config import LogSettings, to_toml
from recdistill.data import Dataset
from recdistill.data.simulated import SimulatorSettings, simulate
from recdistill.demo.live.member import WORDS
from recdistill.records import TOPIC_OF, Event, Feedback, Impression, Item, Record, encode, key_of
from recdistill.stream import Log, open_log

START_US: Final = 1_767_225_600_000_000
"""2026-01-01 00:00 UTC, when each simulated world begins."""

_AT_ONCE: Final = 500  # records in one transaction
_WAIT_S: Final = 0.05


class Play(msgspec.Struct, frozen=True, kw_only=True):
    """What is played.

    Attributes:
        log: Where the topics live.
        features: File for the feature specification; it is there when the player is ready.
        seconds: How long the stream lasts.
        past_s: How much of the world lies before it; these records are written at once.
        seed: Seed of the world.
        world: The world.
    """

    log: LogSettings
    features: str
    seconds: float
    past_s: float
    seed: int
    world: SimulatorSettings


class Clock(msgspec.Struct, frozen=True):
    """The rule from times of the world to times on the wall."""

    begin_us: int
    seconds: float
    days: int

    def wall(self, world_us: int) -> int:
        """A time on the wall, in microseconds since 1970; 0, which is unknown, stays so."""
        if world_us == 0:
            return 0
        return self.begin_us + int((world_us - START_US) * self.seconds / (self.days * 86_400))

    def move(self, record: Item | Impression | Feedback) -> Item | Impression | Feedback:
        """A record with its times on the wall."""
        if isinstance(record, Impression):
            history = tuple(Event(e.item, self.wall(e.time_us), e.action) for e in record.history)
            return msgspec.structs.replace(record, time_us=self.wall(record.time_us), history=history)
        return msgspec.structs.replace(record, time_us=self.wall(record.time_us))


def play(
    log: Log,
    records: Iterator[Item | Impression | Feedback],
    clock: Clock,
    *,
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Writes each record when its time has come. Returns how many.

    Args:
        log: Where to.
        records: In the order in which they come.
        clock: Their times.
        now_us: The time now.
        sleep: Waits.
    """
    count, due_us = 0, 0
    ready: list[Record] = []
    with closing(log.stage("player")) as stage:

        def send() -> None:
            if ready:
                with stage.transaction() as transaction:
                    for one in ready:
                        transaction.send(TOPIC_OF[type(one)], encode(one), key=key_of(one))
                ready.clear()

        for record in records:
            moved = clock.move(record)
            due_us = max(due_us, moved.time_us)
            while (early_us := due_us - now_us()) > 0:
                send()
                sleep(min(_WAIT_S, early_us / 1e6))
            ready.append(moved)
            count += 1
            if len(ready) >= _AT_ONCE:
                send()
        send()
    return count


def prepare(play_: Play) -> Dataset:
    """Makes the world, and writes what a model may see of it."""
    dataset, _ = simulate(play_.world, seed=play_.seed)
    target = Path(play_.features)
    draft = target.with_suffix(".draft")
    draft.write_text(to_toml(msgspec.to_builtins(dataset.spec)) + "\n", encoding="utf-8")
    draft.replace(target)  # whoever sees the file sees all of it
    return dataset


def main() -> int:
    """Makes the world, waits for the word that names the beginning, and plays."""
    chosen = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Play)
    dataset = prepare(chosen)
    begin_us = int(WORDS.get())
    with closing(open_log(chosen.log)) as log:
        whole = Clock(begin_us - int(1e6 * chosen.past_s), chosen.past_s + chosen.seconds, chosen.world.days)
        play(log, dataset.timeline(), whole)
    return 0


if __name__ == "__main__":
    sys.exit(main())
