"""Bundles made beside the learning: the same content as in line, in order, whole or not at all."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import distilling
from support.distilling import final, more, run, settings

from recdistill.bundle import BundleFolder, made, open_bundle
from recdistill.linear import TALLY
from recdistill.loops.distil import exports
from recdistill.loops.distil.beside import Maker
from recdistill.progress import Progress
from recdistill.stream import Log

LATER = 12
"""Steps of 8 in the lists that come after the first run."""


@pytest.fixture
def log(written: Path, tmp_path: Path) -> Iterator[Log]:
    for log in distilling.copied(written, tmp_path):
        more(log, 8 * (LATER + 3), seed=9)
        yield log


class Seen:
    """What is published, and what the loop does meanwhile."""

    def __init__(self, stop_after: int = LATER) -> None:
        self.stop = threading.Event()
        self.bundles: list[BundleFolder] = []
        self.steps = 0
        self.while_working = 0
        self._stop_after = stop_after

    def begin(self, student: str, bundles: Path) -> None:
        self.place = bundles

    def __call__(self, bundle: BundleFolder) -> None:
        self.bundles.append(bundle)

    def progress(self, done: int, total: int | None) -> None:
        self.steps += 1
        self.while_working += any((self.place.parent / "exporting").glob("step-*/"))
        if self.steps == self._stop_after:
            self.stop.set()


def service(log: Log, place: Path, seen: Seen, progress: Progress | None = None, **changed: object) -> Counter[str]:
    """A first part is drained; then the distiller runs as a service does, until it is stopped."""
    if not place.exists():
        stop = threading.Event()
        run(
            log,
            settings(place),
            stop=stop,
            drain=False,
            progress=lambda done, total: stop.set() if done > 148 else None,
        )
    chosen = settings(place, keep=99, **changed)
    return run(log, chosen, drain=False, stop=seen.stop, progress=progress or seen.progress, publish=seen)


def bytes_of(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name != "manifest.json"}


@pytest.mark.slow
def test_a_bundle_made_beside_is_that_of_the_same_step_in_line_byte_for_byte(log: Log, tmp_path: Path) -> None:
    beside, inline = Seen(), Seen()
    counts = service(log, tmp_path / "beside", beside, export_every=1, export_beside=True)
    service(log, tmp_path / "inline", inline, export_every=1, export_beside=False)
    assert len(inline.bundles) == LATER
    assert 1 <= len(beside.bundles) == counts["bundles"] == len(made(tmp_path / "beside" / "bundles"))
    for bundle in beside.bundles:
        twin = tmp_path / "inline" / "bundles" / bundle.path.name
        assert bytes_of(bundle.path) == bytes_of(twin)
        assert bundle.manifest.beside.keys() == {TALLY}
        assert open_bundle(bundle.path).content_hash == open_bundle(twin).content_hash == bundle.content_hash
        assert bundle.manifest.provenance["trigger"] == "steps"
    assert beside.while_working > 1  # it learns on meanwhile
    distilling.assert_same_state(tmp_path / "beside", tmp_path / "inline")
    assert not list((tmp_path / "beside" / "exporting").iterdir())


@pytest.mark.slow
def test_each_bundle_names_the_one_before_it(log: Log, tmp_path: Path) -> None:
    seen = Seen()

    def slowly(done: int, total: int | None) -> None:
        seen.progress(done, total)
        deadline = time.monotonic() + 60
        while seen.steps % 5 == 0 and len(seen.bundles) < seen.steps // 5:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    chosen = settings(tmp_path / "s", keep=99, export_every_examples=8, export_every=0)
    run(log, chosen, drain=False, stop=seen.stop, progress=slowly, publish=seen)
    assert len(seen.bundles) >= 3
    hashes = ["", *(bundle.content_hash for bundle in seen.bundles)]
    assert [bundle.manifest.provenance["parent"] for bundle in seen.bundles] == hashes[:-1]
    assert [bundle.manifest.provenance["trigger"] for bundle in seen.bundles] == ["examples"] * (len(hashes) - 1)
    assert final(tmp_path / "s").state["stream"]["parent"] == hashes[-1]


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_nothing_and_the_next_trigger_makes_another(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Fragile(Maker):
        started = 0

        def wait(self) -> None:
            Fragile.started += 1
            if Fragile.started == 1:
                self.end()
            super().wait()

    monkeypatch.setattr(exports, "Maker", Fragile)

    class One(Seen):
        def __call__(self, bundle: BundleFolder) -> None:
            super().__call__(bundle)
            self.stop.set()

    seen = One(stop_after=10_000)
    deadline = time.monotonic() + 120

    def slowly(done: int, total: int | None) -> None:
        seen.progress(done, total)
        while seen.steps == 4 and any((tmp_path / "s" / "exporting").iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    counts = service(log, tmp_path / "s", seen, progress=slowly, export_every=3)
    assert counts["failed_exports"] == 1
    assert "an export failed, and the next trigger makes another: the process that made it was ended by SIGKILL" in (
        caplog.text
    )
    assert counts["bundles"] >= 1
    assert [open_bundle(path).content_hash for path in made(tmp_path / "s" / "bundles")]
    assert not list((tmp_path / "s" / "exporting").iterdir())
