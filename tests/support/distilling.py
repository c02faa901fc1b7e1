"""A small log of scored and joined lists, and a distiller on it: what the tests of the distiller share.

It knows nothing of what they test.
"""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from recdistill import checkpoint
from recdistill.config import DistilSettings, LogSettings, LossSettings, StudentSettings
from recdistill.features import FeatureSpec, Field, HistorySpec, IdSpec
from recdistill.loops import join, score
from recdistill.loops.feed import feed
from recdistill.loops.wire import distil_from
from recdistill.records import Item
from recdistill.stream import Log, open_log, standard_topics
from recdistill.teachers.function import FunctionTeacher
from support import world

SPEC = FeatureSpec(
    history=HistorySpec(length=4, actions=("click",)),
    id=IdSpec(capacity=100, hashed=4),
    item={"genre": Field("category", capacity=8, hashed=2), "title": Field("text", capacity=32)},
    context={"hour": Field("category", capacity=24, hashed=0, max_values=1)},
)
STUDENT = StudentSettings(dim=4, hidden=8, context_dim=4)


def write_log(path: Path) -> Path:
    """Writes the file of a log of 150 examples in two lanes; items change half-way."""
    log = open_log(LogSettings(path=str(path)))
    log.create_topics(standard_topics(partitions=2, lanes=2))
    lists = world.impressions(150)
    feed(log, [*world.items(12), *lists[:75]])
    scored(log)
    changed = Item(id="item-3", version=2, attributes={"genre": "b"}, time_us=99)
    feed(log, [*world.items(20)[12:], changed, *lists[75:], *world.feedback(lists)])
    scored(log)
    joined(log)
    log.close()
    return path


def copied(path: Path, to: Path) -> Iterator[Log]:
    """A test's own copy of a log that was written once."""
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    log = open_log(LogSettings(path=str(shutil.copy(path, to))))
    yield log
    log.close()


def scored(log: Log) -> None:
    """Has everything scored."""
    teacher = FunctionTeacher(world.by_hash, "hash", "1", "logit")
    score.run(log, teacher, batch=16, wait_s=0.05, stop=threading.Event(), drain=True)


def joined(log: Log) -> None:
    """Has everything joined."""
    join.run(log, window_s=5, wait_s=0.02, stop=threading.Event(), drain=True, flush=True)


def more(log: Log, count: int, seed: int) -> None:
    """New lists, as they come from outside, until they are examples."""
    feed(log, [msgspec.structs.replace(one, id=f"{seed}-{one.id}") for one in world.impressions(count, seed=seed)])
    scored(log)
    joined(log)


def settings(directory: Path, **changed: object) -> DistilSettings:
    """Settings for so small a log."""
    wanted = {"directory": str(directory), "batch": 8, "checkpoint_every": 5, "wait_s": 0.02, "threads": 1, **changed}
    return msgspec.convert(wanted, DistilSettings)


def run(
    log: Log, chosen: DistilSettings, loss: LossSettings | None = None, student: StudentSettings = STUDENT, **more: Any
) -> Counter[str]:
    """Runs the distiller; it drains unless told otherwise."""
    arguments = {"stop": threading.Event(), "drain": True, **more}
    return distil_from(log, SPEC, student, loss or LossSettings(), chosen, **arguments)


def final(directory: Path) -> checkpoint.Checkpoint:
    """The newest checkpoint of a student."""
    found = checkpoint.latest(directory / "checkpoints")
    assert found is not None
    return found


def assert_same_state(a: Path, b: Path, *, but: tuple[str, ...] = ()) -> None:
    """Two students are the same, byte for byte, but for the bundle that each made last."""
    one, two = final(a), final(b)
    assert one.step == two.step
    assert one.tensors.keys() == two.tensors.keys()
    for name, tensor in one.tensors.items():
        assert tensor.tobytes() == two.tensors[name].tobytes(), name
    assert one.state["trainer"] == two.state["trainer"]
    for state in (one.state["stream"], two.state["stream"]):
        for name in ("parent", *but):
            state.pop(name, None)
    assert one.state["stream"] == two.state["stream"]
