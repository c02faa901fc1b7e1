"""Importing events: items keep what is known of them, no row goes without a word, several files are one table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import tables

from recdistill.cli import main


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["topics", "create"]) == 0
    capsys.readouterr()


def _call(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    found = main(list(words))
    out, err = capsys.readouterr()
    assert found == code, f"{words}: {found}\n{out}\n{err}"
    return out


def _records(capsys: pytest.CaptureFixture[str], topic: str) -> list[Any]:
    lines = _call(capsys, "inspect", topic, "-n", "5000", "--json").splitlines()
    return [json.loads(line)["record"] for line in lines]


MAPPED = 'kind = "items"\n[columns]\nid = "item_id"\n[attributes]\ncode = { column = "i_category", type = "text" }\n'
EVENTS = 'kind = "interactions"\n[columns]\nuser = "user_id"\nitem = "item_id"\n'


def test_items_keep_their_attributes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    items, events = tables.purchases(tmp_path)
    Path("items.toml").write_text(MAPPED)
    Path("events.toml").write_text(EVENTS)
    _call(capsys, "import", str(items), "--mapping", "items.toml")
    out = _call(capsys, "import", str(events), "--mapping", "events.toml")
    assert "items" not in out.splitlines()[0], "all are there already"
    newest = {record["id"]: record for record in _records(capsys, "items")}
    assert len(newest) == 80
    assert all(record.get("attributes") for record in newest.values())
    assert "[item.code]" in Path("features.toml").read_text(), "what the log knows of items goes into the features"


def test_what_became_of_the_events_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, events = tables.purchases(tmp_path)
    Path("events.toml").write_text(EVENTS)
    rows = [line.split("\t")[:2] for line in events.read_text().splitlines()[1:]]
    past: dict[str, list[str]] = {}
    early = repeated = 0
    for user, item in rows:
        had = past.setdefault(user, [])
        early += len(had) < 3
        repeated += len(had) >= 3 and item in had
        had.append(item)
    made = 500 - early - repeated
    out = _call(capsys, "import", str(events), "--mapping", "events.toml")
    assert f"80 items, {made} impressions, {made} feedback" in out
    assert f"500 events made {made} lists" in out
    assert f"{early} made none: they are among the first 3 of their user (interactions.min_history)" in out
    assert f"{repeated} made none: the user had had the item before" in out


def test_the_list_is_a_setting(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, events = tables.purchases(tmp_path)
    Path("events.toml").write_text(EVENTS)
    _call(capsys, "import", str(events), "--mapping", "events.toml", "--set", "interactions.length=9")
    assert {len(record["candidates"]) for record in _records(capsys, "impressions")} == {9}


def test_a_second_file_goes_on_with_the_histories(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, events = tables.purchases(tmp_path)
    Path("events.toml").write_text(EVENTS)
    header, *rows = events.read_text().splitlines(keepends=True)
    (tmp_path / "one.csv").write_text(header + "".join(rows[:300]))
    (tmp_path / "two.csv").write_text(header + "".join(rows[300:]))
    one, two = str(tmp_path / "one.csv"), str(tmp_path / "two.csv")
    _call(capsys, "import", one, "--mapping", "events.toml")
    _call(capsys, "import", two, "--mapping", "events.toml", "--earlier", one)
    parts = [
        (r["user"], r["time_us"], [e["item"] for e in r.get("history", [])]) for r in _records(capsys, "impressions")
    ]
    _call(capsys, "topics", "create", "--set", "log.path=whole.sqlite")
    _call(capsys, "import", one, two, "--mapping", "events.toml", "--set", "log.path=whole.sqlite")
    lines = _call(
        capsys, "inspect", "impressions", "-n", "5000", "--json", "--set", "log.path=whole.sqlite"
    ).splitlines()
    whole = [json.loads(line)["record"] for line in lines]
    assert parts == [(r["user"], r["time_us"], [e["item"] for e in r.get("history", [])]) for r in whole]
    assert len(parts) > 100
    _call(capsys, "import", one, "--kind", "items", "--earlier", two, code=2)


def test_an_action_that_the_features_do_not_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, events = tables.purchases(tmp_path)
    Path("events.toml").write_text(EVENTS)
    Path("features.toml").write_text('[history]\nactions = ["click"]\n')
    out = _call(capsys, "import", str(events), "--mapping", "events.toml")
    assert "features.toml does not name the action 'choose'" in out
    assert 'actions = ["click", "choose"]' in out
    assert "join.labels.choose = 1" in out
