"""How many requests a second does the endpoint answer, beside a bare server and a usual server with the same model?

Three servers answer the same `POST /v1/recommend` bodies from the same bundle. Each runs in a process of its own, in
uvicorn:

- the endpoint, with the limits that it sets on every connection
- a bare ASGI function: it decodes with msgspec, asks the recommender and encodes, but checks, counts and names nothing
- a plain FastAPI application with pydantic models

They take turns, round by round. So other work on the machine slows all three. Each figure is the median of the rounds.

    python -m benchmarks.bench_serving                     # the three sizes of the table in docs
    python -m benchmarks.bench_serving --items 2000 --connections 1 --rounds 9

The client is in this process and speaks just enough HTTP. So with two cores, the server has one and the client one.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.forms import Options
from recdistill.serve import Ranker

SIZES = (2_000, 20_000, 45_000)
NAMES = ("endpoint", "bare ASGI", "FastAPI")


def make_bundle(items: int, history: int, place: Path) -> list[bytes]:
    """Writes a bundle with random weights; returns bodies that ask it."""
    from references.students import make_requests, make_student, rich_spec

    student = make_student(items, dim=16, hidden=64, spec=rich_spec(history))
    student.export(place, golden_requests=make_requests(student, 5), popular=[("item-1", 2.0), ("item-2", 1.0)])
    import msgspec

    asked = make_requests(student, 400, longest=history)
    return [
        msgspec.json.encode({"history": i.history, "context": i.context, "time_us": i.time_us, "k": 10}) for i in asked
    ]


def endpoint_app(place: Path) -> Any:
    """Ours, as `recdistill serve` runs it."""
    from recdistill.bundle import open_bundle
    from recdistill.serve import Ranker, Recommender
    from recdistill.serve.http import create_app

    ranker = Ranker()
    ranker.swap(Recommender(open_bundle(place)))
    return create_app(ranker)


def bare_app(place: Path) -> Any:
    """The least that can stand between a socket and the recommender."""
    import msgspec

    from recdistill.bundle import open_bundle
    from recdistill.serve import Recommender
    from recdistill.serve.http import RecommendRequest

    recommender = Recommender(open_bundle(place))
    decoder, encode = msgspec.json.Decoder(RecommendRequest), msgspec.json.Encoder().encode

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        request = decoder.decode((await receive())["body"])
        body = encode(recommender.recommend([request], request.k, request.filters())[0])
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def fastapi_app(place: Path) -> Any:
    """As its tutorial would have it. `async def`, for the thread pool of `def` only slows so short an answer."""
    import fastapi
    import pydantic

    from recdistill.bundle import open_bundle
    from recdistill.records import Event
    from recdistill.serve import Filters, Recommender, Request

    class EventModel(pydantic.BaseModel):
        item: str
        time_us: int = 0
        action: str = ""

    class Body(pydantic.BaseModel):
        history: list[EventModel] = []
        context: dict[str, str | float | bool | list[str] | list[float]] = {}
        exclude: list[str] = []
        time_us: int = 0
        k: int = pydantic.Field(10, ge=1, le=1000)

    class Found(pydantic.BaseModel):
        items: list[str]
        scores: list[float]
        source: str
        bundle: str
        overlay: int
        unknown_history: int

    recommender = Recommender(open_bundle(place))
    app = fastapi.FastAPI()

    async def recommend(body: Body) -> Found:
        history = tuple(Event(event.item, event.time_us, event.action) for event in body.history)
        request = Request(history, body.context, tuple(body.exclude), body.time_us)
        seen = Filters(frozenset(event.item for event in history))
        answer = recommender.recommend([request], body.k, seen)[0]
        return Found(**{name: getattr(answer, name) for name in Found.model_fields})

    # The postponed annotations of this file would be looked up among its globals.
    recommend.__annotations__ = {"body": Body, "return": Found}
    app.post("/v1/recommend", response_model=Found)(recommend)
    return app


MAKERS = dict(zip(NAMES, (endpoint_app, bare_app, fastapi_app), strict=True))


def serve(name: str, place: Path, listener: socket.socket) -> None:
    """The process of one server."""
    import uvicorn

    from recdistill.serve.http import serve as serve_ours

    app = MAKERS[name](place)
    gc.freeze()  # as the ranker does when a bundle begins to serve; it helps all three
    if name == NAMES[0]:  # as it runs, with the limits of its connections
        serve_ours(app, Ranker(), listener, threading.Event())
        return
    options: dict[str, Any] = {"http": "httptools", "loop": "uvloop", "ws": "none", "lifespan": "off"}
    config = uvicorn.Config(app, access_log=False, log_config=None, server_header=False, proxy_headers=False, **options)
    uvicorn.Server(config).run([listener])


class Caller(asyncio.Protocol):
    """One connection that asks again as soon as it has its answer, and notes how long each took."""

    def __init__(self, requests: list[bytes], first: int, until: float, done: asyncio.Future[None]) -> None:
        self.requests, self.next, self.until, self.done = requests, first, until, done
        self.times: list[float] = []
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        self.began = time.perf_counter()
        self.transport.write(self.requests[self.next % len(self.requests)])
        self.next += 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]):
            return
        now = time.perf_counter()
        if not head.startswith(b"HTTP/1.1 200"):
            self.done.set_exception(RuntimeError(self.buffer.decode()))
            return
        self.buffer = b""
        self.times.append(now - self.began)
        if now < self.until:
            self.ask()
        else:
            self.transport.close()
            self.done.set_result(None)


async def load(port: int, requests: list[bytes], connections: int, seconds: float) -> tuple[float, list[float]]:
    """Requests a second, and the time of each."""
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    callers = []
    for number in range(connections):
        done = loop.create_future()
        caller = Caller(requests, number * 37, began + seconds, done)
        await loop.create_connection(lambda caller=caller: caller, "127.0.0.1", port)  # type: ignore[misc]
        callers.append(caller)
    await asyncio.gather(*(caller.done for caller in callers))
    times = [one for caller in callers for one in caller.times]
    return len(times) / (time.perf_counter() - began), times


def measure(items: int, options: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    import uvloop

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "bundle"
        head = "POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
        bodies = make_bundle(items, options.history, place)
        requests = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
        context = multiprocessing.get_context("spawn")
        ports, processes = {}, []
        for name in NAMES:
            listener = socket.create_server(("127.0.0.1", 0))
            ports[name] = listener.getsockname()[1]
            processes.append(context.Process(target=serve, args=(name, place, listener), daemon=True))
            processes[-1].start()
            listener.close()
        try:
            rates: dict[str, list[float]] = {name: [] for name in NAMES}
            alone: dict[str, list[float]] = {name: [] for name in NAMES}
            for name in NAMES:
                uvloop.run(load(ports[name], requests, 1, 1.0))
            for turn in range(options.rounds):
                for shift in range(len(NAMES)):
                    name = NAMES[(turn + shift) % len(NAMES)]
                    rates[name].append(uvloop.run(load(ports[name], requests, options.connections, options.seconds))[0])
                    alone[name] += uvloop.run(load(ports[name], requests, 1, options.seconds / 2))[1]
        finally:
            for process in processes:
                process.terminate()
                process.join()
    middle = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "ratio_to_bare": statistics.median(a / b for a, b in zip(rates["endpoint"], rates["bare ASGI"], strict=True)),
        "ratio_to_fastapi": statistics.median(a / b for a, b in zip(rates["endpoint"], rates["FastAPI"], strict=True)),
        "items": items,
        "requests_a_second": {name: round(middle[name], 1) for name in NAMES},
        "alone_ms": {name: [round(1000 * float(q), 3) for q in np.percentile(alone[name], [50, 99])] for name in NAMES},
    }


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, items=2_000, seconds=0.5, rounds=2)
    parser.add_argument("--items", type=int, help="items in the catalogue, instead of the table's sizes")
    parser.add_argument("--history", type=int, default=50, help="longest history; their lengths are spread evenly")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one round of one server")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    return parser


def main() -> None:
    told = options().parse_args()
    if not told.json:
        print(f"k = 10, histories up to {told.history}, {told.connections} connections; requests a second,")
        print("and p50/p99 in ms of one connection alone")
        print(f"{'x bare':>7} {'x FastAPI':>10} {'items':>8}" + "".join(f"{name:>24}" for name in NAMES))
    for items in (told.items,) if told.items else SIZES:
        row = measure(items, told)
        if told.json:
            print(json.dumps(row), flush=True)
            continue
        cells = []
        for name in NAMES:
            p50, p99 = row["alone_ms"][name]
            cells.append(f"{row['requests_a_second'][name]:>10,.0f} {p50:>6.2f}/{p99:.2f}".rjust(24))
        print(f"{row['ratio_to_bare']:>7.2f} {row['ratio_to_fastapi']:>10.2f} {items:>8,}{''.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
