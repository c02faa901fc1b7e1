"""Which lists, or which candidates of each, the scorer puts to its teacher under a budget.

What is known of the student is known from the log alone: an impression that it answered carries its scores
(`logged_score`, with `served_by` or origin `student`). Where there are none, what the teacher is expected to say is the
mean that it gave each item of late; then a list is worth asking about when the teacher keeps differing from that.

- *lists*: a ridge regression predicts the disagreement of a list from what is known before the teacher is asked; a list
  is scored whole with a probability that grows with it, or not at all.
- *candidates*: of each list a share is scored: those expected to be best, and a random part of the rest.

All that is learnt comes from rankings that the scorer wrote, in blocks: impressions at the offsets
[256 k, 256 (k + 1)) of a partition are judged by what the eight blocks before taught, however they were batched, and
the drawing is a hash of the impression's id. So a replay chooses the same, and a restart rebuilds everything from the
tail of `rankings`, each of which names the offset of its impression in a header. (A list that went to the dead letters
leaves no trace, so one that fails in one run and not in the next can change later choices. The probabilities written
are in any case those that were used.)

It knows nothing of how a teacher is asked, nor of how a student learns.

Example:
    >>> from recdistill.records import Candidate
    >>> impression = Impression("i", 1, candidates=tuple(Candidate(f"c{n}") for n in range(20)))
    >>> choice = Chooser(0.4, "candidates").choose(impression, TopicPartition("impressions", 0), 0)
    >>> choice.sampled, int(choice.chosen_L.sum()), choice.candidates_sampled[0]
    (1.0, 8, 0.4)
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from recdistill.budget.chances import (
    Floats,
    disagreement,
    factor,
    head_and_rest,
    ridge,
    shares,
    standardise,
    systematic,
    unit,
)
from recdistill.errors import DecodeError
from recdistill.records import Impression, Ranking, decode
from recdistill.stream import Log, Message, TopicPartition

BLOCK: Final = 256  # offsets of a partition that are judged alike
WINDOW: Final = 8  # blocks that are learnt from
DEPTH: Final = 3 * WINDOW + 1  # blocks that today's choice depends on: means, then disagreements, then the regression
FLOOR: Final = 0.25  # no list has less than so much of the budget's share, so no weight is above 4 times the usual
FEWEST: Final = 64  # scored lists before the regression is trusted
FEW: Final = 4.0  # candidates of a list that are scored at least when it is chosen: fewer order too little
GAIN: Final = 4.0  # how firmly spending is brought back to the budget; below WINDOW it cannot swing
DOUBT: Final = 2.0  # an item's mean counts as if so many scores of 0 had come before
HEADER: Final = "impression.offset"


class Choice(NamedTuple):
    """What is put to the teacher of one list, and with which probabilities it was chosen."""

    sampled: float
    chosen_L: npt.NDArray[np.bool_]
    candidates_sampled: tuple[float, ...] = ()


class _Look(NamedTuple):
    """What is known of a list before the teacher is asked."""

    features_F: Floats
    expected_L: Floats


@dataclass
class _Block:
    """What one block of a partition has taught."""

    number: int
    features: list[Floats] = field(default_factory=list)
    seen: list[tuple[float, float, float]] = field(default_factory=list)  # disagreement or nan, chance, length
    items: dict[str, list[float]] = field(default_factory=dict)  # count, sum of scores, of disagreement
    histories: dict[str, list[float]] = field(default_factory=dict)  # count, sum of disagreement


class _State:
    """What the blocks before teach about the lists of one block. Made anew from them, so that nothing drifts."""

    def __init__(self, blocks: Sequence[_Block], budget: float) -> None:
        self.items = _total([block.items for block in blocks], 3)
        self.histories = _total([block.histories for block in blocks], 2)
        self.weights_F: Floats | None = None
        self.factor = 0.0
        self.typical = 0.5
        rows = [row for block in blocks for row in block.features]
        if not rows:
            return
        rows_NF = np.array(rows)
        found_N, chances_N, lengths_N = np.array([one for block in blocks for one in block.seen]).T
        known_N = ~np.isnan(found_N)
        if known_N.sum() < FEWEST:
            return
        counts_N = 1.0 / chances_N[known_N]
        self.typical = float((counts_N * found_N[known_N]).sum() / counts_N.sum())
        self.weights_F = ridge(rows_NF[known_N], found_N[known_N], counts_N, strength=5.0)
        overspent = float((chances_N * lengths_N).sum() / lengths_N.sum()) - budget
        wanted = min(1.0, max(2 * FLOOR * budget, budget - GAIN * overspent))
        sizes_N = self.predict(rows_NF)
        self.factor = factor(sizes_N, lengths_N, budget=wanted, least=FLOOR * budget)

    def predict(self, rows_NF: Floats) -> Floats:
        """Disagreement expected of each list; never so little that one wrong guess decides."""
        if self.weights_F is None:
            return np.full(len(rows_NF), self.typical)
        guessed_N: Floats = np.clip(rows_NF @ self.weights_F, 0.2 * self.typical + 1e-6, 1.0)
        return guessed_N


class Chooser:
    """Chooses, and learns from what came of it. For one thread.

    Args:
        budget: Share of the candidate scores that may be asked for, above 0; 1 asks for everything.
        by: Whether whole lists are left out, or candidates of each.
        even: Let all be equally likely, whatever is known: what a comparison needs.
    """

    def __init__(self, budget: float, by: Literal["lists", "candidates"], *, even: bool = False) -> None:
        self.budget, self.by, self._even = budget, by, even
        self._blocks: dict[TopicPartition, deque[_Block]] = {}
        self._states: dict[TopicPartition, tuple[int, _State]] = {}
        self._looks: dict[str, _Look] = {}

    def choose(self, impression: Impression, tp: TopicPartition, offset: int) -> Choice:
        """What to ask the teacher of a list. Offsets of a partition rise from call to call."""
        length = len(impression.candidates)
        if self.budget >= 1 or not length:
            return Choice(1.0, np.ones(length, bool))
        state = self._state(tp, offset)
        look = _look(impression, state)
        self._looks[impression.id] = look
        if self.by == "candidates":
            return self._candidates(impression, look, state)
        chance = self.budget
        if state.weights_F is not None and not self._even:
            size = float(state.predict(look.features_F[None])[0])
            chance = min(1.0, max(FLOOR * self.budget, state.factor * size / math.sqrt(length)))
        chance = float(np.float32(chance))  # as a ranking keeps it, so that what is rebuilt is what there was
        chosen = unit("list", impression.id) < chance
        return Choice(chance, np.full(length, chosen))

    def learn(self, ranking: Ranking, tp: TopicPartition, offset: int) -> None:
        """Takes in what became of the impression at an offset; nothing changes before the block after."""
        if self.budget >= 1 or self._even or not ranking.scores:
            return
        state = self._state(tp, offset)
        impression = ranking.impression
        look = self._looks.pop(impression.id, None) or _look(impression, state)
        block = self._block(tp, offset)
        size = math.nan
        scored_L = np.array(ranking.scored)
        if scored_L.sum() >= 2:
            size = _take_in(block, ranking, scored_L, look)
        block.features.append(look.features_F)
        block.seen.append((size, ranking.sampled, float(len(ranking.scores))))

    def _candidates(self, impression: Impression, look: _Look, state: _State) -> Choice:
        length = len(impression.candidates)
        count = min(float(length), max(FEW, self.budget * length))
        chance = min(1.0, self.budget * length / count)
        if unit("list", impression.id) >= chance:
            return Choice(chance, np.zeros(length, bool))
        nothing_known = self._even or not state.items
        chances_L = head_and_rest(np.zeros(length) if nothing_known else look.expected_L, count)
        # In an order of chance, or neighbours in the list would never be drawn together.
        order_L = np.argsort([unit("place", impression.id, candidate.item) for candidate in impression.candidates])
        chosen_L = np.zeros(length, bool)
        chosen_L[order_L] = systematic(chances_L[order_L], unit("start", impression.id))
        return Choice(chance, chosen_L, tuple(chances_L.tolist()))

    def _block(self, tp: TopicPartition, offset: int) -> _Block:
        blocks = self._blocks.setdefault(tp, deque())
        number = offset // BLOCK
        if not blocks or blocks[-1].number < number:
            blocks.append(_Block(number))
            while blocks[0].number < number - WINDOW:
                blocks.popleft()
        return blocks[-1]

    def _state(self, tp: TopicPartition, offset: int) -> _State:
        number = offset // BLOCK
        made = self._states.get(tp)
        if made is None or made[0] != number:
            before = [b for b in self._blocks.get(tp, ()) if number - WINDOW <= b.number < number]
            made = self._states[tp] = (number, _State(before, self.budget))
            self._looks.clear()
        return made[1]


def restore(chooser: Chooser, log: Log, position: Mapping[TopicPartition, int]) -> int:
    """Rebuilds what a chooser knew before the given positions of `impressions`, from the tail of `rankings`.

    Returns:
        How many rankings were read for it.
    """
    taken = 0
    for tp, following in sorted(position.items()):
        first = (following // BLOCK - DEPTH) * BLOCK
        for message, offset in _tail(log, TopicPartition("rankings", tp.partition), first):
            try:
                ranking = decode(Ranking, message.value)
            except DecodeError:  # the joiner owns its dead letter
                continue
            chooser.learn(ranking, tp, offset)
            taken += 1
    return taken


def offset_header(offset: int) -> tuple[str, bytes]:
    """What a ranking says of where its impression lies."""
    return HEADER, str(offset).encode()


def groups(messages: Sequence[Message]) -> list[list[Message]]:
    """Cuts a batch where a partition passes from one block to the next: what is in a block may not wait for itself."""
    cut: list[list[Message]] = []
    numbers: dict[TopicPartition, int] = {}
    for message in messages:
        number = message.offset // BLOCK
        if not cut or numbers.get(message.tp, number) != number:
            cut.append([])
            numbers.clear()
        numbers[message.tp] = number
        cut[-1].append(message)
    return cut


def _tail(log: Log, tp: TopicPartition, first: int) -> Iterator[tuple[Message, int]]:
    """The rankings of impressions from offset `first` on, with those offsets."""
    source = log.source([tp])
    try:
        beginning, end = source.bounds(tp)
        start, step = end, DEPTH * BLOCK
        while start > beginning:
            start, step = max(beginning, start - step), 2 * step
            source.seek({tp: start})
            some = source.read(1, 1.0)
            if some and (at := _offset_of(some[0])) is not None and at <= first:
                break
        source.seek({tp: start})
        while source.position()[tp] < end and (some := source.read(500, 1.0)):
            for message in some:
                at = _offset_of(message)
                if at is not None and at >= first:
                    yield message, at
    finally:
        source.close()


def _offset_of(message: Message) -> int | None:
    for name, value in message.headers:
        if name == HEADER and value.isdigit() and len(value) < 20:
            return int(value)
    return None


def _look(impression: Impression, state: _State) -> _Look:
    """What is known of a list: shape of the expected shares, novelty, and disagreement seen lately."""
    length = len(impression.candidates)
    ones_L = np.ones(length)
    stats_L3 = np.array([state.items.get(one.item, _NOTHING) for one in impression.candidates])
    seen_L, sums_L, parts_L = stats_L3.T
    logged = [one.logged_score for one in impression.candidates]
    known = (impression.served_by != "" or impression.origin == "student") and None not in logged
    if known:
        expected_L = standardise(np.array(logged, float), ones_L)
    else:
        # What was hardly seen may be anything: it is given the benefit of the doubt.
        expected_L = sums_L / (seen_L + DOUBT) + 1.0 / np.sqrt(1.0 + seen_L)
    shares_L = shares(standardise(expected_L, ones_L), ones_L)
    top = np.partition(shares_L, -2)[-2:] if length > 1 else np.array([0.0, 1.0])
    typical = state.typical
    lately = shares_L @ np.where(seen_L > 0, parts_L / np.maximum(seen_L, 1.0), typical)
    past = [state.histories[event.item] for event in impression.history[-10:] if event.item in state.histories]
    before = sum(total for _, total in past) / sum(count for count, _ in past) if past else typical
    features_F = np.array(
        [
            1.0,
            float(known),
            -float(shares_L @ np.log(np.maximum(shares_L, 1e-12))) / max(1.0, math.log(length)),
            top[1] - top[0],
            math.log1p(len(impression.history)) / 5,
            float((seen_L == 0).mean()),
            float((1.0 / np.sqrt(1.0 + seen_L)).mean()),
            lately,
            before,
            math.log(length) / 5,
        ]
    )
    return _Look(features_F, expected_L)


_NOTHING: Final = (0.0, 0.0, 0.0)


def _take_in(block: _Block, ranking: Ranking, scored_L: npt.NDArray[np.bool_], look: _Look) -> float:
    """Adds a scored list to a block; returns its disagreement."""
    chances_L = np.array(ranking.candidates_sampled or (1.0,) * len(scored_L))
    # A candidate of a small chance stands for many, but one number should not rule an item's mean.
    counts_L = np.minimum(1.0 / chances_L[scored_L], 20.0)
    scores_L = np.array(ranking.scores)[scored_L]
    if ranking.scale == "probability":
        scores_L = np.log(np.clip(scores_L, 1e-9, 1.0))
    taught_L = standardise(scores_L, counts_L)
    expected_L = standardise(look.expected_L[scored_L], counts_L)
    size, parts_L = disagreement(taught_L, expected_L, counts_L)
    whole_L = shares(taught_L, counts_L) + shares(expected_L, counts_L)
    candidates = [one for one, scored in zip(ranking.impression.candidates, scored_L, strict=True) if scored]
    for candidate, score, part, whole in zip(candidates, taught_L, parts_L, whole_L, strict=True):
        entry = block.items.setdefault(candidate.item, [0.0, 0.0, 0.0])
        entry[0] += 1
        entry[1] += score
        entry[2] += 2 * part / max(whole, 1e-12)
    for event in ranking.impression.history[-10:]:
        counted = block.histories.setdefault(event.item, [0.0, 0.0])
        counted[0] += 1
        counted[1] += size
    return size


def _total(parts: Sequence[Mapping[str, Sequence[float]]], width: int) -> dict[str, tuple[float, ...]]:
    """Sums of each key over some blocks, in their order: equal blocks give equal bits."""
    total: dict[str, list[float]] = {}
    for part in parts:
        for key, values in part.items():
            entry = total.setdefault(key, [0.0] * width)
            for place in range(width):
                entry[place] += values[place]
    return {key: tuple(values) for key, values in total.items()}
