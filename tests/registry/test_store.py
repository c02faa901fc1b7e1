"""The store: nothing is sent twice, what is named stays, and a fetch during a sweep is whole or one sentence."""

from __future__ import annotations

import itertools
import random
import re
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.registries import ledger_at

from recdistill.bundle import Bundle, open_bundle
from recdistill.errors import RecdistillError, RegistryError
from recdistill.registry import Evidence, Registry
from recdistill.registry.artifacts import Artifacts
from recdistill.registry.client import Connection
from recdistill.registry.core import open_store
from recdistill.registry.store import Store, blob_path, digest_of
from recdistill.release import change, give_back, rollback, to_drop
from references.students import make_student
from tools.mlflow_server import new_file

pytestmark = pytest.mark.mlflow

ENOUGH = 80
"""So many fetches have to be whole while others put, drop and sweep."""


@pytest.fixture(scope="module", autouse=True)
def _mlflow() -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed (extra: registry)")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """Twelve of different content, made a second apart. Most share their specification and vocabulary."""
    place = tmp_path_factory.mktemp("bundles")
    return [
        make_student(12, seed=n).export(
            place / str(n), provenance={"step": n, "made_at": f"2026-01-02T03:04:{n:02}+00:00"}
        )
        for n in range(12)
    ]


@pytest.fixture(params=["folder", "server"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    if request.param == "folder":
        return Artifacts((tmp_path / "store").as_uri(), "sqlite:///unused")
    name = re.sub("[^a-z0-9]", "-", request.node.name.lower())
    connection = Connection(request.getfixturevalue("mlflow_server"), timeout_s=20.0)
    return open_store(connection, name)


def digests(*bundles: Bundle) -> set[str]:
    return {entry.sha256 for bundle in bundles for entry in bundle.manifest.content.files.values()}


def there(artifacts: Artifacts) -> set[str]:
    """The blobs that are there, found without the store."""
    return {name for shard in artifacts.folders("blobs") for name in artifacts.sizes(f"blobs/{shard}")}


class Counting:
    """Counts what is sent."""

    def __init__(self, inner: Artifacts) -> None:
        self.inner, self.sent = inner, list[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def send(self, file: Path, folder: str, name: str | None = None) -> None:
        self.sent.append(f"{folder}/{name or file.name}")
        self.inner.send(file, folder, name)


def test_nothing_is_sent_twice_and_the_manifest_goes_last(artifacts: Artifacts, bundles: list[Bundle]) -> None:
    counting = Counting(artifacts)
    store = Store(lambda: counting)  # type: ignore[arg-type, return-value]
    one, two = bundles[:2]
    assert store.put(one) == sum({entry.sha256: entry.size for entry in one.manifest.content.files.values()}.values())
    assert counting.sent == [*counting.sent[:-1], f"bundles/{one.content_hash}.json"]
    assert {path.rpartition("/")[2] for path in counting.sent[:-1]} == digests(one)
    counting.sent.clear()
    assert store.put(one) == 0
    assert Store(lambda: artifacts).put(one) == 0
    assert counting.sent == []
    store.put(two)
    assert {path.rpartition("/")[2] for path in counting.sent[:-1]} == digests(two) - digests(one)
    assert len(digests(two) & digests(one)) >= 1


def test_a_put_that_was_killed_is_finished_by_the_next(
    artifacts: Artifacts, bundles: list[Bundle], tmp_path: Path
) -> None:
    [bundle, *_] = bundles
    for alive in range(len(digests(bundle)) + 1):

        class Dying(Counting):
            def send(self, file: Path, folder: str, name: str | None = None) -> None:
                if len(self.sent) == alive:  # noqa: B023 - used at once
                    raise KeyboardInterrupt
                super().send(file, folder, name)

        with pytest.raises(KeyboardInterrupt):
            Store(lambda: Dying(artifacts)).put(bundle)  # type: ignore[arg-type, return-value]
        assert not Store(lambda: artifacts).has(bundle.content_hash)
        for sha256 in there(artifacts):
            artifacts.delete(blob_path(sha256))
    store = Store(lambda: artifacts)
    (tmp_path / "cut").write_bytes(b"half")
    cut = bundle.manifest.content.files["vectors.npy"].sha256
    artifacts.send(tmp_path / "cut", f"blobs/{cut[:2]}", cut)  # a file that came in part counts as none
    artifacts.send(tmp_path / "cut", "bundles", f"{bundle.content_hash}.json")
    store.put(bundle)
    (tmp_path / "got").mkdir()
    store.fetch(bundle.content_hash, tmp_path / "got")
    assert open_bundle(tmp_path / "got").content_hash == bundle.content_hash


def test_a_file_without_a_name_has_its_time_of_grace(artifacts: Artifacts, bundles: list[Bundle]) -> None:
    store = Store(lambda: artifacts)
    one, two, three = bundles[:3]
    for bundle in (one, two):
        store.put(bundle)
    # Files of a bundle whose manifest is still on its way.
    for name, entry in three.manifest.content.files.items():
        artifacts.send(three.path / name, f"blobs/{entry.sha256[:2]}", entry.sha256)
    everything = digests(one, two, three)
    store.drop(one.content_hash)
    assert store.sweep(60, clock=lambda: 1000.0) == 0
    assert Store(lambda: artifacts).sweep(60, clock=lambda: 1059.0) == 0  # another process remembers
    assert there(artifacts) == everything
    artifacts.send(three.path / "manifest.json", "bundles", f"{three.content_hash}.json")
    freed = Store(lambda: artifacts).sweep(60, clock=lambda: 1060.0)
    gone = digests(one) - digests(two, three)
    assert there(artifacts) == digests(two, three)
    assert freed == sum({e.sha256: e.size for e in one.manifest.content.files.values() if e.sha256 in gone}.values())
    # What got a name in the meantime begins its grace anew when it loses it.
    store.drop(three.content_hash)
    assert store.sweep(60, clock=lambda: 1061.0) == 0


class Meeting:
    """Lets another work happen just before the nth call to the place."""

    def __init__(self, inner: Artifacts, nth: int, other: Callable[[], object]) -> None:
        self.inner, self.left, self.other = inner, nth, other

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.inner, name)

        def call(*args: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                self.other()
            return real(*args)

        return call


@pytest.mark.slow
@pytest.mark.parametrize("stopped", ["sweep", "put"])
@pytest.mark.parametrize("grace_s", [0.0, 60.0])
def test_what_is_put_while_it_is_swept_is_whole(
    tmp_path: Path, bundles: list[Bundle], stopped: str, grace_s: float
) -> None:
    """One of the two is stopped before each of its calls, and the other one does all of its work meanwhile."""
    [bundle, other] = bundles[:2]
    for nth in range(1, 500):
        artifacts = Artifacts((tmp_path / str(nth)).as_uri(), "sqlite:///unused")
        now_s = itertools.count(1000.0, 1000.0).__next__
        done: list[str] = []

        def put(place: Any, done: list[str] = done) -> None:
            Store(lambda: place).put(bundle)
            done.append("put")

        def sweep(place: Any, done: list[str] = done, now_s: Callable[[], float] = now_s) -> None:
            Store(lambda: place).sweep(grace_s, clock=now_s)
            done.append("sweep")

        store = Store(lambda at=artifacts: at)  # type: ignore[misc]
        store.put(bundle)
        store.put(other)
        store.drop(bundle.content_hash)
        if grace_s:
            store.sweep(grace_s, clock=now_s)  # its files are condemned, and the next sweep deletes them
        outer, inner = (sweep, put) if stopped == "sweep" else (put, sweep)
        outer(Meeting(artifacts, nth, partial(inner, artifacts)))
        if len(done) == 1:  # it has fewer calls
            break
        assert store.has(bundle.content_hash)
        for _ in range(2):  # a later sweep takes nothing that is needed, and all else
            store.sweep(0.0)
        place = tmp_path / f"got-{nth}"
        place.mkdir()
        store.fetch(bundle.content_hash, place)
        assert open_bundle(place).content_hash == bundle.content_hash
        assert store.has(other.content_hash)
        copies = [name.partition("-")[0] for name in there(artifacts)]
        assert sorted(copies) == sorted(digests(bundle, other)), "a copy too many stays for ever"
    assert nth > 10


def test_what_loses_its_name_during_a_sweep_is_left_to_the_next(
    tmp_path: Path, bundles: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = Artifacts((tmp_path / "store").as_uri(), "sqlite:///unused")
    store, looked = Store(lambda: artifacts), itertools.count()
    store.put(bundles[0])
    named = store._named

    def second_look_comes_too_late() -> dict[str, int]:
        if next(looked) == 1:
            Store(lambda: artifacts).drop(bundles[0].content_hash)
        return named()

    monkeypatch.setattr(store, "_named", second_look_comes_too_late)
    assert store.sweep(0.0) == 0
    assert there(artifacts) == digests(bundles[0])
    assert store.sweep(0.0) > 0
    assert not there(artifacts)


def test_a_damaged_copy_does_not_hide_a_whole_one(tmp_path: Path, bundles: list[Bundle]) -> None:
    artifacts = Artifacts((tmp_path / "store").as_uri(), "sqlite:///unused")
    [bundle, *_] = bundles
    store = Store(lambda: artifacts)
    store.put(bundle)
    name, entry = next(iter(bundle.manifest.content.files.items()))
    artifacts.send(bundle.path / name, f"blobs/{entry.sha256[:2]}", f"{entry.sha256}-0a0b0c0d")
    (tmp_path / "other").write_bytes(bytes(entry.size))
    artifacts.send(tmp_path / "other", f"blobs/{entry.sha256[:2]}", entry.sha256)
    (tmp_path / "got").mkdir()
    store.fetch(bundle.content_hash, tmp_path / "got")
    assert open_bundle(tmp_path / "got").content_hash == bundle.content_hash


@pytest.mark.parametrize("seed", range(3))
def test_after_any_history_exactly_the_named_files_stay(artifacts: Artifacts, bundles: list[Bundle], seed: int) -> None:
    chance = random.Random(seed)
    store, model = Store(lambda: artifacts), dict[str, Bundle]()
    for _ in range(12):
        bundle = chance.choice(bundles)
        if chance.random() < 0.6:
            store.put(bundle)
            model[bundle.content_hash] = bundle
        elif model:
            gone = chance.choice(sorted(model))
            store.drop(gone)
            del model[gone]
        if chance.random() < 0.5:
            store.sweep(0)
            assert there(artifacts) == digests(*model.values())
    assert set(store.bundles()) == set(model)
    assert all(store.has(content_hash) for content_hash in model)


@pytest.mark.slow
def test_a_fetch_during_sweeps_is_whole_or_one_sentence(tmp_path: Path, bundles: list[Bundle]) -> None:
    """Two who fetch, two who put, one who drops and sweeps without any grace: the worst that can be."""
    artifacts = Artifacts((tmp_path / "store").as_uri(), "sqlite:///unused")
    stop, failed, whole, sentences = threading.Event(), list[BaseException](), list[str](), list[str]()
    always = bundles[0]
    Store(lambda: artifacts).put(always)

    def until_stopped(work: Callable[[Store, random.Random, int], None], seed: int) -> None:
        store, chance, n = Store(lambda: artifacts), random.Random(seed), 0
        while not stop.is_set():
            try:
                work(store, chance, n)
            except RecdistillError as e:
                sentences.append(str(e))
            except BaseException as e:
                failed.append(e)
                stop.set()
                raise
            n += 1

    def fetch(store: Store, chance: random.Random, n: int) -> None:
        wanted = chance.choice(bundles)
        place = tmp_path / f"{threading.get_ident()}-{n}"
        place.mkdir()
        store.fetch(wanted.content_hash, place)
        assert open_bundle(place).content_hash == wanted.content_hash
        whole.append(wanted.content_hash)
        if len(whole) >= ENOUGH:
            stop.set()

    def put(store: Store, chance: random.Random, _: int) -> None:
        store.put(chance.choice(bundles[1:]))

    def sweep(store: Store, chance: random.Random, _: int) -> None:
        store.drop(chance.choice(bundles[1:]).content_hash)
        store.sweep(0)

    works = [(fetch, 1), (fetch, 2), (put, 3), (put, 4), (sweep, 5)]
    threads = [threading.Thread(target=until_stopped, args=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    stop.set()
    assert not failed
    assert len(whole) >= ENOUGH
    assert always.content_hash in whole
    assert sentences  # the sweeps did come between
    assert all(len(sentence) < 300 and "\n" not in sentence for sentence in sentences)
    # What serves is never in danger, whatever else goes on.
    assert Store(lambda: artifacts).has(always.content_hash)


def evidence(bundle: Bundle, passed: bool) -> Evidence:
    return Evidence(
        content_hash=bundle.content_hash, passed=passed, reasons=["-"], metrics={}, made_at="2026", judged=9
    )


@pytest.mark.parametrize(
    ("where", "seed"), [("sqlite", 0), ("sqlite", 1), pytest.param("server", 0, marks=pytest.mark.slow)]
)
def test_after_any_history_of_releases_what_is_kept_is_whole(
    request: pytest.FixtureRequest, tmp_path: Path, bundles: list[Bundle], seed: int, where: str
) -> None:
    uri = new_file(tmp_path / "r.sqlite") if where == "sqlite" else request.getfixturevalue("mlflow_server")
    registry, chance, keep = Registry(uri, f"history-{seed}"), random.Random(seed), 2
    ledger = ledger_at(tmp_path, registry.name)
    made: list[Bundle] = []
    for n, bundle in enumerate(bundles):
        registry.put(bundle)
        made.append(bundle)
        if chance.random() < 0.7:
            passed = chance.random() < 0.7
            number = registry.publish(bundle, evidence(bundle, passed)).number
            champion = registry.find("champion")
            if passed:
                change(
                    registry,
                    ledger,
                    number,
                    bundle.content_hash,
                    expect=champion and champion.number,
                    who="t",
                    why="-",
                )
        if n % 4 == 3 and registry.find("previous"):
            champion = registry.find("champion")
            rollback(registry, ledger, expect=champion and champion.number, who="t", why="-", named=True)
        if n % 3 == 2:
            give_back(registry, ledger, keep, grace_s=0)
            held = {each.content_hash for each in registry.held()}
            assert there(registry._store._artifacts) == digests(*(b for b in made if b.content_hash in held))
    give_back(registry, ledger, keep, grace_s=0)
    held = {each.content_hash for each in registry.held()}
    # Worked out from the registry's own words, without the policy.
    versions = registry.versions()
    aliased = {v.content_hash for v in versions if v.aliases}
    promoted = list(dict.fromkeys(entry.content_hash for entry in reversed(ledger.look().changes)))
    others = [b.content_hash for b in made if b.content_hash not in {*aliased, *promoted}]
    assert held == aliased | set([h for h in promoted if h not in aliased][:keep]) | set(others[-keep:])
    assert to_drop(registry.held(ledger.look().promoted()), keep) == []
    for content_hash in held:
        assert registry.take(content_hash, tmp_path / "cache").content_hash == content_hash
    for version in versions:
        ref = registry.resolve(version.number)
        if version.content_hash not in held:
            with pytest.raises(RegistryError, match=r"does not hold .*registry.keep"):
                registry.fetch(ref, tmp_path / "other")
    assert len(versions) == len({v.content_hash for v in versions})  # each stays, with its evidence and report


def test_models_of_one_registry_have_stores_of_their_own(tmp_path: Path, bundles: list[Bundle]) -> None:
    uri = new_file(tmp_path / "r.sqlite")
    one, two = (Registry(uri, name) for name in ("shop", "shop bundles"))
    one.put(bundles[0])
    two.put(bundles[1])
    assert [each.content_hash for each in one.held()] == [bundles[0].content_hash]
    one.give_back([], grace_s=0)
    assert two.holds(bundles[1].content_hash)
    assert not two.holds(bundles[0].content_hash)


def test_a_digest_is_that_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert digest_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_notes_of_a_sweep_that_are_damaged_are_made_anew(
    artifacts: Artifacts, bundles: list[Bundle], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(lambda: artifacts)
    store.put(bundles[0])
    for noise in (b"noise", b'{"blobs/\xff": 1.0}'):
        (tmp_path / "condemned.json").write_bytes(noise)
        artifacts.send(tmp_path / "condemned.json", "")
        caplog.clear()
        assert store.sweep(0.0) == 0
        assert "condemned.json cannot be read, so a new one is written" in caplog.text
    assert there(artifacts) == digests(bundles[0])
