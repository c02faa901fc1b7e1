"""A shop in a folder: settings, a log, and the verbs as a person types them, in this process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from recdistill.bundle import open_bundle
from recdistill.cli import main
from recdistill.records import Feedback, Impression, Item, to_json
from support import world

SETTINGS = """
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
[gate]
retention = 0
beats_popularity = false
min_lists = 20
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
"""


class Shop:
    """A folder with a log, and the verbs."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys, self.errors = folder, capsys, ""

    def __call__(self, line: str, code: int = 0) -> str:
        found = main(line.split())
        out, self.errors = self.capsys.readouterr()
        assert found == code, f"{line}: {found}\n{out}\n{self.errors}"
        assert "Traceback" not in self.errors
        return out

    def json(self, line: str) -> Any:
        return json.loads(self(line + " --json"))

    def take_in(self, name: str, kind: str, records: list[Any]) -> None:
        (self.folder / f"{name}.jsonl").write_bytes(b"".join(to_json(record) + b"\n" for record in records))
        self(f"import {name}.jsonl --kind {kind}")

    def arrive(self, name: str, lists: Sequence[Impression], clicks: Sequence[Feedback]) -> None:
        """Lists come, with their clicks, and go as far as the examples."""
        self.take_in(f"{name}-lists", "impressions", list(lists))
        self.take_in(f"{name}-clicks", "feedback", list(clicks))
        self("score --drain")
        self("join --drain")

    def learnt(self, directory: str = "recdistill-data/student") -> Any:
        """The newest bundle of a student."""
        return open_bundle(max((self.folder / directory / "bundles").iterdir()))


def open_shop(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], items: Sequence[Item] = ()
) -> Shop:
    """A shop with its catalogue, in a new folder that becomes the present one."""
    monkeypatch.chdir(folder)
    (folder / "shop.toml").write_text(SETTINGS)
    (folder / "features.toml").write_text(FEATURES)
    monkeypatch.setenv("RECDISTILL_CONFIG", "shop.toml")
    shop = Shop(folder, capsys)
    shop("topics create")
    shop.take_in("items", "items", list(items or world.items()))
    return shop
