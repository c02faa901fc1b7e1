"""Announcements: doubles are dropped, what is none is told, on the embedded log."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.config import LogSettings
from recdistill.errors import DecodeError, StreamError
from recdistill.stream import (
    BUNDLES,
    LanePosition,
    LogIdentity,
    MadeBundle,
    announce,
    made_bundles,
    open_log,
    standard_topics,
)
from recdistill.stream.made import check_topic, read_made


def made(n: int) -> MadeBundle:
    lanes = LanePosition(LogIdentity("log", {"examples": 1}), (n,), 0)
    return MadeBundle(f"{n:064x}", step=n, lanes=lanes, items=n, made_at="2026-01-02", size=9)


def test_each_content_comes_once_in_the_order_of_its_first_announcement(tmp_path: Path) -> None:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics())
    stage = log.stage("distil-bundles")
    source = log.source([BUNDLES])
    assert made_bundles(source) == ([], [])
    for n in (3, 1, 3, 2, 1):
        announce(stage, made(n))
    with stage.transaction() as transaction:
        transaction.send("bundles", b"\x00junk")
        transaction.send("bundles", None, key=b"x")
    found, unreadable = made_bundles(source)
    assert found == [made(3), made(1), made(2)]
    assert ["not an announced bundle" in reason for reason in unreadable] == [True, True]
    announce(stage, made(4))
    assert made_bundles(source) == ([made(4)], [])  # it goes on where it stood
    for part in (source, stage, log):
        part.close()


@pytest.mark.parametrize(
    "value",
    [b"", b"[]", b"\xff", b'{"content_hash": "../x"}', b'{"content_hash": 3}', b"[" * 5000],
)
def test_what_is_no_announcement_is_one_sentence(value: bytes) -> None:
    with pytest.raises(DecodeError, match="not an announced bundle"):
        read_made(value)


def test_a_log_of_an_older_version_says_what_to_do() -> None:
    with pytest.raises(StreamError, match="recdistill topics create"):
        check_topic({"items": 1})
