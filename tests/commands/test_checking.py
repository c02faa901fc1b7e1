"""`recdistill import --check`: tables as they are understood, the joins that they make, and nothing written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import tables

from recdistill.cli import main


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def _check(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    found = main(["import", "--check", *words])
    out, err = capsys.readouterr()
    assert found == code, f"{words}: {found}\n{out}\n{err}"
    assert not list(Path().iterdir()), "it writes nothing, not even a log"
    return out, err


def _json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    return json.loads(_check(capsys, *words, "--json")[0])


def test_the_first_rows_are_shown_as_they_are_understood(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out, _ = _check(capsys, *map(str, tables.news(tmp_path)))
    assert "news.tsv: 40 rows are right, items (delimiter a tab, no header" in out
    assert "behaviors.tsv: 240 rows are right, impressions" in out
    assert "  N3  " in out
    assert '"Only travel say' in out
    assert "60 different items are named; 40 of them (66.7%) are described; not described: N40, N41, N42, …" in out
    assert "behaviors.tsv: its rows are not in the order of time; they are sorted when they are written" in out
    assert out.rstrip().endswith("nothing was written")


def test_the_same_for_programs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    items, events = tables.purchases(tmp_path)
    found = _json(capsys, str(items), str(events))
    assert [table["kind"] for table in found["tables"]] == ["items", "interactions"]
    assert [table["rows"] for table in found["tables"]] == [80, 500]
    first = events.read_text().splitlines()[1].split("\t")
    shown = found["tables"][1]["first"][0]
    assert (shown["user"], shown["item"], shown["time"]) == (first[0], first[1], "2000-08-09 00:00:00")
    assert found["checked"] == 580


def test_every_event_is_accounted_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The same counts as the import gives, for another setting too."""
    _, events = tables.purchases(tmp_path)
    rows = [line.split("\t") for line in events.read_text().splitlines()[1:]]
    for least in (3, 7):
        past: dict[str, list[str]] = {}
        early = repeated = 0
        for user, item, _ in rows:
            had = past.setdefault(user, [])
            early += len(had) < least
            repeated += len(had) >= least and item in had
            had.append(item)
        joins = _json(capsys, str(events), "--set", f"interactions.min_history={least}")["joins"]
        assert (joins["early"], joins["repeated"]) == (early, repeated)
        assert joins["made"] == 500 - early - repeated
    out, _ = _check(capsys, str(events))
    assert "among the first 3 of their user (interactions.min_history)" in out
    assert "the user had had the item before" in out


def test_ids_that_never_meet(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,name\nA-1,x\nA-2,y\n")
    (tmp_path / "log.csv").write_text("user,item,time\nu,1,1000000000\nu,2,1000000001\n")
    out, _ = _check(capsys, str(tmp_path / "items.csv"), str(tmp_path / "log.csv"))
    assert "2 different items are named; 0 of them (0.0%) are described" in out
    assert "The ids never meet: is the right column the id in both tables?" in out


def test_feedback_that_meets_no_list(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "requests.csv").write_text("id,time,candidates\nr1,1000000000,a|b\nr2,1000000060,a|c\n")
    (tmp_path / "clicks.csv").write_text(
        "impression_id,item,action,time\nr1,a,click,1000000001\nr9,a,click,1000000002\nr2,b,click,1000000061\n"
    )
    out, _ = _check(capsys, str(tmp_path / "requests.csv"), str(tmp_path / "clicks.csv"))
    assert "1 of 3 feedback name a list that is in no table" in out
    assert "1 feedback are on an item that was not in their list" in out
    assert "1 of the lists have feedback on one of their items" in out


def test_a_wrong_cell_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\nu,1,1000000000\nu,2,\n")
    _, err = _check(capsys, str(tmp_path / "log.csv"), code=3)
    assert err.startswith("error: log.csv, line 3, column 'time': is empty")
    assert err.count("\n") == 1


def test_a_ready_mapping_by_its_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, behaviors = tables.news(tmp_path)
    assert _json(capsys, str(behaviors), "--mapping", "mind-behaviors")["tables"][0]["kind"] == "impressions"
    _, err = _check(capsys, str(behaviors), "--mapping", "mind-behaviour", code=2)
    assert "no ready mapping of that name; did you mean 'mind-behaviors'?" in err
