"""What takes long holds nobody up."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from support.http_server import serving
from support.recommenders import Slow

from recdistill.bundle import Bundle
from recdistill.serve import Ranker, Recommender
from recdistill.serve.http import answering


@pytest.mark.slow
def test_long_work_holds_nobody_up(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "IN_LOOP", 0)
    slow = Slow(Recommender(bundle), 3.0)
    ranker = Ranker()
    ranker.swap(slow)  # type: ignore[arg-type]
    with serving(ranker) as address, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.post, f"{address}/v1/recommend", json={"requests": [{}, {}]})
        assert slow.began.wait(60)
        assert httpx.get(f"{address}/livez").status_code == 200
        assert not asked.done(), "the answer came while the other one was on its way"
        assert asked.result().status_code == 200
