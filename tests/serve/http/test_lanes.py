"""The queue has an end, light work passes heavy work, and nothing waits for ever."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from recdistill.serve.http import Problem
from recdistill.serve.http.lanes import HEAVY_THREADS, Lanes


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Lets heavy work end."""
    gate = threading.Event()
    yield gate
    gate.set()


async def fill(lanes: Lanes, gate: threading.Event, more: int) -> list[asyncio.Task[bool]]:
    """Every thread for heavy work has some, and `more` wait."""
    began = threading.Semaphore(0)

    def work() -> bool:
        began.release()
        return gate.wait(20)

    tasks = []
    for _ in range(HEAVY_THREADS):
        tasks.append(asyncio.create_task(lanes.run(work, light=False)))
        while not began.acquire(blocking=False):
            await asyncio.sleep(0.001)
    tasks += [asyncio.create_task(lanes.run(work, light=False)) for _ in range(more)]
    while lanes.waiting < more:
        await asyncio.sleep(0.001)
    return tasks


def test_a_full_queue_refuses_with_a_time_to_ask_again(gate: threading.Event) -> None:
    async def ask() -> None:
        lanes = Lanes(queue=3, queue_s=20.0)
        tasks = await fill(lanes, gate, 3)
        with pytest.raises(Problem) as refused:
            await lanes.run(lambda: 1, light=False)
        assert refused.value.status == 429
        [(name, after)] = refused.value.headers
        assert name == b"retry-after"
        assert 1 <= int(after) <= 60
        began = time.monotonic()
        assert await lanes.run(lambda: "light", light=True) == "light"
        assert time.monotonic() - began < 15, "light work does not wait for heavy work"
        gate.set()
        assert await asyncio.gather(*tasks) == [True] * len(tasks)
        assert await lanes.run(lambda: 1, light=False) == 1  # there is room again
        lanes.close()

    asyncio.run(ask())


def test_work_that_waits_too_long_is_refused(gate: threading.Event) -> None:
    async def ask() -> None:
        lanes = Lanes(queue=3, queue_s=0.2)
        tasks = await fill(lanes, gate, 0)
        done = []
        with pytest.raises(Problem) as refused:
            await lanes.run(lambda: done.append(1), light=False)
        assert refused.value.status == 503
        assert lanes.waiting == 0
        gate.set()
        await asyncio.gather(*tasks)  # what a thread had begun is finished, however long it takes
        assert done == []
        lanes.close()

    asyncio.run(ask())


def test_the_end_refuses_what_waits(gate: threading.Event) -> None:
    async def ask() -> None:
        lanes = Lanes(queue=3, queue_s=20.0)
        tasks = await fill(lanes, gate, 2)
        lanes.close()
        gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [each for each in results if each is True] == [True] * HEAVY_THREADS
        assert [each.status for each in results if isinstance(each, Problem)] == [503, 503]
        with pytest.raises(Problem, match="stopping"):
            await lanes.run(lambda: 1, light=True)

    asyncio.run(ask())


def test_an_error_comes_to_who_asked_and_ends_no_thread() -> None:
    async def ask() -> None:
        lanes = Lanes(queue=3, queue_s=5.0)
        for _ in range(3 * (1 + HEAVY_THREADS)):
            with pytest.raises(KeyError):
                await lanes.run(lambda: {}["x"], light=False)
            with pytest.raises(SystemExit):
                await lanes.run(lambda: exit(1), light=True)
        assert await lanes.run(lambda: 1, light=False) == 1
        lanes.close()

    asyncio.run(ask())


def test_heavy_work_lets_the_event_loop_go_first() -> None:
    async def ask() -> None:
        lanes = Lanes(queue=3, queue_s=20.0)
        parts: list[int] = []

        def work() -> str:
            for part in range(200):
                parts.append(part)
                lanes.give_way()
            return "done"

        asked = asyncio.create_task(lanes.run(work, light=False))
        while not parts:
            await asyncio.sleep(0)
        before = len(parts)
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            pass  # the loop has something to do
        assert len(parts) <= before + 1 < 200
        assert await asked == "done"
        assert len(parts) == 200
        lanes.close()

    asyncio.run(ask())


def test_giving_way_elsewhere_takes_no_time() -> None:
    async def ask() -> None:
        lanes = Lanes(queue=3, queue_s=20.0)
        began = time.thread_time()
        lanes.give_way()  # this is the loop's own thread: it would wait for itself
        await lanes.run(lanes.give_way, light=True)
        assert time.thread_time() - began < 0.5
        lanes.close()
        stopped = asyncio.new_event_loop()
        stopped.close()
        lanes._here.loop = stopped
        lanes.give_way()

    asyncio.run(ask())


class Large:
    """An answer."""


def test_a_thread_that_waits_holds_on_to_no_answer() -> None:
    async def ask() -> None:
        lanes = Lanes(queue=3, queue_s=20.0)
        answer = await lanes.run(Large, light=False)
        seen = weakref.ref(answer)
        del answer
        async with asyncio.timeout(20):
            while seen() is not None:
                await asyncio.sleep(0.001)
        lanes.close()

    asyncio.run(ask())
