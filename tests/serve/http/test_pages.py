"""Which web pages may call: against what browsers send, and with write-back on."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from support.bodies import check_problem
from support.http_server import serving

from recdistill.bundle import Bundle
from recdistill.records import Impression
from recdistill.serve import Ranker, Recommender
from recdistill.serve.http import Limits
from recdistill.serve.http.pages import Pages

SHOP, OTHER = "https://shop.example", "https://evil.example"


@pytest.fixture(scope="module")
def written() -> list[Impression]:
    return []


@pytest.fixture(scope="module")
def page(bundle: Bundle, written: list[Impression]) -> Iterator[httpx.Client]:
    ranker = Ranker()
    ranker.swap(Recommender(bundle))
    keep = lambda impression: written.append(impression) is None  # noqa: E731
    with (
        serving(ranker, Limits(origins=(SHOP,)), write_back=1.0, keep=keep) as address,
        httpx.Client(base_url=address) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 415),  # a form of any page sends such a body without asking first
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "application/json", "origin": OTHER}, 403),
        ({"content-type": "application/json", "origin": "null"}, 403),
        ({"content-type": "application/json", "origin": "https://shop.example.evil.example"}, 403),
        ({"content-type": "application/json", "origin": "http://shop.example"}, 403),
        # A name of somebody else that leads to this address: page and host are the same, and yet not ours.
        ({"content-type": "application/json", "origin": "http://evil.example", "host": "evil.example"}, 403),
    ],
)
def test_what_a_page_of_somebody_else_sends_is_not_written(
    page: httpx.Client, written: list[Impression], headers: dict[str, str], status: int
) -> None:
    before = len(written)
    answer = page.post("/v1/recommend", content=b"{}", headers=headers)
    assert answer.status_code == status
    check_problem(status, answer.headers, answer.content)
    assert "access-control-allow-origin" not in answer.headers
    assert len(written) == before


def test_a_named_page_and_a_program_may_call(page: httpx.Client, written: list[Impression]) -> None:
    asked = {"origin": SHOP, "access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    may = page.options("/v1/recommend", headers=asked)
    assert may.status_code == 200
    assert may.headers["access-control-allow-origin"] == SHOP
    assert "POST" in may.headers["access-control-allow-methods"]
    assert may.headers["access-control-allow-headers"] == "content-type"
    assert may.headers["vary"] == "origin"
    before = len(written)
    for headers in ({"origin": SHOP}, {}, {"origin": str(page.base_url).rstrip("/")}):
        answer = page.post("/v1/recommend", json={}, headers=headers)
        assert answer.status_code == 200
        assert answer.headers.get("access-control-allow-origin") == headers.get("origin")
    assert len(written) == before + 3
    wrong = page.post("/v1/recommend", json={"k": 0}, headers={"origin": SHOP})
    assert (wrong.status_code, wrong.headers["access-control-allow-origin"]) == (422, SHOP)  # a page can read why


def test_a_page_that_is_not_named_may_not(page: httpx.Client) -> None:
    asked = {"origin": OTHER, "access-control-request-method": "POST"}
    assert page.options("/v1/recommend", headers=asked).status_code == 403
    assert page.options("/v1/recommend").status_code == 405  # a program that is curious
    model = page.get("/v1/model", headers={"origin": OTHER})
    assert model.status_code == 200
    assert "access-control-allow-origin" not in model.headers


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        (b"http://localhost:8080", b"localhost:8080", True),
        (b"http://[::1]:8080", b"[::1]:8080", True),
        (b"http://10.1.2.3", b"10.1.2.3", True),
        (b"http://10.1.2.3", b"10.1.2.4", False),
        (b"http://ranker.internal", b"ranker.internal", False),
        (b"http://127.0.0.1.evil.example", b"127.0.0.1.evil.example", False),
        (b"", b"", False),
        (b"null", b"", False),
    ],
)
def test_the_own_page_may_call_under_a_name_that_is_ours(origin: bytes, host: bytes, allowed: bool) -> None:
    assert Pages([]).allows(origin, host) is allowed
    assert Pages(["*"]).allows(origin, host)
