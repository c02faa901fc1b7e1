"""The endpoint's answers over real sockets, against the recommender that it serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from support.bodies import body_of, check_form
from support.http_server import serving
from support.serving import wait_for

from recdistill.bundle import Bundle
from recdistill.records import Item
from recdistill.serve import Filters, Ranker, Recommender, Request
from references.students import Student, make_requests, make_student


def test_recommend_answers_what_the_recommender_does(student: Student, bundle: Bundle, client: httpx.Client) -> None:
    recommender = Recommender(bundle)
    for impression in make_requests(student, 40):
        body = body_of(impression, k=7, exclude=["item-1", "nobody"], where={"genres": ["g1", "g2", "g3"]})
        check_form(body, "RecommendRequest")
        response = client.post("/v1/recommend", json=body)
        assert response.status_code == 200, response.text
        answer = response.json()
        check_form(answer, "RecommendAnswer")
        seen = frozenset(event.item for event in impression.history)
        request = Request(impression.history, impression.context, ("item-1",), impression.time_us)
        (expected,) = recommender.recommend([request], 7, Filters(seen, None, {"genres": ["g1", "g2", "g3"]}))
        assert answer["items"] == expected.items
        assert answer["scores"] == pytest.approx(expected.scores, abs=1e-5)
        assert not {"item-1", *seen} & set(answer["items"])
        assert (answer["source"], answer["unknown_history"]) == (expected.source, expected.unknown_history)
        assert answer["bundle"] == bundle.content_hash == response.headers["recdistill-bundle"]
        assert response.headers["recdistill-version"] == "7"
        assert response.headers["content-type"] == "application/json"


def test_items_of_the_history_come_again_only_when_asked_for(student: Student, client: httpx.Client) -> None:
    best = client.post("/v1/recommend", json={"k": 50}).json()["items"]
    history = [{"item": item} for item in best[:3]]
    body = {"history": history, "allow": best[1:4]}
    assert client.post("/v1/recommend", json=body).json()["items"] == [best[3]]
    assert set(client.post("/v1/recommend", json={**body, "repeat": True}).json()["items"]) == set(best[1:4])


def test_a_batch_is_its_requests_one_by_one(student: Student, client: httpx.Client) -> None:
    bodies = [body_of(i, k=1 + n % 5, allow=None) for n, i in enumerate(make_requests(student, 40))]
    batch = client.post("/v1/recommend", json={"requests": bodies})
    assert batch.status_code == 200, batch.text
    check_form(batch.json(), "RecommendAnswers")
    for body, answer in zip(bodies, batch.json()["answers"], strict=True):
        alone = client.post("/v1/recommend", json=body).json()
        assert answer["items"] == alone["items"]
        assert len(answer["items"]) == body["k"]
        assert answer["scores"] == pytest.approx(alone["scores"], abs=1e-5)


def test_nobody_gets_popular_items_and_never_nothing(client: httpx.Client) -> None:
    answer = client.post("/v1/recommend", json={"k": 3}).json()
    assert answer["source"] == "popular"
    assert answer["items"] == ["item-0", "item-1", "item-2"]
    stranger = client.post("/v1/recommend", json={"history": [{"item": "nobody"}], "k": 50}).json()
    assert (stranger["source"], stranger["unknown_history"], len(stranger["items"])) == ("mixed", 1, 50)
    assert client.post("/v1/recommend", json={"allow": []}).json()["items"] == []


def test_rank_orders_candidates_and_names_those_it_does_not_know(student: Student, client: httpx.Client) -> None:
    impression = make_requests(student, 12)[10]
    wanted = ["item-9", "gone", "item-3", "item-4", "item-9", "item-1"]  # item-4 is withdrawn
    body = body_of(impression, candidates=wanted, exclude=["item-1"])
    check_form(body, "RankRequest")
    answer = client.post("/v1/rank", json=body).json()
    check_form(answer, "RankAnswer")
    assert set(answer["items"]) == {"item-9", "item-3"}
    assert answer["unknown"] == ["gone", "item-4"]
    assert answer["scores"] == sorted(answer["scores"], reverse=True)
    whole = client.post("/v1/recommend", json=body_of(impression, k=50, repeat=True)).json()
    scores = dict(zip(whole["items"], whole["scores"], strict=True))
    for item, score in zip(answer["items"], answer["scores"], strict=True):
        assert scores.get(item, score) == pytest.approx(score, abs=1e-4)


def test_similar_items(bundle: Bundle, client: httpx.Client) -> None:
    vectors = {item.id: bundle.vectors_NW[slot, :-2] for slot, item in enumerate(bundle.items)}
    one = vectors.pop("item-9")

    def cosine(item: str) -> float:
        other = vectors[item]
        return float(one @ other / (one @ one) ** 0.5 / (other @ other) ** 0.5)

    answers = client.post("/v1/similar", json={"requests": [{"item": "item-9", "k": 5}, {"item": "item-9"}]}).json()
    check_form(answers, "SimilarAnswers")
    best = sorted(vectors, key=cosine, reverse=True)
    assert answers["answers"][0]["items"] == best[:5]
    assert answers["answers"][1]["items"] == best[:10]
    assert answers["answers"][0]["scores"] == pytest.approx([cosine(item) for item in best[:5]], abs=1e-5)


@pytest.fixture
def both(bundle: Bundle, tmp_path: Path) -> Ranker:
    """A champion and a canary for all users with a name. Only the champion's catalogue has an item with a colour."""
    ranker = Ranker(share=1.0)
    champion = Recommender(bundle)
    champion.apply_items([Item("new", version=1, attributes={"colour": "red"})], champion.position + 1)
    ranker.swap(champion, "1")
    other = make_student(seed=1)
    ranker.swap(
        Recommender(other.export(tmp_path / "two", golden_requests=make_requests(other, 3))), "2", role="canary"
    )
    return ranker


RED = {"where": {"colour": "red"}, "k": 3}


@pytest.mark.parametrize(
    ("path", "wrong", "field"),
    [
        ("/v1/recommend", {"context": {"hour": "noon"}}, "context.hour"),
        ("/v1/recommend", {"where": {"nobody": 1}}, "where.nobody"),
        ("/v1/rank", {"context": {"hour": "noon"}, "candidates": ["item-3"]}, "context.hour"),
    ],
)
def test_a_request_that_the_champion_refuses_too_is_no_failure_of_the_canary(
    both: Ranker, caplog: pytest.LogCaptureFixture, path: str, wrong: dict[str, Any], field: str
) -> None:
    with serving(both) as address, httpx.Client(base_url=address) as client:
        unnamed = client.post(path, json=wrong)
        reply = client.post(path, json={"user": "a", **wrong})
        assert (reply.status_code, reply.json()) == (422, unnamed.json())
        assert reply.json()["field"].startswith(field)
        right = {name: value for name, value in wrong.items() if name == "candidates"}
        batch = client.post(path, json={"requests": [right, {"user": "a", **right}, {"user": "a", **wrong}]})
        assert batch.status_code == 422
        assert batch.json()["field"].startswith(f"requests[2].{field}")
    assert both.counts["canary_failures"] == 0
    assert not [one for one in caplog.records if one.name.startswith("recdistill")]


def test_what_only_the_canary_refuses_the_champion_answers_and_it_counts(both: Ranker) -> None:
    with serving(both) as address, httpx.Client(base_url=address) as client:
        assert client.post("/v1/recommend", json={"user": "a"}).headers["recdistill-side"] == "canary"
        reply = client.post("/v1/recommend", json={"user": "a", **RED})
        assert (reply.status_code, reply.headers["recdistill-side"]) == (200, "champion")
        assert reply.json()["items"] == ["new"]
        batch = client.post("/v1/recommend", json={"requests": [{}, {"user": "a", **RED}]})
        assert [answer["items"] for answer in batch.json()["answers"]][1] == ["new"]
    assert (both.counts["canary_answers"], both.counts["canary_failures"]) == (1, 2)


def test_each_request_of_a_batch_counts_for_the_canary_that_answers_or_fails(
    both: Ranker, caplog: pytest.LogCaptureFixture
) -> None:
    mine = {"user": "a", "k": 3}
    with serving(both) as address, httpx.Client(base_url=address) as client:
        assert client.post("/v1/recommend", json={"requests": [mine, {"k": 3}, mine, mine]}).status_code == 200
        assert (both.counts["canary_answers"], both.counts["canary_failures"]) == (3, 0)
        red = {"user": "a", **RED}
        for failed, said in ((5, 1), (6, 1), (10, 2)):  # a line when 1, 2, 4, 8 … is reached or passed
            more = failed - both.counts["canary_failures"]
            assert client.post("/v1/recommend", json={"requests": [red] * more}).status_code == 200
            assert both.counts["canary_failures"] == failed
            assert sum("a canary has failed" in one.getMessage() for one in caplog.records) == said
        assert "failed on 10 requests" in caplog.text
        text = client.get("/metrics").text
    assert "recdistill_canary_answers_total 3.0" in text
    assert "recdistill_canary_failures_total 10.0" in text


@pytest.mark.parametrize("crashes", [False, True])
def test_a_canary_that_failed_is_not_asked_the_same_again_as_a_shadow(
    both: Ranker, monkeypatch: pytest.MonkeyPatch, crashes: bool
) -> None:
    inner, asked = Recommender.recommend, list[str]()
    sides = both.sides()
    assert sides is not None
    assert sides.canary is not None
    canary = sides.canary.recommender

    def watched(self: Recommender, requests: Any, *args: Any, **more: Any) -> Any:
        if self is canary:
            asked.extend(request.user for request in requests)
            if crashes and requests[0].user:
                raise RuntimeError("planted")
        return inner(self, requests, *args, **more)

    monkeypatch.setattr(Recommender, "recommend", watched)
    with serving(both, shadow=1.0) as address, httpx.Client(base_url=address) as client:
        for user in "abcd":
            reply = client.post("/v1/recommend", json={"user": user, **RED})
            assert (reply.status_code, reply.headers["recdistill-side"]) == (200, "champion")
        batch = client.post("/v1/recommend", json={"requests": [{"user": "e", **RED}, {"k": 3}]})
        assert batch.headers["recdistill-side"] == "champion"
        # The request without a user is the only one for a shadow. It is the last, and shadows are asked in order.
        wait_for(lambda: both.counts["shadow_items"] == 3)
        wait_for(lambda: both.counts["shadow_asked"] >= 1)
    assert asked == ["a", "b", "c", "d", "e", ""]
    assert both.counts["canary_failures"] == 5
    assert (both.counts["shadow_asked"], both.counts["shadow_failed"]) == (1, 0)
