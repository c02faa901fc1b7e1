"""The registry on a SQLite file and on a real MLflow server, and several promoters at once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from recdistill.bundle import Bundle
from recdistill.errors import BundleError, Refused, RegistryError
from recdistill.registry import BundleRef, Evidence, Registry
from recdistill.registry.client import put
from recdistill.registry.store import blob_path
from recdistill.release import promote
from references.students import make_student

pytestmark = pytest.mark.mlflow


@pytest.fixture(scope="module", autouse=True)
def _mlflow():
    """Here, and not on top: it takes two seconds, which runs without these tests need not spend."""
    pytest.importorskip("mlflow", reason="mlflow is not installed (extra: registry)")


@pytest.fixture(name="uri", params=["sqlite", "server"], scope="module")
def _uri(request, tmp_path_factory):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('registry')}/mlflow.sqlite"
    return request.getfixturevalue("mlflow_server")


@pytest.fixture(name="registry")
def _registry(uri, request):
    return Registry(uri, f"r.{re.sub('[^a-z0-9]', '-', request.node.name.lower())}")


def make_bundle(folder: Path, text: str) -> Bundle:
    """A bundle of its own for each text."""
    return make_student(12, seed=zlib.crc32(text.encode())).export(folder)


def judged(bundle, *, passed=True, reasons=("retention .97 is at least .95",)):
    return Evidence(
        content_hash=bundle.content_hash,
        passed=passed,
        reasons=list(reasons),
        metrics={"ndcg@10": 0.25},
        made_at="2026-01-02T03:04:05+00:00",
        judged=500,
    )


def artifacts(registry):
    """The store's own files: what an intruder, or a bad disk, could change."""
    return registry._store._artifacts


@pytest.fixture(name="two")
def _two(registry, tmp_path):
    """Two published versions that passed, and their numbers."""
    bundles = [make_bundle(tmp_path / name, name) for name in ("one", "two")]
    return [registry.publish(b, judged(b)).number for b in bundles]


def test_publish_promote_resolve_fetch(registry, tmp_path):
    bundle = make_bundle(tmp_path / "bundle", "first")
    report, device = tmp_path / "some report.html", tmp_path / "device.onnx"
    report.write_text("<h1>fine</h1>")
    device.write_bytes(b"onnx")
    assert registry.find("champion") is None
    version = registry.publish(
        bundle,
        judged(bundle),
        report=report,
        extra_files=[device],
        parameters={"student.dim": 16, "loss": {"soft": 0.7}},
        metrics={"recall@10": 0.5},
    )
    assert (version.number, version.aliases, version.passed) == ("1", ["candidate"], True)
    assert version.reason == "passed the gate: retention .97 is at least .95"

    entry = registry.promote("1", expect=None, who="ada", why="better on new users")
    assert (entry.step, entry.before, entry.after, entry.who) == (1, None, "1", "ada")
    (only,) = registry.versions()
    assert only.aliases == ["champion"]
    assert "promoted by ada" in only.reason
    assert "better on new users" in only.reason

    ref = registry.resolve("champion")
    assert (ref, ref) == (registry.resolve("@champion"), registry.resolve("1"))
    fetched = registry.fetch(ref, tmp_path / "cache")
    assert fetched.path == tmp_path / "cache" / ref.content_hash
    assert (fetched.content_hash, fetched.user_tower) == (bundle.content_hash, bundle.user_tower)
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [ref.content_hash]

    run = registry._client.get_run(only.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"student.dim": "16", "loss": "{'soft': 0.7}"}
    assert run.data.metrics == {"recall_at_10": 0.5, "ndcg_at_10": 0.25}
    assert {f.path for f in registry._client.list_artifacts(only.run_id)} == {
        "bundle",
        "files",
        "report.html",
        "evidence.json",
    }


def test_a_bundle_comes_back_whole(registry, tmp_path):
    bundle = make_bundle(tmp_path / "bundle", "whole")
    version = registry.publish(bundle, None)
    assert version.content_hash == bundle.content_hash
    place = registry.fetch(registry.resolve("candidate"), tmp_path / "cache").path
    assert {p.name: p.read_bytes() for p in place.iterdir()} == {p.name: p.read_bytes() for p in bundle.path.iterdir()}


def test_what_did_not_pass_is_refused_with_the_gates_reasons(registry, tmp_path):
    bundle = make_bundle(tmp_path / "weak", "weak")
    failed = judged(bundle, passed=False, reasons=["retention .80 is below .95", "parity 1e-2 is above 1e-4"])
    number = registry.publish(bundle, failed).number
    with pytest.raises(Refused) as refusal:
        promote(registry, number, expect=None, who="ada", why="hope")
    assert refusal.value.reasons == ["retention .80 is below .95", "parity 1e-2 is above 1e-4"]
    assert registry.find("champion") is None
    assert registry.ledger() == []
    assert registry.versions()[0].passed is False


def test_evidence_is_bound_to_the_content(registry, tmp_path):
    bundle, other = make_bundle(tmp_path / "a", "a"), make_bundle(tmp_path / "b", "b")
    with pytest.raises(RegistryError, match=r"the evidence is about .* judge it"):
        registry.publish(bundle, judged(other))
    number = registry.publish(bundle, None).number
    with pytest.raises(Refused, match="has no evidence"):
        promote(registry, number, expect=None, who="ada", why="-")
    with pytest.raises(Refused, match="the evidence is about"):
        promote(registry, number, expect=None, who="ada", why="-", evidence=judged(other))
    assert promote(registry, number, expect=None, who="ada", why="-", evidence=judged(bundle)).after == number


def test_the_same_content_keeps_its_version_and_gets_the_newer_evidence(registry, tmp_path):
    bundle = make_bundle(tmp_path / "a", "a")
    first = registry.publish(bundle, judged(bundle, passed=False, reasons=["too few lists"]))
    again = registry.publish(bundle, judged(bundle))
    assert again.number == first.number
    assert again.passed is True
    registry.promote(again.number, expect=None, who="ada", why="-")
    # The champion does not become a candidate, nor lose the reason it was promoted for, by being judged again.
    after = registry.publish(bundle, judged(bundle))
    assert after.aliases == ["champion"]
    assert "promoted by ada" in after.reason


def test_expect_is_compared(registry, two):
    one, other = two
    with pytest.raises(Refused, match=f"the champion is none, not version {other} as expected"):
        registry.promote(one, expect=other, who="ada", why="-")
    registry.promote(one, expect=None, who="ada", why="-")
    with pytest.raises(Refused, match=f"the champion is version {one}, not none as expected"):
        registry.promote(other, expect=None, who="bob", why="-")
    with pytest.raises(Refused, match="is the champion already"):
        registry.promote(one, expect=one, who="bob", why="-")
    registry.promote(other, expect=one, who="bob", why="-")
    assert registry.resolve("previous").number == one
    assert [(e.step, e.before, e.after) for e in registry.ledger()] == [(1, None, one), (2, one, other)]


def test_rollback_goes_to_the_previous_and_is_fenced_too(registry, two):
    one, other = two
    with pytest.raises(Refused, match="no previous champion"):
        registry.rollback(expect=None, who="ada", why="-")
    registry.promote(one, expect=None, who="ada", why="-")
    registry.promote(other, expect=one, who="ada", why="-")
    with pytest.raises(Refused, match="as expected"):
        registry.rollback(expect=one, who="ada", why="-")
    entry = registry.rollback(expect=other, who="ada", why="clicks fell")
    assert (entry.kind, entry.before, entry.after) == ("rollback", other, one)
    assert registry.resolve("champion").number == one
    assert registry.resolve("previous").number == other
    assert "rolled back to by ada" in registry.versions()[1].reason


def test_a_step_whose_maker_died_is_finished_by_the_next(registry, two, monkeypatch):
    one, other = two
    monkeypatch.setattr(registry._ledger, "_follow", lambda entry: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        registry.promote(one, expect=None, who="ada", why="-")
    monkeypatch.undo()
    assert registry.find("champion") is None
    with pytest.raises(Refused, match=f"the champion is version {one}, not none"):
        registry.promote(other, expect=None, who="bob", why="-")
    assert registry.resolve("champion").number == one


def test_a_slow_promoter_does_not_leave_its_alias_over_a_later_one(registry, two, monkeypatch):
    one, other = two
    follow = registry._ledger._follow

    def overtaken(entry):
        # While this one sleeps between its step and its aliases, another finishes the step and makes the next.
        monkeypatch.setattr(registry._ledger, "_follow", follow)
        fast = Registry(registry._connection.uri, registry.name)
        fast.promote(other, expect=one, who="bob", why="-")
        follow(entry)

    monkeypatch.setattr(registry._ledger, "_follow", overtaken)
    registry.promote(one, expect=None, who="ada", why="-")
    assert [e.who for e in registry.ledger()] == ["ada", "bob"]
    assert registry.resolve("champion").number == other


def test_an_alias_set_by_hand_is_respected(registry, two):
    one, other = two
    registry.promote(one, expect=None, who="ada", why="-")
    registry.promote(other, expect=one, who="ada", why="-")
    registry._client.set_registered_model_alias(registry.name, "champion", one)
    entry = registry.promote(other, expect=one, who="bob", why="-")
    assert entry.step == 3
    assert registry.resolve("champion").number == other


@pytest.mark.slow
def test_of_three_promoters_at_once_one_wins(uri, registry, tmp_path):
    bundles = [make_bundle(tmp_path / str(n), str(n)) for n in range(3)]
    numbers = [registry.publish(b, judged(b)).number for b in bundles]
    start = tmp_path / "start"
    code = textwrap.dedent("""
        import sys, time, pathlib
        from recdistill.errors import Refused
        from recdistill.registry import Registry
        uri, name, number, start = sys.argv[1:]
        registry = Registry(uri, name)
        registry.find("champion")
        print("ready", flush=True)
        while not pathlib.Path(start).exists():
            time.sleep(0.005)
        try:
            print("won", registry.promote(number, expect=None, who="p" + number, why="race").step)
        except Refused as e:
            print("refused", e.reasons[0])
    """)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, uri, registry.name, number, str(start)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        for number in numbers
    ]
    try:
        for racer in racers:
            assert racer.stdout.readline() == "ready\n", racer.stderr.read()
        start.touch()
        said = [racer.communicate(timeout=120) for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()
    results = [out.strip() for out, _ in said]
    assert sorted(r.split()[0] for r in results if r) == ["refused", "refused", "won"], said
    winner = numbers[next(i for i, r in enumerate(results) if r.startswith("won"))]
    assert registry.resolve("champion").number == winner
    assert [e.after for e in registry.ledger()] == [winner]


def test_a_broken_cache_is_fetched_again(registry, tmp_path):
    bundle = make_bundle(tmp_path / "a", "a")
    other = make_bundle(tmp_path / "b", "b")
    ref = registry.resolve(registry.publish(bundle, None).number)
    place = registry.fetch(ref, tmp_path / "cache").path
    for damage in (b"broken", (other.path / "popular.json").read_bytes() + b" "):
        (place / "popular.json").write_bytes(damage)
        assert registry.fetch(ref, tmp_path / "cache").content_hash == bundle.content_hash
        assert (place / "popular.json").read_bytes() == (bundle.path / "popular.json").read_bytes()


def test_files_that_are_not_what_the_registry_says_are_refused_until_published_again(registry, tmp_path):
    bundle = make_bundle(tmp_path / "a", "a")
    number = registry.publish(bundle, judged(bundle)).number
    ref = registry.resolve(number)
    files = bundle.manifest.content.files
    changed, longer = (files[name].sha256 for name in ("vectors.npy", "user_tower.onnx"))
    for sha256, damage, said in (
        (changed, bytes(files["vectors.npy"].size), "vectors.npy was changed in the registry"),
        (longer, bytes(10_000_000), "user_tower.onnx has 10000000 bytes in the registry, its manifest says"),
    ):
        (tmp_path / sha256).write_bytes(damage)
        artifacts(registry).send(tmp_path / sha256, f"blobs/{sha256[:2]}")
        with pytest.raises(BundleError, match=said):
            registry.fetch(ref, tmp_path / "cache")
        assert list((tmp_path / "cache").iterdir()) == []
        registry.publish(bundle, judged(bundle))
        assert registry.fetch(ref, tmp_path / "cache").content_hash == bundle.content_hash
        (tmp_path / "cache" / bundle.content_hash).rename(tmp_path / f"once-{sha256}")
    artifacts(registry).delete(blob_path(changed))
    with pytest.raises(RegistryError, match="does not hold the files of bundle"):
        registry.fetch(ref, tmp_path / "cache")
    with pytest.raises(Refused, match="is not in the registry any more"):
        promote(registry, number, expect=None, who="ada", why="-")
    other = make_bundle(tmp_path / "b", "b")
    artifacts(registry).send(other.path / "manifest.json", "bundles", f"{bundle.content_hash}.json")
    with pytest.raises(BundleError, match=f"says {bundle.content_hash[:12]}, the files are {other.content_hash[:12]}"):
        registry.fetch(ref, tmp_path / "cache")
    registry._client.set_model_version_tag(registry.name, number, "content_hash", "../../etc")
    with pytest.raises(RegistryError, match="has no content hash"):
        registry.resolve(number)
    with pytest.raises(RegistryError, match="not a content hash"):
        registry.fetch(BundleRef(number="1", content_hash="../../etc", uri="runs:/x/bundle"), tmp_path)


def published_as_before(registry, bundle):
    """A version as recdistill made them before there was a store: the whole bundle among the files of its run."""
    run_id = registry._runs.new(bundle.content_hash)
    registry._client.log_artifacts(run_id, str(bundle.path), "bundle")
    registry._connection.make_model(registry.name, {}, "")
    tags = {"content_hash": bundle.content_hash}
    source = f"runs:/{run_id}/bundle"
    return registry._client.create_model_version(registry.name, source, run_id=run_id, tags=tags).version


def test_versions_from_before_the_store_go_on_being_fetched_promoted_and_given_back(registry, tmp_path):
    bundle, other = make_bundle(tmp_path / "old", "old"), make_bundle(tmp_path / "other", "other")
    number, another = str(published_as_before(registry, bundle)), str(published_as_before(registry, other))
    assert registry.fetch(registry.resolve(number), tmp_path / "cache").content_hash == bundle.content_hash
    registry.promote(number, expect=None, who="ada", why="-")
    run_id = next(v.run_id for v in registry.versions() if v.number == another)
    (tmp_path / "stray").write_bytes(bytes(5_000_000))  # what no manifest lists is not downloaded
    registry._client.log_artifact(run_id, str(tmp_path / "stray"), "bundle")
    assert registry.fetch(registry.resolve(another), tmp_path / "cache").content_hash == other.content_hash
    (tmp_path / "cache" / other.content_hash).rename(tmp_path / "taken")
    held = {each.content_hash: each for each in registry.held()}
    assert {h: (e.number, e.promoted) for h, e in held.items()} == {
        bundle.content_hash: (number, 1),
        other.content_hash: (another, None),
    }
    registry.give_back(held, grace_s=0)  # the champion is never dropped, whoever says so
    assert [each.number for each in registry.held()] == [number]
    with pytest.raises(RegistryError, match="does not hold the files"):
        registry.fetch(registry.resolve(another), tmp_path / "cache")
    assert registry.publish(other, None).number == another
    assert registry.fetch(registry.resolve(another), tmp_path / "cache").content_hash == other.content_hash


def test_what_is_missing_is_said(registry, tmp_path):
    for asked in ("champion", "7", "@candidate"):
        assert registry.find(asked) is None
        with pytest.raises(RegistryError, match="has no version"):
            registry.resolve(asked)
    with pytest.raises(RegistryError, match="has no version '9'"):
        registry.promote("9", expect=None, who="ada", why="-")
    with pytest.raises(RegistryError, match="neither a version number nor an alias"):
        registry.resolve("../x")
    with pytest.raises(RegistryError, match="no such file to publish"):
        registry.publish(make_bundle(tmp_path / "a", "a"), None, report=tmp_path / "none.html")
    assert registry.versions() == []


def test_hostile_tags_are_clear_errors(registry, tmp_path):
    bundle = make_bundle(tmp_path / "a", "a")
    number = registry.publish(bundle, judged(bundle)).number
    registry._client.set_model_version_tag(registry.name, number, "evidence", json.dumps({"passed": "yes"}))
    with pytest.raises(RegistryError, match="its evidence cannot be read"):
        promote(registry, number, expect=None, who="ada", why="-")
    registry._client.create_registered_model(f"{registry.name}.ledger.1", tags={"entry": "{}"})
    with pytest.raises(RegistryError, match="is not a ledger entry"):
        registry.promote(number, expect=None, who="ada", why="-")


@pytest.mark.parametrize(
    "uri",
    [
        "ftp://models",
        "models",
        "",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "http://",
        "http://a:b:c",
        "file:///x",
    ],
)
def test_what_cannot_be_a_uri_is_refused_before_anything_is_opened(uri):
    with pytest.raises(RegistryError, match="not a registry URI"):
        Registry(uri, "shop")


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(RegistryError, match="is a folder"):
        Registry(f"sqlite:///{tmp_path}", "shop")


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "é", "x" * 201, ".x", "a.ledger.1", "a'b"])
def test_what_cannot_be_a_name_is_refused(name, tmp_path):
    with pytest.raises(RegistryError, match="not a model name"):
        Registry(f"sqlite:///{tmp_path}/r.sqlite", name)


def test_a_server_that_is_down_is_one_sentence_soon_and_shows_no_password():
    registry = Registry("http://ada:secret@127.0.0.1:9", "shop", timeout_s=2)
    started = time.monotonic()
    with pytest.raises(RegistryError) as error:
        registry.find("champion")
    assert time.monotonic() - started < 15
    assert str(error.value) == (
        "http://127.0.0.1:9: cannot resolve: the server does not answer; is it running, and is the address right?"
    )


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path):
    (tmp_path / "r.sqlite").write_text("this is text, and long enough to be looked at as a header of a database")
    with pytest.raises(RegistryError, match="cannot"):
        Registry(f"sqlite:///{tmp_path}/r.sqlite", "shop").versions()


def test_what_clashed_with_the_same_by_another_process_is_put_again() -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import BAD_REQUEST, TEMPORARILY_UNAVAILABLE

    def database(*errors: int) -> tuple[list[tuple[str, ...]], Callable[..., None]]:
        calls: list[tuple[str, ...]] = []

        def call(*args: str) -> None:
            calls.append(args)
            if len(calls) <= len(errors):
                raise MlflowException("UNIQUE constraint failed", error_code=errors[len(calls) - 1])

        return calls, call

    calls, call = database(BAD_REQUEST)
    put(call, "shop", "done", "true")
    assert calls == [("shop", "done", "true")] * 2
    for errors, times in (((BAD_REQUEST, BAD_REQUEST), 2), ((TEMPORARILY_UNAVAILABLE,), 1)):
        calls, call = database(*errors)
        with pytest.raises(MlflowException):
            put(call, "shop", "done", "true")
        assert len(calls) == times
