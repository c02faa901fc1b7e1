"""What the endpoint says of itself."""

from __future__ import annotations

import httpx
from support.bodies import check_form
from support.http_server import serving

from recdistill.bundle import Bundle
from recdistill.serve import Ranker


def test_model_and_probes(bundle: Bundle, client: httpx.Client) -> None:
    model = client.get("/v1/model").json()
    check_form(model, "ModelForm")
    assert (model["bundle"], model["version"], model["items"]) == (bundle.content_hash, "7", len(bundle.items))
    assert model["overlay"] == model["base"] == bundle.manifest.content.base_position
    assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
    head = client.head("/livez")
    assert (head.status_code, head.content) == (200, b"")


def test_without_a_champion_it_lives_but_is_not_ready() -> None:
    with serving(Ranker()) as address, httpx.Client(base_url=address) as client:
        assert client.get("/livez").status_code == 200
        for answer in (client.get("/readyz"), client.get("/v1/model"), client.post("/v1/recommend", json={})):
            assert answer.status_code == 503
            assert answer.headers["content-type"] == "application/problem+json"
            assert "no champion" in answer.json()["detail"]
