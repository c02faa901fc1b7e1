"""What a teacher learns from: the lists before a time, and no list from then on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import world

from recdistill.cli import main
from recdistill.config import LogSettings
from recdistill.loops.feed import feed
from recdistill.loops.teach import labelled
from recdistill.stream import Log, open_log, standard_topics


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics(2))
    yield log
    log.close()


def test_lists_from_a_time_on_are_left_out(log: Log) -> None:
    lists = world.impressions(60)
    feed(log, [*lists, *world.feedback(lists)])
    cut = lists[40].time_us
    every = {
        example.ranking.impression.id: example.labels for example in labelled(log, window_s=5, labels={"click": 1})
    }
    early = {
        example.ranking.impression.id: example.labels
        for example in labelled(log, window_s=5, labels={"click": 1}, until_us=cut)
    }
    assert set(early) == {one.id for one in lists[:40]}
    assert early == {name: every[name] for name in early}, "the labels of a list do not depend on what comes later"
    assert any(any(labels) for labels in early.values())


@pytest.mark.parametrize(
    ("typed", "sentence"), [("latest", "must be a time such as"), ("1200", "must be a time such as"), ("soon", "soon")]
)
def test_only_a_time_is_taken(typed: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["teach", "--until", typed]) == 2
    assert sentence in capsys.readouterr().err
