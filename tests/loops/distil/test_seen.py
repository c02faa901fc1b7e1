"""What a bundle tells of the stream."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from support import world

from recdistill.bundle import golden
from recdistill.loops.distil.seen import HALF_LIFE, Seen
from recdistill.records import Candidate, Example, Impression, Ranking, encode, read_columns


def example(item: str, teacher: str = "t") -> Example:
    asked = Impression("r", 1, user="u", candidates=(Candidate(item), Candidate("other")), exclude=("x",))
    return Example(Ranking(asked, teacher, "1", "logit", (0.0, 0.0), (True, True)), (1.0, 0.0), "closed")


def take(seen: Seen, examples: Sequence[Example], *, again: bool = False) -> None:
    columns, refused = read_columns(Example, [encode(one) for one in examples])
    assert not refused
    seen.take(columns, again=again)


@pytest.mark.slow
def test_a_recent_positive_counts_twice_one_that_is_a_half_life_old() -> None:
    seen = Seen()
    take(seen, [example("old")])
    take(seen, [example("filler")] * HALF_LIFE)
    take(seen, [example("new")])
    assert seen.popular["new"] / seen.popular["old"] == pytest.approx(2, rel=1e-3)
    assert seen.examples == HALF_LIFE + 2


@pytest.mark.slow
def test_weights_are_those_of_a_naive_count_also_beyond_what_a_float_holds() -> None:
    seen, chance = Seen(), random.Random(0)
    taken: list[str] = []
    for _ in range(900):
        items = [f"i{chance.randrange(5)}" for _ in range(10)]
        take(seen, [example(item) for item in items] * 1)
        seen.popular_unit *= 2.0  # as if an age had passed
        taken += items
    expected: dict[str, float] = {}
    for n, item in enumerate(taken):
        steps_ago = 899 - n // 10
        expected[item] = expected.get(item, 0.0) + 2.0 ** (-steps_ago * (1 + 10 / HALF_LIFE))
    best = seen.most_popular(5)
    top = max(expected.values())
    assert {item: weight / best[0][1] for item, weight in best} == pytest.approx(
        {item: weight / top for item, weight in expected.items()}, rel=1e-6
    )
    assert seen.popular_unit <= 1e100


def test_a_later_pass_counts_for_nothing_but_the_last_requests() -> None:
    seen = Seen()
    take(seen, [example("a", "t"), example("a", "u")])
    before = (seen.examples, dict(seen.teachers), dict(seen.popular))
    take(seen, [example("b")], again=True)
    assert (seen.examples, seen.teachers, seen.popular) == before
    assert before[1] == {"t@1": 1, "u@1": 1}


def test_the_last_requests_are_nobodys_and_show_nothing() -> None:
    asked = world.impressions(20)
    seen = Seen()
    none = [Example(Ranking(one, "t", "1", "logit", (0.0,) * 6, (True,) * 6), (0.0,) * 6) for one in asked]
    take(seen, none)
    assert [one.id for one in seen.golden] == [one.id for one in asked[-golden.COUNT :]]
    assert {(one.user, one.candidates, one.exclude) for one in seen.golden} == {(None, (), ())}
    assert [one.history for one in seen.golden] == [one.history for one in asked[-golden.COUNT :]]


def test_equal_weights_are_in_the_order_of_their_ids() -> None:
    seen = Seen(popular={"b": 1.0, "a": 1.0, "c": 2.0})
    assert [item for item, _ in seen.most_popular(2)] == ["c", "a"]
