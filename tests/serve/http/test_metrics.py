"""What `/metrics` counts, read by Prometheus' own parser."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families
from support.bodies import SMALL
from support.http_server import serving

from recdistill.bundle import Bundle
from recdistill.serve import Ranker, Recommender


def test_metrics_count_what_happened(bundle: Bundle) -> None:
    ranker = Ranker()
    ranker.swap(Recommender(bundle), "1")
    with serving(ranker, SMALL) as address, httpx.Client(base_url=address) as client:
        for _ in range(3):
            client.post("/v1/recommend", json={"history": [{"item": "item-2"}, {"item": "nobody"}]})
        client.post("/v1/recommend", json={"requests": [{}, {}]})
        client.post("/v1/recommend", json={"k": 0})
        client.get("/no/such/path")
        client.get("/no/other/path")
        text = client.get("/metrics").text
    found = {
        (s.name, *sorted(s.labels.values())): s.value for f in text_string_to_metric_families(text) for s in f.samples
    }
    assert found["recdistill_requests_total", "/v1/recommend", "200"] == 4
    assert found["recdistill_requests_total", "/v1/recommend", "422"] == 1
    assert found["recdistill_requests_total", "404", "other"] == 2
    assert found["recdistill_request_seconds_count", "/v1/recommend"] == 5
    assert found["recdistill_answers_total", "personal"] == 3
    assert found["recdistill_answers_total", "mixed"] == 2
    assert found["recdistill_unknown_history_total",] == 3
    assert found["recdistill_swaps_total",] == 1
    assert found["recdistill_overlay_position",] == bundle.manifest.content.base_position
    assert found["recdistill_catalogue_items",] == len(bundle.items)
    assert found["recdistill_ready",] == 1
