"""The benchmark of rollbacks: it sees a ranker that stands still, counts what is wrong, and in short nobody notices."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest

from benchmarks import bench_rollback
from benchmarks.bench_rollback import Answer, _found, _Ranker

BODY = b'{"bundle":"aa"}'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nrecdistill-version: 1\r\nrecdistill-bundle: aa\r\n\r\n" % len(BODY)
PER_S, STILL_S = 100, 0.5


async def ask_one_that_stands_still() -> _Ranker:
    """It answers at once, but from .2 s to .7 s it answers nobody."""
    stood = False

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal stood
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
                now = asyncio.get_running_loop().time() - began
                await asyncio.sleep(max(0.0, 0.2 + STILL_S - now) if now > 0.2 else 0.0)
                stood |= now > 0.2
                writer.write(HEAD + BODY)
        except (EOFError, OSError):
            writer.close()

    began = asyncio.get_running_loop().time()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        ranker = _Ranker(0, server.sockets[0].getsockname()[1])
        await ranker.ask(PER_S, 1.0, 0.0)
    assert stood
    return ranker


def test_requests_go_on_while_a_ranker_stands_still() -> None:
    """Who waits for each answer would see one slow request for each connection, not those that came in the pause."""
    ranker = asyncio.run(ask_one_that_stands_still())
    assert (ranker.asked, len(ranker.answers), ranker.failed) == (PER_S, PER_S, [])
    took_s = sorted(one.at_s - one.due_s for one in ranker.answers)
    # Half a second stands still: 50 requests are due in it, and wait from 0 to .5 s. 40 of them wait longer than .1 s.
    assert sum(each > 0.1 for each in took_s) >= 35
    assert took_s[-1] >= 0.45


def answer(version: str, at_s: float, *, header: str = "", status: int = 200) -> Answer:
    body = {"1": "aa", "2": "bb"}[version]
    return Answer(
        due_s=at_s - 0.01, at_s=at_s, ranker=0, status=status, version=version, header=header or body, body=body
    )


def test_what_is_wrong_is_counted() -> None:
    good, still = _Ranker(0, 0), _Ranker(1, 0)
    good.answers = [answer("2", 9.0), answer("2", 10.25), answer("1", 10.5), answer("1", 10.6, status=503)]
    still.answers = [answer("2", 9.5), answer("2", 10.75), answer("2", 11.0, header="aa")]
    good.asked, still.asked, still.failed = 4, 4, ["TimeoutError()"]
    found = _found([good, still], {"1": "aa", "2": "bb"}, moved_s=10.0)
    assert (found.asked, found.answers, found.failed, found.mixed) == (8, 7, 2, 1)
    assert found.waits_s == [0.25, math.inf], "the second one never answered with the version before"
    assert found.took_s == pytest.approx([0.01] * 7)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.mlflow
def test_a_rollback_fails_no_request_mixes_none_and_is_quick(tmp_path: Path) -> None:
    [found] = bench_rollback.measure(tmp_path, rankers=2, per_s=60, items=300, rounds=1, with_log=True)
    assert found.asked == len(found.took_s) == 360
    assert (found.failed, found.mixed) == (0, 0)
    assert max(found.waits_s) < 1.5, "without the message it would be two seconds; the full form holds it to one"
