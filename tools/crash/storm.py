"""The storm on one log: kills, zombies, broker kills and power cuts while the stream goes on, then the comparison.

It knows nothing of what the product writes; `compare` does.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import signal
import sqlite3
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from recdistill.config import (
    DistilSettings,
    FeatureSettings,
    JoinSettings,
    LogSettings,
    ScoreSettings,
    Settings,
    StudentSettings,
    TeacherSettings,
    to_toml,
)
from recdistill.features import FeatureSpec, Field, HistorySpec, IdSpec
from recdistill.stream import open_log
from tools.crash import compare, stream
from tools.crash.disk import Disk, install
from tools.crash.fleet import Failed, Fleet, Process, environment
from tools.kafka_broker import KafkaBroker

PARTITIONS: Final = 2
LANES: Final = 2
STAGES: Final = ("scorer", "joiner", "distiller")
FENCED: Final = 4
"""Exit code of a process that was taken over."""

_PARTS_S: Final = 4.0
"""Parts of the stream that are written in a second."""

_AHEAD: Final = 1500
"""So many lists may wait for a distiller that was killed. Then the stream waits too, or the end would take long."""

_SPEC: Final = FeatureSpec(
    history=HistorySpec(length=4, actions=("click",)),
    id=IdSpec(capacity=400, hashed=4),
    item={"genre": Field("category", capacity=8, hashed=2), "title": Field("text", capacity=32)},
    context={"hour": Field("category", capacity=24, hashed=0, max_values=1)},
)

Say = Callable[[str], None]


class Plan(Struct, frozen=True):
    """What a storm does.

    Attributes:
        log: `embedded` or `kafka`.
        seed: Of the stream and of every choice.
        kills: SIGKILLs, shared by all stages.
        zombies: Of each stage: paused until a successor has worked.
        broker_kills: SIGKILLs of the broker.
        cuts: Power cuts of the machine on which the stages run.
        seconds: After so long nothing new begins.
        stages: Those that run.
    """

    log: str
    seed: int
    kills: int = 0
    zombies: int = 0
    broker_kills: int = 0
    cuts: int = 0
    seconds: float = 3600.0
    stages: tuple[str, ...] = STAGES


class Outcome(Struct):
    """What it did and what it found."""

    plan: Plan
    did: Counter[str] = msgspec.field(default_factory=Counter)
    seconds: float = 0.0
    impressions: int = 0
    examples: int = 0
    steps: int = 0
    failed: str = ""


class Storm:
    """One log, its processes and its producer.

    Args:
        plan: What is to be done.
        folder: Where everything lies; it is new.
        broker: The broker, where the log is Kafka's.
        say: Told the progress.
    """

    def __init__(self, plan: Plan, folder: Path, broker: KafkaBroker | None, say: Say) -> None:
        self.plan, self.folder, self.broker, self.say = plan, folder, broker, say
        self.chance = random.Random(plan.seed)
        self.outcome = Outcome(plan)
        self.machine = folder / "machine"
        """What a power cut hits: the student, and the log where it is embedded."""
        (self.machine / "student").mkdir(parents=True)
        (self.machine / "joiner").mkdir()
        self.disk = Disk(folder / "disk") if plan.cuts else None
        self.settings = settings_of(plan, folder, self.machine, broker)
        self.config = compare.write_settings(folder / "settings.toml", self.settings)
        self.fleet = Fleet(folder / "output", environment(self.config, disk=folder / "disk" if plan.cuts else None))
        self.workers = 1
        self._victims: Counter[str] = Counter()
        self._written = -1
        self._go = threading.Event()
        self._stop = threading.Event()
        self._trouble = ""
        self._producer: threading.Thread | None = None

    def run(self) -> Outcome:
        """Does all of it. What fails is in the outcome."""
        began = time.monotonic()
        try:
            self._run(began + self.plan.seconds)
        except Failed as e:
            self.outcome.failed = str(e)
        except Exception:  # noqa: BLE001 - told in the table
            self.outcome.failed = f"the tool itself failed:\n{traceback.format_exc()}"
        finally:
            self._halt()
            self.fleet.kill_all()
        self.outcome.seconds = time.monotonic() - began
        return self.outcome

    def _run(self, until: float) -> None:
        compare.verb(self.config, "topics", "create")
        if self.disk is not None:
            self.disk.flushed_all(self.machine)
        with contextlib.ExitStack() as stack:
            self.log = stack.enter_context(closing(open_log(self.settings.log)))
            self._produce()
            for stage in self.plan.stages:
                self.fleet.start(stage)
            for happens in self._plan():
                if time.monotonic() > until:
                    self.say(f"{self.plan.seconds:.0f} s are over")
                    break
                happens()
                if self._trouble:
                    raise Failed(f"the producer: {self._trouble}")
            self._drain()

    def _plan(self) -> list[Callable[[], None]]:
        """What happens, in the order of the seed."""
        plan: list[Callable[[], None]] = []
        self._victims = Counter(itertools.islice(itertools.cycle(self.plan.stages), self.plan.kills))
        plan += [self._kill] * self.plan.kills
        plan += [
            lambda stage=stage: self._zombie(stage) for stage in self.plan.stages for _ in range(self.plan.zombies)
        ]  # type: ignore[misc]
        plan += [self._kill_broker] * self.plan.broker_kills
        plan += [self._cut] * self.plan.cuts
        self.chance.shuffle(plan)
        return plan

    # What happens

    def _kill(self) -> None:
        """Kills one of those that have worked. The others may just have been started."""
        ready: list[Process] = []

        def some() -> bool:
            due = [one for stage in self._victims.elements() for one in self.fleet.of(stage)]
            ready[:] = [one for one in due if one.worked()]
            return bool(ready)

        self.fleet.wait(some, "the first work of any stage")
        victim = self.chance.choice(ready)
        stage = victim.stage
        self._victims -= Counter((stage,))
        time.sleep(self.chance.uniform(0.0, 1.5))
        self.fleet.check()
        done = victim.worked()
        victim.kill()
        self.fleet.forget(victim)
        self._did(f"kills of {stage}", f"{victim.name} killed after {done} units of work")
        self._successor(victim)

    def _successor(self, gone: Process) -> None:
        """Starts a process in the place of one that is gone. Scorers come back as another number of them."""
        if gone.stage != "scorer" or self.chance.random() < 0.5:
            self.fleet.start(gone.stage, gone.key)
            return
        left = self.fleet.of("scorer")
        for one in left:
            self.fleet.forget(one)  # it will end by itself
        self.workers = 1 if self.workers == PARTITIONS else PARTITIONS
        started = [self.fleet.start("scorer", (n, self.workers)) for n in range(self.workers)]
        self._did("other numbers of scorers", f"{self.workers} scorers now")
        # Who is left has lost a partition to one of them. It has to find out by itself.
        for one in started:
            self.fleet.begun(one)
        for one in left:
            self._ends_fenced(one)

    def _zombie(self, stage: str) -> None:
        zombie = self.chance.choice(self.fleet.of(stage))
        self.fleet.begun(zombie)
        for _ in range(100):
            time.sleep(self.chance.uniform(0.0, 1.0))
            self.fleet.check()
            zombie.signal(signal.SIGSTOP)
            if not self._holds_the_log():
                break
            zombie.signal(signal.SIGCONT)  # paused inside of a commit, it would make all others wait for it
            self.outcome.did["paused inside of a commit"] += 1
        self.fleet.forget(zombie)
        if stage == "distiller":
            # As on a disk that two machines share without locks. With a lock the successor is refused.
            (self.machine / "student" / "owner.json").unlink()
        heir = self.fleet.start(stage, zombie.key)
        self.fleet.begun(heir)
        zombie.signal(signal.SIGCONT)
        self._ends_fenced(zombie)
        self._did(f"zombies of {stage}", f"{zombie.name} woke up and stopped; {heir.name} goes on")
        self.fleet.begun(heir)

    def _ends_fenced(self, process: Process) -> None:
        self.fleet.forget(process)
        self.fleet.wait(lambda: process.ended() is not None, f"the end of {process.name}, which was taken over")
        if process.ended() != FENCED or "taken" not in process.said():
            raise Failed(f"{process.name} was taken over and ended with {process.ended()}:\n{process.said()}")

    def _holds_the_log(self) -> bool:
        """Whether somebody holds the embedded log for writing, for as long as no live process does."""
        if self.broker is not None:
            return False
        connection = sqlite3.connect(self.settings.log.path, timeout=3.0, isolation_level=None)
        try:
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return True
        else:
            return False
        finally:
            connection.close()

    def _kill_broker(self) -> None:
        if self.broker is None:
            return
        for process in list(self.fleet.running.values()):
            self.fleet.begun(process)
        time.sleep(self.chance.uniform(0.0, 1.0))
        self.broker.kill()
        time.sleep(self.chance.uniform(0.0, 2.0))
        for _ in range(3):  # a busy machine needs more than a minute for it
            with contextlib.suppress(RuntimeError):
                self.broker.start()
                break
        else:
            raise Failed(f"the broker did not come back; its log is {self.broker.log}")
        for process in list(self.fleet.running.values()):
            self.fleet.begun(process)
        self._did("kills of the broker", "the broker was killed and is back; all stages go on")

    def _cut(self) -> None:
        """All processes die at once, and of their disk only what was flushed is left."""
        assert self.disk is not None
        for process in list(self.fleet.running.values()):
            self.fleet.begun(process)
        if self.chance.random() < 0.5:
            # Without the distiller nobody flushes the log, so more of it is lost.
            for process in self.fleet.of("distiller"):
                process.kill()
                self.fleet.forget(process)
            time.sleep(self.chance.uniform(0.0, 3.0))
        time.sleep(self.chance.uniform(0.0, 1.5))
        self.fleet.check()
        before = compare.newest_step(self.machine / "student")
        self._halt()
        self.fleet.kill_all()
        left, lost = self.folder / "left", self.folder / "lost"
        self.disk.cut(self.machine, left)
        self.log.close()
        self.machine.rename(lost)
        left.rename(self.machine)
        self.disk.flushed_all(self.machine)
        self.log = open_log(self.settings.log)
        after = compare.newest_step(self.machine / "student")
        shutil.rmtree(lost)
        gone = self._written - stream.last_part(self.log)
        self._did("power cuts", f"of step {before} on the disk {after} is left; {gone} parts of the stream are gone")
        if after < 0 <= before:
            raise Failed(f"the student had step {before}, and the power cut left none")
        self._produce()
        for process_of in self.plan.stages:
            for n in range(self.workers if process_of == "scorer" else 1):
                self.fleet.start(process_of, (n, self.workers) if process_of == "scorer" else (0, 1))

    def _did(self, what: str, line: str) -> None:
        self.outcome.did[what] += 1
        self.say(f"{what} {self.outcome.did[what]}: {line}")

    # The producer

    def _produce(self) -> None:
        """Starts to write where the log ends."""
        self._stop.clear()
        self._written = stream.last_part(self.log)
        self._producer = threading.Thread(target=self._write, name="producer", daemon=True)
        self._producer.start()

    def _write(self) -> None:
        try:
            with closing(self.log.stage("producer")) as stage:
                while not self._stop.is_set():
                    if self._ahead() > _AHEAD:
                        self._stop.wait(0.2)
                        continue
                    n = self._written + 1
                    if n % 3 == 0:
                        stream.abort(stage, 2)
                        if self.broker is not None and n % 12 == 0:
                            stream.abort_on_brokers(self.settings.log)
                    stream.write_with(stage, stream.part(n, seed=self.plan.seed))
                    self._written = n
                    self._stop.wait(1.0 / _PARTS_S)
        except Exception as e:  # noqa: BLE001 - told to the thread that runs the storm
            self._trouble = f"{type(e).__name__}: {e}"

    def _ahead(self) -> int:
        """Lists that were written and are not learnt, by the names of the checkpoints."""
        names = [one.name for one in (self.machine / "student" / "checkpoints").glob("step-*")]
        if "distiller" not in self.plan.stages:
            return 0
        steps = [int(name[5:]) for name in names if name[5:].isdigit()]
        return self._written * stream.LISTS - max(steps, default=0) * self.settings.distil.batch

    def _halt(self) -> None:
        self._stop.set()
        if self._producer is not None:
            self._producer.join()

    # The end

    def _drain(self) -> None:
        for process in list(self.fleet.running.values()):
            self.fleet.begun(process)
        self._halt()
        if self._trouble:
            raise Failed(f"the producer: {self._trouble}")
        stream.write(self.log, stream.last_records(self._written + 1, PARTITIONS))
        self.say("the stream ends; draining")
        self.fleet.end_all()
        for name in ("score", "join", "distil"):
            compare.verb(self.config, name, "--drain", "--json")
        self.outcome.impressions = compare.one_ranking_each(self.log)
        compare.bad_feedback(self.log)
        calm = compare.calm_joiner(self.log, self.settings, self.folder / "calm-joiner")
        slow = compare.calm_joiner(self.log, self.settings, self.folder / "slow-joiner", batch=7)
        if calm != slow:
            raise Failed("two calm joiners on the same log, one of which reads 7 records at a time, differ")
        self.outcome.examples = compare.same_examples(self.log, calm, "a calm joiner")
        self.outcome.steps, _ = compare.same_student(self.settings, self.folder / "calm-distiller")
        self.say(
            f"equal: {self.outcome.impressions} rankings, {self.outcome.examples} examples, "
            f"{self.outcome.steps} steps of the student, byte for byte"
        )


def settings_of(plan: Plan, folder: Path, machine: Path, broker: KafkaBroker | None) -> Settings:
    """Small and quick."""
    features = folder / "features.toml"
    features.write_text(to_toml(msgspec.to_builtins(_SPEC)), encoding="utf-8")
    log = (
        LogSettings(path=str(machine / "log.sqlite"))
        if broker is None
        else LogSettings(kind="kafka", brokers=broker.bootstrap, prefix=f"crash-{plan.seed}-{folder.name}-")
    )
    settings: dict[str, Any] = {
        "log": log,
        "features": FeatureSettings(file=str(features)),
        "teacher": TeacherSettings(kind="callable", function="tools.crash.stream:by_hash", id="hash", scale="logit"),
        "score": ScoreSettings(batch=16, wait_s=0.1),
        # A partition is never taken for silent: a killed scorer is away for longer than that.
        "join": JoinSettings(
            tick_s=0.0,  # a calm joiner, which drains, marks no silence
            window_s=stream.WINDOW_S,
            wait_s=0.1,
            batch=20,
            idle_s=600.0,
            directory=str(machine / "joiner"),
            snapshot_s=2.0,
        ),
        "student": StudentSettings(dim=4, hidden=8, context_dim=4),
        "distil": DistilSettings(
            directory=str(machine / "student"),
            batch=16,
            checkpoint_every=2,
            export_every=40,
            keep=2,
            wait_s=0.1,
            threads=1,
            publish=False,
            learn_within_s=0.0,  # whole batches, as a calm distiller has that drains
        ),
    }
    made = Settings(**settings)
    return msgspec.structs.replace(
        made, topics=msgspec.structs.replace(made.topics, partitions=PARTITIONS, lanes=LANES)
    )


def run(plan: Plan, folder: Path, broker: KafkaBroker | None, say: Say) -> Outcome:
    """Runs a storm in a new folder."""
    folder.mkdir(parents=True)
    end = install(str(folder / "disk")) if plan.cuts else None
    try:
        return Storm(plan, folder, broker, say).run()
    finally:
        if end is not None:
            end()
