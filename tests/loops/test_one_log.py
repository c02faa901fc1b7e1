"""A log that is opened again must be the one from before."""

from __future__ import annotations

from pathlib import Path

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
