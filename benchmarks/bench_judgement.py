"""How long does one judgement last at a million items, with a teacher behind HTTP, and does the age of the log matter?

A student of random weights, a champion with other weights over the same items, and their counts of popularity and
ItemKNN are made first, in a process of their own; so is a log with held-out lists. The teacher is a process on loopback
that sleeps 1 ms for each candidate and serves 16 requests at once. Then a process of its own judges the student, as the
promoter does: it opens both bundles, asks the teacher about pools, tries the device file, and draws all intervals.

For each number of `--ages` the log holds so many examples that the student has learnt from. The table has a judgement
for each: seconds, seconds of processor time of the judging process, its largest resident memory, the scores that the
teacher was asked for, and the messages read from `held-out` and from `examples`.

    python -m benchmarks.bench_judgement
    python -m benchmarks.bench_judgement --items 100000 --lists 2000 --ages 0,50000
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from benchmarks.forms import Options
from recdistill.bundle import bundle_folder
from recdistill.bundle.manifest import make_manifest, write_manifest
from recdistill.config import HttpTeacherSettings, LogSettings, TeacherSettings
from recdistill.linear import TALLY, Tally
from recdistill.records import Candidate, Event, Example, Impression, Ranking, encode
from recdistill.stream import HELD_OUT, Lanes, Log, open_log, standard_topics
from tools import processes

SLEEP_S = 0.001
"""Of the teacher, for each candidate."""

AT_ONCE = 16
NOW_US = 1_700_000_000_000_000
SHOWN, EVENTS = 20, 20


class Took(NamedTuple):
    """What one judgement took.

    Args:
        seconds: By the clock.
        processor_s: Of the judging process.
        memory_mb: Its largest resident memory.
        read: Messages read, by topic.
        lines: NDCG@10 of each contender.
        notes: What the judgement says beside its figures.
        parts: Seconds of each contender.
    """

    seconds: float
    processor_s: float
    memory_mb: float
    read: dict[str, int]
    lines: dict[str, float]
    notes: list[str]
    parts: dict[str, float]


def main() -> None:
    """Measures and prints."""
    args = options().parse_args()
    ages = [int(one) for one in args.ages.split(",")]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        apart(make, folder, args.items, args.dim)
        for age in ages:
            apart(make_log, folder, args.items, args.lists, age)
        print(f"{args.items:,} items, {args.lists:,} held-out lists, a teacher of {SLEEP_S * 1000:g} ms a candidate")
        print(f"{'examples':>12}{'seconds':>10}{'processor s':>13}{'memory MB':>11}{'scores':>12}{'at once':>9}  read")
        for age in ages:
            took, asked, at_once = measure(folder, age)
            print(
                f"{age:>12,}{took.seconds:>10.0f}{took.processor_s:>13.0f}{took.memory_mb:>11,.0f}{asked:>12,}"
                f"{at_once:>9}  {took.read}",
                flush=True,
            )
            print(f"{'':12}  {' '.join(f'{name} {value:.4f}' for name, value in took.lines.items())}")
            print(f"{'':12}  seconds: {' '.join(f'{name} {value:.0f}' for name, value in took.parts.items())}")
            for note in took.notes:
                print(f"{'':12}  {note}")


def measure(folder: Path, age: int, *, teacher_scores: int = 20_000_000) -> tuple[Took, int, int]:
    """One judgement; how many scores the teacher was asked for, and how many requests it had at once."""
    [port] = processes.free_ports(1)
    context = multiprocessing.get_context("spawn")
    asked = context.Array("q", [0, 0])
    teacher = context.Process(target=serve_teacher, args=(port, asked), daemon=True)
    teacher.start()
    try:
        return apart(judge, folder, age, port, teacher_scores), asked[0], asked[1]
    finally:
        teacher.terminate()
        teacher.join()


def options() -> Options:
    """The options."""
    found = Options(__doc__, items=20_000, lists=200, ages="0,1000", dim=16)
    found.add_argument("--items", type=int, default=1_000_000)
    found.add_argument("--dim", type=int, default=32)
    found.add_argument("--lists", type=int, default=10_000, help="held-out lists")
    found.add_argument("--ages", default="0,100000", help="examples in the log behind the student, one number each")
    return found


def apart(work: Any, *args: Any) -> Any:
    """Calls a function in a process of its own, and gives what it returns."""
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=_apart, args=(queue, work, args))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{work.__name__} ended with code {process.exitcode}")
    return queue.get()


def _apart(queue: Any, work: Any, args: Sequence[Any]) -> None:
    queue.put(work(*args))


# What is judged


def make(folder: Path, items: int, dim: int) -> None:
    """Makes the student and the champion, with their counts."""
    from references.students import make_student, make_weights

    random, tally = np.random.default_rng(7), Tally()
    for _ in range(100):
        made = (example("", items, random, NOW_US) for _ in range(500))
        tally.learn([([e.item for e in one.ranking.impression.history], liked(one)) for one in made])
    student = make_student(items, dim=dim, hidden=64)
    other = make_weights(student.spec, student.vocabulary, dim, 64, np.random.default_rng(1))
    for name, one in (("student", student), ("champion", student._replace(weights=other))):
        one.export(
            folder / name,
            base_position=0,
            popular=[(f"item-{n}", 1.0) for n in range(1000) if n % 9 != 4],
            beside={TALLY: tally.data()},
        )


def make_log(folder: Path, items: int, lists: int, age: int) -> None:
    """Makes a log of one age, and both bundles once more, as if they had learnt from all of its examples."""
    log = open_log(LogSettings(path=str(folder / f"log-{age}.sqlite")))
    log.create_topics(standard_topics())
    random = np.random.default_rng(8)  # other lists than those that were counted
    with closing(log), closing(log.stage("bench")) as stage:
        for topic, count in ((HELD_OUT.topic, lists), ("examples", age)):
            for begin in range(0, count, 5_000):
                with stage.transaction() as transaction:
                    for n in range(begin, min(count, begin + 5_000)):
                        one = example(f"{topic}-{n}", items, random, NOW_US + n)
                        transaction.send(topic, encode(one), partition=0)
        lanes = Lanes(log, dead_letters=lambda *_: None)
        end = lanes.end_state()
        lanes.close()
    for name in ("student", "champion"):
        to, bundle = folder / f"{name}-{age}", bundle_folder(folder / name)
        to.mkdir()
        for file in bundle.manifest.files:
            os.link(folder / name / file, to / file)
        content, provenance = bundle.manifest.content, {**bundle.manifest.provenance, "positions": {"lanes": end}}
        made = make_manifest(content, provenance)
        (to / "manifest.json").write_bytes(write_manifest(msgspec.structs.replace(made, beside=bundle.manifest.beside)))


def example(name: str, items: int, random: np.random.Generator, time_us: int) -> Example:
    """A list with one liked item; a few items are in very many lists."""
    chosen = (items * random.random(SHOWN + EVENTS) ** 3).astype(int)
    ids = [f"item-{n - (n % 9 == 4)}" for n in chosen.tolist()]
    shown = tuple(Candidate(item) for item in dict.fromkeys(ids[:SHOWN]))
    history = tuple(Event(item, time_us - 1000 + n, "click") for n, item in enumerate(ids[SHOWN:]))
    asked = Impression(name or "x", time_us, f"user-{int(random.integers(1 << 30))}", history, {}, shown)
    scores = tuple(float(score) for score in random.random(len(shown)))
    ranking = Ranking(asked, "reranker", "1", "logit", scores, (True,) * len(shown))
    return Example(ranking, (1.0,) + (0.0,) * (len(shown) - 1), "closed")


def liked(one: Example) -> list[str]:
    """What was liked in a list."""
    candidates = one.ranking.impression.candidates
    return [candidate.item for candidate, label in zip(candidates, one.labels, strict=True) if label > 0]


# The teacher


def serve_teacher(port: int, asked: Any) -> None:
    """The process of the teacher: the rerank API. `asked` gets the documents scored, and the most requests at once."""
    import uvicorn

    free = asyncio.Semaphore(AT_ONCE)
    working = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal working
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        documents = json.loads(body)["documents"]
        async with free:
            working += 1
            asked[0] += len(documents)
            asked[1] = max(asked[1], working)
            await asyncio.sleep(SLEEP_S * len(documents))
            working -= 1
        results = [{"index": n, "relevance_score": hash(text) % 1000 / 1000} for n, text in enumerate(documents)]
        head = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": json.dumps({"results": results}).encode()})

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


# The judgement


def judge(folder: Path, age: int, port: int, teacher_scores: int) -> Took:
    """The judging process."""
    from recdistill import release
    from recdistill.bundle import open_bundle
    from recdistill.loops.teachers import open_teacher

    teacher = open_teacher(
        TeacherSettings(
            kind="http",
            id="reranker",
            http=HttpTeacherSettings(
                protocol="rerank",
                url=f"http://127.0.0.1:{port}/rerank",
                document="{id}",
                concurrency=AT_ONCE,
                timeout_s=300.0,  # the machine may be busy; what is measured is not its answer
            ),
        )
    )
    _wait(port)
    read: Counter[str] = Counter()
    log: Any = _Counted(open_log(LogSettings(path=str(folder / f"log-{age}.sqlite"))), read)
    begun, worked = time.perf_counter(), time.process_time()
    found = release.judge(
        log,
        open_bundle(folder / f"student-{age}"),
        10_000,
        teacher=teacher,
        champion=open_bundle(folder / f"champion-{age}"),
        learnt=100_000,
        protocol="catalogue",
        teacher_scores=teacher_scores,
    )
    took_s, worked_s = time.perf_counter() - begun, time.process_time() - worked
    log.close()
    return Took(
        seconds=took_s,
        processor_s=worked_s,
        memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        read=dict(read),
        lines={one.name: one.metrics["ndcg@10"].mean for one in found.contenders},
        notes=[*found.notes, found.retention_on],
        parts=dict(found.seconds),
    )


class _Counted:
    """A log that counts the messages which are read from it, by topic."""

    def __init__(self, log: Log, read: Counter[str]) -> None:
        self._log, self._read = log, read

    def source(self, *args: Any, **options: Any) -> Any:
        return _CountedSource(self._log.source(*args, **options), self._read)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


class _CountedSource:
    def __init__(self, source: Any, read: Counter[str]) -> None:
        self._source, self._read = source, read

    def read(self, *args: Any) -> Any:
        return self._noted(self._source.read(*args))

    def read_from(self, *args: Any) -> Any:
        return self._noted(self._source.read_from(*args))

    def _noted(self, messages: Any) -> Any:
        self._read.update(message.tp.topic for message in messages)
        return messages

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


def _wait(port: int) -> None:
    import socket

    ends_s = time.monotonic() + 60
    while time.monotonic() < ends_s:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the teacher's process does not listen")


if __name__ == "__main__":
    main()
