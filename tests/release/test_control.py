"""The control's bundles in the registry: the newest is taken, the older ones go, a broken one is a sentence."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from recdistill.bundle import Bundle
from recdistill.errors import BundleError
from recdistill.registry import Registry
from recdistill.release.control import Controls, in_folder
from references.students import make_student

pytestmark = pytest.mark.slow


def made(folder: Path, number: int) -> Bundle:
    provenance = {"made_at": f"2026-01-0{number}T00:00:00+00:00"}
    return make_student(12, seed=number).export(folder / f"step-{number:010d}", provenance=provenance)


def test_the_newest_is_taken_and_older_ones_go(tmp_path: Path) -> None:
    store = Registry(f"sqlite:///{tmp_path}/mlflow.sqlite", "shop.control")
    tried: list[str] = []
    controls = Controls(store, lambda bundle: tried.append(bundle.content_hash))
    bundles = [made(tmp_path / "bundles", number) for number in (2, 3, 1)]
    for bundle in bundles:
        store.put(bundle)
    for _ in range(2):
        found, why = controls.newest(tmp_path / "cache")
        assert why == ""
        assert found is not None
        assert found.content_hash == bundles[1].content_hash
    assert tried == [bundles[1].content_hash], "once"
    controls.give_back(grace_s=0)
    assert {one.content_hash for one in store.held()} == {bundles[0].content_hash, bundles[1].content_hash}
    assert store.versions() == []


def test_a_store_that_was_only_made_is_empty_since_then(tmp_path: Path) -> None:
    store = Registry(f"sqlite:///{tmp_path}/mlflow.sqlite", "shop.control")
    controls = Controls(store)
    assert not controls.known()
    assert controls.empty_since() is None
    before = time.time()
    for _ in range(2):  # a distiller that is started again
        store.make_store()
    assert controls.known()
    since = controls.empty_since()
    assert since is not None
    assert before - 1 <= since <= time.time() + 1
    assert controls.newest(tmp_path / "cache")[0] is None
    assert controls.give_back(grace_s=0) == 0
    store.put(made(tmp_path / "bundles", 1))
    assert controls.empty_since() is None


def test_one_that_does_not_run_is_a_sentence(tmp_path: Path) -> None:
    store = Registry(f"sqlite:///{tmp_path}/mlflow.sqlite", "shop.control")
    store.put(made(tmp_path / "bundles", 1))

    def refuse(_: Bundle) -> None:
        raise BundleError("its tower never ends")

    found, why = Controls(store, refuse).newest(tmp_path / "cache")
    assert (found, why) == (None, "the newest one cannot be used: its tower never ends")


def test_the_newest_of_a_folder(tmp_path: Path) -> None:
    assert in_folder(tmp_path / "bundles")[1].endswith("recdistill distil --control")
    for number in (1, 2):
        newest = made(tmp_path / "bundles", number)
    found, _ = in_folder(tmp_path / "bundles")
    assert found is not None
    assert found.content_hash == newest.content_hash
    (newest.path / "manifest.json").write_bytes(b"{}")
    found, why = in_folder(tmp_path / "bundles")
    assert found is None
    assert why.startswith("the newest one cannot be used")
