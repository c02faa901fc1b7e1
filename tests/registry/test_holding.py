"""The bundles that a registry holds: fetched whole or refused, and versions from before there was a store."""

from __future__ import annotations

import pytest
from support.registries import judged, make_bundle

from recdistill.errors import BundleError, RegistryError
from recdistill.registry import BundleRef, Registry
from recdistill.registry.runs import Runs
from recdistill.registry.store import blob_path

pytestmark = pytest.mark.mlflow


def artifacts(registry):
    """The store's own files: what an intruder, or a bad disk, could change."""
    return registry._store._artifacts


def test_a_bundle_comes_back_whole(registry, tmp_path):
    bundle = make_bundle(tmp_path / "bundle", "whole")
    version = registry.publish(bundle, None)
    assert version.content_hash == bundle.content_hash
    place = registry.fetch(registry.resolve("candidate"), tmp_path / "cache").path
    assert {p.name: p.read_bytes() for p in place.iterdir()} == {p.name: p.read_bytes() for p in bundle.path.iterdir()}


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
    assert not registry.has_bundle(number)
    other = make_bundle(tmp_path / "b", "b")
    artifacts(registry).send(other.path / "manifest.json", "bundles", f"{bundle.content_hash}.json")
    with pytest.raises(BundleError, match=f"says {bundle.content_hash[:12]}, the files are {other.content_hash[:12]}"):
        registry.fetch(ref, tmp_path / "cache")
    registry._connection.client.set_model_version_tag(registry.name, number, "content_hash", "../../etc")
    with pytest.raises(RegistryError, match="has no content hash"):
        registry.resolve(number)
    with pytest.raises(RegistryError, match="not a content hash"):
        registry.fetch(BundleRef(number="1", content_hash="../../etc", uri="runs:/x/bundle"), tmp_path)


def published_as_before(registry, bundle):
    """A version as recdistill made them before there was a store: the whole bundle among the files of its run."""
    run_id = Runs(registry._connection, registry.name).new(bundle.content_hash)
    registry._connection.client.log_artifacts(run_id, str(bundle.path), "bundle")
    registry._connection.make_model(registry.name, {}, "")
    tags = {"content_hash": bundle.content_hash}
    source = f"runs:/{run_id}/bundle"
    return registry._connection.client.create_model_version(registry.name, source, run_id=run_id, tags=tags).version


def test_versions_from_before_the_store_go_on_being_fetched_promoted_and_given_back(registry, tmp_path):
    bundle, other = make_bundle(tmp_path / "old", "old"), make_bundle(tmp_path / "other", "other")
    number, another = str(published_as_before(registry, bundle)), str(published_as_before(registry, other))
    assert registry.fetch(registry.resolve(number), tmp_path / "cache").content_hash == bundle.content_hash
    registry.crown(number)
    run_id = next(v.run_id for v in registry.versions() if v.number == another)
    (tmp_path / "stray").write_bytes(bytes(5_000_000))  # what no manifest lists is not downloaded
    registry._connection.client.log_artifact(run_id, str(tmp_path / "stray"), "bundle")
    assert registry.fetch(registry.resolve(another), tmp_path / "cache").content_hash == other.content_hash
    (tmp_path / "cache" / other.content_hash).rename(tmp_path / "taken")
    held = {each.content_hash: each for each in registry.held({number: 1})}
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


@pytest.mark.slow
@pytest.mark.parametrize("uri", ["sqlite"], indirect=True)
@pytest.mark.parametrize("stopped", ["give back", "publish"])
def test_a_bundle_that_is_published_while_it_is_given_back_stays(registry, tmp_path, stopped):
    """One of the two is stopped before each of its steps, and the other one does all of its work meanwhile."""
    bundle, other = make_bundle(tmp_path / "a", "a"), make_bundle(tmp_path / "b", "b")
    number = registry.publish(bundle, judged(bundle)).number
    giver, publisher = (Registry(registry._connection.uri, registry.name) for _ in range(2))

    def gives_back():
        giver.give_back([bundle.content_hash], grace_s=0)

    def publishes():
        publisher.publish(bundle, judged(bundle))

    outer, inner, who = (gives_back, publishes, giver) if stopped == "give back" else (publishes, gives_back, publisher)
    steps = {"_versions": ("of", "tag"), "_aliases": ("all", "nominate"), "_store": ("drop", "sweep", "put", "has")}
    for nth in range(1, 40):
        registry.publish(other, judged(other))  # it is the candidate now, so the first bundle may be dropped
        left = [nth]
        with pytest.MonkeyPatch.context() as patch:
            for part, names in steps.items():
                for name in names:
                    patch.setattr(getattr(who, part), name, meeting(getattr(getattr(who, part), name), left, inner))
            outer()
        if left[0] > 0:  # it has fewer steps
            break
        assert registry.aliases()["candidate"] == number
        assert registry.has_bundle(number), nth
        assert registry.fetch(registry.resolve(number), tmp_path / str(nth)).content_hash == bundle.content_hash
    assert nth > 4


def meeting(real, left, other):
    """A step that lets another work happen first, if it is the nth."""

    def step(*args, **more):
        left[0] -= 1
        if left[0] == 0:
            other()
        return real(*args, **more)

    return step
