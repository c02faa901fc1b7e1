"""Events and candidates of many records at once: their bytes, one after the other -> arrays.

On the wire an event or a candidate is a small message of its own. Here the messages of many records lie in one run of
bytes, and numpy reads the same field of all of them in one step. A text is not taken out: it stays where it is, and is
known by its place and its length (`Ids`). Only the form that a canonical writer gives is read: fields in the order of
their numbers, each at most once, no default written out. Any other member is marked as odd, and its record must be read
in the slow way.

It knows nothing of rankings or examples.

Example:
    >>> from recdistill._wire import records_pb2 as wire
    >>> written = [wire.Event(item="a", action="click", time_us=300), wire.Event(item="b")]
    >>> events = read_events([event.SerializeToString() for event in written])
    >>> list(events.items), events.actions, events.action_N.tolist(), events.times_N.tolist(), events.odd_N.tolist()
    (['a', 'b'], ['', 'click'], [1, 0], [300, 0], [False, False])
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recdistill.limits import MAX_ID, MAX_SCORE, MAX_TIME_US, MIN_CHANCE

Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
Whole = npt.NDArray[np.int64]

_ITEM: Final = 0x0A  # tags: the field's number, and the form in which it is written
_ACTION: Final = 0x12
_TIME: Final = 0x18
_LOGGED: Final = 0x15
_PROPENSITY: Final = 0x1D
_MOST_VARINT: Final = 9  # bytes of a number that is not negative
_WIDE: Final = 1_000  # a list with more candidates is looked at alone
_PAD: Final = bytes(16)  # so that a look behind the last member stays inside


class Ids:
    """N texts that lie in one run of bytes, as UTF-8.

    Args:
        data: The run.
        starts_N: Where each text begins.
        sizes_N: Its length in bytes.
    """

    def __init__(self, data: Bytes, starts_N: Whole, sizes_N: Whole) -> None:
        self.data, self.starts_N, self.sizes_N = data, starts_N, sizes_N

    def __len__(self) -> int:
        """How many texts."""
        return len(self.starts_N)

    def __getitem__(self, chosen: Flags) -> Ids:
        """Some of them."""
        return Ids(self.data, self.starts_N[chosen], self.sizes_N[chosen])

    def __iter__(self) -> Iterator[str]:
        """All of them."""
        return iter(self.texts(0, len(self)))

    def text(self, place: int) -> str:
        """One text."""
        start = int(self.starts_N[place])
        return self.data[start : start + int(self.sizes_N[place])].tobytes().decode()

    def texts(self, start: int, stop: int) -> list[str]:
        """Those of some places."""
        if start >= stop:
            return []
        begin = int(self.starts_N[start])
        run = self.data[begin : int(self.starts_N[stop - 1] + self.sizes_N[stop - 1])].tobytes()
        places = (self.starts_N[start:stop] - begin).tolist()
        return [
            run[at : at + size].decode() for at, size in zip(places, self.sizes_N[start:stop].tolist(), strict=True)
        ]

    @classmethod
    def join(cls, parts: Sequence[Ids]) -> Ids:
        """The texts of several, one after the other."""
        before = np.cumsum([0, *(len(part.data) for part in parts)])
        return cls(
            np.concatenate([part.data for part in parts]),
            np.concatenate([part.starts_N + shift for part, shift in zip(parts, before, strict=False)]),
            np.concatenate([part.sizes_N for part in parts]),
        )

    def words(self, places: Whole) -> npt.NDArray[np.uint64]:
        """Eight bytes of the run from each of some places on, as a number."""
        words: npt.NDArray[np.uint64] = np.ndarray((len(self.data) - 7,), "<u8", self.data, strides=(1,))
        return words[places]


class Events(NamedTuple):
    """N events.

    Args:
        items: Their ids.
        actions: The different actions; the first one is "", for none.
        action_N: Place of each event's action among them, int64.
        times_N: Microseconds, int64; 0 where unknown.
        odd_N: Which members must be read in the slow way; their entries mean nothing.
    """

    items: Ids
    actions: list[str]
    action_N: Whole
    times_N: Whole
    odd_N: Flags


class Candidates(NamedTuple):
    """N candidates: `items` and `odd_N` as in `Events`. The product's scores are checked and not kept.

    Args:
        items: Their ids.
        odd_N: Which members must be read in the slow way; their entries mean nothing.
        propensities_N: Chance of each to be at its place, f32; NaN where it is not known.
    """

    items: Ids
    odd_N: Flags
    propensities_N: npt.NDArray[np.float32]


def read_events(members: Sequence[bytes]) -> Events:
    """Reads events. The order of their times is not looked at."""
    data, at_N, end_N = _laid_out(members)
    items, stop_N, odd_N = _text(data, _ITEM, at_N, end_N)
    odd_N |= items.sizes_N == 0
    actions, stop_N, odd_actions_N = _text(data, _ACTION, stop_N, end_N)
    times_N, odd_times_N = _time(data, stop_N, end_N)
    odd_N |= odd_actions_N | odd_times_N
    odd_N |= _no_ids(items, odd_N)
    names, name_N, odd_names_N = _names(actions, odd_N)
    return Events(items=items, actions=names, action_N=name_N, times_N=times_N, odd_N=odd_N | odd_names_N)


def read_candidates(members: Sequence[bytes]) -> Candidates:
    """Reads candidates. Whether two of one list are the same is not looked at."""
    data, at_N, end_N = _laid_out(members)
    items, at_N, odd_N = _text(data, _ITEM, at_N, end_N)
    odd_N |= items.sizes_N == 0
    propensities_N = np.full(len(members), np.nan, np.float32)
    if (at_N < end_N).any():
        for tag, least, most in ((_LOGGED, -MAX_SCORE, MAX_SCORE), (_PROPENSITY, MIN_CHANCE, 1.0)):
            places = np.flatnonzero(~odd_N & (at_N + 5 <= end_N) & (data[at_N] == tag))
            numbers = data[at_N[places, None] + np.arange(1, 5)].view("<f4")[:, 0].astype(np.float64)
            odd_N[places] = ~((numbers >= least) & (numbers <= most))  # NaN is outside too
            at_N[places] += 5
            if tag == _PROPENSITY:
                propensities_N[places] = numbers
    odd_N |= at_N != end_N
    odd_N |= _no_ids(items, odd_N)
    return Candidates(items, odd_N, propensities_N)


def have_twice(ids: Ids, counts_E: Whole) -> list[int]:
    """The rows of lists in which an id comes twice.

    Args:
        ids: Of all lists, one after the other.
        counts_E: How many ids each list has.
    """
    # The first and the last eight bytes and the length tell most ids apart. What seems equal is looked at closely.
    sizes_N = ids.sizes_N
    inside = np.minimum(sizes_N, 8)
    mask = _KEEP[inside]
    first_N = ids.words(ids.starts_N) & mask
    last_N = ids.words(ids.starts_N + sizes_N - inside) & mask
    with np.errstate(over="ignore"):  # the arithmetic is modulo 2^64
        prints_N = (first_N * _MIX[0] ^ last_N * _MIX[1]) + sizes_N.astype(np.uint64) * _MIX[2]
    prints_N = np.minimum(prints_N, _NONE - np.uint64(1))
    stops_E = np.cumsum(counts_E)
    suspects = np.flatnonzero(counts_E > _WIDE).tolist()
    narrow_E = (counts_E > 1) & (counts_E <= _WIDE)
    if narrow_E.any():
        rows = np.flatnonzero(narrow_E)
        filled = np.arange(int(counts_E[rows].max())) < counts_E[rows, None]
        sorted_BL = np.full(filled.shape, _NONE)
        sorted_BL[filled] = prints_N if len(rows) == len(counts_E) else prints_N[np.repeat(narrow_E, counts_E)]
        sorted_BL.sort(axis=1)
        same = (sorted_BL[:, 1:] == sorted_BL[:, :-1]) & (sorted_BL[:, 1:] != _NONE)
        suspects += rows[same.any(1)].tolist()
    found = []
    for row in suspects:
        start, stop = int(stops_E[row] - counts_E[row]), int(stops_E[row])
        data, places = ids.data, zip(ids.starts_N[start:stop].tolist(), sizes_N[start:stop].tolist(), strict=True)
        if len({data[at : at + size].tobytes() for at, size in places}) < stop - start:
            found.append(row)
    return found


_NONE: Final = np.uint64(2**64 - 1)
_MIX: Final = tuple(np.uint64(odd) for odd in (0x9FB21C651E98DF25, 0xD6E8FEB86659FD93, 0x9E3779B97F4A7C15))
# By number of bytes: a mask that keeps so many, the first ones of a little-endian number.
_KEEP: Final = np.array([(1 << 8 * count) - 1 for count in range(9)], dtype=np.uint64)


def _laid_out(members: Sequence[bytes]) -> tuple[Bytes, Whole, Whole]:
    """The members in one run of bytes, where each begins, and where it ends."""
    sizes_N = np.fromiter(map(len, members), np.int64, len(members))
    end_N = np.cumsum(sizes_N)
    return np.frombuffer(b"".join((*members, _PAD)), np.uint8), end_N - sizes_N, end_N


def _text(data: Bytes, tag: int, at_N: Whole, end_N: Whole) -> tuple[Ids, Whole, Flags]:
    """Reads a text field that may be there at `at_N`. Its length takes one or two bytes, else it is odd.

    Returns:
        The texts, of length 0 where there is none; where the next field begins; and which members are odd.
    """
    there_N = (at_N < end_N) & (data[at_N] == tag)
    size_N = data[at_N + 1].astype(np.int64)
    start_N = at_N + 2
    odd_N = size_N == 0
    if (long_N := size_N > 0x7F).any():
        second_N = data[at_N + 2].astype(np.int64)
        odd_N |= long_N & ((second_N == 0) | (second_N > 0x7F))
        size_N = np.where(long_N, size_N & 0x7F | second_N << 7, size_N)
        start_N += long_N
    odd_N = there_N & (odd_N | (start_N + size_N > end_N))
    if not (all_there := there_N & ~odd_N).all():
        # What is odd counts as absent, so that nothing behind it is read outside of the run.
        size_N, start_N = np.where(all_there, size_N, 0), np.where(all_there, start_N, at_N)
    return Ids(data, start_N, size_N), start_N + size_N, odd_N


def _time(data: Bytes, at_N: Whole, end_N: Whole) -> tuple[Whole, Flags]:
    """Reads a varint field that may be there and must be the last one."""
    size_N = end_N - at_N - 1  # without the tag
    there_N = size_N >= 0
    odd_N = there_N & ((data[at_N] != _TIME) | (size_N == 0) | (size_N > _MOST_VARINT))
    size_N = np.where(there_N & ~odd_N, size_N, 0)
    # Seven bits of each byte count. Each byte but the last one has the highest bit, which says that another comes.
    words_N = Ids(data, at_N, size_N).words(at_N + 1) & _KEEP[np.minimum(size_N, 8)]
    odd_N |= (words_N & _HIGH) != _HIGH & _KEEP[np.minimum(np.maximum(size_N, 1) - 1, 8)]
    last_N = words_N >> (8 * np.clip(size_N - 1, 0, 7)).astype(np.uint64)
    odd_N |= (size_N > 0) & (last_N == 0)  # a last byte of 0 is left out
    times_N = np.zeros(len(at_N), np.uint64)
    for place in range(8):
        times_N |= (words_N >> np.uint64(8 * place) & np.uint64(0x7F)) << np.uint64(7 * place)
    for one in np.flatnonzero(size_N == _MOST_VARINT).tolist():
        ninth = int(data[at_N[one] + _MOST_VARINT])
        times_N[one] |= np.uint64((ninth & 0x7F) << 56)
        odd_N[one] |= not 0 < ninth < 0x80
    return times_N.astype(np.int64), odd_N


def _no_ids(texts: Ids, passed_N: Flags) -> Flags:
    """Which texts are no ids: no UTF-8, too long, or with NUL. An empty text is not noticed here.

    Args:
        texts: The texts.
        passed_N: Those that need not be looked at.
    """
    wrong_N = np.zeros(len(texts), bool)
    # Nearly all are short and ASCII. The others are looked at one by one.
    odd_N = texts.sizes_N > MAX_ID
    plain = texts.data - np.uint8(1) < 0x7F  # 1 to 127: 0 wraps around
    if not plain[: len(plain) - len(_PAD)].all():
        left, at_N, size_N = np.arange(len(texts)), texts.starts_N, np.minimum(texts.sizes_N, MAX_ID)
        while len(left):
            keep_N = _KEEP[np.minimum(size_N, 8)]
            words_N = texts.words(at_N) & keep_N
            # A byte of 0 borrows from the highest bit of its place.
            strange_N = (words_N | ((words_N | ~keep_N) - _ONES)) & _HIGH & keep_N
            odd_N[left] |= strange_N != 0
            more = np.flatnonzero(size_N > 8)
            left, at_N, size_N = left[more], at_N[more] + 8, size_N[more] - 8
    for place in np.flatnonzero(odd_N & ~passed_N).tolist():
        wrong_N[place] = not _is_id(texts.data[int(texts.starts_N[place]) :][: int(texts.sizes_N[place])].tobytes())
    return wrong_N


def _is_id(text: bytes) -> bool:
    try:
        return len(text.decode()) <= MAX_ID and b"\0" not in text
    except UnicodeDecodeError:
        return False


def _names(texts: Ids, passed_N: Flags) -> tuple[list[str], Whole, Flags]:
    """The different texts, and the place of each among them. There are few, and they come again and again.

    Returns:
        The texts, the first one is ""; the places; and which texts are no ids.
    """
    places = {b"": 0}
    name_N = np.zeros(len(texts), np.int64)
    left = np.flatnonzero((texts.sizes_N > 0) & ~passed_N)
    while len(left) and len(places) <= _FEW:
        start, size = int(texts.starts_N[left[0]]), int(texts.sizes_N[left[0]])
        same = texts.sizes_N[left] == size
        starts_N = texts.starts_N[left[same]]
        equal = np.ones(len(starts_N), bool)
        for at in range(0, size, 8):
            words = texts.words(starts_N + at) & _KEEP[min(8, size - at)]
            equal &= words == words[0]
        same[same] = equal
        name_N[left[same]] = places[texts.data[start : start + size].tobytes()] = len(places)
        left = left[~same]
    for one in left.tolist():
        start, size = int(texts.starts_N[one]), int(texts.sizes_N[one])
        name_N[one] = places.setdefault(texts.data[start : start + size].tobytes(), len(places))
    wrong = np.array([not _is_id(name) for name in places])
    return [name.decode("utf-8", "replace") for name in places], name_N, wrong[name_N]


_HIGH: Final = np.uint64(0x8080808080808080)
_ONES: Final = np.uint64(0x0101010101010101)
_FEW: Final = 16


def rows_of(counts_E: Whole) -> Whole:
    """The row of each member, for rows that have so many members: `[2, 1]` -> `[0, 0, 1]`."""
    rows_N: Any = np.repeat(np.arange(len(counts_E)), counts_E)
    return np.asarray(rows_N, np.int64)


def out_of_order(times_H: Whole, rows_H: Whole, times_E: Whole) -> Flags:
    """Which lists have a history that is not oldest first, or later than its request.

    Args:
        times_H: Of all events, microseconds; 0 where unknown.
        rows_H: The list of each event.
        times_E: Of each list's request; 0 where unknown.
    """
    odd_E = np.zeros(len(times_E), bool)
    known_H = times_H > 0
    times, rows = (times_H, rows_H) if known_H.all() else (times_H[known_H], rows_H[known_H])
    now = times_E[rows]
    odd_E[rows[(times > MAX_TIME_US) | ((now > 0) & (times > now))]] = True
    back = (times[1:] < times[:-1]) & (rows[1:] == rows[:-1])
    odd_E[rows[1:][back]] = True
    return odd_E


def is_id(text: str) -> bool:
    """Whether a text that came out of protobuf, so it is UTF-8, can be an id."""
    return 0 < len(text) <= MAX_ID and "\0" not in text
