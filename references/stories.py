"""A stream of stories that come and go, a teacher that never changes, and a student that has to get to know each story.

News are the hardest case for a watch that compares a teacher with its student: when half of the front page is new, the
student knows nothing of it, and for a while it agrees with nobody. Neighbouring lists show the same stories, so they
agree or disagree together.

The student is the simplest one that learns: for each story a mean of the teacher's scores so far, 0 for a new one. How
quickly it learns makes all the difference.

It knows nothing of torch, logs or detectors.

Example:
    >>> stories = Stories(0, length=6)
    >>> seen = stories.batch(32)
    >>> bool(seen.scored_BL.sum(1).max() <= 6), stories.at
    (True, 32)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from recdistill.watch import Observation

Change = Callable[[int, np.ndarray, np.random.Generator], np.ndarray]


@dataclass
class Stories:
    """The stream.

    Args:
        seed: Of all that is drawn.
        length: Most candidates of a list; the fewest are 6, or as many.
        noise: Deviation of a teacher's score, beside the story's appeal, whose deviation is 1: what a user likes.
        live: Stories at one time.
        life: Lists that a story lives on average.
        burst: Every so many lists on average, many stories are replaced at once.
        replaced: How many: their share.
        rate: How far the student goes to the teacher's score of a story each time that it sees it.
        labels: Share of the lists with a click.
        asked_again: What the scorer says of the teacher's agreement with itself; None: it does not ask.
        change: What becomes of the scores of a list. None: nothing.
    """

    seed: int
    length: int = 30
    noise: float = 0.7
    live: int = 80
    life: float = 600.0
    burst: float = 1500.0
    replaced: float = 0.5
    rate: float = 0.05
    labels: float = 0.7
    asked_again: float | None = None
    change: Change | None = None
    at: int = 0
    random: np.random.Generator = field(init=False)
    appeal_S: np.ndarray = field(init=False)
    known_S: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.appeal_S = self.random.normal(size=self.live)
        self.known_S = np.zeros(self.live)

    def batch(self, size: int) -> Observation:
        """The next lists, with what the student says of them before it learns them."""
        fewest, most = min(6, self.length), self.length
        rows = [self._list(int(self.random.integers(fewest, most + 1))) for _ in range(size)]
        student_BL, scores_BL, labels_BL, scored_BL = (np.array(column) for column in zip(*rows, strict=True))
        return Observation(
            teachers=["ranker@1"] * size,
            scores_BL=scores_BL,
            scored_BL=scored_BL,
            labels_BL=labels_BL,
            labelled_BL=scored_BL,
            student_BL=student_BL,
            agreement_B=None if self.asked_again is None else np.full(size, self.asked_again),
        )

    def _list(self, count: int) -> tuple[np.ndarray, ...]:
        random = self.random
        # Stories go one by one, and sometimes many of them at once.
        gone_S = random.random(self.live) < 1 / self.life
        if random.random() < 1 / self.burst:
            gone_S |= random.random(self.live) < self.replaced
        fresh = int(gone_S.sum())
        self.appeal_S[gone_S] = random.normal(size=fresh)
        self.known_S[gone_S] = 0.0
        shown = random.choice(self.live, count, replace=False)
        scores_L = self.appeal_S[shown] + self.noise * random.normal(size=count)
        if self.change is not None:
            scores_L = self.change(self.at, scores_L, random)
        taken = int(np.argmax(self.appeal_S[shown] + random.gumbel(size=count)))
        clicked = random.random() < self.labels
        student_L = self.known_S[shown] + 0.1 * random.normal(size=count)
        self.known_S[shown] += self.rate * (scores_L - self.known_S[shown])
        self.at += 1
        padded = np.zeros((4, self.length))
        padded[0, :count], padded[1, :count] = student_L, scores_L
        padded[2, taken] = float(clicked)
        padded[3, :count] = 1.0
        return padded[0], padded[1], padded[2], padded[3] > 0
