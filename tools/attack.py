"""An attack on a running endpoint, from one machine, and honest clients beside it.

    python -m tools.attack http://127.0.0.1:8080 --seconds 10 --idle 2000 --slow 200 --heads 8 --bodies 8 --filters 8

It runs until the time is over, and then prints how often each kind did its harm, as JSON. `tests/e2e/test_hostile.py`
is the short form of the same attack, and `make soak` the long one: both start it as a process of its own, and ask
honestly from another one with `honest`.

- idle: connections that say nothing; one that is closed comes again.
- slow: a head or a body that comes byte by byte.
- heads: heads without an end: many lines, one long line, blank lines.
- bodies: bodies of 100 MB, with their size said before, and in chunks without it.
- filters: bodies with 10,000 names in a filter: attributes that nobody has, values, items; alone and in batches.
- pipelines: thousands of requests on one connection, whose answers nobody reads.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HUNDRED_MB = 100 << 20
NAMES = 10_000
AGAIN_S = 0.05  # between two connections of one attacker: it is one machine, and it needs processor time itself
HEAD = "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Attack:
    """Whom it attacks, until when, and what it did.

    Args:
        host: The endpoint.
        port: Its port.
        until: When it ends, by `time.monotonic`.
        done: How often each kind did its harm, and what was answered.
    """

    host: str
    port: int
    until: float
    done: Counter[str] = field(default_factory=Counter)

    async def again(self, kind: str, harm: Callable[[Streams], Coroutine[Any, Any, None]], wait_s: float) -> None:
        """Connects and does some harm, again and again."""
        while time.monotonic() < self.until:
            writer = None
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + self.until - time.monotonic()):
                    reader, writer = await asyncio.open_connection(self.host, self.port, limit=1 << 16)
                    self.done[kind] += 1
                    await harm((reader, writer))
            except TimeoutError:
                return
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                self.done[f"{kind}: cut off"] += 1
            finally:
                if writer is not None:
                    writer.transport.abort()
            await asyncio.sleep(wait_s)

    async def told(self, kind: str, reader: asyncio.StreamReader) -> None:
        """Notes the status of an answer."""
        line = await reader.readline()
        if line:
            self.done[f"{kind}: {line.split()[1].decode()}"] += 1

    async def idle(self, streams: Streams) -> None:
        """Says nothing."""
        await streams[0].read()

    async def slow_head(self, streams: Streams) -> None:
        """A head, byte by byte."""
        for byte in b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Filler: " + b"a" * 10_000:
            streams[1].write(bytes([byte]))
            await streams[1].drain()
            await asyncio.sleep(0.5)

    async def slow_body(self, streams: Streams) -> None:
        """A body, byte by byte."""
        streams[1].write((HEAD.format(path="/v1/recommend") + "Content-Length: 100000\r\n\r\n").encode())
        for _ in range(10_000):
            streams[1].write(b" ")
            await streams[1].drain()
            await asyncio.sleep(0.5)

    async def pour(self, kind: str, streams: Streams, first: bytes, again: bytes) -> None:
        """Sends bytes without an end, until nobody takes them."""
        reader, writer = streams
        answer = asyncio.create_task(self.told(kind, reader))
        try:
            writer.write(first)
            sent = 0
            while sent < HUNDRED_MB:
                writer.write(again)
                await writer.drain()
                sent += len(again)
            self.done[f"{kind}: all of it was taken"] += 1
        finally:
            answer.cancel()

    async def head(self, streams: Streams) -> None:
        """A head without an end."""
        line = random.choice([b"X-Filler: " + b"a" * 100 + b"\r\n", b"a" * 1000, b"\r\n", b"A" * 500 + b": b\r\n"])
        await self.pour("heads", streams, b"GET /livez HTTP/1.1\r\n", line * (65_536 // len(line)))

    async def body(self, streams: Streams) -> None:
        """A body of 100 MB."""
        head = HEAD.format(path=random.choice(["/v1/recommend", "/v1/rank", "/livez", "/nowhere"]))
        if random.random() < 0.5:
            await self.pour("bodies", streams, f"{head}Content-Length: {HUNDRED_MB}\r\n\r\n".encode(), b" " * 65_536)
        else:
            chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
            await self.pour("bodies", streams, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode(), chunk)

    async def filters(self, streams: Streams) -> None:
        """Bodies with 10,000 names."""
        reader, writer = streams
        for body in filter_bodies(random.randrange(1 << 40)):
            data = json.dumps(body).encode()
            writer.write((HEAD.format(path="/v1/recommend") + f"Content-Length: {len(data)}\r\n\r\n").encode() + data)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            self.done[f"filters: {head.split()[1].decode()}"] += 1
            size = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(size.partition(b":")[2]))
            if b"connection: close" in head.lower():
                return

    async def pipeline(self, streams: Streams) -> None:
        """Thousands of requests whose answers nobody reads."""
        writer = streams[1]
        one = HEAD.format(path="/v1/recommend") + "Content-Length: 11\r\n\r\n" + '{"k": 1000}'
        for _ in range(1000):
            writer.write(one.encode() * 100)
            await writer.drain()
        self.done["pipelines: all of it was taken"] += 1

    async def run(self, counts: dict[str, int]) -> None:
        """All of it at once. `counts`: how many of each kind."""
        kinds: dict[str, tuple[Callable[[Streams], Coroutine[Any, Any, None]], float]] = {
            "idle": (self.idle, 0.5),
            "slow": (self.slow_head, 0.5),
            "heads": (self.head, AGAIN_S),
            "bodies": (self.body, AGAIN_S),
            "filters": (self.filters, AGAIN_S),
            "pipelines": (self.pipeline, AGAIN_S),
        }
        work = []
        for kind, (harm, wait_s) in kinds.items():
            for number in range(counts.get(kind, 0)):
                chosen = self.slow_body if kind == "slow" and number % 2 else harm
                work.append(self.again(kind, chosen, wait_s))
        await asyncio.gather(*work)


def filter_bodies(turn: int) -> list[dict[str, Any]]:
    """Bodies whose filters hold 10,000 names, or attributes that nobody has. No two turns have the same names."""
    names = [f"n{turn}-{n}" for n in range(NAMES)]
    few = [{"where": dict.fromkeys(names[n : n + 10], "x")} for n in range(0, 1000, 10)]
    return [
        {"where": dict.fromkeys(names, "x")},
        {"where": {"genres": names}},
        {"where": {names[0]: "x"}},
        {"allow": names},
        {"exclude": names},
        {"requests": few},
        {"requests": [{"exclude": names[:500], "k": 1000} for _ in range(100)]},
        {"history": [{"item": name} for name in names[:9000]]},
    ]


@dataclass
class Honest:
    """What honest clients saw.

    Args:
        times_ms: How long each answer took.
        failed: What went wrong, one text for each request that was not answered well.
        late: How many requests could not be sent at their time, because the asking process was too slow.
    """

    times_ms: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    late: int = 0

    def quantile(self, share: float) -> float:
        """The time that this share of the answers did not exceed."""
        return sorted(self.times_ms)[min(len(self.times_ms) - 1, int(share * len(self.times_ms)))]


async def honest(
    host: str, port: int, bodies: list[bytes], *, per_s: float, seconds: float, clients: int = 8
) -> Honest:
    """Asks at an even pace, from some connections that are kept and each tenth time from a new one."""
    seen = Honest()
    kept: asyncio.Queue[Streams | None] = asyncio.Queue()
    for _ in range(clients):
        kept.put_nowait(None)

    async def ask(number: int) -> None:
        streams = None if number % 10 == 0 else await kept.get()
        try:
            for turn in (1, 2):
                began = time.perf_counter()
                if streams is None or streams[0].at_eof():
                    streams, turn = await asyncio.open_connection(host, port), 2
                try:
                    status = await _one(streams, bodies[number % len(bodies)])
                except (OSError, asyncio.IncompleteReadError) as e:
                    streams[1].close()
                    streams = None
                    if turn == 2:
                        raise
                    seen.failed.append(f"a kept connection broke: {e!r}")
                    return
                seen.times_ms.append(1000 * (time.perf_counter() - began))
                if status != 200:
                    seen.failed.append(f"status {status}")
                return
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as e:
            seen.failed.append(repr(e))
        finally:
            if number % 10 == 0:
                if streams is not None:
                    streams[1].close()
            else:
                kept.put_nowait(streams)

    loop, tasks = asyncio.get_running_loop(), []
    began = loop.time()
    for number in range(int(per_s * seconds)):
        wait = began + number / per_s - loop.time()
        if wait < -0.5:
            seen.late += 1
        await asyncio.sleep(max(0.0, wait))
        tasks.append(asyncio.create_task(ask(number)))
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    while not kept.empty():
        streams = kept.get_nowait()
        if streams is not None:
            streams[1].close()
    return seen


async def _one(streams: Streams, body: bytes) -> int:
    """Sends one request; returns the status of its answer."""
    reader, writer = streams
    writer.write((HEAD.format(path="/v1/recommend") + f"Content-Length: {len(body)}\r\n\r\n").encode() + body)
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).lower()
    size = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    await reader.readexactly(int(size.partition(b":")[2]))
    return int(head.split()[1])


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def main() -> None:
    """Attacks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, default=10.0)
    for kind, count in (("idle", 2000), ("slow", 200), ("heads", 8), ("bodies", 8), ("filters", 8), ("pipelines", 4)):
        parser.add_argument(f"--{kind}", type=int, default=count, help="how many at once (default: %(default)s)")
    parser.add_argument("--behind", action="store_true", help="take only the processor time that others leave")
    told = vars(parser.parse_args())
    address = urlsplit(told.pop("url"))
    os.nice(10)  # it stands for another machine, which would not take this one's processor time
    if told.pop("behind"):
        _stand_behind()
    _allow_files(sum(int(count) for kind, count in told.items() if kind != "seconds") + 100)
    attack = Attack(address.hostname or "127.0.0.1", address.port or 80, time.monotonic() + told.pop("seconds"))
    asyncio.run(attack.run(told))
    print(json.dumps(dict(sorted(attack.done.items()))))


def _stand_behind() -> None:
    """Takes only the processor time that others leave.

    Linux first shares the time among sessions, and only then, by `nice`, among the processes of each. So the attack
    gets a session of its own, and that session the last place.
    """
    with contextlib.suppress(OSError):
        os.setsid()
        Path("/proc/self/autogroup").write_text("19", encoding="ascii")


def _allow_files(wanted: int) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


if __name__ == "__main__":
    main()
