"""Which candidates of a list, or which lists, the scorer puts to its teacher under a budget.

- *candidates*: of each list a share is scored: those expected to be best, and a random part of the rest.
- *lists*: a list is scored whole, with the probability that the budget says, or not at all. For a teacher whose score
  of one item depends on the others.

What the student thinks is known from the log alone: an impression that it answered carries its scores
(`logged_score`, with `served_by` or origin `student`). Where there are none, the mean that the teacher gave each item
of late is what it is expected to say.

That mean comes from rankings that the scorer wrote, of the eight blocks before (see `blocks`), however they were
batched, and the drawing is a hash of the impression's id. So a replay chooses the same, and a restart rebuilds
everything from the tail of `rankings`. (A list that went to the dead letters leaves no trace, so one that fails in one
run and not in the next can change later choices. The probabilities written are in any case those that were used.)

It knows nothing of how a teacher is asked, nor of how a student learns.

Example:
    >>> from recdistill.records import Candidate
    >>> impression = Impression("i", 1, candidates=tuple(Candidate(f"c{n}") for n in range(20)))
    >>> choice = Chooser(0.4, "candidates").choose(impression, TopicPartition("impressions", 0), 0)
    >>> choice.sampled, int(choice.chosen_L.sum()), choice.candidates_sampled[0]
    (1.0, 8, 0.4)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from recdistill.budget.blocks import WINDOW, block_of, rankings_before
from recdistill.budget.chances import Floats, head_and_rest, systematic, unit
from recdistill.records import Impression, Ranking
from recdistill.stream import Log, TopicPartition
from recdistill.watch import standardised

FEW: Final = 4.0
"""Candidates of a list that are scored at least when it is chosen: fewer order too little."""

DOUBT: Final = 2.0
"""An item's mean counts as if so many scores of 0 had come before."""

MOST_COUNT: Final = 20.0
"""A candidate of a small chance stands for many, but for no more than this: one number should not rule a mean."""


class Choice(NamedTuple):
    """What is put to the teacher of one list, and with which probabilities it was chosen."""

    sampled: float
    chosen_L: npt.NDArray[np.bool_]
    candidates_sampled: tuple[float, ...] = ()


Means = dict[str, tuple[float, float]]
"""Of each item: how many scores there were, and their sum."""


@dataclass
class _Block:
    """What one block of a partition has taught."""

    number: int
    items: Means = field(default_factory=dict)


class Chooser:
    """Chooses, and learns from what came of it. For one thread.

    Args:
        budget: Share of the candidate scores that may be asked for, above 0; 1 asks for everything.
        by: Whether candidates of each list are left out, or whole lists.
        even: Let all candidates be equally likely, whatever is known: what a comparison needs.
    """

    def __init__(self, budget: float, by: Literal["lists", "candidates"], *, even: bool = False) -> None:
        self.budget, self.by, self._even = budget, by, even
        self.learns = budget < 1 and by == "candidates" and not even
        """Whether what is chosen depends on what came before."""
        self._blocks: dict[TopicPartition, deque[_Block]] = {}
        self._means: dict[TopicPartition, tuple[int, Means]] = {}

    def choose(self, impression: Impression, tp: TopicPartition, offset: int) -> Choice:
        """What to ask the teacher of a list. Offsets of a partition rise from call to call."""
        length = len(impression.candidates)
        if self.budget >= 1 or not length:
            return Choice(1.0, np.ones(length, bool))
        if self.by == "lists":
            chance = float(np.float32(self.budget))  # as a ranking keeps it
            return Choice(chance, np.full(length, unit("list", impression.id) < chance))
        return self._candidates(impression, self._means_at(tp, offset))

    def learn(self, ranking: Ranking, tp: TopicPartition, offset: int) -> None:
        """Takes in what became of the impression at an offset; nothing changes before the block after."""
        if not self.learns:
            return
        block = self._block(tp, offset)
        scored_L = np.array(ranking.scored, bool)
        if scored_L.sum() >= 2:
            _take_in(block.items, ranking, scored_L)

    def _candidates(self, impression: Impression, means: Means) -> Choice:
        length = len(impression.candidates)
        count = min(float(length), max(FEW, self.budget * length))
        chance = min(1.0, self.budget * length / count)
        if unit("list", impression.id) >= chance:
            return Choice(chance, np.zeros(length, bool))
        expected_L = _expected(impression, means) if self.learns and means else np.zeros(length)
        chances_L = head_and_rest(expected_L, count)
        # In an order of chance, or neighbours in the list would never be drawn together.
        order_L = np.argsort([unit("place", impression.id, candidate.item) for candidate in impression.candidates])
        chosen_L = np.zeros(length, bool)
        chosen_L[order_L] = systematic(chances_L[order_L], unit("start", impression.id))
        return Choice(chance, chosen_L, tuple(chances_L.tolist()))

    def _block(self, tp: TopicPartition, offset: int) -> _Block:
        blocks = self._blocks.setdefault(tp, deque())
        number = block_of(offset)
        if not blocks or blocks[-1].number < number:
            blocks.append(_Block(number))
            while blocks[0].number < number - WINDOW:
                blocks.popleft()
        return blocks[-1]

    def _means_at(self, tp: TopicPartition, offset: int) -> Means:
        """What the blocks before an offset taught. Made anew for each block, so that nothing drifts."""
        number = block_of(offset)
        made = self._means.get(tp)
        if made is None or made[0] != number:
            before = [b.items for b in self._blocks.get(tp, ()) if number - WINDOW <= b.number < number]
            made = self._means[tp] = number, _total(before)
        return made[1]


def restore(chooser: Chooser, log: Log, position: Mapping[TopicPartition, int]) -> int:
    """Rebuilds what a chooser knew before the given positions of `impressions`, from the tail of `rankings`.

    Returns:
        How many rankings were read for it; 0 where the choice does not depend on them.
    """
    taken = 0
    if chooser.learns:
        for ranking, tp, offset in rankings_before(log, position):
            chooser.learn(ranking, tp, offset)
            taken += 1
    return taken


def _expected(impression: Impression, means: Means) -> Floats:
    """What the teacher is expected to say of each candidate, in no unit: only the order is used."""
    logged = [one.logged_score for one in impression.candidates]
    if (impression.served_by != "" or impression.origin == "student") and None not in logged:
        return np.array(logged, float)
    seen_L, sums_L = np.array([means.get(one.item, (0.0, 0.0)) for one in impression.candidates]).T
    # What was hardly seen may be anything: it is given the benefit of the doubt.
    expected_L: Floats = sums_L / (seen_L + DOUBT) + 1.0 / np.sqrt(1.0 + seen_L)
    return expected_L


def _take_in(items: Means, ranking: Ranking, scored_L: npt.NDArray[np.bool_]) -> None:
    """Adds the scores of a list, made comparable, to the sums of its items."""
    chances_L = np.array(ranking.candidates_sampled or (1.0,) * len(scored_L))
    counts_L = np.minimum(1.0 / chances_L[scored_L], MOST_COUNT)
    scores_L = np.array(ranking.scores)[scored_L]
    if ranking.scale == "probability":
        scores_L = np.log(np.clip(scores_L, 1e-9, 1.0))
    [taught_L] = standardised(scores_L[None], np.ones((1, len(scores_L)), bool), counts=counts_L[None])
    candidates = [one for one, scored in zip(ranking.impression.candidates, scored_L, strict=True) if scored]
    for candidate, score in zip(candidates, taught_L.tolist(), strict=True):
        seen, total = items.get(candidate.item, (0.0, 0.0))
        items[candidate.item] = seen + 1, total + score


def _total(blocks: Sequence[Means]) -> Means:
    """Sums of each item over some blocks, in their order: equal blocks give equal bits."""
    total: Means = {}
    for items in blocks:
        for item, (seen, scores) in items.items():
            before = total.get(item, (0.0, 0.0))
            total[item] = before[0] + seen, before[1] + scores
    return total
