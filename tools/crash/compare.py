"""What a storm left, held against undisturbed runs on the same inputs.

Each impression has one ranking. The joiner's topics equal those of a calm joiner on the same rankings and feedback. The
distiller's checkpoint equals that of a calm distiller on the same examples: weights, vocabulary, optimizer and random
state, byte for byte.

It knows nothing of processes.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from recdistill import checkpoint
from recdistill.cli import main
from recdistill.config import LogSettings, Settings, to_toml
from recdistill.stream import Log, Message, open_log, standard_topics
from recdistill.stream.testing import everything
from tools.crash.fleet import Failed

MADE = ("examples", "held-out")
"""What a joiner writes."""


def verb(config: Path, *words: str) -> str:
    """Types a verb that has to succeed. It runs in this process, which saves its start.

    Raises:
        Failed: It does not end with 0, or a signal has ended it early.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        _environment({"RECDISTILL_CONFIG": str(config)}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main(list(words))
    if code != 0:
        raise Failed(
            f"recdistill {' '.join(words)} ended with {code}:\n{out.getvalue()[-500:]}{err.getvalue()[-2000:]}"
        )
    if '"stopped": true' in out.getvalue():
        raise Failed(f"recdistill {' '.join(words)} was ended by a signal, so nothing can be compared")
    return out.getvalue()


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def write_settings(path: Path, settings: Settings) -> Path:
    """Writes a settings file."""
    path.write_text(to_toml(msgspec.to_builtins(settings)), encoding="utf-8")
    return path


def one_ranking_each(log: Log) -> int:
    """Each record of `impressions` has one ranking, or one dead letter. Returns how many rankings there are.

    Raises:
        Failed: One has none or several.
    """
    asked = Counter((message.tp.partition, message.offset) for message in everything(log, "impressions"))
    made: Counter[tuple[int, int]] = Counter()
    for message in everything(log, "rankings"):
        made[message.tp.partition, int(dict(message.headers)["impression.offset"])] += 1
    rankings = len(made)
    made += one_letter_each(log, "score", "impressions")
    if made != asked:
        missing, twice = asked - made, made - asked
        raise Failed(
            f"{len(asked)} impressions, {sum(made.values())} rankings and dead letters: {sum(missing.values())} have "
            f"none (partition, offset: {sorted(missing)[:5]}), {sum(twice.values())} too many ({sorted(twice)[:5]})"
        )
    return rankings


def one_letter_each(log: Log, stage: str, topic: str) -> Counter[tuple[int, int]]:
    """The dead letters of a stage about a topic, by partition and offset.

    Raises:
        Failed: There are two of one record.
    """
    about = [dict(letter.headers) for letter in everything(log, "dead-letters")]
    found = Counter(
        (int(one["partition"]), int(one["offset"]))
        for one in about
        if (one["stage"], one["topic"]) == (stage.encode(), topic.encode())
    )
    if twice := [place for place, count in found.items() if count > 1]:
        raise Failed(f"the stage {stage} wrote {len(twice)} dead letters of {topic} twice: {sorted(twice)[:5]}")
    return found


def bad_feedback(log: Log) -> int:
    """Each record of `feedback` that nobody can read has one dead letter. Returns how many.

    Raises:
        Failed: One has none.
    """
    bad = {
        (one.tp.partition, one.offset) for one in everything(log, "feedback") if (one.key or b"").startswith(b"bad-")
    }
    if missing := bad - set(one_letter_each(log, "join", "feedback")):
        raise Failed(f"{len(missing)} records of feedback have no dead letter: {sorted(missing)[:5]}")
    return len(bad)


def calm_joiner(log: Log, settings: Settings, folder: Path, **join: Any) -> dict[str, list[bytes]]:
    """What a joiner makes of the same rankings and feedback in peace, on a log of its own."""
    folder.mkdir(parents=True)
    counts = log.topics()
    copy = LogSettings(path=str(folder / "log.sqlite"))
    own = msgspec.structs.replace(settings.join, directory=str(folder / "snapshot"), **join)
    quiet = msgspec.structs.replace(settings, log=copy, join=own)
    config = write_settings(folder / "settings.toml", quiet)
    with closing(open_log(copy)) as calm:
        calm.create_topics(standard_topics(counts["rankings"], counts["examples"]))
        _copy(log, calm, ("items", "rankings", "feedback"))
        verb(config, "join", "--drain", "--json")
        return {topic: values(calm, topic) for topic in MADE if topic in calm.topics()}


def _copy(log: Log, to: Log, topics: Sequence[str]) -> None:
    with closing(to.stage("copy")) as stage:
        for topic in topics:
            messages = everything(log, topic)
            for start in range(0, len(messages), 500):
                with stage.transaction() as transaction:
                    for message in messages[start : start + 500]:
                        transaction.send(
                            topic,
                            message.value,
                            key=message.key,
                            partition=message.tp.partition,
                            headers=message.headers,
                            time_us=message.time_us,
                        )


def values(log: Log, topic: str) -> list[bytes]:
    """The values of a topic, partition after partition."""
    found: dict[int, list[Message]] = {}
    for message in everything(log, topic):
        found.setdefault(message.tp.partition, []).append(message)
    return [message.value or b"" for partition in sorted(found) for message in found[partition]]


def same_examples(log: Log, calm: Mapping[str, Sequence[bytes]], who: str) -> int:
    """Whether the log has what a calm joiner makes. Returns how many examples.

    Raises:
        Failed: It has not.
    """
    for topic, wanted in calm.items():
        found = values(log, topic)
        if found == list(wanted):
            continue
        lacks, more = Counter(wanted) - Counter(found), Counter(found) - Counter(wanted)
        first = next(
            (n for n, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), min(map(len, (found, wanted)))
        )
        raise Failed(
            f"{topic} differ from those of {who}: {len(found)} and {len(wanted)}, the first difference at {first}; "
            f"{sum(lacks.values())} are missing, {sum(more.values())} are too many"
            + ("; only their order differs" if not lacks and not more else "")
        )
    return len(calm["examples"])


def same_student(settings: Settings, folder: Path) -> tuple[int, int]:
    """Whether the newest checkpoint is that of a calm distiller on the same log. Returns steps and examples.

    Raises:
        Failed: It is not.
    """
    folder.mkdir(parents=True)
    quiet = msgspec.structs.replace(
        settings,
        distil=msgspec.structs.replace(
            settings.distil, directory=str(folder / "student"), checkpoint_every=1_000_000, export_every=0
        ),
    )
    verb(write_settings(folder / "settings.toml", quiet), "distil", "--drain", "--json")
    calm = checkpoint.latest(folder / "student" / "checkpoints")
    storm = checkpoint.latest(Path(settings.distil.directory) / "checkpoints")
    if calm is None or storm is None:
        raise Failed(f"no checkpoint: calm {calm is not None}, storm {storm is not None}")
    if calm.step != storm.step:
        raise Failed(f"the student stands at step {storm.step}, a calm one at step {calm.step}")
    differing = [
        name
        for name in sorted({*calm.tensors, *storm.tensors})
        if name not in calm.tensors
        or name not in storm.tensors
        or calm.tensors[name].tobytes() != storm.tensors[name].tobytes()
    ]
    if differing:
        raise Failed(f"step {calm.step}: these tensors differ from a calm student's: {', '.join(differing[:8])}")
    if (what := _different(calm.state["trainer"], storm.state["trainer"], "trainer")) is not None:
        raise Failed(f"step {calm.step}: the state differs from a calm student's: {what}")
    learnt = [one.state["stream"].get("examples") for one in (calm, storm)]
    if learnt[0] != learnt[1]:
        raise Failed(f"the student says that it has learnt {learnt[1]} examples, a calm one {learnt[0]}")
    return storm.step, len(storm.tensors)


def newest_step(student: Path) -> int:
    """The step of the newest checkpoint; -1 where there is none."""
    found = checkpoint.latest(student / "checkpoints")
    return -1 if found is None else found.step


def _different(one: Any, two: Any, where: str) -> str | None:
    """The first place where two states differ."""
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        return next((found for name in one if (found := _different(one[name], two[name], f"{where}.{name}"))), None)
    return None if one == two else f"{where}: {str(two)[:80]} instead of {str(one)[:80]}"
