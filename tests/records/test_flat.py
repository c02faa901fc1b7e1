"""Members in one run of bytes, held against protobuf's own reading of each."""

import random

import numpy as np
import pytest

from recdistill._wire import records_pb2 as wire
from recdistill.limits import MAX_TIME_US
from recdistill.records.flat import Ids, have_twice, read_candidates, read_events, rows_of


def ids_of(texts: list[str]) -> Ids:
    members = [wire.Candidate(item=text).SerializeToString() for text in texts]
    found = read_candidates(members)
    assert not found.odd_N.any()
    return found.items


@pytest.mark.parametrize("time_us", [0, 1, 127, 128, 2**31, 2**49, 2**56 - 1, 2**56, MAX_TIME_US, 2**63 - 1])
def test_times_of_every_length_are_read(time_us: int) -> None:
    members = [wire.Event(item=item, time_us=time_us).SerializeToString() for item in ("a", "ü" * 70, "b")]
    found = read_events([*members, wire.Event(item="z", time_us=5, action="x").SerializeToString()])
    assert found.times_N.tolist() == [time_us] * 3 + [5]
    assert list(found.items) == ["a", "ü" * 70, "b", "z"]
    assert not found.odd_N.any()


def test_what_is_cut_short_at_any_place_is_odd_or_another_event() -> None:
    whole = wire.Event(item="item-1", action="click", time_us=1_700_000_000_000_000).SerializeToString()
    for end in range(len(whole)):
        found = read_events([whole, whole[:end], whole])
        assert found.odd_N.tolist()[::2] == [False, False]
        if not found.odd_N[1]:  # cut between two fields
            read = wire.Event.FromString(whole[:end])
            action = found.actions[found.action_N[1]]
            assert (found.items.text(1), action, found.times_N[1]) == (read.item, read.action, read.time_us)
            assert read.SerializeToString() == whole[:end]


def test_many_actions_keep_their_events() -> None:
    chance = random.Random(3)
    named = [chance.choice(["", "click", "view", "a-very-long-action-name", *map(str, range(40))]) for _ in range(500)]
    found = read_events([wire.Event(item="a", action=one).SerializeToString() for one in named])
    assert [found.actions[place] for place in found.action_N.tolist()] == named
    assert found.actions[0] == ""
    assert len(found.actions) == len({"", *named})


def test_an_id_that_comes_twice_is_found_whatever_its_shape() -> None:
    """Also where first and last eight bytes and the length are those of another id, and in a list that is very long."""
    alike = [f"https://shop/{n:04}/product" for n in range(300)]  # the middle alone differs
    short = ["a", "b", "ab", "ba", "aa", "bb", "12345678", "123456789", "1234567812345678"]
    long = [f"item-{n}" for n in range(3_000)]
    lists = [alike, short, long, [], ["x"], [*short, "ab"], [*alike, alike[7]], [*long, "item-2999"], ["q", "q"], short]
    expected = [row for row, one in enumerate(lists) if len(set(one)) < len(one)]
    counts = np.array([len(one) for one in lists])
    assert sorted(have_twice(ids_of([text for one in lists for text in one]), counts)) == expected == [5, 6, 7, 8]
    assert have_twice(ids_of([]), np.zeros(0, np.int64)) == []


def test_ids_of_several_runs_are_joined() -> None:
    parts = [["a", "ü"], [], ["item-3", "日本", "x" * 200]]
    joined = Ids.join([ids_of(part) for part in parts])
    assert list(joined) == ["a", "ü", "item-3", "日本", "x" * 200]
    assert joined.text(3) == "日本"
    assert joined.texts(1, 3) == ["ü", "item-3"]
    assert list(joined[np.array([True, False, False, True, False])]) == ["a", "日本"]


def test_rows_are_those_of_a_loop() -> None:
    assert rows_of(np.array([2, 0, 3])).tolist() == [0, 0, 2, 2, 2]
