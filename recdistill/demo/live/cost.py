"""What 1,000 answers cost: a large teacher and the student, on the same lists, in processor seconds with one thread.

The scores of the simulated world's teacher are made with the world, so they cost nothing. What is timed in its place is
the built-in teacher of kind `attention`, a transformer over the whole history, in the size that `TEACHER` gives. Its
weights stand where one short pass has left them: they do not change how long it takes. It scores the lists in blocks,
which is quicker than one by one. The student is the bundle that serves. It orders the lists one by one, as it does
behind HTTP. HTTP itself is in neither figure. Both take turns, so what else the machine does meets both.

It knows nothing of the other processes.

    python -m recdistill.demo.live.cost BUNDLE FOLDER   (the demo starts it; the teacher is written into FOLDER)

Example:
    >>> found = Measured(teacher_s=8.0, student_s=0.4, lists=256, parameters=3_000_000)
    >>> cost_of(found, price=0.09)["ratio"], cost_of(found, price=0.09)["teacher_money"]
    (20.0, 0.0002)
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from recdistill.bundle import open_bundle
from recdistill.config import load_settings
from recdistill.errors import DecodeError
from recdistill.features import FeatureSpec
from recdistill.judge import BundleContender
from recdistill.records import Example, Impression, Item, Ranking, decode, decode_item
from recdistill.stream import Log, open_log
from recdistill.teachers import Teacher
from recdistill.teachers.builtin import Training

TEACHER: Final = Training(
    kind="attention", dim=256, layers=8, heads=4, dropout=0.0, epochs=1, held_out=2, batch=8, learning_rate=1e-3
)
"""The size of the teacher that is timed, and one short pass."""

_LISTS: Final = 128
_BLOCK: Final = 64  # lists that the teacher scores at once
_LEARNT: Final = 16  # lists of its short pass
_READ: Final = 500


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Processor seconds for 1,000 lists.

    Attributes:
        teacher_s: Of the teacher.
        student_s: Of the student.
        lists: How many lists were timed.
        parameters: Numbers in the teacher.
    """

    teacher_s: float
    student_s: float
    lists: int
    parameters: int


def cost_of(found: Measured, *, price: float) -> dict[str, Any]:
    """The costs as the page and the summary give them.

    Args:
        found: What was measured.
        price: Of an hour of one processor; the money is rounded to 7 digits behind the point.
    """
    return {
        "teacher_s": round(found.teacher_s, 4),
        "student_s": round(found.student_s, 4),
        "ratio": round(found.teacher_s / max(found.student_s, 1e-9), 2),
        "teacher_money": round(found.teacher_s / 3600 * price, 7),
        "student_money": round(found.student_s / 3600 * price, 7),
        "price": price,
        "lists": found.lists,
        "teacher": f"a transformer of {TEACHER.layers} layers of {TEACHER.dim}, {found.parameters / 1e6:.1f} million "
        "numbers",
    }


def newest(log: Log, count: int) -> list[Impression]:
    """The newest lists of the log that have candidates, oldest first."""
    with closing(log.source(["impressions"])) as source:
        source.seek({tp: max(source.bounds(tp)[0], source.bounds(tp)[1] - 2 * count) for tp in source.position()})
        found: deque[Impression] = deque(maxlen=count)
        while messages := source.read(_READ, 0.2):
            for message in messages:
                try:
                    one = decode(Impression, message.value)
                except DecodeError:
                    continue
                if one.candidates:
                    found.append(one)
            if len(found) == count:
                break
    return list(found)


def items_of(log: Log) -> list[Item]:
    """All items of the log, in its order."""
    found = []
    with closing(log.source(["items"])) as source:
        while messages := source.read(_READ, 0.2):
            found += [decode_item(message.key, message.value) for message in messages]
    return found


def measure(lists: Sequence[Impression], items: Sequence[Item], spec: FeatureSpec, bundle: Path, out: Path) -> Measured:
    """Makes the teacher, and times both on the lists.

    Args:
        lists: Some lists with candidates.
        items: The catalogue.
        spec: What a model may see.
        bundle: The student.
        out: Folder for the teacher; it must not exist.

    Raises:
        BundleError: The bundle cannot be opened.
        TeacherError: No list can be learnt from.
    """
    from recdistill.teachers.builtin import teacher as builtin
    from recdistill.train import use_threads

    use_threads(1)
    figures = builtin.train_teacher([_any(one) for one in lists[:_LEARNT]], items, spec, TEACHER, out)
    teacher, student = builtin.BuiltinTeacher.load(out), BundleContender(open_bundle(bundle), "student")
    blocks = [lists[start : start + _BLOCK] for start in range(0, len(lists), _BLOCK)]
    _turn(teacher, student, blocks[0])  # the first answers are slower, so they are not counted
    turns = [_turn(teacher, student, block) for block in blocks]
    scale = 1000 / len(lists)
    return Measured(
        teacher_s=sum(one for one, _ in turns) * scale,
        student_s=sum(one for _, one in turns) * scale,
        lists=len(lists),
        parameters=int(figures["parameters"]),
    )


def _turn(teacher: Teacher, student: BundleContender, block: Sequence[Impression]) -> tuple[float, float]:
    """Processor seconds of the teacher and of the student for some lists."""
    begun = time.process_time()
    teacher.score(block)
    between = time.process_time()
    for one in block:
        student.scores([one])
    return between - begun, time.process_time() - between


def _any(one: Impression) -> Example:
    """A list whose first item was chosen. It is only there so that something can be learnt."""
    count = len(one.candidates)
    ranking = Ranking(
        impression=one, teacher_id="", teacher_version="", scale="rank", scores=(0.0,) * count, scored=(False,) * count
    )
    return Example(ranking, (1.0, *(0.0,) * (count - 1)), "closed")


def main() -> None:
    """Measures, and prints the figures as one line of JSON."""
    os.nice(10)  # the stream goes first
    bundle, out = map(Path, sys.argv[1:3])
    settings = load_settings()
    with closing(open_log(settings.log)) as log:
        lists, items = newest(log, _LISTS), items_of(log)
    found = measure(lists, items, FeatureSpec.load(Path(settings.features.file)), bundle, out)
    print(msgspec.json.encode(found).decode())


if __name__ == "__main__":
    main()
