"""How soon is a change of the catalogue in the answers, while the endpoint answers?

`recdistill serve` runs in a process of its own, on the embedded log, with a bundle of `--items` items. One thread
writes `--changes` item records a second: half of them change an item, a quarter brings a new one, and a quarter
withdraws one. `--clients` others ask for `--requests` answers a second. Each answer says how far its catalogue has read
(`overlay`). So a change is served with the first answer that has read it. Its time counts from just before it was
written.

No answer may hold an item that was withdrawn before the place up to which its catalogue has read. The answers that
hold one are counted.

    python -m benchmarks.bench_live_catalogue
    python -m benchmarks.bench_live_catalogue --seconds 600     # ten minutes, more than 100,000 answers
"""

from __future__ import annotations

import multiprocessing
import tempfile
import threading
import time
from bisect import bisect_right
from multiprocessing.synchronize import Event as Flag
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import numpy as np

from benchmarks.forms import Options
from recdistill.config import LogSettings, RankSettings, Settings
from recdistill.records import Item, encode, key_of
from recdistill.stream import ITEMS, Log, open_log, standard_topics

TICK_S = 0.1


class Written(NamedTuple):
    """Some records: just before they were written, the place behind them, and what they withdrew."""

    at_s: float
    end: int
    withdrawn: frozenset[str]


class Answered(NamedTuple):
    """An answer: when it came, how far its catalogue had read, what it held, and how long it took."""

    at_s: float
    overlay: int
    items: tuple[str, ...]
    took_s: float


class Found(NamedTuple):
    """What was measured.

    Args:
        waits_s: Of each change that was served, from just before it was written to the first answer with it.
        unserved: Changes that no answer had read.
        answers: How many answers.
        failed: How many requests failed.
        gone: Answers that held a withdrawn item.
        took_s: Seconds of each answer.
        withdrawn: How many items were withdrawn.
    """

    waits_s: list[float]
    unserved: int
    answers: int
    failed: int
    gone: int
    took_s: list[float]
    withdrawn: int


def serving(settings: Settings, bundle: Path, port: Any, stop: Flag) -> None:
    """The process of the endpoint."""
    from recdistill.loops import endpoint

    ended = threading.Event()
    threading.Thread(target=lambda: (stop.wait(), ended.set()), daemon=True).start()
    endpoint.serve(settings, ended, bundle=bundle, started=lambda _, at: port.put(at))


def write(log: Log, items: list[Item], rate: int, until_s: float, out: list[Written]) -> None:
    """Writes changes at a rate, until a time."""
    random, stage, source = np.random.default_rng(0), log.stage("shop"), log.source([ITEMS])
    live, version, fresh, begun = [item.id for item in items], 1, 0, time.monotonic()
    done = 0
    by_name = {item.id: item for item in items}
    while (now := time.monotonic()) < until_s:
        records: list[Item] = []
        withdrawn = set()
        for n in range(done, int((now - begun) * rate)):
            version += 1
            place = int(random.integers(len(live)))
            model = by_name[live[place]]
            if n % 4 == 0:
                fresh += 1
                model = msgspec.structs.replace(model, id=f"fresh-{fresh}")
                by_name[model.id] = model
                live.append(model.id)
            elif n % 4 == 1:
                live[place] = live[-1]
                live.pop()
                withdrawn.add(model.id)
            else:
                other = by_name[live[int(random.integers(len(live)))]]
                model = by_name[model.id] = msgspec.structs.replace(model, attributes=other.attributes)
            records.append(msgspec.structs.replace(model, version=version, withdrawn=model.id in withdrawn))
        done += len(records)
        if records:
            at_s = time.monotonic()
            with stage.transaction() as transaction:
                for record in records:
                    transaction.send(ITEMS.topic, encode(record), key=key_of(record), partition=0)
            end = source.bounds(ITEMS)[1]
            out += [Written(at_s, end, frozenset())] * (len(records) - 1) + [Written(at_s, end, frozenset(withdrawn))]
        time.sleep(max(0.0, now + TICK_S - time.monotonic()))
    source.close()
    stage.close()


def ask(address: str, bodies: list[bytes], rate: float, until_s: float, out: list[Answered], failed: list[str]) -> None:
    """Asks at a rate, until a time. A request that is late is asked at once: none is left out."""
    begun, number = time.monotonic(), 0
    with httpx.Client(base_url=address, timeout=30, headers={"content-type": "application/json"}) as client:
        while (now := time.monotonic()) < until_s:
            due = begun + number / rate
            if now < due:
                time.sleep(due - now)
            at_s = time.monotonic()
            answer = client.post("/v1/recommend", content=bodies[number % len(bodies)])
            number += 1
            if answer.status_code != 200:
                failed.append(answer.text)
                continue
            body, came_s = msgspec.json.decode(answer.content), time.monotonic()
            out.append(Answered(came_s, body["overlay"], tuple(body["items"]), came_s - at_s))


def measured(*, items: int, changes: int, requests: int, clients: int, seconds: float) -> Found:
    """Serves, changes and asks for some seconds, and a few more until the last change is served."""
    from references.students import make_requests, make_student, rich_spec

    with tempfile.TemporaryDirectory() as folder:
        student = make_student(items, dim=16, hidden=64, spec=rich_spec(8))
        place = Path(folder) / "bundle"
        student.export(place, golden_requests=make_requests(student, 5), base_position=0)
        asked = make_requests(student, 300, longest=8)
        bodies = [
            msgspec.json.encode({"history": i.history, "context": i.context, "time_us": i.time_us, "k": 20})
            for i in asked
        ]
        known = [student.catalogue.item(slot) for slot in range(len(student.catalogue))]
        known = [item for item in known if not item.withdrawn]
        log_settings = LogSettings(path=str(Path(folder) / "log.sqlite"))
        settings = Settings(log=log_settings, rank=RankSettings(port=0, drain_s=0, items_from="beginning"))
        log = open_log(log_settings)
        log.create_topics(standard_topics(1, 1))
        context = multiprocessing.get_context("spawn")
        port, stop = context.Queue(), context.Event()
        process = context.Process(target=serving, args=(settings, place, port, stop), daemon=True)
        process.start()
        try:
            address = f"http://127.0.0.1:{port.get(timeout=300)}"
            written: list[Written] = []
            answers: list[Answered] = []
            failed: list[str] = []
            end_s = time.monotonic() + seconds
            writer = threading.Thread(target=write, args=(log, known, changes, end_s, written))
            writer.start()
            asking = (address, bodies, requests / clients, end_s + 3, answers, failed)
            askers = [threading.Thread(target=ask, args=asking) for _ in range(clients)]
            for thread in askers:
                thread.start()
            for thread in (*askers, writer):
                thread.join()
        finally:
            stop.set()
            process.join(30)
            log.close()
    if failed:
        print(f"the first request that failed: {failed[0]}")
    return evaluated(written, answers, len(failed))


def evaluated(written: list[Written], answers: list[Answered], failed: int) -> Found:
    """Lays the answers beside the changes."""
    seen, highest = [], -1
    for one in sorted(answers):  # the first answer for each new place
        if one.overlay > highest:
            highest = one.overlay
            seen.append((one.overlay, one.at_s))
    places = [overlay for overlay, _ in seen]
    waits, unserved = [], 0
    for change in written:
        at = bisect_right(places, change.end - 1)
        if at == len(seen):
            unserved += 1
        else:
            waits.append(max(0.0, seen[at][1] - change.at_s))
    gone_at = {item: change.end for change in written for item in change.withdrawn}
    gone = sum(any(gone_at.get(item, 1 << 62) <= one.overlay for item in one.items) for one in answers)
    return Found(waits, unserved, len(answers), failed, gone, [one.took_s for one in answers], len(gone_at))


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, seconds=15.0, items=20_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--changes", type=int, default=500, help="a second")
    parser.add_argument("--requests", type=int, default=200, help="a second, of all clients")
    parser.add_argument("--clients", type=int, default=4, help="that ask at the same time")
    parser.add_argument("--seconds", type=float, default=60.0)
    return parser


def main() -> None:
    args = options().parse_args()
    found = measured(
        items=args.items, changes=args.changes, requests=args.requests, clients=args.clients, seconds=args.seconds
    )
    waits, took = np.percentile(found.waits_s, [50, 99, 100]), np.percentile(found.took_s, [50, 99])
    changes, wanted = len(found.waits_s) + found.unserved, args.requests * (args.seconds + 3)
    share = found.answers / wanted
    print(f"{args.items:,} items; {changes:,} changes; {found.answers:,} answers, {share:.0%} as asked")
    print(f"change to served: p50 {waits[0]:.2f} s, p99 {waits[1]:.2f} s, longest {waits[2]:.2f} s")
    print(f"answers: p50 {took[0] * 1e3:.1f} ms, p99 {took[1] * 1e3:.1f} ms; {found.failed} failed")
    print(f"{found.withdrawn:,} items withdrawn; {found.gone} answers with one; {found.unserved} changes never served")


if __name__ == "__main__":
    main()
