"""Makes examples of lists whose window is over: their bytes are read again, and get labels.

It knows nothing of windows that are open, or of commits.

Example:
    >>> Labeller.__name__
    'Labeller'
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence

from recdistill.errors import DataError
from recdistill.loops.behind import Behind
from recdistill.loops.window import Closed, labels_of
from recdistill.records import LabelState, Ranking, example_around, read_columns
from recdistill.stream import HELD_OUT, Message, Outgoing, TopicPartition

log_ = logging.getLogger(__name__)

Dead = list[tuple[Message, Exception]]


class Labeller:
    """See the header of this module.

    Args:
        behind: Reads the bytes of a list again.
        at_once: Whether the scores of a list were an example of their own.
        counts: Gives the counts to add to.
        labelled: Told of each list that has a label above 0.
    """

    def __init__(
        self, behind: Behind, *, at_once: bool, counts: Callable[[], Counter[str]], labelled: Callable[[], None]
    ) -> None:
        self._behind, self._at_once, self._counts, self._labelled = behind, at_once, counts, labelled

    def examples(self, closed: Sequence[Closed]) -> tuple[list[Outgoing], Dead]:
        """The examples of some lists, in their order, and what cannot be written.

        Raises:
            OutOfRange: Retention has removed one of them.
            StreamError: The log cannot be read.
        """
        places = [(TopicPartition("rankings", one.partition), one.offset) for one in closed]
        found = self._behind.read(places)
        there = [(one, found[place]) for one, place in zip(closed, places, strict=True) if place in found]
        if len(there) < len(closed):
            log_.warning("%d rankings are not in the log any more, so they get no labels", len(closed) - len(there))
        columns, refused = read_columns(Ranking, [message.value for _, message in there])
        there = [one for place, one in enumerate(there) if place not in refused]
        made: list[Outgoing] = []
        dead: Dead = []
        start = 0
        for row, (one, message) in enumerate(there):
            stop = start + int(columns.counts_E[row])
            labels, outside = labels_of(columns.items.texts(start, stop), one.given)
            start = stop
            self._counts()["outside_the_list"] += outside
            state = self._state(one, any(label > 0 for label in labels), meant=len(one.given) - outside)
            if state is None:
                continue
            key = columns.ids[row].encode()
            try:
                value = example_around(columns.values[row], labels, state, key=key)
            except DataError as e:
                dead.append((message, e))
                continue
            topic, partition = (HELD_OUT.topic, HELD_OUT.partition) if one.held_out else ("examples", None)
            made.append(Outgoing(topic, value, key=key, partition=partition, source=message))
        return made, dead

    def _state(self, one: Closed, positive: bool, *, meant: int) -> LabelState | None:
        """What an example of a list says of its labels; None: it is only counted.

        Args:
            one: The list.
            positive: Whether it has a label above 0.
            meant: How much feedback means an item of it.
        """
        counts = self._counts()
        counts["labelled"] += positive
        counts["silent"] += (one.product or one.served) and not positive
        if positive:
            self._labelled()
        if self._at_once and not one.held_out:
            # A person saw a list that was served. So silence says something of it, and labels that are all 0 say that.
            return "labels" if positive or one.served else None
        # Nobody saw a list such as a probe, so missing feedback means nothing.
        return "closed" if one.product or one.served or meant else "none"
