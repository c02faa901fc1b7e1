"""A teacher behind HTTP, against a real server that is slow, down, dying, lying or sending half of it."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from support import world
from support.certificates import Authority
from support.teacher_server import Server, score_of, teacher_server

from recdistill.config import HttpTeacherSettings, TeacherSettings
from recdistill.errors import ConfigError, TeacherError
from recdistill.loops.teachers import open_teacher
from recdistill.records import Candidate, Impression, Item
from recdistill.teachers import Scores
from recdistill.teachers.http.client import _retry_after, headers_of
from recdistill.teachers.http.server import ModelServer
from recdistill.teachers.http.teacher import HttpTeacher
from tools.processes import free_ports

TOKEN = "t0k3n-of-nobody"


@pytest.fixture
def server() -> Iterator[Server]:
    with teacher_server() as server:
        yield server


def opened(server: Server | str, env: dict[str, str] | None = None, **settings: Any) -> HttpTeacher:
    quick = {"backoff_s": 0.01, "timeout_s": 5.0, "batch": 8} | settings
    address = server if isinstance(server, str) else server.address
    quick |= {"url": address, "model": "hash", "inputs": {"items": "candidates"}}
    return HttpTeacher(ModelServer(**quick), teacher_id="h", version="", scale="logit", env=env or {})


LISTS = world.impressions(30)


def right(impression: Impression, answer: Scores | TeacherError) -> bool:
    if not isinstance(answer, Scores) or not answer.scored_L.all():
        return False
    expected = np.array([score_of(candidate.item) for candidate in impression.candidates], np.float32)
    return answer.values_L.dtype == np.float32 and np.array_equal(answer.values_L, expected)


def all_right(answers: list[Scores | TeacherError], lists: list[Impression] = LISTS) -> bool:
    return len(answers) == len(lists) and all(map(right, lists, answers))


# What is asked, and what comes back


def test_lists_go_in_batches_as_tensors_and_come_back_in_order(server: Server) -> None:
    teacher = opened(server)
    assert all_right(teacher.score(LISTS, deadline_s=10.0))
    assert sorted(len(one["inputs"][0]["data"]) for one in server.asked) == [36, 48, 48, 48]
    [first] = [one for one in server.asked if LISTS[0].candidates[0].item == one["inputs"][0]["data"][0]]
    assert first["inputs"][0]["shape"] == [8, 6]
    assert first["inputs"][0]["datatype"] == "BYTES"
    assert first["outputs"] == [{"name": "scores"}]
    assert teacher.score([]) == []
    assert (teacher.id, teacher.version, teacher.scale) == ("h", "3", "logit")


def test_lists_of_different_lengths_are_never_padded_where_nobody_says_what_is_padding(server: Server) -> None:
    lists = [msgspec.structs.replace(one, candidates=one.candidates[: 1 + at % 4]) for at, one in enumerate(LISTS)]
    assert all_right(opened(server).score(lists), lists)
    assert {one["inputs"][0]["shape"][1] for one in server.asked} == {1, 2, 3, 4}


def test_settings_open_it(server: Server) -> None:
    http = HttpTeacherSettings(url=server.address, model="hash", inputs={"items": "candidates"})
    teacher = open_teacher(TeacherSettings(kind="http", id="x", version="7", scale="rank", http=http))
    assert (teacher.id, teacher.version, teacher.scale) == ("x", "7", "rank")
    assert all_right(teacher.score(LISTS))


@pytest.mark.slow
def test_never_more_at_once_than_allowed(server: Server) -> None:
    server.behave = lambda _n, _items: "soon"
    assert all_right(opened(server, batch=1, concurrency=3).score(LISTS))
    assert 1 < server.most_at_once <= 3
    assert len(server.asked) == 30


def test_without_metadata_types_are_those_of_what_is_fed(server: Server) -> None:
    server.metadata = {"error": "no metadata here"}
    with pytest.raises(TeacherError, match=r"metadata names no inputs; set teacher\.http\.metadata = false"):
        opened(server)
    assert all_right(opened(server, metadata=False).score(LISTS))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"inputs": [{"name": "items", "datatype": "FP32", "shape": [-1, -1]}]}, "'candidates' cannot feed the input"),
        (
            {"inputs": [{"name": "ids", "datatype": "BYTES", "shape": [-1, -1]}]},
            "does not name the model's input 'ids'",
        ),
        ({"inputs": [{"name": "items"}]}, "metadata has inputs without name, datatype and shape"),
        ({"inputs": 7}, "metadata names no inputs"),
        ({"outputs": [{"name": n, "datatype": "FP32", "shape": [-1]} for n in "ab"]}, "output: name the scores' one"),
    ],
)
def test_the_metadata_is_held_against_the_settings(server: Server, change: dict[str, Any], says: str) -> None:
    server.metadata |= change
    with pytest.raises((ConfigError, TeacherError)) as caught:
        opened(server)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_number_that_is_missing_is_masked_since_json_has_no_nan(server: Server) -> None:
    server.metadata["inputs"].append({"name": "price", "datatype": "FP32", "shape": ["-1", "-1"]})
    settings = ModelServer(url=server.address, model="hash", inputs={"items": "candidates", "price": "item.price"})
    teacher = HttpTeacher(settings, teacher_id="h", version="", scale="logit", env={})
    teacher.apply_items([Item("item-1", attributes={"price": 2.5}), Item("item-2")])
    [answer] = teacher.score([Impression("i", 1, candidates=(Candidate("item-2"), Candidate("item-1")))])
    assert isinstance(answer, Scores)
    assert answer.scored_L.tolist() == [False, True]
    assert server.asked[0]["inputs"][1]["data"] == [2.5]


@pytest.mark.parametrize(("kind", "price"), [("FP32", 1e300), ("FP16", 70_000.0)])
def test_a_number_that_is_too_large_for_its_type_is_masked_since_json_has_no_infinity(
    server: Server, kind: str, price: float
) -> None:
    """It went as null. A server refuses that, and then no candidate of the list had a score."""
    server.metadata["inputs"].append({"name": "price", "datatype": kind, "shape": ["-1", "-1"]})
    settings = ModelServer(url=server.address, model="hash", inputs={"items": "candidates", "price": "item.price"})
    teacher = HttpTeacher(settings, teacher_id="h", version="", scale="logit", env={})
    teacher.apply_items([Item("item-1", attributes={"price": 2.5}), Item("item-2", attributes={"price": price})])
    [answer] = teacher.score([Impression("i", 1, candidates=(Candidate("item-2"), Candidate("item-1")))])
    assert server.asked[0]["inputs"][1]["data"] == [2.5]
    assert isinstance(answer, Scores)
    assert answer.scored_L.tolist() == [False, True]


# A server that lies


@pytest.mark.parametrize("how", ["nested", "null", "nan"])
def test_what_may_be_read(server: Server, how: str) -> None:
    server.behave = lambda _n, _items: how
    answers = opened(server, batch=1).score(LISTS)
    for answer in answers:
        assert isinstance(answer, Scores)
        assert answer.scored_L.tolist() == [how == "nested", True, True, True, True, True]
        assert answer.values_L[0] == 0.0 or how == "nested"


LIES = ("half", "half the rows", "shape", "texts", "integers", "other name", "nothing", "not json", "deep", "zipped",
        "axes")  # fmt: skip


@pytest.mark.many
@pytest.mark.parametrize("how", [*LIES, "all nan", "400", "413", "422", "500", "dies", "endless"])
def test_one_list_that_is_answered_wrongly_is_the_only_one_to_fail(server: Server, how: str) -> None:
    bad = LISTS[11].candidates[2].item
    lists = [one for one in LISTS if one is LISTS[11] or all(candidate.item != bad for candidate in one.candidates)]
    server.behave = lambda _n, items: how if bad in items else "well"
    answers = opened(server, max_answer_bytes=100_000).score(lists, deadline_s=20.0)
    for one, answer in zip(lists, answers, strict=True):
        if one is LISTS[11]:
            assert isinstance(answer, TeacherError)
            assert str(answer).startswith("impression imp-11: ")
        else:
            assert right(one, answer)


@pytest.mark.many
@pytest.mark.parametrize("how", [*LIES, "all nan", "500", "dies", "endless"])
def test_a_server_that_always_lies_blames_no_list_and_is_named(server: Server, how: str) -> None:
    server.behave = lambda _n, _items: how
    with pytest.raises(TeacherError, match="teacher h: "):
        opened(server, max_answer_bytes=100_000, retries=1).score(LISTS[:9], deadline_s=20.0)


def test_a_list_alone_is_blamed_only_while_the_server_scores_another(server: Server) -> None:
    teacher = opened(server, retries=0, breaker_failures=100)
    assert all_right(teacher.score(LISTS[:4]), LISTS[:4])
    bad = LISTS[11].candidates[0].item
    good_last = {candidate.item for candidate in LISTS[3].candidates}
    server.behave = lambda _n, items: "500" if bad in items and set(items) != good_last else "well"
    [answer] = teacher.score(LISTS[11:12])
    assert isinstance(answer, TeacherError)
    server.behave = lambda _n, _items: "500"
    with pytest.raises(TeacherError, match="answered 500"):
        teacher.score(LISTS[11:12])


@pytest.mark.slow
def test_a_list_that_hangs_the_server_does_not_hold_up_the_others(server: Server) -> None:
    bad = LISTS[11].candidates[2].item
    lists = [one for one in LISTS if one is LISTS[11] or all(candidate.item != bad for candidate in one.candidates)]
    server.behave = lambda _n, items: "slow" if bad in items else "well"
    answers = opened(server, timeout_s=0.4).score(lists, deadline_s=10.0)
    assert [one.id for one, answer in zip(lists, answers, strict=True) if not right(one, answer)] == ["imp-11"]


# A server that is slow, down or busy


@pytest.mark.parametrize("how", ["slow", "drip"])
@pytest.mark.slow
def test_the_whole_call_keeps_the_deadline(server: Server, how: str) -> None:
    teacher = opened(server)
    server.behave = lambda _n, _items: how
    began = time.monotonic()
    with pytest.raises(TeacherError, match="did not answer before the deadline"):
        teacher.score(LISTS, deadline_s=0.5)
    assert time.monotonic() - began < 5


@pytest.mark.slow
def test_a_slow_server_gets_through_a_batch_in_several_calls(server: Server) -> None:
    server.behave = lambda _n, _items: "slow"
    teacher = opened(server, batch=1, concurrency=4)
    lists, answers, calls = LISTS[:10], [], 0
    while not answers:
        calls += 1
        assert calls < 6
        try:
            answers = teacher.score(lists, deadline_s=1.6)
        except TeacherError:
            continue
    assert all_right(answers, lists)
    assert calls > 1
    server.behave = lambda _n, _items: "well"
    assert all_right(teacher.score(lists), lists)  # nothing is kept longer than that


def test_what_passes_by_itself_is_tried_again(server: Server) -> None:
    for how in ("502", "504", "dies"):
        server.asked.clear()
        server.behave = lambda number, _items, how=how: how if number < 2 else "well"
        assert all_right(opened(server, batch=64).score(LISTS))
        assert len(server.asked) == 3


@pytest.mark.slow
def test_a_busy_server_is_left_alone_for_as_long_as_it_asks(server: Server) -> None:
    for status in ("429", "503"):
        server.asked.clear()
        server.behave = lambda number, _items, status=status: status if number == 0 else "well"
        began = time.monotonic()
        assert all_right(opened(server, batch=64).score(LISTS))
        assert time.monotonic() - began >= 1.0
        assert len(server.asked) == 2
    server.behave, server.retry_after = (lambda _n, _items: "429"), "3600"
    teacher = opened(server)
    began = time.monotonic()
    with pytest.raises(TeacherError, match="answered 429"):
        teacher.score(LISTS, deadline_s=2.0)
    with pytest.raises(TeacherError, match="wants no request until"):
        teacher.score(LISTS, deadline_s=2.0)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("how", ["401", "403", "404", "302", "307"])
def test_what_no_other_content_would_change_is_said_at_once(server: Server, how: str) -> None:
    server.behave = lambda _n, _items: how
    with pytest.raises(TeacherError, match=r"look at teacher\.http|put it into teacher\.http\.url"):
        opened(server, concurrency=1).score(LISTS)
    assert len(server.asked) == 1


@pytest.mark.slow
def test_a_server_that_is_down_opens_the_breaker_and_one_request_closes_it() -> None:
    [port] = free_ports(1)
    teacher = opened(
        f"http://127.0.0.1:{port}", metadata=False, retries=1, breaker_failures=4, breaker_s=0.6, concurrency=2
    )
    with pytest.raises(TeacherError, match="no connection"):
        teacher.score(LISTS[:8])
    with pytest.raises(
        TeacherError, match=r"failed 4 times in a row and is not asked until \d\d:\d\d:\d\d|no connection"
    ):
        teacher.score(LISTS)
    with teacher_server(port=port) as server:
        with pytest.raises(TeacherError, match=r"not asked until \d\d:\d\d:\d\d"):
            teacher.score(LISTS)
        assert server.asked == []
        time.sleep(0.7)
        server.behave = lambda number, _items: "502" if number == 0 else "well"
        with pytest.raises(TeacherError):  # half open: one request, which fails
            teacher.score(LISTS)
        assert len(server.asked) == 1
        time.sleep(0.7)
        assert all_right(teacher.score(LISTS))
        assert all_right(teacher.score(LISTS))


def test_the_opening_says_that_nobody_answers() -> None:
    [port] = free_ports(1)
    with pytest.raises(TeacherError, match="the model's metadata cannot be read: .*no connection"):
        opened(f"http://127.0.0.1:{port}", retries=1)


def test_scores_of_two_versions_are_never_handed_out_together(server: Server) -> None:
    teacher = opened(server, batch=5, concurrency=1)
    assert teacher.version == "3"

    def upgraded(number: int, _items: list[str]) -> str:
        server.version = "3" if number < 4 else "4"
        return "well"

    server.behave = upgraded
    with pytest.raises(TeacherError, match="is of version 4, no longer 3; 20 lists of this call had"):
        teacher.score(LISTS)
    assert all_right(teacher.score(LISTS))
    assert teacher.version == "4"
    assert len(server.asked) == 6 + 4  # the ten lists that version 4 had scored were kept


# Connections


def test_headers_come_from_the_environment_and_are_never_shown(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    teacher = opened(server, {"KEY": TOKEN}, headers={"Authorization": "Bearer env:KEY", "X-Team": "ranking"})
    assert all_right(teacher.score(LISTS))
    assert server.headers[-1]["authorization"] == f"Bearer {TOKEN}"
    assert server.headers[-1]["x-team"] == "ranking"
    server.behave = lambda _n, _items: "403"
    with pytest.raises(TeacherError) as caught:
        teacher.score(LISTS)
    assert "***" in str(caught.value)  # the server said it back
    assert TOKEN not in str(caught.value)
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"Authorization": "env:NONE"}, "headers.Authorization: the environment has no NONE; set it"),
        ({"A b": "x"}, "'A b' is no name of a header"),
        ({"A": "x\r\nB: y"}, "its value has characters"),
        ({"A": "env:SPLIT"}, "its value has characters"),
    ],
)
def test_headers_that_cannot_be_sent(headers: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        headers_of(headers, {"SPLIT": "s3cret\r\nB: y"})
    assert says in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "teacher.http.url: '' is not of the form"),
        ({"url": "file:///etc/passwd"}, "is not of the form"),
        ({"url": "http://user:pass@host"}, "put credentials into headers"),
        ({"url": "http://host:x"}, "teacher.http.url: "),
        ({"url": "http://host"}, "teacher.http.model: names no model"),
        ({"url": "http://host?a=b", "model": "m"}, "without '?'"),
        (
            {"url": "https://host", "model": "m", "ca_file": "none.pem"},
            "none.pem: cannot be read (No such file or directory); set teacher.http.ca_file to",
        ),
        (
            {"url": "https://host", "model": "m", "client_cert": "none.pem"},
            "none.pem: cannot be read (No such file or directory); set teacher.http.client_cert to",
        ),
        ({"url": "http://host", "model": "m", "proxy": "nowhere"}, "teacher.http.proxy"),
        ({"url": "http://host", "model": "m", "metadata": False}, "feeds no input from the candidates"),
        ({"url": "http://host", "protocol": "rerank", "document": "same"}, "document: names no attribute"),
        ({"url": "http://host", "protocol": "rerank", "query": "{user}"}, "query: {user} cannot be filled in"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        HttpTeacher(ModelServer(**settings), teacher_id="h", version="", scale="logit", env={})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "user:pass" not in str(caught.value)


def test_tls_is_verified_with_our_authority_and_with_none_other(tmp_path: Path) -> None:
    ours, other = Authority("ours"), Authority("other")
    files = ours.issue(tmp_path, "server")
    with teacher_server(ssl_certfile=files["cert"], ssl_keyfile=files["key"]) as server:
        assert all_right(opened(server, ca_file=str(ours.write(tmp_path / "ca.pem"))).score(LISTS))
        for settings in ({}, {"ca_file": str(other.write(tmp_path / "other.pem"))}):
            with pytest.raises(TeacherError, match=r"its certificate is not trusted .* teacher\.http\.ca_file"):
                opened(server, **settings)
        assert all_right(opened(server, verify=False).score(LISTS))
    wrong = ours.issue(tmp_path, "elsewhere", host="127.0.0.9")
    tls = {"ssl_certfile": wrong["cert"], "ssl_keyfile": wrong["key"]}
    with teacher_server(**tls) as server, pytest.raises(TeacherError, match="its certificate is not trusted"):
        opened(server, ca_file=str(tmp_path / "ca.pem"))


def test_the_server_may_ask_who_we_are(tmp_path: Path) -> None:
    ours = Authority("ours")
    ca, files = ours.write(tmp_path / "ca.pem"), ours.issue(tmp_path, "server")
    options = {"ssl_certfile": files["cert"], "ssl_keyfile": files["key"], "ssl_ca_certs": str(ca)}
    mine = ours.issue(tmp_path, "me")
    with teacher_server(ssl_cert_reqs=ssl.CERT_REQUIRED, **options) as server:
        known = {"client_cert": str(mine["cert"]), "client_key": str(mine["key"])}
        assert all_right(opened(server, ca_file=str(ca), **known).score(LISTS))
        with pytest.raises(TeacherError):
            opened(server, ca_file=str(ca), retries=0)
        hidden = ours.issue(tmp_path, "hidden", password=b"x")
        with pytest.raises(ConfigError, match="is no certificate with its unencrypted key"):
            opened(server, ca_file=str(ca), client_cert=str(hidden["cert"]), client_key=str(hidden["key"]))


def test_the_environments_proxy_is_not_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    assert all_right(opened(server).score(LISTS))


def test_connections_are_kept_and_closed(server: Server) -> None:
    before = set(threading.enumerate())

    def own() -> set[threading.Thread]:
        """Those that began in this test: threads of earlier tests may end meanwhile."""
        return set(threading.enumerate()) - before

    teacher = opened(server)
    assert all_right(teacher.score(LISTS))
    assert own()
    teacher.close()
    del teacher
    forgotten = opened(server)
    assert all_right(forgotten.score(LISTS))
    del forgotten
    limit = time.monotonic() + 20.0
    while own() and time.monotonic() < limit:
        time.sleep(0.01)
    assert own() == set()


@pytest.mark.parametrize(("value", "seconds"), [(None, None), ("3", 3.0), ("soon", None), ("-1", None)])
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert _retry_after(value) == seconds


def test_retry_after_may_be_a_date() -> None:
    assert _retry_after("Fri, 31 Dec 2100 23:59:59 GMT") == pytest.approx(4133980799 - time.time(), abs=2)
    assert _retry_after("Fri, 31 Dec 1999 23:59:59 GMT") == 0.0
