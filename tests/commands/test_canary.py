"""The verb `canary` tells how a trial stands, writes its page, and changes nothing."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from support.registries import judged, make_bundle
from support.small_shop import Shop, open_shop
from support.trials import BEGAN_US

from recdistill.loops.canary import Begun
from recdistill.records import Candidate, Example, Impression, Ranking, encode, key_of
from recdistill.registry import Registry
from recdistill.serve import place_of

pytestmark = pytest.mark.slow


@pytest.fixture(name="shop")
def _shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shop:
    monkeypatch.setenv("RECDISTILL__REGISTRY__URI", f"sqlite:///{tmp_path}/mlflow.sqlite")
    monkeypatch.setenv("RECDISTILL__REGISTRY__NAME", "shop")
    shop = open_shop(tmp_path, monkeypatch, capsys)
    shop("topics create")
    return shop


def test_it_tells_and_writes_a_page(shop: Shop, tmp_path: Path) -> None:
    assert "there is no canary now; canary.share is 0" in shop("canary")
    on = ("--set", "canary.share=0.3", "--set", "canary.margin=0.1")
    assert "the next version that passes the gate becomes one" in shop("canary", *on)
    shop("canary --report canary.html", *on, code=2)
    assert "there is no canary now" in shop.errors

    registry = Registry(f"sqlite:///{tmp_path}/mlflow.sqlite", "shop")
    bundles = [make_bundle(tmp_path / name, name) for name in ("one", "two")]
    for bundle in bundles:
        registry.publish(bundle, judged(bundle))
    registry.crown("1")
    begun = Begun(BEGAN_US, bundles[0].content_hash)
    registry.begin_canary("2", msgspec.json.encode(begun).decode())
    hashes = [bundle.content_hash for bundle in bundles]
    with closing(shop.log()) as log, closing(log.stage("test")) as stage, stage.transaction() as transaction:
        for number in range(400):
            user = f"user-{number}"
            theirs = place_of(user, hashes[1]) < 0.3
            shown = Impression(
                f"i-{number}",
                BEGAN_US + 60_000_000 + number * 1_000_000,
                user=user,
                candidates=tuple(Candidate(f"item-{n}", 1.0) for n in range(10)),
                origin="served",
                served_by=hashes[theirs],
            )
            ranking = Ranking(shown, "t", "1", "logit", (0.0,) * 10, (True,) * 10)
            one = Example(ranking, (float(not theirs), *(0.0,) * 9), "closed")
            transaction.send("examples", encode(one), key=key_of(one))

    told = shop("canary --report canary.html", *on)
    assert "version 2 is the canary for 30.00% of the users; it is to be withdrawn" in told
    assert "clicks: 0.0000 a user with the canary, 1.0000 with the champion; worse for sure" in told
    reasons = json.loads(shop("canary --json", *on))["reasons"]
    assert reasons[0].startswith("clicks: 0.0000 a user with the canary")
    assert all(f"  {reason}" in told for reason in reasons)
    page = (tmp_path / "canary.html").read_text()
    assert "Withdraw it" in page
    assert "The course of the test" in page
    found = registry.find("canary")
    assert found is not None
    assert found.number == "2", "it changes nothing"
    shop("canary --report none/canary.html", *on, code=2)
    assert "there is no folder" in shop.errors
