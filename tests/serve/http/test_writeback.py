"""A share of the answers comes back as impressions."""

from __future__ import annotations

import time

import httpx
import pytest
from support.bodies import SMALL, body_of
from support.http_server import serving

from recdistill.bundle import Bundle
from recdistill.records import Event, Impression, decode, encode
from recdistill.serve import Explore, Filters, Ranker, RecommendAnswer, Recommender, Request, shown
from recdistill.serve.http.writeback import WriteBack
from references.students import NOW_US, Student, make_requests


@pytest.mark.slow
def test_a_share_of_the_answers_is_kept(student: Student, bundle: Bundle, ranker: Ranker) -> None:
    kept: dict[str, Impression] = {}

    def keep(impression: Impression) -> bool:
        if len(kept) >= 60:
            return False
        kept[impression.id] = impression
        return True

    asked = make_requests(student, 15)[10:]
    with serving(ranker, SMALL, write_back=0.5, keep=keep) as address, httpx.Client(base_url=address) as client:
        answers = []
        for n in range(200):
            impression = asked[n % len(asked)]
            answers.append(
                (impression, client.post("/v1/recommend", json=body_of(impression, exclude=["item-2"])).json())
            )
    noted = [(impression, answer) for impression, answer in answers if "impression" in answer]
    assert len(noted) == len(kept) == 60  # a queue that is full costs the note, not the answer
    for impression, answer in noted:
        written = kept[answer["impression"]]
        assert [candidate.item for candidate in written.candidates] == answer["items"]
        assert [candidate.logged_score for candidate in written.candidates] == answer["scores"]
        assert (written.origin, written.served_by) == ("served", bundle.content_hash)
        assert (written.history, written.exclude) == (impression.history, ("item-2",))
        assert written.time_us == impression.time_us or (impression.time_us == 0 and written.time_us > NOW_US)
        assert decode(Impression, encode(written)).served_by == bundle.content_hash


def test_what_could_come_into_an_answer_does_not_say_where_it_comes_from(ranker: Ranker) -> None:
    """Five popular items are live. Others that could take a place do not count."""
    explore = Explore(share=1e-9, first=1, pool=10)
    with (
        serving(ranker, SMALL, write_back=1.0, keep=lambda _: True, explore=explore) as address,
        httpx.Client(base_url=address) as client,
    ):
        found = [client.post("/v1/recommend", json={"k": k}).json() for k in (2, 5, 6)]
    assert [(len(one["items"]), one["source"]) for one in found] == [(2, "popular"), (5, "popular"), (6, "mixed")]


def test_explored_answers_say_the_chance_of_each_place_and_can_be_made_again(
    student: Student, bundle: Bundle, ranker: Ranker
) -> None:
    kept: dict[str, Impression] = {}

    def keep(impression: Impression) -> bool:
        kept[impression.id] = impression
        return True

    explore = Explore(share=0.5, first=3, pool=4)
    asked = make_requests(student, 15)[10]
    body = body_of(asked, k=6)
    recommender = Recommender(bundle)
    [usual] = recommender.recommend([asked], 10, Filters(exclude=frozenset(e.item for e in asked.history)))
    with (
        serving(ranker, SMALL, write_back=0.8, keep=keep, explore=explore) as address,
        httpx.Client(base_url=address) as client,
    ):
        answers = [client.post("/v1/recommend", json=body).json() for _ in range(120)]
        ranked = client.post("/v1/rank", json={"candidates": ["item-2", "item-3"]}).json()
    changed = 0
    for answer in answers:
        assert len(answer["items"]) == 6
        assert answer["items"][:2] == usual.items[:2]
        if "impression" not in answer:
            assert answer["items"] == usual.items[:6], "only an answer that is written back is changed"
            continue
        written = decode(Impression, encode(kept[answer["impression"]]))
        order, chances = shown(explore, written.id, found=10, k=6)
        assert (
            answer["items"] == [candidate.item for candidate in written.candidates] == [usual.items[n] for n in order]
        )
        assert [c.propensity for c in written.candidates] == pytest.approx(chances, rel=1e-6)
        assert answer["scores"] == pytest.approx([usual.scores[n] for n in order])
        changed += order != list(range(6))
    assert 20 < changed < 75
    if "impression" in ranked:
        assert {c.propensity for c in kept[ranked["impression"]].candidates} == {None}


def test_an_answer_to_a_client_whose_clock_is_ahead_is_a_whole_record() -> None:
    """The request names no time, and its newest event is some seconds later than the clock here. No event may be later
    than its impression: such an impression could not be written, and the feedback that names it would fit nothing."""
    kept: list[Impression] = []
    write_back = WriteBack(1.0, lambda impression: kept.append(impression) is None)
    ahead_us = time.time_ns() // 1000 + 60_000_000
    history = (Event("a", time_us=1_000), Event("b", time_us=ahead_us), Event("c"))
    given = RecommendAnswer(items=["d"], scores=[1.0], bundle="9f", overlay=0, source="personal", unknown_history=0)
    for request in (Request(history=history), Request(history=history[:1]), Request(history, time_us=ahead_us + 7)):
        assert write_back(request, given, 10).impression == kept[-1].id
        assert decode(Impression, encode(kept[-1])) == kept[-1]
    late, usual, named = (one.time_us for one in kept)
    assert (late, named) == (ahead_us, ahead_us + 7)
    assert usual < ahead_us
