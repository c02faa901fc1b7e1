"""MovieLens 100k in the order of time: what each user chose, scored by the built-in teacher, which learns a part of it.

It knows nothing of students.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from benchmarks.forms import absent
from benchmarks.inputs import data_set
from recdistill.data import Dataset, movielens
from recdistill.records import Example, Impression, Ranking
from recdistill.teachers.builtin import Training
from recdistill.teachers.builtin.teacher import BuiltinTeacher, train_teacher

_AT_ONCE = 512


class Films(NamedTuple):
    """The data, and by name what a table needs."""

    data: Dataset
    taken: dict[str, set[str]]
    """By list: what was chosen."""
    names: list[str]
    column: dict[str, int]

    @classmethod
    def read(cls) -> Films:
        """Reads them from beside the clone. Where they are not there, the benchmark ends."""
        folder = data_set("ml-100k")
        if not folder.is_dir():
            absent(f"{folder} is not there; put MovieLens 100k into it")
        data = movielens.load(folder, seed=0)
        taken: dict[str, set[str]] = {}
        for like in data.feedback:
            taken.setdefault(like.impression_id, set()).add(like.item)
        names = list(dict.fromkeys(item.id for item in data.items))
        return cls(data, taken, names, {name: at for at, name in enumerate(names)})

    def scored(self, known: Sequence[Impression], lists: Sequence[Impression]) -> Iterator[Impression]:
        """Lists with the scores of a teacher that knows other lists, and what was chosen of them.

        Args:
            known: What the teacher knows.
            lists: What it scores, from the history of each.
        """
        examples = []
        for one in known:
            labels = tuple(float(c.item in self.taken.get(one.id, ())) for c in one.candidates)
            if any(labels):
                unscored = (0.0,) * len(labels), (False,) * len(labels)
                examples.append(Example(Ranking(one, "", "", "rank", *unscored), labels))
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "teacher"
            train_teacher(examples, list(self.data.items), self.data.spec, Training(), place)
            teacher = BuiltinTeacher.load(place)
        column = {name: at for at, name in enumerate(teacher.item_ids)}
        for start in range(0, len(lists), _AT_ONCE):
            some = lists[start : start + _AT_ONCE]
            scores_BN = teacher.catalogue_scores(some)
            for one, scores_N in zip(some, scores_BN, strict=True):
                candidates = tuple(
                    msgspec.structs.replace(c, logged_score=float(scores_N[column[c.item]])) for c in one.candidates
                )
                yield msgspec.structs.replace(one, candidates=candidates)

    def right(self, one: Impression) -> tuple[np.ndarray, np.ndarray]:
        """Of a list: the gain of each film, f32 `[N]`, and whether it may be answered, bool `[N]`."""
        chosen = self.taken[one.id]
        gains_N, allowed_N = np.zeros(len(self.names), np.float32), np.ones(len(self.names), bool)
        gains_N[[self.column[item] for item in chosen]] = 1.0
        gone = ({event.item for event in one.history} | set(one.exclude)) - chosen
        allowed_N[[self.column[item] for item in gone if item in self.column]] = False
        return gains_N, allowed_N
