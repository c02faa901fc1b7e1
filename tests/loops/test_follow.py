"""Followers: catalogues are brought up to the end from anywhere; of fetched bundles the one before stays."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from recdistill.bundle import Bundle
from recdistill.config import LogSettings
from recdistill.errors import RegistryError
from recdistill.loops.feed import feed
from recdistill.loops.follow import Champion, catch_up, new_items
from recdistill.records import Item
from recdistill.registry import BundleRef
from recdistill.stream import ITEMS, Log, open_log, standard_topics
from references.students import make_student


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics())
    yield log
    log.close()


class Catalogue:
    def __init__(self, position: int) -> None:
        self.position, self.ids = position, list[str]()

    def apply_items(self, items: Sequence[Item], position: int) -> int:
        self.ids += [item.id for item in items]
        self.position = position
        return len(items)


def test_two_catalogues_at_different_places_share_one_source(log: Log) -> None:
    feed(log, [Item(f"item-{n}") for n in range(2500)])
    stage = log.stage("test")
    with stage.transaction() as transaction:
        transaction.send("items", b"junk", key=b"x")
    stage.close()
    source, told, bad = log.source([ITEMS]), list[tuple[int, int]](), list[int]()
    end = source.bounds(ITEMS)[1]

    def passed_over(message: object, error: Exception) -> None:
        bad.append(1)

    old, new = Catalogue(0), Catalogue(2000)
    for catalogue in (old, new, old, new):
        catch_up(source, catalogue, passed_over, applied=lambda n, result: told.append((n, result)))
        assert catalogue.position == end
    assert old.ids == [f"item-{n}" for n in range(2500)]
    assert new.ids == old.ids[-len(new.ids) :]
    assert 0 < len(new.ids) < 600  # transactions take offsets of their own
    assert all(n == result for n, result in told)
    assert len(bad) == 2
    # A position that the log does not hold: all that it holds is read.
    lost = Catalogue(end + 1_000_000)
    catch_up(source, lost, passed_over)
    assert lost.ids == old.ids
    stop = threading.Event()
    stop.set()
    source.seek({ITEMS: 0})
    assert list(new_items(source, passed_over, stop=stop)) == []
    source.close()


def test_the_champion_is_looked_at_again_after_a_failure_and_the_one_before_stays(tmp_path: Path) -> None:
    cache, opened = tmp_path / "cache", list[int]()
    bundles = {n: make_student(12, seed=n).export(tmp_path / str(n)) for n in range(4)}
    now = [0]

    class Shop:
        def find(self, alias: str) -> BundleRef:
            assert alias == "champion"
            return BundleRef(number=str(now[0]), content_hash=bundles[now[0]].content_hash, uri="")

        def fetch(self, ref: BundleRef, into: Path) -> Bundle:
            place = into / ref.content_hash
            place.parent.mkdir(exist_ok=True)
            bundles[int(ref.number)].path.rename(place)
            return Bundle(**{**vars(bundles[int(ref.number)]), "path": place})

    def open_shop() -> Shop:
        opened.append(1)
        if len(opened) == 1:
            raise RegistryError("the server does not answer")
        return Shop()

    champion = Champion("shop", open_shop, cache)  # type: ignore[arg-type]
    with pytest.raises(RegistryError):
        champion.look()
    long_ago = time.time() - 7200
    for n in range(4):
        now[0] = n
        ref = champion.look()
        assert ref is not None
        bundle = champion.fetch(ref)
        for place in cache.iterdir():
            os.utime(place, (long_ago, long_ago))
        champion.took(bundle)
        champion.took(bundle)  # again, as after a restart: nothing changes
        kept = {bundles[n].content_hash, bundles[max(0, n - 1)].content_hash}
        assert {place.name for place in cache.iterdir()} == kept
        champion.look()
        assert bundle.path.stat().st_mtime > long_ago + 3600  # others see that it is in use
    assert len(opened) == 2
