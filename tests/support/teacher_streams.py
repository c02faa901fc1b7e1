"""Invented streams of lists: a taste, a student that learns it over time, teachers that know it better, and labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from recdistill.watch import Observation

L = 20
Change = Callable[[int, np.ndarray, np.random.Generator], np.ndarray]


@dataclass
class Stream:
    """Lists from a taste, a student that learns it over time, teachers that know it better, and most lists' labels."""

    seed: int
    noise: float = 0.7
    labels: float = 0.8
    length: int = L
    skill: float = 3000.0
    """Number of lists after which the student's error has fallen to one half."""
    teacher: Change = lambda at, scores, random: scores
    name: Callable[[int], str] = lambda at: "t@1"
    at: int = 0
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def batch(self, size: int) -> Observation:
        rows: list[list[np.ndarray]] = []
        names = []
        for _ in range(size):  # one by one, so that the stream does not depend on the batch size
            random = self.random
            taste = random.normal(size=self.length)
            ignorance = 0.8 + 3 * 0.5 ** (self.at / self.skill)
            student = taste + ignorance * random.normal(size=self.length)
            scores = self.teacher(self.at, taste + self.noise * random.normal(size=self.length), random)
            taken = np.argmax(2 * taste + random.gumbel(size=self.length))
            labels = (np.arange(self.length) == taken) * float(random.random() < self.labels)
            where = np.arange(self.length) < (self.length if self.length < 4 else random.integers(4, self.length + 1))
            rows.append([scores, where, labels, student])
            names.append(self.name(self.at))
            self.at += 1
        scores_BL, where_BL, labels_BL, student_BL = (np.array(column) for column in zip(*rows, strict=True))
        return Observation(
            teachers=names,
            scores_BL=scores_BL,
            scored_BL=where_BL,
            labels_BL=labels_BL,
            labelled_BL=where_BL,
            student_BL=student_BL,
        )


def shuffled_from(start: int, end: int = 10**9) -> Change:
    return lambda at, scores, random: random.permutation(scores) if start <= at < end else scores


def rescaled_from(start: int, factor: float = 50.0, offset: float = 0.0) -> Change:
    return lambda at, scores, random: scores if at < start else factor * scores + offset
