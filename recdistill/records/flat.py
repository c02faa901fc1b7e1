"""Events and candidates of many records at once: their bytes, one after the other -> texts and arrays.

On the wire an event or a candidate is a small message of its own. Here the messages of many records lie in one run of
bytes, and numpy reads the same field of all of them in one step. Only the form that a canonical writer gives is read:
fields in the order of their numbers, each at most once, no default written out. Any other member is marked as odd, and
its record must be read in the slow way.

It knows nothing of rankings or examples.

Example:
    >>> from recdistill._wire import records_pb2 as wire
    >>> written = [wire.Event(item="a", action="click", time_us=300), wire.Event(item="b")]
    >>> events = read_events([event.SerializeToString() for event in written])
    >>> events.items, events.actions, events.times_N.tolist(), events.odd_N.tolist()
    (['a', 'b'], ['click', ''], [300, 0], [False, False])
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recdistill.limits import MAX_ID, MAX_SCORE, MIN_CHANCE

Flags = npt.NDArray[np.bool_]
Whole = npt.NDArray[np.int64]

_ITEM: Final = 0x0A  # tags: the field's number, and the form in which it is written
_ACTION: Final = 0x12
_TIME: Final = 0x18
_LOGGED: Final = 0x15
_PROPENSITY: Final = 0x1D
_MOST_VARINT: Final = 9  # bytes of a number that is not negative
_FEW: Final = 16  # actions; more of them are read one by one
_PAD: Final = bytes(16)  # so that a look behind the last member stays inside


class Events(NamedTuple):
    """N events.

    Args:
        items: Their ids.
        actions: "" where there is none.
        times_N: Microseconds, int64; 0 where unknown.
        odd_N: Which members must be read in the slow way; their entries mean nothing.
    """

    items: list[str]
    actions: list[str]
    times_N: Whole
    odd_N: Flags


class Candidates(NamedTuple):
    """N candidates: `items` and `odd_N` as in `Events`. Product's scores are checked and not kept."""

    items: list[str]
    odd_N: Flags


def read_events(members: Sequence[bytes]) -> Events:
    """Reads events. The order of their times is not looked at."""
    data, at_N, end_N = _laid_out(members)
    item = _text(data, _ITEM, at_N, end_N)
    action = _text(data, _ACTION, item.stop_N, end_N)
    times_N, times_odd_N = _time(data, action.stop_N, end_N)
    odd_N = item.odd_N | ~item.there_N | action.odd_N | times_odd_N
    items = _cut(data, item)
    items, odd_items_N = _checked(items, items, odd_N)
    actions = _cut_few(data, action)
    actions, odd_actions_N = _checked(actions, set(actions), odd_N)
    return Events(items, actions, times_N, odd_N | odd_items_N | odd_actions_N)


def read_candidates(members: Sequence[bytes]) -> Candidates:
    """Reads candidates. Whether two of one list are the same is not looked at."""
    data, at_first_N, end_N = _laid_out(members)
    item = _text(data, _ITEM, at_first_N, end_N)
    odd_N = item.odd_N | ~item.there_N
    at_N = item.stop_N
    if (at_N < end_N).any():
        for tag, least, most in ((_LOGGED, -MAX_SCORE, MAX_SCORE), (_PROPENSITY, MIN_CHANCE, 1.0)):
            there_N = ~odd_N & (at_N + 5 <= end_N) & (data[np.minimum(at_N, len(data) - 1)] == tag)
            places = np.flatnonzero(there_N)
            bytes_N4 = data[at_N[places, None] + np.arange(1, 5)]
            numbers = bytes_N4.view("<f4")[:, 0].astype(np.float64)
            odd_N[places] = ~((numbers >= least) & (numbers <= most))  # NaN is outside too
            at_N = at_N + 5 * there_N
    odd_N |= at_N != end_N
    alone = not odd_N.any() and bool((item.start_N == at_first_N + 2).all() and (item.stop_N == end_N).all())
    items = _cut_alone(data, item) if alone else []
    if len(items) != len(members):  # always so where not alone, and where an id has a 0
        items = _cut(data, item)
    items, odd_items_N = _checked(items, items, odd_N)
    return Candidates(items, odd_N | odd_items_N)


class _Text(NamedTuple):
    """Where the text of one field of each member lies; `stop_N` is also where the next field begins."""

    start_N: Whole
    stop_N: Whole
    there_N: Flags
    odd_N: Flags


def _laid_out(members: Sequence[bytes]) -> tuple[npt.NDArray[np.uint8], Whole, Whole]:
    """The members in one run of bytes, where each begins, and where it ends."""
    sizes_N = np.fromiter(map(len, members), np.int64, len(members))
    end_N = np.cumsum(sizes_N)
    return np.frombuffer(b"".join((*members, _PAD)), np.uint8), end_N - sizes_N, end_N


def _text(data: npt.NDArray[np.uint8], tag: int, at_N: Whole, end_N: Whole) -> _Text:
    """Reads a text field that may be there at `at_N`. Its length takes one or two bytes, else it is odd."""
    there_N = (at_N < end_N) & (data[at_N] == tag)
    size_N = data[at_N + 1].astype(np.int64)
    head_N = np.full_like(size_N, 2)
    odd_N = size_N == 0
    if (long_N := size_N > 0x7F).any():
        second_N = data[at_N + 2].astype(np.int64)
        odd_N |= long_N & ((second_N == 0) | (second_N > 0x7F))
        size_N = np.where(long_N, size_N & 0x7F | second_N << 7, size_N)
        head_N += long_N
    stop_N = at_N + head_N + size_N
    odd_N = there_N & (odd_N | (stop_N > end_N))
    # What is odd counts as absent, so that nothing behind it is read outside of the run.
    there_N &= ~odd_N
    start_N = np.where(there_N, at_N + head_N, at_N)
    return _Text(start_N, np.where(there_N, stop_N, at_N), there_N, odd_N)


def _time(data: npt.NDArray[np.uint8], at_N: Whole, end_N: Whole) -> tuple[Whole, Flags]:
    """Reads a varint field that may be there and must be the last one."""
    size_N = end_N - at_N - 1  # without the tag
    there_N = size_N >= 0
    odd_N = there_N & ((data[at_N] != _TIME) | (size_N == 0) | (size_N > _MOST_VARINT))
    read_N = there_N & ~odd_N
    times_N = np.zeros(len(at_N), np.int64)
    last_N = np.where(read_N, size_N, 0)
    for place in range(int(last_N.max(initial=0))):
        byte_N = data[np.minimum(at_N + 1 + place, len(data) - 1)].astype(np.int64)
        inside_N = place < last_N
        times_N |= np.where(inside_N, (byte_N & 0x7F) << 7 * place, 0)
        # Each byte but the last one says that another comes. The last one is not 0.
        wrong_N = np.where(place == last_N - 1, (byte_N == 0) | (byte_N > 0x7F), byte_N < 0x80)
        odd_N |= inside_N & wrong_N
    return times_N, odd_N


def _cut(data: npt.NDArray[np.uint8], field: _Text) -> list[str]:
    """The texts of a field, a character for each byte."""
    text = data.tobytes().decode("latin-1")
    return list(map(text.__getitem__, map(slice, field.start_N.tolist(), field.stop_N.tolist())))


def _cut_alone(data: npt.NDArray[np.uint8], field: _Text) -> list[str]:
    """The same where this field, with a length of one byte, is all that a member has.

    Then two bytes stand before each text: the tag, which is a line break, and the length. With a 0 in place of the
    length they cut the run, since no id has a 0.
    """
    run = data[: len(data) - len(_PAD)].copy()
    run[field.start_N - 1] = 0
    return run.tobytes().decode("latin-1").split("\n\0")[1:]


def _cut_few(data: npt.NDArray[np.uint8], field: _Text) -> list[str]:
    """The same where the texts are few, and come again and again."""
    size_N = field.stop_N - field.start_N
    texts = np.full(len(size_N), "", object)
    left = np.flatnonzero(size_N)
    for _ in range(_FEW):
        if not len(left):
            break
        first = left[0]
        size = size_N[first]
        wanted = data[field.start_N[first] : field.stop_N[first]]
        same = size_N[left] == size
        same[same] = (data[field.start_N[left[same], None] + np.arange(size)] == wanted).all(1)
        texts[left[same]] = wanted.tobytes().decode("latin-1")
        left = left[~same]
    text = data.tobytes().decode("latin-1") if len(left) else ""
    for place in left.tolist():
        texts[place] = text[field.start_N[place] : field.stop_N[place]]
    return list(texts)


def _checked(texts: list[str], distinct: Iterable[str], odd_N: Flags) -> tuple[list[str], Flags]:
    """Reads the bytes of texts as UTF-8, and says which of them are no ids.

    Args:
        texts: A character for each byte.
        distinct: All that are among them.
        odd_N: Members that need not be looked at.
    """
    wrong_N = np.zeros(len(texts), bool)
    joined = "".join(distinct)
    if joined.isascii() and "\0" not in joined and max(map(len, texts), default=0) <= MAX_ID:
        return texts, wrong_N
    for place, one in enumerate(texts):
        if odd_N[place]:
            continue
        try:
            texts[place] = one if one.isascii() else one.encode("latin-1").decode()
        except UnicodeDecodeError:
            wrong_N[place] = True
        wrong_N[place] |= len(texts[place]) > MAX_ID or "\0" in one
    return texts, wrong_N


def rows_of(counts_E: Whole) -> Whole:
    """The row of each member, for rows that have so many members: `[2, 1]` -> `[0, 0, 1]`."""
    rows_N: Any = np.repeat(np.arange(len(counts_E)), counts_E)
    return np.asarray(rows_N, np.int64)
