"""A small product in a folder: settings, features and a log with items, lists and clicks, for tests that type verbs."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from recdistill.cli import main
from recdistill.config import LogSettings
from recdistill.loops.feed import feed
from recdistill.stream import STANDARD_CONFIGS, Log, Message, open_log, standard_topics
from support import world

SETTINGS = """
[log]
path = "log.sqlite"
[teacher]
kind = "callable"
function = "support.world:by_hash"
[join]
window_s = 5
[student]
dim = 4
hidden = 8
[distil]
batch = 16
threads = 1
publish = false
directory = "student"
"""
FEATURES = """
[history]
length = 8
actions = ["click"]
[id]
capacity = 64
hashed = 4
[item.genre]
kind = "category"
capacity = 8
[context.hour]
kind = "category"
capacity = 24
hashed = 0
"""


class Shop:
    """The folder, and what a person does in it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], log: LogSettings | None = None) -> None:
        self.folder, self._capsys = folder, capsys
        self.settings = log or LogSettings(path=str(folder / "log.sqlite"))

    def write(self, *, items: int = 20, lists: int = 60, first: int = 0, partitions: int = 1, lanes: int = 1) -> None:
        """Makes the topics, and writes items, lists and clicks."""
        with closing(self.log()) as log:
            log.create_topics(standard_topics(partitions=partitions, lanes=lanes), configs=STANDARD_CONFIGS)
            made = world.impressions(first + lists)[first:]
            feed(log, [*world.items(items), *made, *world.feedback(made)])

    def log(self) -> Log:
        """The log, open."""
        return open_log(self.settings)

    def type(self, *words: str) -> tuple[int, str, str]:
        """Types a verb: exit code, output, errors."""
        self._capsys.readouterr()
        code = main(list(words))
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def figures(self, *words: str) -> dict[str, int]:
        """Types a verb that must succeed; its result."""
        code, out, err = self.type(*words, "--json")
        assert code == 0, err
        result: dict[str, int] = json.loads(out)
        return result

    def read(self, topic: str) -> list[Message]:
        """All messages of a topic."""
        with closing(self.log()) as log, closing(log.source([topic])) as source:
            ends = {tp: source.bounds(tp)[1] for tp in source.position()}
            found: list[Message] = []
            while any(source.position()[tp] < end for tp, end in ends.items()):
                found += source.read(1000, 0.2)
        return found


def open_shop(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], log: LogSettings | None = None
) -> Shop:
    """A shop in a folder, which becomes the present one. Its log has nothing yet."""
    monkeypatch.chdir(folder)
    (folder / "shop.toml").write_text(SETTINGS)
    (folder / "features.toml").write_text(FEATURES)
    monkeypatch.setenv("RECDISTILL_CONFIG", "shop.toml")
    if log is not None:
        monkeypatch.setenv("RECDISTILL__LOG__KIND", log.kind)
        monkeypatch.setenv("RECDISTILL__LOG__BROKERS", log.brokers)
        monkeypatch.setenv("RECDISTILL__LOG__PREFIX", log.prefix)
    return Shop(folder, capsys, log)
