"""A canary from its beginning to its end: through the registry, HTTP and the log."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from support import spoilt
from support.registries import note
from support.serving import Shop, running, wait_for

from recdistill.bundle import Bundle
from recdistill.config import CanarySettings, LogSettings, RankSettings, RegistrySettings, Settings, TrialSettings
from recdistill.ledger import NO_KEYS, Ledger
from recdistill.loops.canary import Begun, Canaries, Plan, watch_of
from recdistill.records import Candidate, Example, Impression, Ranking, decode, encode, key_of
from recdistill.registry import Evidence, Registry
from recdistill.release import promote
from recdistill.serve import place_of
from recdistill.stream import Log, open_log, standard_topics
from references.students import make_requests, make_student
from tools.mlflow_server import new_file

SHARE = 0.3
NOW_US = 1_800_000_000_000_000


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    place, made = tmp_path_factory.mktemp("bundles"), []
    for seed in range(2):
        student = make_student(seed=seed)
        made.append(student.export(place / str(seed), golden_requests=make_requests(student, 9), base_position=0))
    return made


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics())
    yield log
    log.close()


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return new_file(tmp_path_factory.mktemp("registry") / "mlflow.sqlite")


@pytest.fixture
def registry(uri: str, request: pytest.FixtureRequest, bundles: list[Bundle]) -> Registry:
    registry = Registry(uri, re.sub("[^a-z0-9]", "-", request.node.name.lower()))
    for bundle in bundles:
        said = Evidence(content_hash=bundle.content_hash, passed=True, reasons=[], metrics={}, made_at="", judged=9)
        registry.publish(bundle, said)
    registry.crown("1")
    return registry


@pytest.fixture
def ledger(registry: Registry, log: Log, bundles: list[Bundle]) -> Iterator[Ledger]:
    with closing(Ledger(log, registry.name, NO_KEYS)) as ledger:
        for number in ("1", "2"):
            evidence = registry.evidence(number)
            assert evidence is not None
            note(ledger, evidence)
        yield ledger


def lists(log: Log, bundles: list[Bundle], *, clicks: tuple[float, float], count: int, failing: bool = False) -> None:
    """Lists that both sides served, as the joiner writes them: one in ten to `held-out`."""
    champion, canary = (bundle.content_hash for bundle in bundles)
    random, stage = np.random.default_rng(3), log.stage("test")
    with stage.transaction() as transaction:
        for number in range(count):
            user = f"user-{number}"
            theirs = place_of(user, canary) < SHARE
            by = canary if theirs and not failing else champion
            label = float(random.random() < clicks[theirs])
            shown = Impression(
                f"i-{number}",
                NOW_US + number * 1_000_000,
                user=user,
                candidates=tuple(Candidate(f"item-{n}", 1.0) for n in range(10)),
                origin="served",
                served_by=by,
            )
            ranking = Ranking(shown, "t", "1", "logit", (0.0,) * 10, (True,) * 10)
            one = Example(ranking, (label, *(0.0,) * 9), "closed")
            topic = "held-out" if number % 10 == 0 else "examples"
            transaction.send(topic, encode(one), key=key_of(one))
    stage.close()


@pytest.mark.slow
@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_clock_that_jumps_by_an_hour_withdraws_no_canary(
    registry: Registry, log: Log, ledger: Ledger, bundles: list[Bundle], jump_s: float
) -> None:
    """Before it began the champion answered everybody, which is no fault of the canary. Its page is made as before."""
    lists(log, bundles, clicks=(0.4, 0.4), count=2000, failing=True)  # from NOW_US on, one a second
    began_s, steady_s, jumped_s = NOW_US / 1e6 + 2000, [7.0], [0.0]
    canaries = Canaries(
        log,
        registry,
        ledger,
        Plan(share=SHARE, margin=0.1, settle_us=0),
        clock=lambda: began_s + steady_s[0] - 7 + jumped_s[0],
        steady=lambda: steady_s[0],
    )
    jumped_s[0] = jump_s
    canaries.begin("2")
    found = registry.canary()
    assert found is not None
    since_us = msgspec.json.decode(found[1], type=Begun).since_us
    assert since_us == round((began_s + max(0.0, jump_s)) * 1e6)
    shown: list[float] = []
    registry.show = lambda *_: shown.append(steady_s[0])  # type: ignore[assignment, method-assign]
    for jumped_s[0], steady_s[0] in ((jump_s, 8.0), (-jump_s, 600.0), (jump_s, 609.0), (0.0, 1300.0)):
        verdict = canaries.look()
        assert verdict is not None
        assert verdict.say == "wait", verdict.reasons
    assert shown == [8.0, 609.0, 1300.0], "every ten minutes, whatever the clock says"
    # Days later somebody sets a clock right that was far ahead: the next canary does not wait for that day.
    jumped_s[0] = -100 * 86_400.0
    canaries.begin("2")
    found = registry.canary()
    assert found is not None
    assert msgspec.json.decode(found[1], type=Begun).since_us < since_us - 99 * 86_400_000_000
    canaries.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("clicks", "failing", "ends", "champion"),
    [
        ((0.4, 0.42), False, "promote", "2"),
        ((0.4, 0.2), False, "withdraw", "1"),
        ((0.4, 0.4), True, "withdraw", "1"),
    ],
)
def test_a_canary_ends_by_itself(
    registry: Registry,
    log: Log,
    ledger: Ledger,
    bundles: list[Bundle],
    uri: str,
    clicks: tuple[float, float],
    failing: bool,
    ends: str,
    champion: str,
) -> None:
    promoted: list[str] = []
    plan = Plan(share=SHARE, margin=0.1, settle_us=0)
    canaries = Canaries(log, registry, ledger, plan, promoted=promoted.append, clock=lambda: NOW_US / 1e6)
    assert canaries.look() is None
    assert canaries.begin("2")
    found = registry.find("canary")
    assert found is not None
    assert found.number == "2"
    waits = canaries.look()
    assert waits is not None
    assert waits.say == "wait"
    lists(log, bundles, clicks=clicks, count=4000, failing=failing)
    # Another process goes on where this one was killed.
    canaries.close()
    canaries = Canaries(log, registry, ledger, plan, promoted=promoted.append, clock=lambda: NOW_US / 1e6)
    verdict = canaries.look()
    assert verdict is not None
    assert verdict.say == ends, verdict.reasons
    assert registry.find("canary") is None
    now = registry.find("champion")
    assert now is not None
    assert now.number == champion
    assert promoted == (["2"] if ends == "promote" else [])
    assert canaries.look() is None
    canaries.close()
    description = registry._versions.get("2").description or ""
    assert description.endswith("/artifacts/canary.html)")
    run_id = next(one.run_id for one in registry.versions() if one.number == "2")
    (page,) = Path(uri.removeprefix("sqlite:///")).parent.rglob(f"{run_id}/artifacts/canary.html")
    assert {"promote": "Promoted", "withdraw": "Withdrawn"}[ends] in page.read_text()


@pytest.mark.slow
def test_a_canary_beside_another_champion_and_one_that_a_person_has_set(
    registry: Registry, log: Log, ledger: Ledger, bundles: list[Bundle]
) -> None:
    canaries = Canaries(log, registry, ledger, Plan(share=SHARE))
    registry.begin_canary("2", "")  # as MLflow's page sets it: without a note
    verdict = canaries.look()
    assert verdict is not None
    assert verdict.reasons == ["it begins now"]
    other = msgspec.json.encode(Begun(NOW_US, "f" * 64)).decode()
    registry.begin_canary("2", other)
    verdict = canaries.look()
    assert verdict is not None
    assert verdict.say == "withdraw"
    assert "the champion is another one" in verdict.reasons[0]
    assert registry.find("canary") is None
    canaries.close()


@pytest.mark.slow
@pytest.mark.parametrize("call", [0, 1, 2])
def test_a_promoter_that_is_killed_while_it_begins_a_canary(
    registry: Registry, log: Log, ledger: Ledger, bundles: list[Bundle], monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """The next one finds no canary, or one that begins now, but never a note without a canary."""
    registry.begin_canary("2", msgspec.json.encode(Begun(1, "f" * 64)).decode())  # an earlier trial
    registry.end_canary()
    done = [0]

    def dies(real: Callable[..., object]) -> Callable[..., object]:
        def maybe(*args: object) -> object:
            if done[0] == call:
                raise KeyboardInterrupt
            done[0] += 1
            return real(*args)

        return maybe

    canaries = Canaries(log, registry, ledger, Plan(share=SHARE))
    with monkeypatch.context() as patch:
        patch.setattr(registry._versions, "tag", dies(registry._versions.tag))
        patch.setattr(registry._aliases, "send_ahead", dies(registry._aliases.send_ahead))
        with pytest.raises(KeyboardInterrupt):
            canaries.begin("2")
    assert done == [call]
    verdict = canaries.look()
    if call == 2:
        assert verdict is not None
        assert verdict.reasons == ["it begins now"]
        assert registry.canary() is not None
    else:
        assert verdict is None
        assert registry.tag("2", "canary") == ("" if call else msgspec.json.encode(Begun(1, "f" * 64)).decode())
    canaries.close()


@pytest.mark.slow
@pytest.mark.parametrize("who", ["promoter", "ada"])
def test_a_canary_that_is_the_champion_already_was_not_withdrawn(
    registry: Registry, log: Log, ledger: Ledger, bundles: list[Bundle], who: str
) -> None:
    """Its promoter ended between promoting it and ending the trial, or a person was quicker."""
    promoted: list[str] = []
    canaries = Canaries(log, registry, ledger, Plan(share=SHARE), promoted=promoted.append)
    canaries.begin("2")
    promote(registry, ledger, "2", expect="1", who=who, why="canary: clicks: well enough for sure")
    verdict = canaries.look()
    assert verdict is not None
    assert (verdict.say, verdict.reasons) == ("promote", ["it is the champion already"])
    assert registry.find("canary") is None
    assert promoted == (["2"] if who == "promoter" else []), "it was perhaps not told yet"
    assert canaries.look() is None
    canaries.close()


@pytest.mark.slow
def test_a_share_that_changes_begins_the_trial_again(
    registry: Registry, log: Log, ledger: Ledger, bundles: list[Bundle]
) -> None:
    """Users between both shares got the champion's answers before, which is no fault of the canary."""
    now_s = [NOW_US / 1e6]
    plan = Plan(share=SHARE, margin=0.1, settle_us=0)
    canaries = Canaries(log, registry, ledger, plan, clock=lambda: now_s[0])
    canaries.begin("2")
    canaries.close()
    lists(log, bundles, clicks=(0.4, 0.4), count=2000)
    now_s[0] += 3000
    plan = msgspec.structs.replace(plan, share=2 * SHARE)
    shown = watch_of(log, registry, plan)
    assert shown is not None
    shown[0].look()
    assert shown[0].trial.told().share == SHARE, "until it begins again"
    assert shown[0].trial.failed == 0
    shown[0].close()
    canaries = Canaries(log, registry, ledger, plan, clock=lambda: now_s[0])
    verdict = canaries.look()
    assert verdict is not None
    assert (verdict.say, verdict.reasons) == ("wait", ["canary.share was 0.3 and is 0.6 now, so it begins again"])
    found = registry.canary()
    assert found is not None
    begun = msgspec.json.decode(found[1], type=Begun)
    assert (begun.champion, begun.share) == (bundles[0].content_hash, 2 * SHARE)
    assert begun.since_us > NOW_US + 2_999_000_000
    verdict = canaries.look()
    assert verdict is not None
    assert verdict.say == "wait"
    canaries.close()


# In the endpoint


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop = Shop()
    monkeypatch.setattr("recdistill.registry.Registry", lambda *_, **__: shop)
    return shop


def settings_of(tmp_path: Path, **canary: Any) -> Settings:
    return Settings(
        log=LogSettings(path=str(tmp_path / "log.sqlite")),
        registry=RegistrySettings(uri=f"sqlite:///{tmp_path}/none.sqlite", cache=str(tmp_path / "cache")),
        rank=RankSettings(port=0, follow_s=0.05, items_s=0.02, drain_s=0, write_back=1.0),
        trial=TrialSettings(on=False),
        canary=CanarySettings(**canary),
    )


@pytest.mark.slow
def test_five_percent_are_five_percent_and_each_user_stays_on_one_side(
    tmp_path: Path, shop: Shop, log: Log, bundles: list[Bundle]
) -> None:
    """Through HTTP, in batches: 4,000 users twice each. What was written back says the same."""
    champion, canary = bundles
    shop.promote("1", champion)
    shop.canary = shop.ref("2", canary)
    with running(settings_of(tmp_path, share=0.05)) as (client, counts):
        wait_for(lambda: counts["canaries"] == 1)
        by: dict[str, set[str]] = {}
        for begin in range(0, 8000, 100):
            users = [f"user-{n % 4000}" for n in range(begin, begin + 100)]
            body = {"requests": [{"user": user, "k": 3} for user in users]}
            reply = client.post("/v1/recommend", json=body)
            while reply.status_code == 503:  # on a busy machine it waited too long for its turn
                reply = client.post("/v1/recommend", json=body)
            answers = reply.json()["answers"]
            assert set(reply.headers["recdistill-bundle"].split(", ")) == {answer["bundle"] for answer in answers}
            for user, answer in zip(users, answers, strict=True):
                by.setdefault(user, set()).add(answer["bundle"])
        assert {len(sides) for sides in by.values()} == {1}
        share = sum(sides == {canary.content_hash} for sides in by.values()) / len(by)
        assert abs(share - 0.05) < 0.005 + 0.004, "half a percent, and a deviation of 4,000 draws"
        one = next(user for user, sides in by.items() if sides == {canary.content_hash})
        reply = client.post("/v1/recommend", json={"user": one})
        assert (reply.headers["recdistill-side"], reply.headers["recdistill-version"]) == ("canary", "2")
        assert (
            client.post("/v1/rank", json={"user": one, "candidates": ["item-3"]}).json()["bundle"]
            == canary.content_hash
        )
        assert client.post("/v1/recommend", json={}).headers["recdistill-side"] == "champion"
        wrong = client.post("/v1/recommend", json={"requests": [{}, {"user": one, "context": {"hour": "noon"}}]})
        assert wrong.status_code == 422
        assert wrong.json()["field"].startswith("requests[1].context.hour")
        assert "recdistill_canary_share 0.05" in client.get("/metrics").text
        shop.canary = None
        wait_for(lambda: client.post("/v1/recommend", json={"user": one}).headers["recdistill-side"] == "champion")
    written = [decode(Impression, message.value) for message in log.source(["impressions"]).read(3000)]
    assert all(by[one.user] == {one.served_by} for one in written[:2000] if one.user)


def test_where_a_canary_fails_the_champion_answers(
    tmp_path: Path, shop: Shop, bundles: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    from recdistill.serve import Recommender

    inner = Recommender.recommend

    def breaks(self: Recommender, requests: Any, *args: Any, **more: Any) -> Any:
        if self.content_hash == bundles[1].content_hash and any(one.time_us for one in requests):
            raise RuntimeError("planted")
        return inner(self, requests, *args, **more)

    monkeypatch.setattr(Recommender, "recommend", breaks)
    shop.promote("1", bundles[0])
    shop.canary = shop.ref("2", bundles[1])
    monkeypatch.setattr("recdistill.loops.rank.WARM", 0)
    with running(settings_of(tmp_path, share=0.9999)) as (client, counts):
        wait_for(lambda: counts["canaries"] == 1)
        assert client.post("/v1/recommend", json={"user": "a"}).headers["recdistill-side"] == "canary"
        reply = client.post("/v1/recommend", json={"user": "a", "time_us": NOW_US})
        assert (reply.status_code, reply.headers["recdistill-side"]) == (200, "champion")
        assert reply.json()["bundle"] == bundles[0].content_hash
        assert counts["canary_failures"] == 1


@pytest.mark.slow
def test_a_canary_that_cannot_serve_is_said(tmp_path: Path, shop: Shop, bundles: list[Bundle]) -> None:
    shop.promote("1", bundles[0])
    nan = spoilt.tower(bundles[1].user_tower, spoilt.not_a_number)
    shop.canary = shop.ref("2", spoilt.resealed(bundles[1], tmp_path / "bad", {"user_tower.onnx": nan}))
    settings = msgspec.structs.replace(settings_of(tmp_path, share=0.9999), trial=TrialSettings())
    with running(settings) as (client, counts):
        wait_for(lambda: counts["refused_canaries"] == 1, 60)
        wait_for(lambda: client.get("/readyz").status_code == 200, 60)
        assert "not finite" in client.get("/readyz").text
        assert client.post("/v1/recommend", json={"user": "a"}).headers["recdistill-side"] == "champion"


@pytest.mark.parametrize(
    ("canary", "write_back", "said"),
    [
        ({"share": 0.05}, 0.0, "a canary never ends"),
        ({"share": 0.05}, 1.0, ""),
        ({"share": 0.05, "automatic": False}, 0.0, ""),
        ({"shadow": 0.5}, 1.0, "there is no canary that could be asked"),
    ],
)
def test_settings_of_a_canary_that_do_nothing_are_said(
    tmp_path: Path,
    shop: Shop,
    bundles: list[Bundle],
    caplog: pytest.LogCaptureFixture,
    canary: dict[str, Any],
    write_back: float,
    said: str,
) -> None:
    settings = settings_of(tmp_path, **canary)
    rank = msgspec.structs.replace(settings.rank, write_back=write_back)
    shop.promote("1", bundles[0])
    with running(msgspec.structs.replace(settings, rank=rank)):
        pass
    found = [one.getMessage() for one in caplog.records if one.name == "recdistill.loops.endpoint"]
    assert len(found) == bool(said)
    assert said in "".join(found)


def test_a_shadow_is_only_compared(tmp_path: Path, shop: Shop, bundles: list[Bundle]) -> None:
    shop.promote("1", bundles[0])
    shop.canary = shop.ref("2", bundles[1])
    with running(settings_of(tmp_path, share=1e-9, shadow=1.0)) as (client, counts):
        wait_for(lambda: counts["canaries"] == 1)
        body = {"user": "a", "history": [{"item": "item-3"}], "k": 5}
        answers = [client.post("/v1/recommend", json=body) for _ in range(10)]
        assert {reply.headers["recdistill-side"] for reply in answers} == {"champion"}
        wait_for(lambda: counts["shadow_asked"] == 10)
        assert counts["shadow_items"] == 50
        assert counts["shadow_failed"] == 0
        # Against both bundles, asked directly.
        from recdistill.records import Event
        from recdistill.serve import Filters, Recommender, Request

        request = Request((Event("item-3"),))
        both = [
            Recommender(bundle).recommend([request], 5, Filters(frozenset(["item-3"])))[0].items for bundle in bundles
        ]
        assert counts["shadow_same"] == 10 * len(set(both[0]) & set(both[1]))
