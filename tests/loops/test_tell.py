"""What is told to a web address: real HTTP, real failures, and nothing that is secret."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from support.hook import Hook
from support.waiting import wait_for

from recdistill.loops.tell import MOST, Teller


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook(200)
    yield hook
    hook.close()


def told(url: str, *messages: tuple[str, dict[str, object]], tries: int = 3, timeout_s: float = 5.0) -> Counter[str]:
    counts = Counter[str]()
    teller = Teller(url, ["refused"], timeout_s=timeout_s, tries=tries, counts=counts, pause_s=0.01)
    for kind, facts in messages:
        teller(kind, facts)
    teller.close()
    return counts


REFUSED = ("refused", {"version": "4", "reasons": ["retention .5 is below .95"]})


def test_a_verdict_is_one_json_message(hook: Hook) -> None:
    counts = told(hook.url, REFUSED, ("promoted", {"version": "5"}))
    [message] = hook.got  # nobody asked for `promoted`
    assert message.pop("at")
    assert message == {"kind": "refused", "version": "4", "reasons": ["retention .5 is below .95"]}
    assert hook.kinds == ["application/json"]
    assert counts == {"told": 1}


@pytest.mark.parametrize(("statuses", "sent", "counted"), [((500, 503, 200), 3, "told"), ((429, 204), 2, "told")])
def test_it_is_sent_again_until_it_is_taken(statuses: tuple[int, ...], sent: int, counted: str) -> None:
    hook = Hook(*statuses)
    assert told(hook.url, REFUSED) == {counted: 1}
    assert len(hook.got) == sent
    hook.close()


@pytest.mark.parametrize(("statuses", "sent"), [((400,), 1), ((404,), 1), ((302, 200), 1), ((500,), 3)])
def test_what_is_not_taken_is_counted_and_said_without_the_address(
    statuses: tuple[int, ...], sent: int, caplog: pytest.LogCaptureFixture
) -> None:
    hook = Hook(*statuses)
    assert told(hook.url, REFUSED) == {"untold": 1}
    assert len(hook.got) == sent
    [line] = [record.getMessage() for record in caplog.records]
    assert line == f"{hook.url.partition('/services')[0]} was not told: it answered {statuses[0]}; see tell.webhook"
    hook.close()


def test_nobody_there(caplog: pytest.LogCaptureFixture) -> None:
    hook = Hook(200)
    hook.close()
    assert told(hook.url, REFUSED) == {"untold": 1}
    assert "refused" in caplog.text.lower()
    assert "SECRET" not in caplog.text


def test_a_message_has_no_credentials_and_a_bound(hook: Hook) -> None:
    why = "https://me:hunter2@mlflow.example/x: cannot be reached"
    told(hook.url, ("refused", {"reasons": [why, "x" * 100_000], "deep": {"uri": why}}))
    text = json.dumps(hook.got)
    assert "hunter2" not in text
    assert "mlflow.example" in text
    assert len(text) < 10_000


def test_a_server_that_hangs_delays_nothing_and_the_oldest_messages_go(caplog: pytest.LogCaptureFixture) -> None:
    goes_on = threading.Event()
    hook = Hook(200, hangs=goes_on)
    counts = Counter[str]()
    teller = Teller(hook.url, ["refused"], timeout_s=30, tries=1, counts=counts)
    began = time.process_time()
    for n in range(3 * MOST):
        teller("refused", {"version": str(n)})
    assert time.process_time() - began < 5
    wait_for(lambda: len(hook.got) == 1)
    assert counts["untold"] >= 2 * MOST - 1
    goes_on.set()
    teller.close()
    assert hook.got[-1]["version"] == str(3 * MOST - 1)
    assert counts["told"] + counts["untold"] == 3 * MOST
    assert caplog.records[0].levelno == logging.WARNING
    hook.close()


def test_what_is_no_web_server_is_told_nothing_and_the_thread_lives_on(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            for _ in range(2):
                client, _ = server.accept()
                client.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
                client.recv(10_000)
                client.close()

        threading.Thread(target=greet, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        assert told(url, REFUSED, REFUSED, tries=1) == {"untold": 2}
    assert "was not told: it does not answer as a web server does (BadStatusLine)" in caplog.text
