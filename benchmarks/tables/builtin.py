"""The built-in teacher on a table of users and items: one timeline a user, and scores of all items for each user.

A table has no times. The order of a timeline is that of the file. If that order means nothing, there is nothing to
learn from it. So each timeline is added again in shuffled order, `SHUFFLES` times. This shows the teacher that the
order means nothing.

Example:
    >>> [one.ranking.impression.history[0].item for one in examples_of([["a", "b"]], shuffles=0)]
    ['a']
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.tables.pairs import Pairs
from recdistill.features import FeatureSpec, HistorySpec, IdSpec
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking
from recdistill.teachers.builtin import Training
from recdistill.teachers.builtin.teacher import BuiltinTeacher, train_teacher

LENGTH = 200
"""Most events of a history."""
SHUFFLES = 5
SETTINGS = Training(dim=32, layers=1, pooled_dim=64, epochs=1, batch=16)


def lines_of(train: Path, pairs: Pairs) -> list[list[str]]:
    """Each user's items in the order of the train file, users in the order of the table."""
    number = {user: n for n, user in enumerate(pairs.users)}
    lines: list[dict[str, None]] = [{} for _ in pairs.users]
    for line in train.read_text(encoding="utf-8").splitlines():
        user, _, item = line.partition("\t")
        lines[number[user]][item] = None
    return [list(line) for line in lines]


def impression(name: str, items: Sequence[str], candidates: Sequence[str] = ()) -> Impression:
    """A request at no known time."""
    return Impression(
        name,
        0,
        history=tuple(Event(item, 0) for item in items),
        candidates=tuple(Candidate(item) for item in candidates),
    )


def examples_of(lines: Sequence[Sequence[str]], *, shuffles: int, seed: int = 0) -> list[Example]:
    """A labelled list for each timeline: its last item, with all before it as the history."""
    random = np.random.default_rng(seed)
    found = []
    for user, line in enumerate(lines):
        orders = [list(range(len(line))), *(random.permutation(len(line)).tolist() for _ in range(shuffles))]
        for copy, order in enumerate(orders if line else []):
            *history, last = [line[n] for n in order]
            asked = impression(f"{user}-{copy}", history, [last])
            found.append(Example(Ranking(asked, "", "", "rank", (0.0,), (False,)), (1.0,)))
    return found


class BuiltinTable:
    """A trained teacher as a scorer of the table's users."""

    vectors = None

    def __init__(
        self, teacher: BuiltinTeacher, lines: Sequence[Sequence[str]], items: Sequence[str], size: int
    ) -> None:
        column = {item: n for n, item in enumerate(teacher.item_ids)}
        self.teacher, self.lines, self.size = teacher, lines, size
        self.columns_N = np.array([column[item] for item in items], np.int64)

    def scores(self, users: np.ndarray) -> np.ndarray:
        """f32 `[B, N]`, items in the order of the table."""
        asked = [impression(str(user), self.lines[user]) for user in users.tolist()]
        return self.teacher.catalogue_scores(asked)[:, self.columns_N]


def kind(seed: int) -> str:
    """What tells one training from another on the same table."""
    told = msgspec.json.encode([msgspec.structs.replace(SETTINGS, seed=seed), SHUFFLES, LENGTH])
    return hashlib.sha256(told).hexdigest()[:12]


def table_teacher(train: Path, pairs: Pairs, seed: int, folder: Path) -> BuiltinTable:
    """Trains the teacher of a table, or opens the one that is in the folder.

    Args:
        train: The file that `pairs` came from.
        pairs: Its table.
        seed: Of the training and the shuffles.
        folder: Where the trained teacher is kept.
    """
    lines = lines_of(train, pairs)
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        spec = FeatureSpec(history=HistorySpec(length=LENGTH), id=IdSpec(capacity=len(pairs.items), hashed=1))
        told = train_teacher(
            examples_of(lines, shuffles=SHUFFLES, seed=seed),
            [Item(item) for item in pairs.items],
            spec,
            msgspec.structs.replace(SETTINGS, seed=seed),
            folder,
        )
        print(
            f"teacher builtin: {told['cpu_seconds']:.0f} s of CPU, loss {told['loss']:.3f}", file=sys.stderr, flush=True
        )
    size = sum(file.stat().st_size for file in folder.iterdir())
    return BuiltinTable(BuiltinTeacher.load(folder), lines, pairs.items, size)
