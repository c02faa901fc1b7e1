"""`recdistill ledger` and `recdistill keys`: evidence that binds, and a ledger that is checked, by the command line."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.judgements import make_judgement
from support.registries import make_bundle
from support.small_shop import IN_THE_FOLDER, Shop, prepare

from recdistill.judge import to_json
from recdistill.ledger import NO_KEYS, Ledger, attach, make_key, open_keys
from recdistill.registry import Registry
from recdistill.stream import LEDGER
from tools.mlflow_server import new_file

pytestmark = [pytest.mark.mlflow, pytest.mark.slow]


@pytest.fixture(name="uri", scope="module")
def _uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One registry for all, since its tables take seconds."""
    return new_file(tmp_path_factory.mktemp("registry") / "mlflow.sqlite")


@pytest.fixture(name="registry")
def _registry(uri: str, tmp_path: Path) -> Registry:
    return Registry(uri, tmp_path.name)


@pytest.fixture(name="shop")
def _shop(
    registry: Registry, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shop:
    monkeypatch.setenv("RECDISTILL__REGISTRY__URI", uri)
    monkeypatch.setenv("RECDISTILL__REGISTRY__NAME", registry.name)
    prepare(tmp_path, monkeypatch, IN_THE_FOLDER)
    shop = Shop(tmp_path, capsys)
    shop("topics create")
    return shop


def judgement(shop: Shop, name: str, keys: Any = None) -> bytes:
    """A bundle in a folder of this name, and what `evaluate --json` would say of it."""
    if not (shop.folder / name).exists():
        make_bundle(shop.folder / name, name)
    manifest = json.loads((shop.folder / name / "manifest.json").read_text())
    found = msgspec.structs.replace(make_judgement(), content_hash=manifest["content_hash"])
    return attach("judgement", to_json(found), keys.sign if keys is not None and keys.signs else None)


def publish(shop: Shop, name: str, *more: str, data: bytes | None = None, keys: Any = None, code: int = 0) -> str:
    text = judgement(shop, name, keys)
    Path("judgement.json").write_bytes(text if data is None else data)
    return shop(f"publish {name} --judgement judgement.json", *more, code=code)


def test_without_keys_all_works_and_one_sentence_says_what_is_not_protected(shop: Shop) -> None:
    said = publish(shop, "one")
    assert "version 1 is the candidate" in said
    assert "it passed the gate" in said
    assert shop.errors.count("nobody signs here") == 1
    shop("promote 1 --why first --by ada")
    publish(shop, "two")
    shop("promote 2 --why second --by ada")
    shop("rollback --why clicks --by bert")
    assert "mind: a running promoter makes the next version that passes the gate the champion" in shop.errors
    listed = shop.json("ledger list")["entries"]
    assert [one["kind"] for one in listed] == [
        "policy", "judged", "promoted", "settled", "judged", "promoted", "settled", "rolled-back", "settled",
    ]  # fmt: skip
    assert [one["n"] for one in listed] == list(range(1, 10))
    assert "rolled-back  version 1, before 2     bert" in shop("ledger")
    assert [one["n"] for one in shop.json("ledger list 2")["entries"]] == [5, 6, 7, 8]
    assert "the ledger has no entry about version 9" in shop("ledger list 9")
    found = shop.json("ledger verify")
    assert (found["entries"], found["unsigned"], found["troubles"], found["differs"]) == (9, 9, [], "")
    assert found["heads"] == 2
    assert "the ledger is whole" in shop("ledger verify")
    assert [one["kind"] for one in shop.json("versions")["ledger"]] == ["promote", "promote", "rollback"]
    shop("rollback --from 2 --why again", code=7)
    assert "the champion is version 1, not version 2 as expected" in shop.errors
    shop("rollback --why again", code=7)
    assert "version 2 was rolled back to 1 already, by bert" in shop.errors


def test_a_version_that_was_only_judged_has_its_entry_and_a_reason_is_whole(shop: Shop) -> None:
    """An entry of a judgement names the content: the version is registered after it."""
    publish(shop, "one")
    for asked in ("1", "candidate"):
        assert [one["kind"] for one in shop.json(f"ledger list {asked}")["entries"]] == ["judged"]
    why = f"{'the season begins, ' * 20}and that is the end"
    shop("promote", "1", "--why", why)
    assert why in shop("ledger list 1")
    assert why in shop("versions")


def test_an_edited_number_is_refused(shop: Shop) -> None:
    text = judgement(shop, "one")
    number = b"1.027"
    assert text.count(number) == 1
    publish(shop, "one", data=text.replace(number, b"1.927"), code=3)
    assert "judgement.json: its digest is not that of its text: it was changed" in shop.errors
    assert shop.json("versions")["versions"] == []


def test_forged_figures_are_refused_where_somebody_signs(shop: Shop) -> None:
    shop("keys make judge")
    (key,) = shop.json("keys")["keys"]
    assert (key["name"], key["signs"]) == ("judge", True)
    keys = open_keys(shop.folder / "recdistill-data" / "keys")
    text = judgement(shop, "one", keys)
    # A forger who knows the format: new figures with a digest that fits them, and the old signature.
    body, _, seals = text.partition(b',\n  "signed": "')
    forged = body.replace(b"1.027", b"1.927")
    digest = hashlib.sha256(forged + b"\n}").hexdigest().encode()
    publish(shop, "one", data=forged + b',\n  "signed": "sha256 ' + digest + seals[71:], code=3)
    assert "the signature of judge" in shop.errors
    publish(shop, "one", data=judgement(shop, "one"), code=3)
    assert "has no signature of a trusted key" in shop.errors
    make_key(shop.folder / "theirs", "eve")
    publish(shop, "one", keys=open_keys(shop.folder / "theirs"), code=3)
    assert "is not trusted here" in shop.errors
    publish(shop, "one", keys=keys)
    assert "nobody signs" not in shop.errors
    shop("promote 1 --why first")
    assert all(one["signed_by"] == "judge" for one in shop.json("ledger list")["entries"])
    assert shop.json("ledger verify")["unsigned"] == 0


def test_evidence_of_another_policy_is_refused_and_a_weaker_policy_is_an_entry(shop: Shop) -> None:
    publish(shop, "one")
    weak = ("--set", "gate.retention=0.5")
    shop("promote 1 --why first", *weak, code=7)
    assert "version 1 was judged by another policy (entry 2 of the ledger)" in shop.errors
    publish(shop, "one", *weak)
    shop("promote 1 --why first", code=7)
    shop("promote 1 --why first", *weak)
    (policy,) = (one for one in shop.json("ledger list")["entries"] if one["kind"] == "policy" and one["n"] > 1)
    assert policy["facts"]["weaker"] == ["retention: 0.5 is asked, 0.95 was asked before"]
    assert policy["facts"]["before"]["retention"] == 0.95
    kinds = [one["kind"] for one in shop.json("ledger list")["entries"]]
    assert kinds.count("refused") == 2


def test_evidence_that_was_edited_in_mlflow_is_refused_and_a_waiver_lets_it_pass(
    shop: Shop, registry: Registry
) -> None:
    publish(shop, "weak", "--set", "gate.retention=1.5")
    evidence = registry.evidence("1")
    assert evidence is not None
    edited = msgspec.json.encode(msgspec.structs.replace(evidence, passed=True)).decode()
    registry.say("1", "", {"evidence": edited, "passed": "true"})
    strict = ("--set", "gate.retention=1.5")
    shop("promote 1 --why hope", *strict, code=7)
    assert "the evidence that MLflow shows for version 1 is not what the judge wrote in entry 2" in shop.errors
    assert "at least 1.500 is asked" in shop.errors
    shop("ledger waive 1 --why drill", code=2)
    shop("ledger waive 1 --why drill --until 2020-01-01", code=2)
    assert "is over already" in shop.errors
    shop("ledger waive 1 --why drill --by ada --until 2999-01-01")
    shop("promote 1 --why hope", *strict)
    assert "is not in the registry any more" not in shop.errors
    assert shop.json("versions")["versions"][0]["aliases"] == ["champion"]


def test_a_waiver_of_a_version_whose_bundle_is_gone_says_so(shop: Shop, registry: Registry) -> None:
    publish(shop, "weak", "--set", "gate.retention=1.5")
    publish(shop, "newer")  # the candidate is this one now, so nothing keeps the first
    registry.give_back([registry.resolve("1").content_hash], grace_s=0)
    shop("ledger waive 1 --why drill --until 2999-01-01")
    assert "mind: the bundle of version 1 is not in the registry any more (registry.keep)" in shop.errors
    shop("promote 1 --why hope", code=7)
    shop("ledger waive 2 --why drill --until 2999-01-01")
    assert "is not in the registry any more" not in shop.errors


def test_a_version_that_the_ledger_does_not_know_is_not_promoted(shop: Shop, registry: Registry) -> None:
    bundle = make_bundle(shop.folder / "one", "one")
    from support.registries import judged

    registry.publish(bundle, judged(bundle))
    shop("promote 1 --why hope", code=7)
    assert "the ledger does not say that version 1 was judged, whatever MLflow shows" in shop.errors


def test_verify_finds_what_was_put_in_or_cut_off_and_work_goes_on(shop: Shop) -> None:
    publish(shop, "one")
    shop("promote 1 --why first")
    with closing(shop.log()) as log:
        stage = log.stage("somebody")
        with stage.transaction() as transaction:
            transaction.send(LEDGER.topic, b"garbage", partition=0)
        stage.close()
    shop("ledger verify", code=7)
    assert "the ledger is not whole: 1 things are wrong" in shop.errors
    assert "it is no signed text" in shop("ledger")
    publish(shop, "two")
    shop("promote 2 --why second")
    shop("rollback --why clicks")
    Path("log.sqlite").rename("lost.sqlite")
    shop("topics create")
    shop("ledger verify", code=7)
    assert "the ledger ends at entry 0: entries were cut off, or this is another log" in shop.errors
    shop("rollback --why clicks", code=7)  # the way back is in the lost log
    publish(shop, "three")
    shop("promote 3 --why third")
    kinds = [one["kind"] for one in shop.json("ledger list")["entries"]]
    assert kinds.count("lost") == 2
    assert kinds.count("moved") == 1


def test_the_ledger_of_an_older_version_is_brought_over_by_one_verb(shop: Shop, registry: Registry) -> None:
    assert "nothing to bring over" in shop("ledger import")
    step = {"step": 1, "kind": "promote", "before": None, "after": "1", "content_hash": "a" * 64, "who": "ada"}
    text = msgspec.json.encode({**step, "why": "good", "at": "2025-01-02T03:04:05+00:00"}).decode()
    registry._connection.client.create_registered_model(f"{registry.name}.ledger.1", tags={"entry": text})
    assert "1 steps were brought over" in shop("ledger import")
    (change,) = shop.json("versions")["ledger"]
    assert (change["who"], change["at"], change["why"]) == ("ada", "2025-01-02T03:04:05+00:00", "good")


def test_what_somebody_wrote_into_the_ledger_cannot_control_a_terminal(shop: Shop) -> None:
    with closing(shop.log()) as log, closing(Ledger(log, shop_name(), NO_KEYS)) as ledger, ledger.writing() as writer:
        writer.append("moved\x1b[2J", who="eve\x1b[31m", version="7\x07", before="\x1b[0m", why="\x1b[1m")
    assert "\x1b" not in shop("ledger list").replace("\n", "")
    assert "\x07" not in shop("ledger list")


def shop_name() -> str:
    return os.environ["RECDISTILL__REGISTRY__NAME"]
