"""A small product in a folder, for tests that type verbs: settings, features, a log, and the verbs in this process.

`prepare` makes the folder. `Terminal` types verbs there. `Shop` is a terminal that can fill and read the log as well.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from recdistill.bundle import open_bundle
from recdistill.cli import main
from recdistill.config import LogSettings
from recdistill.loops.feed import feed
from recdistill.records import Feedback, Impression, Item, to_json
from recdistill.stream import STANDARD_CONFIGS, Log, Message, open_log, standard_topics
from support import world

SETTINGS = """
[teacher]
kind = "callable"
function = "support.world:by_hash"
[held_out]
most = 0
[join]
soft = "with_labels"
window_s = 5
[student]
dim = 4
hidden = 8
[distil]
batch = 16
threads = 1
"""
"""Others may follow, the first of them in [distil]."""

IN_THE_FOLDER = SETTINGS + 'publish = false\ndirectory = "student"\n[log]\npath = "log.sqlite"\n'
EASY_GATE = "[gate]\nretention = 0\nchampion = 0\nbeats_popularity = false\nmin_lists = 20\n"
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
"""
TITLE = '[item.title]\nkind = "text"\ncapacity = 64\n'
HOUR = '[context.hour]\nkind = "category"\ncapacity = 24\nhashed = 0\n'


def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch, settings: str, features: str = FEATURES) -> None:
    """Writes settings and features into a folder, which becomes the present one."""
    monkeypatch.chdir(folder)
    (folder / "shop.toml").write_text(settings)
    (folder / "features.toml").write_text(features)
    monkeypatch.setenv("RECDISTILL_CONFIG", "shop.toml")


class Terminal:
    """Types verbs and gives what they print.

    Attributes:
        errors: What the last verb said on stderr.
    """

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys, self.errors = capsys, ""

    def __call__(self, line: str, *more: str, code: int = 0) -> str:
        found = main([*line.split(), *more])
        out, self.errors = self.capsys.readouterr()
        assert found == code, f"{line}: {found}\n{out}\n{self.errors}"
        assert "Traceback" not in self.errors
        return out

    def json(self, line: str) -> Any:
        return json.loads(self(line + " --json"))

    def take_in(self, name: str, kind: str, records: Sequence[Any]) -> None:
        """Imports records from a file of their own."""
        Path(f"{name}.jsonl").write_bytes(b"".join(to_json(record) + b"\n" for record in records))
        self(f"import {name}.jsonl --kind {kind}")


class Shop(Terminal):
    """A terminal, its folder and its log."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], log: LogSettings | None = None) -> None:
        super().__init__(capsys)
        self.folder = folder
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
        self.capsys.readouterr()
        code = main(list(words))
        said = self.capsys.readouterr()
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

    def arrive(self, name: str, lists: Sequence[Impression], clicks: Sequence[Feedback]) -> None:
        """Lists come, with their clicks, and go as far as the examples."""
        self.take_in(f"{name}-lists", "impressions", lists)
        self.take_in(f"{name}-clicks", "feedback", clicks)
        self("score --drain")
        self("join --drain")

    def learnt(self, directory: str = "recdistill-data/student") -> Any:
        """The newest bundle of a student."""
        return open_bundle(max((self.folder / directory / "bundles").iterdir()))


def open_shop(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], log: LogSettings | None = None
) -> Shop:
    """A shop in a folder, which becomes the present one. Its log has nothing yet."""
    prepare(folder, monkeypatch, IN_THE_FOLDER, FEATURES + HOUR)
    if log is not None:
        monkeypatch.setenv("RECDISTILL__LOG__KIND", log.kind)
        monkeypatch.setenv("RECDISTILL__LOG__BROKERS", log.brokers)
        monkeypatch.setenv("RECDISTILL__LOG__PREFIX", log.prefix)
    return Shop(folder, capsys, log)


def open_stocked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], items: Sequence[Item] = ()
) -> Shop:
    """A shop with its catalogue and an easy gate, in a folder that becomes the present one."""
    prepare(folder, monkeypatch, SETTINGS + "publish = false\n" + EASY_GATE)
    shop = Shop(folder, capsys, LogSettings(path=str(folder / "recdistill-data" / "log.sqlite")))
    shop("topics create")
    shop.take_in("items", "items", list(items or world.items()))
    return shop
