"""The rerank API in its two shapes, in one request and in several, against a real server that also lies."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from support.teacher_server import Server, score_of, teacher_server

from recdistill.errors import TeacherError
from recdistill.records import Candidate, Event, Impression, Item
from recdistill.teachers import Scores
from recdistill.teachers.http.server import ModelServer
from recdistill.teachers.http.teacher import HttpTeacher

TITLES = [Item(f"item-{n}", attributes={"title": f"item-{n} of the {n % 3}", "year": 1900.0 + n}) for n in range(18)]
SENT = {"rerank": "documents", "rerank-texts": "texts"}
"""Where each shape has its documents."""

both_shapes = pytest.mark.parametrize("protocol", list(SENT))


@pytest.fixture
def server() -> Iterator[Server]:
    with teacher_server() as server:
        yield server


def reranker(server: Server, protocol: Any, **settings: Any) -> HttpTeacher:
    quick = {"backoff_s": 0.01, "timeout_s": 5.0, "max_answer_bytes": 100_000} | settings
    http = ModelServer(protocol=protocol, url=f"{server.address}/rerank", **quick)
    teacher = HttpTeacher(http, teacher_id="h", version="", scale="logit", env={})
    teacher.apply_items(TITLES)
    return teacher


def listed(name: str, *numbers: int) -> Impression:
    return Impression(name, 9, candidates=tuple(Candidate(f"item-{n}") for n in numbers))


def values(answer: Scores | TeacherError) -> list[float | None]:
    """Scores in the order of the candidates, None where one is masked."""
    assert isinstance(answer, Scores)
    assert answer.values_L.dtype == np.float32
    return [float(value) if scored else None for value, scored in zip(*answer, strict=True)]


def true_scores(*numbers: int) -> list[float]:
    return [float(np.float32(score_of(f"item-{n}"))) for n in numbers]


# What is asked, and what comes back


@pytest.mark.parametrize(
    ("protocol", "asked"),
    [
        ("rerank", {"documents": ["item-4 of the 1 (1904)", "item-5 of the 2 (1905)"], "top_n": 2, "model": "cross"}),
        (
            "rerank-texts",
            {
                "texts": ["item-4 of the 1 (1904)", "item-5 of the 2 (1905)"],
                "raw_scores": True,
                "return_text": False,
            },
        ),
    ],
)
def test_a_reranker_gets_texts_and_its_scores_find_their_places(
    server: Server, protocol: str, asked: dict[str, Any]
) -> None:
    teacher = reranker(
        server,
        protocol,
        model="cross",
        query="After {history}, at {context.hour}:",
        document="{title} ({year})",
        query_history=2,
    )
    one = Impression(
        "i",
        9_000_000,
        history=(Event("item-1"), Event("item-2"), Event("item-3")),
        context={"hour": "7"},
        candidates=(Candidate("item-4"), Candidate("item-19"), Candidate("item-5")),
    )
    [answer] = teacher.score([one])
    four, five = true_scores(4, 5)
    assert four < five  # so that the server answers in another order than it was asked in
    assert values(answer) == [four, None, five]  # item-19 has no title
    assert server.asked == [{"query": "After item-2 of the 2 (1902); item-3 of the 0 (1903), at 7:", **asked}]
    assert teacher.version == "1"


@both_shapes
def test_values_are_no_templates_and_an_empty_query_is_an_error(server: Server, protocol: str) -> None:
    teacher = reranker(server, protocol, query="{history}", document="{title}")
    teacher.apply_items([Item("item-0", version=1, attributes={"title": "item-0 {title} {history}\n\x00"})])
    lists = [
        Impression("1", 9, history=(Event("item-0"),), candidates=(Candidate("item-0"),)),
        Impression("2", 9, candidates=(Candidate("item-1"),)),
        Impression("3", 9, history=(Event("item-1"),), candidates=(Candidate("item-99"),)),
    ]
    answers = teacher.score(lists)
    assert isinstance(answers[0], Scores)
    assert server.asked[0][SENT[protocol]] == ["item-0 {title} {history} \x00"]
    assert "its query is empty" in str(answers[1])
    assert "none of its candidates has an attribute that teacher.http.document names" in str(answers[2])
    assert len(server.asked) == 1


@both_shapes
def test_requests_are_json_that_anyone_reads(server: Server, protocol: str) -> None:
    teacher = reranker(server, protocol)
    teacher.apply_items([Item("item-3", version=1, attributes={"title": 'item-3 "q" ö 日本 \u2028'})])
    teacher.score([listed("1", 3)])
    assert json.dumps(server.asked[0])
    assert server.asked[0][SENT[protocol]] == ['item-3 "q" ö 日本']


# A server that lies


@pytest.mark.many
@both_shapes
@pytest.mark.parametrize(
    ("how", "scored"), [("well", 6), ("half", 3), ("nan", 5), ("null", 5), ("no score", 5), ("huge", 5)]
)
def test_scores_that_are_missing_or_no_finite_numbers_are_masked(
    server: Server, protocol: str, how: str, scored: int
) -> None:
    server.behave = lambda _n, _items: how
    [answer] = reranker(server, protocol).score([listed("i", 3, 1, 4, 15, 9, 2)])
    found = values(answer)
    assert len(found) - found.count(None) == scored
    for value, true in zip(found, true_scores(3, 1, 4, 15, 9, 2), strict=True):
        assert value in (None, true)


LIES = ("far index", "negative index", "true index", "no index", "twice", "texts", "truth", "lists", "empty", "all nan")
WRONG = (*LIES, "nothing", "other shape", "not json", "deep", "zipped", "endless", "500", "dies")
SOME_WRONG = ("far index", "twice", "texts", "all nan", "other shape", "not json", "endless", "500", "dies")


@pytest.mark.many
@both_shapes
@pytest.mark.parametrize("how", [*WRONG, "400", "413", "422"])
def test_one_list_that_is_reranked_wrongly_is_the_only_one_to_fail(server: Server, protocol: str, how: str) -> None:
    server.behave = lambda _n, items: how if items[0].startswith("item-7 ") else "well"
    answers = reranker(server, protocol, retries=1).score([listed(f"i{n}", n, 17) for n in range(12)], deadline_s=20.0)
    for n, answer in enumerate(answers):
        if n == 7:
            assert isinstance(answer, TeacherError)
            assert str(answer).startswith("impression i7: ")
        else:
            assert values(answer) == true_scores(n, 17)


@pytest.mark.many
@both_shapes
@pytest.mark.parametrize("how", SOME_WRONG)
def test_a_server_that_always_lies_blames_no_list_and_is_named(server: Server, protocol: str, how: str) -> None:
    server.behave = lambda _n, _items: how
    with pytest.raises(TeacherError, match="teacher h: "):
        reranker(server, protocol, retries=1).score([listed(f"i{n}", n, 17) for n in range(3)], deadline_s=20.0)


# A server with a cap on documents

LONG = (3, 17, 0, 8, 11, 5, 2, 14, 9, 6)


def at_most(cap: int) -> Any:
    return lambda _n, items: "413" if len(items) > cap else "well"


@both_shapes
@pytest.mark.parametrize(("cap", "sizes"), [(1, [1] * 10), (4, [4, 4, 2]), (9, [9, 1]), (10, [10]), (999, [10])])
def test_a_list_over_the_cap_goes_in_several_requests_and_is_put_together_in_its_order(
    server: Server, protocol: str, cap: int, sizes: list[int]
) -> None:
    server.behave = at_most(cap)
    [answer] = reranker(server, protocol, max_documents=cap).score([listed("i", *LONG)])
    assert values(answer) == true_scores(*LONG)
    assert [len(one[SENT[protocol]]) for one in server.asked] == sizes
    assert [text.split()[0] for one in server.asked for text in one[SENT[protocol]]] == [f"item-{n}" for n in LONG]
    assert {one["query"] for one in server.asked} == {server.asked[0]["query"]}
    if protocol == "rerank":
        assert [one["top_n"] for one in server.asked] == sizes


@both_shapes
def test_candidates_without_a_document_count_for_nothing_in_the_cap(server: Server, protocol: str) -> None:
    [answer] = reranker(server, protocol, max_documents=2).score([listed("i", 99, 3, 98, 97, 0, 8, 96)])
    three, zero, eight = true_scores(3, 0, 8)
    assert values(answer) == [None, three, None, None, zero, eight, None]
    assert [len(one[SENT[protocol]]) for one in server.asked] == [2, 1]


@both_shapes
def test_without_a_cap_the_list_goes_whole_and_a_servers_refusal_is_shown(server: Server, protocol: str) -> None:
    server.behave = at_most(4)
    answers = reranker(server, protocol).score([listed("long", *LONG), listed("short", 1, 2)])
    assert "impression long: " in str(answers[0])
    assert "answered 413" in str(answers[0])
    assert values(answers[1]) == true_scores(1, 2)


@pytest.mark.slow
@both_shapes
def test_lists_of_all_lengths_are_split_beside_each_other(server: Server, protocol: str) -> None:
    server.behave = lambda _n, items: "413" if len(items) > 3 else "soon"
    lists = [listed(f"i{n}", *LONG[: 1 + n]) for n in range(10)]
    answers = reranker(server, protocol, max_documents=3, concurrency=3).score(lists)
    assert [values(answer) for answer in answers] == [true_scores(*LONG[: 1 + n]) for n in range(10)]
    assert 1 < server.most_at_once <= 3


@pytest.mark.many
@both_shapes
@pytest.mark.parametrize("how", [how for how in SOME_WRONG if how != "all nan"])
def test_one_part_that_is_answered_wrongly_is_its_whole_lists_error_and_no_other_lists(
    server: Server, protocol: str, how: str
) -> None:
    server.behave = lambda _n, items: how if items[0].startswith("item-11 ") else "well"
    teacher = reranker(server, protocol, max_documents=4, retries=0)
    wrong, well = teacher.score([listed("wrong", *LONG), listed("well", *LONG[:4], *LONG[5:])], deadline_s=20.0)
    assert isinstance(wrong, TeacherError)
    assert str(wrong).startswith("impression wrong: ")
    assert values(well) == true_scores(*LONG[:4], *LONG[5:])
    assert len(server.asked) == 2 + 3  # the third part of the wrong list was not asked for any more


@both_shapes
@pytest.mark.parametrize("how", ["half", "nan", "empty", "all nan"])
def test_what_one_part_lacks_is_masked_there_alone(server: Server, protocol: str, how: str) -> None:
    server.behave = lambda _n, items: how if items[0].startswith("item-11 ") else "well"
    [answer] = reranker(server, protocol, max_documents=4).score([listed("i", *LONG)])
    found, true = values(answer), true_scores(*LONG)
    assert found[:4] == true[:4]
    assert found[8:] == true[8:]
    assert found[4:8].count(None) == {"half": 2, "nan": 1, "empty": 4, "all nan": 4}[how]


@both_shapes
def test_a_list_whose_parts_all_lack_scores_is_an_error(server: Server, protocol: str) -> None:
    teacher = reranker(server, protocol, max_documents=4)
    server.behave = lambda _n, items: "all nan" if len(items) > 1 else "well"
    answers = teacher.score([listed("none", *LONG), listed("one", 1)])
    assert "impression none: none of the scores that came back is a finite number" in str(answers[0])
    assert values(answers[1]) == true_scores(1)


@both_shapes
def test_before_a_list_is_blamed_alone_a_good_one_is_sent_again_in_its_parts(server: Server, protocol: str) -> None:
    teacher = reranker(server, protocol, max_documents=4)
    assert isinstance(teacher.score([listed("good", *LONG)])[0], Scores)
    server.asked.clear()
    server.behave = lambda _n, items: "500" if items[0].startswith("item-7 ") else "well"
    [answer] = teacher.score([listed("bad", 7)])
    assert isinstance(answer, TeacherError)
    assert [len(one[SENT[protocol]]) for one in server.asked] == [1, 4, 4, 2]
    server.behave = lambda _n, items: "500" if len(items) < 3 else "well"
    with pytest.raises(TeacherError, match="teacher h: "):  # as does the last part of the good one
        teacher.score([listed("bad", 7)])


@both_shapes
def test_a_part_is_tried_again_by_itself(server: Server, protocol: str) -> None:
    server.behave = lambda number, _items: "502" if number == 1 else "well"
    [answer] = reranker(server, protocol, max_documents=4).score([listed("i", *LONG)])
    assert values(answer) == true_scores(*LONG)
    assert [len(one[SENT[protocol]]) for one in server.asked] == [4, 4, 4, 2]


@pytest.mark.slow
@both_shapes
def test_all_parts_together_keep_the_deadline(server: Server, protocol: str) -> None:
    server.behave = lambda _n, _items: "soon"  # 0.05 s each, ten of them
    began = time.monotonic()
    with pytest.raises(TeacherError, match="did not answer before the deadline"):
        reranker(server, protocol, max_documents=1).score([listed("i", *LONG)], deadline_s=0.2)
    assert time.monotonic() - began < 5
