"""The application as a whole: swaps under load, and the island that it stands on."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from support.bodies import body_of
from support.http_server import serving
from support.waiting import wait_for

from recdistill.bundle import Bundle
from recdistill.serve import Filters, Ranker, Recommender, Request
from references.students import make_requests, make_student

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_swaps_under_load_lose_nothing_and_mix_nothing(tmp_path: Path) -> None:
    recommenders = {}
    for seed in (1, 2):
        student = make_student(400, seed=seed)
        made = student.export(tmp_path / str(seed), golden_requests=[], popular=[("item-1", 1.0)])
        recommenders[made.content_hash] = Recommender(made)
    hashes = list(recommenders)
    impressions = make_requests(make_student(400, seed=1), 30)
    bodies = [body_of(impression, k=10) for impression in impressions]
    expected = {
        name: [
            one.recommend(
                [Request(i.history, i.context, (), i.time_us)], 10, Filters(frozenset(e.item for e in i.history))
            )[0]
            for i in impressions
        ]
        for name, one in recommenders.items()
    }
    ranker = Ranker()
    ranker.swap(recommenders[hashes[0]], "0")
    answers: list[tuple[int, httpx.Response]] = []
    stop = threading.Event()

    async def load(address: str) -> None:
        limits = httpx.Limits(max_connections=16)
        async with httpx.AsyncClient(base_url=address, limits=limits, timeout=30) as client:

            async def one(worker: int) -> None:
                n = worker
                while not stop.is_set():
                    which = n % len(bodies)
                    if n % 40 == 39:
                        answer = await client.post("/v1/recommend", json={"requests": bodies})
                    else:
                        answer = await client.post("/v1/recommend", json=bodies[which])
                    answers.append((which, answer))
                    n += 1

            await asyncio.gather(*(one(worker) for worker in range(12)))

    def answered(more: int) -> None:
        wanted = len(answers) + more
        wait_for(lambda: len(answers) >= wanted)

    with serving(ranker) as address:
        worker = threading.Thread(target=functools.partial(asyncio.run, load(address)))
        worker.start()
        for n in range(1, 21):
            answered(5)
            ranker.swap(recommenders[hashes[n % 2]], str(n))
        answered(5)
        stop.set()
        worker.join(30)
    assert len(answers) >= 100
    assert {answer.status_code for _, answer in answers} == {200}
    assert {answer.headers["recdistill-bundle"] for _, answer in answers} == set(hashes)
    for which, answer in answers:
        name = answer.headers["recdistill-bundle"]
        assert int(answer.headers["recdistill-version"]) % 2 == hashes.index(name)
        found = answer.json()
        for row, one in enumerate(found.get("answers", [found])):
            wanted = expected[name][row if "answers" in found else which]
            assert one["bundle"] == name
            assert one["scores"] == pytest.approx(wanted.scores, abs=1e-4)
            assert set(one["items"]) == set(wanted.items)


@pytest.mark.slow
def test_it_serves_without_torch(bundle: Bundle) -> None:
    code = f"""
import sys, threading, urllib.request
from pathlib import Path
from recdistill.config import LogSettings, RankSettings, Settings
from recdistill.loops.endpoint import serve
stop, answers = threading.Event(), []
def started(host, port):
    def ask():
        request = urllib.request.Request(f"http://{{host}}:{{port}}/v1/recommend", b'{{"k": 4}}',
                                         {{"Content-Type": "application/json"}})
        answers.append(urllib.request.urlopen(request, timeout=20).read())
        stop.set()
    threading.Thread(target=ask).start()
settings = Settings(rank=RankSettings(port=0), log=LogSettings(path="no/such/log.sqlite"))
serve(settings, stop, bundle=Path({str(bundle.path)!r}), started=started)
assert answers[0].count(b"item-") == 4, answers
print(*[name for name in sys.modules if name.split(".")[0] in ("torch", "torchrec", "fbgemm_gpu", "onnx", "pandas")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
