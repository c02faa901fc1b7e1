"""A log that is opened again must be the one from before."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from recdistill.config import LogSettings
from recdistill.errors import WrongLog
from recdistill.loops.one_log import OneLog
from recdistill.stream import Log, open_log, standard_topics


def made(path: Path, *, topics: bool = True) -> Log:
    log = open_log(LogSettings(path=str(path)))
    if topics:
        log.create_topics(standard_topics())
    return log


def test_another_log_is_refused_and_the_same_is_not(tmp_path: Path) -> None:
    logs: list[Log | None] = [None]
    one = OneLog(lambda: logs[-1])
    assert one.open() is None
    logs.append(made(tmp_path / "empty.sqlite", topics=False))
    assert one.open() is logs[-1]  # nothing was ever read from it, so any log may follow
    logs.append(made(tmp_path / "a.sqlite"))
    first = one.open()
    assert first is logs[-1]
    first.close()
    logs.append(made(tmp_path / "a.sqlite"))
    assert one.open() is logs[-1]
    for other, said in (
        (made(tmp_path / "b.sqlite"), "put that one back"),
        (made(tmp_path / "c.sqlite", topics=False), "without topics"),
        (None, "is gone"),
    ):
        logs.append(other)
        with pytest.raises(WrongLog, match=said):
            one.open()
    logs.append(made(tmp_path / "a.sqlite"))
    assert one.open() is logs[-1]
    for log in logs:
        if log is not None:
            log.close()


class Topics:
    """A log of which topics come and go."""

    def __init__(self, **ids: str) -> None:
        self.ids = ids

    def topics(self) -> dict[str, int]:
        return dict.fromkeys(self.ids, 1)

    def source(self, names: list[str]) -> Any:
        identity = SimpleNamespace(ids={name: self.ids[name] for name in names})
        return SimpleNamespace(identity=lambda: identity, close=lambda: None)


def test_a_topic_that_was_there_must_be_the_same_whenever_it_is_opened_again() -> None:
    log = Topics()
    one = OneLog(lambda: cast(Log, log))
    assert one.topic(cast(Log, log), "items") is None
    log.ids["items"] = "1"
    for _ in range(2):
        assert one.topic(cast(Log, log), "items") is not None
    del log.ids["items"]
    for _ in range(2):
        with pytest.raises(WrongLog, match="topic 'items' was deleted while this process used it"):
            one.topic(cast(Log, log), "items")
    log.ids["items"] = "2"
    for _ in range(2):
        with pytest.raises(WrongLog, match="topic 'items' was deleted and made again"):
            one.topic(cast(Log, log), "items")
    log.ids["items"] = "1"  # a copy was put back
    assert one.topic(cast(Log, log), "items") is not None
