"""Which candidates of a list, or which lists, the scorer gives to its teacher under a budget.

- *candidates*: a part of each list is scored: the candidates that should be best, and a random part of the rest.
- *lists*: a list is scored whole or not at all, with the probability of the budget. This is for a teacher whose score
  of one item depends on the other items.

The student's scores come from the log alone: an impression that the student answered has them (`logged_score`, with
`served_by` or origin `student`). Without them, the expected score of an item is the mean of the teacher's recent scores
of it.

That mean comes from the scorer's own rankings in the eight blocks before (see `blocks`). It does not depend on how they
were batched. The draw is a hash of the impression's id. So a replay chooses the same, and a restart rebuilds all from
the end of `rankings`. There is one exception: a list that went to the dead letters has no ranking. If a list fails in
one run and not in the next, later choices can differ. The probabilities that are written are always those that were
used.

It knows nothing of how a teacher is asked, or of how a student learns.

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
"""When a list is chosen, at least so many of its candidates are scored: fewer teach too little about the order."""

DOUBT: Final = 2.0
"""An item's mean is taken as if the item had so many more scores of 0."""

MOST_COUNT: Final = 20.0
"""A candidate with a small chance stands for many, but for no more than this: one number should not decide a mean."""


class Choice(NamedTuple):
    """What the teacher scores of one list, and the probabilities with which it was chosen."""

    sampled: float
    chosen_L: npt.NDArray[np.bool_]
    candidates_sampled: tuple[float, ...] = ()


Means = dict[str, tuple[float, float]]
"""For each item: how many scores it had, and their sum."""


@dataclass
class _Block:
    """What was learnt from one block of a partition."""

    number: int
    items: Means = field(default_factory=dict)


class Chooser:
    """Chooses, and learns from the scores that come back. Only one thread may use it.

    Args:
        budget: Share of the candidates that may be scored, above 0; 1 scores all.
        by: Whether candidates of each list are left out, or whole lists.
        even: Whether all candidates have the same chance, whatever is known. A comparison needs this.
    """

    def __init__(self, budget: float, by: Literal["lists", "candidates"], *, even: bool = False) -> None:
        self.budget, self.by, self._even = budget, by, even
        self.learns = budget < 1 and by == "candidates" and not even
        """Whether a choice depends on earlier rankings."""
        self._blocks: dict[TopicPartition, deque[_Block]] = {}
        self._means: dict[TopicPartition, tuple[int, Means]] = {}

    def choose(self, impression: Impression, tp: TopicPartition, offset: int) -> Choice:
        """Chooses what the teacher scores of a list. The offset of a partition must rise from call to call."""
        length = len(impression.candidates)
        if self.budget >= 1 or not length:
            return Choice(1.0, np.ones(length, bool))
        if self.by == "lists":
            chance = float(np.float32(self.budget))  # rounded as in a ranking
            return Choice(chance, np.full(length, unit("list", impression.id) < chance))
        return self._candidates(impression, self._means_at(tp, offset))

    def learn(self, ranking: Ranking, tp: TopicPartition, offset: int) -> None:
        """Learns from the ranking of the impression at an offset. It counts only from the next block on."""
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
        # Draw in a random order. In the order of the list, neighbours would seldom be drawn together.
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
        """The sums of the blocks before an offset.

        They are summed again for each block, so rounding errors do not grow.
        """
        number = block_of(offset)
        made = self._means.get(tp)
        if made is None or made[0] != number:
            before = [b.items for b in self._blocks.get(tp, ()) if number - WINDOW <= b.number < number]
            made = self._means[tp] = number, _total(before)
        return made[1]


def restore(chooser: Chooser, log: Log, position: Mapping[TopicPartition, int]) -> int:
    """Rebuilds what a chooser knew before the given positions of `impressions`, from the end of `rankings`.

    Returns:
        How many rankings were read; 0 if the choice does not depend on them.
    """
    taken = 0
    if chooser.learns:
        for ranking, tp, offset in rankings_before(log, position):
            chooser.learn(ranking, tp, offset)
            taken += 1
    return taken


def _expected(impression: Impression, means: Means) -> Floats:
    """The expected score of each candidate. It has no unit: only the order is used."""
    logged = [one.logged_score for one in impression.candidates]
    if (impression.served_by != "" or impression.origin == "student") and None not in logged:
        return np.array(logged, float)
    seen_L, sums_L = np.array([means.get(one.item, (0.0, 0.0)) for one in impression.candidates]).T
    # An item with few scores may be good or bad: it gets a bonus, so that it is scored sometimes.
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
    """Sums of each item over some blocks, in the order of the blocks, so that equal blocks give equal bits."""
    total: Means = {}
    for items in blocks:
        for item, (seen, scores) in items.items():
            before = total.get(item, (0.0, 0.0))
            total[item] = before[0] + seen, before[1] + scores
    return total
