"""Lanes: the one order in which a student learns, for any number of partitions.

A lane is a partition of the topic. Lanes are read in turn, one whole record from each. The reader waits for the lane
whose turn it is, even if other lanes have records. So the order depends on the log alone, never on timing. Two runs
over the same log see the same examples in the same order, also if one of them was killed and resumed. A record that
does not decode goes to `dead_letters`. It still takes its lane's turn, because the writer of the lanes counted it. So
does an empty record: a mark of the joiner (`is_tick`), or what is left where a person was forgotten. It is passed over
without a word.

`state()` has the next offset of each lane, and the lane whose turn it is. It counts only records that `next` has
returned, not records that were fetched ahead. The caller saves it when it wants.

With `ahead`, the next batch of columns is read and decoded on a thread of its own, while the caller works on the batch
before. It is only a cache: the messages stay where they are until they are taken, `state()` does not know of it, and
where it does not fit, the caller decodes again. No more than one batch is prepared, so a caller that stands still costs
no memory.

It knows nothing of SQLite, Kafka or checkpoints.

Example:
    >>> import tempfile
    >>> from recdistill.records import Candidate, Example, Impression, Ranking, encode
    >>> from recdistill.stream.embedded import EmbeddedLog
    >>> folder = tempfile.TemporaryDirectory()
    >>> log = EmbeddedLog(f"{folder.name}/log.sqlite")
    >>> made = log.create_topics({"examples": 2})
    >>> stage = log.stage("joiner")
    >>> with stage.transaction() as transaction:
    ...     for n in range(3):
    ...         impression = Impression(id=f"i{n}", time_us=n, candidates=(Candidate(item="a"),))
    ...         ranking = Ranking(impression, "t", "1", "unbounded", scores=(1.0,), scored=(True,))
    ...         transaction.send("examples", encode(Example(ranking, labels=(0.0,))), partition=n % 2)
    >>> lanes = Lanes(log, dead_letters=lambda message, error: print("refused", message.offset, error))
    >>> [example.ranking.impression.id for example in lanes.next(3, timeout_s=0)]
    ['i0', 'i1', 'i2']
    >>> lanes.state().offsets, lanes.state().turn
    ((2, 1), 1)
    >>> lanes.close(); stage.close(); log.close(); folder.cleanup()
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec

from recdistill.errors import CheckpointError, DecodeError
from recdistill.records import Columns, Example, Read, decode, read_columns
from recdistill.stream.contract import Log, LogIdentity, Message, TopicPartition, check_identity

_FETCH = 500
"""Most messages fetched ahead for each lane."""

_FIRST_FETCH = 16
"""So many are fetched while nothing is known of their size."""

_FETCH_BYTES = 8 << 20
"""So many bytes are fetched ahead for each lane, or one message."""


class LanePosition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A place in the one order. Checkpoints and manifests of bundles hold it as JSON.

    Attributes:
        identity: The log and the one topic that it belongs to.
        offsets: Next offset of each lane.
        turn: The lane whose turn it is.
    """

    identity: LogIdentity
    offsets: tuple[int, ...]
    turn: int

    def __post_init__(self) -> None:
        if len(self.identity.partitions) != 1:
            raise ValueError(f"lanes lie in 1 topic, not in {len(self.identity.partitions)}")

    @classmethod
    def read(cls, saved: object) -> LanePosition:
        """The position that JSON holds.

        Args:
            saved: The position from a checkpoint or a manifest, as dicts and lists.

        Raises:
            CheckpointError: It is not a position of lanes.
        """
        try:
            return msgspec.convert(saved, cls)
        except msgspec.ValidationError as error:
            raise CheckpointError(
                f"the saved position of the lanes cannot be used: {error}; use another checkpoint"
            ) from error

    def by_partition(self) -> dict[TopicPartition, int]:
        """The offsets as a position of the log, for instance to ask it for a witness."""
        topic = next(iter(self.identity.partitions))
        return {TopicPartition(topic, lane): offset for lane, offset in enumerate(self.offsets)}


class Lanes:
    """Reads examples in the one order. Only one thread may use it.

    Args:
        log: The log.
        topic: Topic whose partitions are the lanes.
        state: Where to go on, from `state()` or `LanePosition.read`. None is the beginning of each lane.
        dead_letters: Called with each message that does not decode, and the error, before its offset is passed. If it
            raises, the message was not passed. A later pass over the same records calls it again: message.tp and
            message.offset are the same then.
        refuse: Asked about each example that decodes, by its `catalogue_as_of`. What it returns is why the example goes
            to `dead_letters`; None takes it.
        ahead: Whether columns are prepared on a thread of their own.

    Raises:
        WrongLog: The state belongs to another log or partition count.
        OutOfRange: The state points outside of what the log holds.
        CheckpointError: The state has another number of lanes.
    """

    def __init__(
        self,
        log: Log,
        topic: str = "examples",
        state: LanePosition | None = None,
        *,
        dead_letters: Callable[[Message, Exception], None],
        refuse: Callable[[int], Exception | None] = lambda _: None,
        ahead: bool = False,
    ) -> None:
        self._topic = topic
        self._refuse = refuse
        self._dead_letters = dead_letters
        self._ahead_of = _Ahead() if ahead else None
        self._source = log.source([topic])
        self._lanes = [TopicPartition(topic, lane) for lane in range(len(self._source.position()))]
        self._identity = self._source.identity()
        self._turn = 0
        self._size = _FETCH_BYTES // _FIRST_FETCH  # bytes of a message, as far as is known
        self._fetched: list[deque[Message]] = [deque() for _ in self._lanes]
        position = self._source.position()
        self._taken = [position[tp] for tp in self._lanes]
        if state is not None:
            try:
                self.seek(state)
            except Exception:
                self._source.close()
                raise

    @property
    def count(self) -> int:
        """How many lanes there are."""
        return len(self._lanes)

    def next(self, n: int, timeout_s: float = 1.0, *, until: LanePosition | None = None) -> list[Example]:
        """Takes the next examples in order.

        Args:
            n: How many at most.
            timeout_s: How long to wait in total for lanes that have nothing. 0 does not wait.
            until: A state of these lanes, usually `end_state()`. Nothing at or after its offsets is taken.

        Returns:
            `n` examples. Fewer if the lane whose turn it is has nothing within the timeout, or is at `until`.

        Raises:
            OutOfRange: Retention has removed messages that were not read yet.
            StreamError: The log cannot be read.
        """
        examples: list[Example] = []

        def read(messages: list[Message]) -> int:
            before = len(examples)
            for message in messages:
                if message.value is None:  # a mark, or a person was forgotten; the place keeps its turn
                    continue
                try:
                    example = decode(Example, message.value)
                except DecodeError as error:
                    self._dead_letters(message, error)
                else:
                    if self._takes(message, example.ranking.catalogue_as_of):
                        examples.append(example)
            return len(examples) - before

        self._go(n, timeout_s, until, read)
        return examples

    def next_columns(
        self,
        n: int,
        timeout_s: float = 1.0,
        *,
        until: LanePosition | None = None,
        ends: Callable[[Message], bool] = lambda _: False,
    ) -> Columns:
        """Takes the next examples as `next` does, as columns; arguments and errors as there.

        It is several times faster. What is taken, and what goes to `dead_letters`, is the same. `ends` is asked about
        each message before it is taken. With True what is returned ends before it.
        """
        parts: list[Columns] = []

        def read(messages: list[Message]) -> int:
            prepared = None if self._ahead_of is None else self._ahead_of.take(messages)
            columns, refused = prepared or _columns_of(messages)
            stamps = iter(columns.stamps_E.tolist())
            taken = []
            for place, message in enumerate(messages):
                if (error := refused.get(place)) is not None:
                    if message.value is not None:
                        self._dead_letters(message, error)
                elif self._takes(message, next(stamps)):
                    taken.append(message.value)
            if len(taken) < len(columns):
                columns, _ = read_columns(Example, taken)
            parts.append(columns)
            return len(taken)

        self._go(n, timeout_s, until, read, ends)
        columns = Columns.join(parts) if parts else read_columns(Example, [])[0]
        if self._ahead_of is not None and len(columns) == n:
            self._ahead_of.prepare(lambda: self._peek(n))
        return columns

    def _peek(self, n: int) -> list[Message] | None:
        """The next n messages in the one order, without taking them; None if they are not there yet."""
        found: list[Message] = []
        passed = [0] * len(self._lanes)
        for place in range(n):
            lane = (self._turn + place) % len(self._lanes)
            fetched = self._fetched[lane]
            if passed[lane] == len(fetched):
                self._fetch(lane, 0.0)
            if passed[lane] == len(fetched):
                return None
            found.append(fetched[passed[lane]])
            passed[lane] += 1
        return found

    def _settle(self) -> None:
        """Waits for the thread: from here on the caller alone uses the source."""
        if self._ahead_of is not None:
            self._ahead_of.settle()

    def _fetch(self, lane: int, timeout_s: float) -> None:
        """Fetches messages of a lane: the larger the last ones were, the fewer."""
        count = max(1, min(_FETCH, _FETCH_BYTES // self._size))
        found = self._source.read_from(self._lanes[lane], count, timeout_s)
        if found:
            self._size = max(1, sum(len(message.value or b"") for message in found) // len(found))
            self._fetched[lane].extend(found)

    def _takes(self, message: Message, stamp: int) -> bool:
        """Whether an example is taken; if not, it goes to `dead_letters`."""
        problem = self._refuse(stamp)
        if problem is not None:
            self._dead_letters(message, problem)
        return problem is None

    def _go(
        self,
        n: int,
        timeout_s: float,
        until: LanePosition | None,
        read: Callable[[list[Message]], int],
        ends_before: Callable[[Message], bool] = lambda _: False,
    ) -> None:
        """Hands messages to `read` in the one order, until it has made `n` examples of them, or none is left."""
        self._settle()
        ends = None if until is None else self._checked(until).offsets
        passed: list[tuple[int, Message]] = []
        before = (list(self._taken), self._turn)
        deadline = time.monotonic() + timeout_s
        try:
            ended = False
            while n > 0 and not ended:
                start = len(passed)
                while len(passed) - start < n and (message := self._in_turn(ends, deadline)) is not None:
                    if ended := ends_before(message):
                        break
                    lane = self._turn
                    passed.append((lane, message))
                    self._fetched[lane].popleft()
                    self._taken[lane] = message.offset + 1
                    self._turn = (lane + 1) % len(self._lanes)
                if len(passed) == start:
                    break
                started = time.monotonic()
                n -= read([message for _, message in passed[start:]])
                deadline += time.monotonic() - started  # only waiting counts
        except BaseException:
            # The caller never sees the examples taken so far, so the state must not have passed them either.
            for lane, message in reversed(passed):
                self._fetched[lane].appendleft(message)
            self._taken, self._turn = before
            raise

    def _in_turn(self, ends: tuple[int, ...] | None, deadline: float) -> Message | None:
        """The next message of the lane whose turn it is; None if it has nothing in time, or nothing before its end."""
        lane = self._turn
        if ends is not None and self._ahead(lane) >= ends[lane]:
            return None
        fetched = self._fetched[lane]
        asked = False
        while not fetched:
            left_s = deadline - time.monotonic()
            if asked and left_s <= 0:
                return None
            self._fetch(lane, max(0.0, left_s))
            asked = True
            if ends is not None and self._ahead(lane) >= ends[lane]:
                return None
        return fetched[0]

    def state(self) -> LanePosition:
        """Next offset of each lane after the examples that `next` returned, the lane whose turn it is, and the log."""
        return LanePosition(self._identity, tuple(self._taken), self._turn)

    def end_state(self) -> LanePosition:
        """The present ends of the lanes, as a state for `next(until=)` and `reached`."""
        self._settle()
        return LanePosition(self._identity, tuple(self._source.bounds(tp)[1] for tp in self._lanes), 0)

    def reached(self, until: LanePosition) -> bool:
        """Whether the lane whose turn it is has nothing left before `until`: `next(until=)` would return nothing.

        The end of a transaction takes an offset but is no message. So this looks at the messages that were fetched, not
        at `state()`.
        """
        self._settle()
        return self._ahead(self._turn) >= self._checked(until).offsets[self._turn]

    def seek(self, state: LanePosition) -> None:
        """Goes on at another state, for example again from the start of a range.

        Raises:
            WrongLog: The state belongs to another log or partition count.
            OutOfRange: The state points outside of what the log holds.
            CheckpointError: The state has another number of lanes.
        """
        self._settle()
        wanted = self._checked(state)
        self._source.seek(dict(zip(self._lanes, wanted.offsets, strict=True)))
        self._taken, self._turn = list(wanted.offsets), wanted.turn
        for fetched in self._fetched:
            fetched.clear()

    def close(self) -> None:
        """Closes the source, and ends the thread."""
        if self._ahead_of is not None:
            self._ahead_of.close()
        self._source.close()

    def _ahead(self, lane: int) -> int:
        """Offset of the next message of a lane. If no message is fetched, it is a lower bound."""
        fetched = self._fetched[lane]
        return fetched[0].offset if fetched else self._source.position()[self._lanes[lane]]

    def _checked(self, position: LanePosition) -> LanePosition:
        check_identity(position.identity, self._identity)
        if len(position.offsets) != len(self._lanes) or not 0 <= position.turn < len(self._lanes):
            raise CheckpointError(
                f"the saved position has {len(position.offsets)} lanes and turn {position.turn}, but topic "
                f"{self._topic!r} has {len(self._lanes)} lanes; use another checkpoint"
            )
        return position


def _columns_of(messages: list[Message]) -> Read:
    return read_columns(Example, [message.value for message in messages])


class _Ahead:
    """One thread that prepares one batch. What it throws is thrown again where the caller waits for it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lanes")
        self._job: Future[tuple[list[Message], Read] | None] | None = None
        self._prepared: tuple[list[Message], Read] | None = None

    def prepare(self, peek: Callable[[], list[Message] | None]) -> None:
        """Begins with the next batch."""

        def work() -> tuple[list[Message], Read] | None:
            messages = peek()
            return None if messages is None else (messages, _columns_of(messages))

        self._job = self._thread.submit(work)

    def settle(self) -> None:
        """Waits until the thread does nothing."""
        job, self._job = self._job, None
        if job is not None:
            self._prepared = job.result()

    def take(self, messages: list[Message]) -> Read | None:
        """What was prepared of exactly these messages; None if it was something else."""
        prepared, self._prepared = self._prepared, None
        return prepared[1] if prepared is not None and prepared[0] == messages else None

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(cancel_futures=True)
