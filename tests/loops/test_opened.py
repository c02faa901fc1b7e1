"""Whom a ranker follows: the alias, or the ledger where an alias that was moved by hand is not followed."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from support.registries import ledger_at

from recdistill.config import LogSettings, RegistrySettings, Settings
from recdistill.errors import RegistryError
from recdistill.loops import opened
from recdistill.release import as_writer
from recdistill.stream.kafka.policies import dangers


def settings(folder: Path, by_hand: str) -> Settings:
    registry = {"name": "shop", "by_hand": by_hand, "cache": str(folder / "cache")}
    return Settings(
        log=LogSettings(path=str(folder / "log.sqlite")), registry=msgspec.convert(registry, RegistrySettings)
    )


@pytest.mark.parametrize(("by_hand", "serves"), [("follow", "champion"), ("keep", "2")])
def test_an_alias_that_was_moved_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_hand: str, serves: str
) -> None:
    monkeypatch.setattr(opened, "open_registry", lambda _: SimpleNamespace(find=lambda asked: asked))
    champion: Any = opened.champion_of(settings(tmp_path, by_hand))
    assert champion.look() == "champion"  # the ledger has not decided anything yet
    with closing(ledger_at(tmp_path, "shop")) as ledger:
        say = {"who": "ada", "content_hash": "a" * 64}
        as_writer(ledger, lambda writer: writer.append("promoted", version="2", **say))
        as_writer(ledger, lambda writer: writer.append("moved", version="3", before="2", **say))
    assert champion.look() == serves


def test_a_ledger_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log.sqlite").write_bytes(b"no log" * 1000)
    monkeypatch.setattr(opened, "open_registry", lambda _: SimpleNamespace(find=lambda asked: asked))
    with pytest.raises(RegistryError, match=r"the ledger, which says who is champion \(registry.by_hand\)"):
        opened.champion_of(settings(tmp_path, "keep")).look()


def test_a_topic_that_forgets_the_ledger_is_a_danger() -> None:
    week = {"cleanup.policy": {"value": "delete"}, "retention.ms": {"value": "604800000"}}
    (said,) = dangers({"topic": {"x-ledger": week}}, "x-")
    assert said.startswith("topic 'x-ledger' deletes records after 7 days: who changed the champion")
    (said,) = dangers({"topic": {"ledger": {"cleanup.policy": {"value": "compact"}}}}, "")
    assert "entries that others name are missing" in said
    ever = {"cleanup.policy": {"value": "delete"}, "retention.ms": {"value": "-1"}, "retention.bytes": {"value": "-1"}}
    assert dangers({"topic": {"ledger": ever}}, "") == []
