"""The champion is followed from a step on, and a run that goes on follows the same ones from the same steps."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from recdistill.errors import BundleError, RegistryError
from recdistill.loops.prequential import Following, Found
from recdistill.loops.prequential.champion import NAME, noted
from recdistill.stream import LanePosition, LogIdentity

IDENTITY = LogIdentity("here", {"examples": 1})


def lanes(offset: int, identity: LogIdentity = IDENTITY) -> LanePosition:
    return LanePosition(identity, (offset,), 0)


def bundle(name: str, lanes: Any) -> Found:
    about = {} if lanes is None else {"positions": {"lanes": lanes}}
    manifest = type("Manifest", (), {"provenance": about})
    recommender = type("Fake", (), {"bundle": type("Bundle", (), {"manifest": manifest}), "name": name})
    return Found(name, cast("Any", recommender))


def plain(offset: int, cluster: str = "here") -> dict[str, Any]:
    return {"identity": {"cluster": cluster, "partitions": {"examples": 1}}, "offsets": [offset], "turn": 0}


class Registry:
    """Bundles by name, and who is champion."""

    def __init__(self, champion: str = "", **bundles: Any) -> None:
        self.champion, self.bundles = champion, bundles
        self.opened: list[str] = []

    def now(self) -> str:
        if self.champion == "away":
            raise RegistryError("the registry does not answer")
        return self.champion

    def open(self, content_hash: str) -> Found:
        self.opened.append(content_hash)
        if content_hash not in self.bundles:
            raise BundleError(f"{content_hash} is damaged")
        return bundle(content_hash, self.bundles[content_hash])


def name_at(following: Following, step: int, offset: int = 100) -> str | None:
    live = following.at(step, lanes(offset), lambda _: None)
    return None if live is None else cast("Any", live._recommender).name


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.005)


def test_a_new_champion_is_found_beside_and_noted_with_its_step(tmp_path: Path) -> None:
    registry = Registry("one", one=plain(5), two=plain(50))
    following = Following(registry, every_s=0.01)
    following.begin(tmp_path, 0)
    assert name_at(following, 3) == "one"
    registry.champion = "two"
    until(lambda: "two" in registry.opened)
    until(lambda: name_at(following, 9) == "two")
    following.close()
    assert noted(tmp_path) == [(3, "one"), (9, "two")]
    assert registry.opened == ["one", "two"]


def test_a_replay_follows_the_champions_of_then(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(json.dumps([[3, "one"], [9, "two"]]))
    registry = Registry("three", one=plain(5), two=plain(50), three=plain(60))
    following = Following(registry, every_s=0.01)
    following.begin(tmp_path, 4)
    assert [name_at(following, step) for step in (4, 8, 9)] == ["one", "one", "two"]
    until(lambda: name_at(following, 10) == "three")
    following.close()
    assert noted(tmp_path) == [(3, "one"), (9, "two"), (10, "three")]


def test_lists_that_it_may_have_learnt_are_not_asked(tmp_path: Path) -> None:
    for stopped, offset, wanted in (
        (plain(50), 49, None),
        (plain(50), 50, "one"),
        (plain(5, "elsewhere"), 50, None),
        (None, 50, None),
        ("nonsense", 50, None),
    ):
        following = Following(Registry("one", one=stopped), every_s=60)
        following.begin(tmp_path, 0)
        assert name_at(following, 1, offset) == wanted
        following.close()
        (tmp_path / NAME).unlink()


def test_a_registry_that_is_away_and_a_damaged_bundle_are_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry("away")
    following = Following(registry, every_s=0.01)
    following.begin(tmp_path, 0)
    registry.champion = "damaged"
    until(lambda: registry.opened.count("damaged") >= 3)
    assert name_at(following, 1) is None
    following.close()
    assert caplog.text.count("the champion is not known, and is looked for again: the registry does not answer") == 1
    assert caplog.text.count("the champion damaged cannot be opened, so lists are scored without it") == 1
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize("noise", [b"noise", b'[[1, "\xff"]]'])
def test_a_file_that_cannot_be_read_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture, noise: bytes) -> None:
    (tmp_path / NAME).write_bytes(noise)
    assert noted(tmp_path) == []
    assert "so earlier champions are not known" in caplog.text
