"""`recdistill init`: tables in the shapes of public data sets, and its own commands, unedited, lead to a student."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import tables, world

from recdistill.cli import main
from recdistill.config import load_settings
from recdistill.data.mapping import TableMapping
from recdistill.features import FeatureSpec
from recdistill.records import to_json

Make = Callable[[Path], tuple[Path, ...]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for a new user; the tables lie in another one."""
    (tmp_path / "tables").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("RECDISTILL_CONFIG", raising=False)
    return tmp_path / "tables"


def _call(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    found = main(list(words))
    out, err = capsys.readouterr()
    assert found == code, f"{words}: {found}\n{out}\n{err}"
    return out, err


def _init(capsys: pytest.CaptureFixture[str], paths: tuple[Path, ...], *more: str) -> Any:
    return json.loads(_call(capsys, "init", *map(str, paths), *more, "--json")[0])


def _type(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, commands: list[str], last: str) -> None:
    """Runs the printed commands in this process, up to the verb `last`."""
    for command in commands:
        words = shlex.split(command)
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            monkeypatch.setenv(name, value)
            continue
        assert words[0] == "recdistill"
        _call(capsys, *words[1:])
        if words[1] == last:
            return
    raise AssertionError(f"no command is `{last}`")


@pytest.mark.slow
@pytest.mark.parametrize("make", [tables.news, tables.purchases], ids=["shown lists", "events"])
def test_its_commands_lead_to_a_student_without_an_edit(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], make: Make
) -> None:
    found = _init(capsys, make(here))
    _type(capsys, monkeypatch, found["commands"], last="distil")
    (bundle,) = Path("recdistill-data/student/bundles").glob("step-*")
    shown = json.loads(_call(capsys, "inspect", str(bundle), "--json")[0])
    assert shown["items"] >= 60
    judged = json.loads(_call(capsys, "evaluate", "--json")[0])
    assert judged["lists"] >= 20, "a part was left for the judge"
    said, _ = _call(capsys, "inspect", "dead-letters")
    assert "holds nothing yet" in said
    user = "N1 N5" if make is tables.news else "1 6"
    answer = json.loads(_call(capsys, "recommend", "--bundle", str(bundle), *user.split(), "-k", "5", "--json")[0])
    assert len(answer["items"]) == 5


@pytest.mark.slow
def test_a_student_of_shown_lists_is_judged_published_promoted_and_served(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _init(capsys, tables.news(here))
    _type(capsys, monkeypatch, found["commands"], last="distil")
    Path("judgement.json").write_text(_call(capsys, "evaluate", "--json")[0])
    said, _ = _call(capsys, "publish", "--judgement", "judgement.json")
    assert "did not pass the gate: lists: 48 held-out lists were judged, at least 200 are asked" in said
    _, why = _call(capsys, "promote", "candidate", "--why", "a try", code=7)
    assert "promotion refused" in why
    enough = ("gate.min_lists=20", "gate.retention=0", "gate.champion=0", "gate.beats_popularity=false")
    policy = [word for one in enough for word in ("--set", one)]
    said, _ = _call(capsys, "publish", "--judgement", "judgement.json", *policy)
    assert "it passed the gate" in said
    said, _ = _call(capsys, "promote", "candidate", "--why", "a first student", *policy)
    assert "version 1 is the champion" in said
    answer = json.loads(_call(capsys, "recommend", "N1", "N5", "-k", "5", "--json")[0])
    assert len(answer["items"]) == 5
    judged = json.loads(Path("judgement.json").read_text())
    assert answer["bundle"] == judged["content_hash"], "the champion answers"


def test_lists_with_clicks(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = _init(capsys, tables.news(here))
    assert {table["kind"] for table in found["tables"]} == {"items", "impressions"}
    assert (found["joins"]["items"], found["joins"]["ids_described"]) == (40, 40)
    assert found["joins"]["ids_named"] == 60
    assert found["joins"]["clicked"] == found["joins"]["lists"] == 240
    assert found["joins"]["unsorted"] == [str(here / "behaviors.tsv")]
    spec = FeatureSpec.load(Path("features.toml"))
    assert {name: field.kind for name, field in spec.item.items()} == {
        "category": "category", "subcategory": "category", "title": "text", "abstract": "text",
    }  # fmt: skip
    assert spec.history.actions == ("click",)
    _type(capsys, monkeypatch, found["commands"], last="import")
    _type(capsys, monkeypatch, ["recdistill import " + found["commands"][3].partition("import ")[2]], last="import")
    lines = _call(capsys, "inspect", "items", "-n", "100", "--json")[0].splitlines()
    items = {record["id"]: record for record in (json.loads(line)["record"] for line in lines)}
    assert len(items) == 60, "the lists name 20 that no table describes"
    assert sum(bool(record.get("attributes")) for record in items.values()) == 40
    assert items["N3"]["attributes"]["title"] == '"Only travel say'
    first = json.loads(_call(capsys, "inspect", "impressions", "-n", "1", "--json")[0])["record"]
    assert first["id"] == "1", "the rows were shuffled; they are written in the order of time"
    assert first["time_us"] == tables.START * 1_000_000


def test_events_with_codes_and_lists_of_items(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = _init(capsys, tables.purchases(here))
    joins = found["joins"]
    assert joins["events"] == 500 == joins["made"] + joins["early"] + joins["repeated"]
    assert joins["early"] == 3 * 25
    assert (joins["ids_named"], joins["ids_described"]) == (80, 80)
    spec = FeatureSpec.load(Path("features.toml"))
    assert {name: field.kind for name, field in spec.item.items()} == {"i_category": "category"}, "a code is no number"
    mapping = Path("item_meta.map.toml").read_text()
    assert "r_complement: its values are ids of other items" in mapping
    assert load_settings(Path("recdistill.toml"), {}).join.labels == {"click": 1.0, "choose": 1.0}


def test_double_colons_without_a_header(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = _init(capsys, tables.ratings(here))
    kinds = {Path(table["path"]).name: table["kind"] for table in found["tables"]}
    assert kinds == {"movies.dat": "items", "users.dat": None, "ratings.dat": "interactions"}
    assert "recdistill keeps no profile of users" in found["tables"][1]["why"]
    mapping = TableMapping.load(Path("ratings.map.toml"))
    assert [getattr(one, "column", one) for one in mapping.columns.values()] == ["1", "2", "4", "3"]
    assert mapping.constants == {"action": "rate"}
    spec = FeatureSpec.load(Path("features.toml"))
    assert {name: field.kind for name, field in spec.item.items()} == {"title": "text", "tags": "category"}
    assert found["joins"]["ids_described"] == found["joins"]["ids_named"] > 50


def test_json_lines_with_names_of_a_shop(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _init(capsys, tables.json_lines(here))
    kinds = {Path(table["path"]).name: table["kind"] for table in found["tables"]}
    assert kinds == {"products.jsonl": "items", "requests.jsonl": "impressions", "clicks.jsonl": "feedback"}
    spec = FeatureSpec.load(Path("features.toml"))
    assert {name: field.kind for name, field in spec.item.items()} == {
        "colour": "category", "name": "text", "price": "number",
    }  # fmt: skip
    assert {name: field.kind for name, field in spec.context.items()} == {"device": "category"}
    assert found["joins"]["strange_feedback"] == 0
    assert found["joins"]["clicked"] == found["joins"]["feedback"] > 100


def test_it_overwrites_nothing_unless_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = tables.purchases(here)
    Path("features.toml").write_text("mine")
    _, err = _call(capsys, "init", *map(str, paths), code=2)
    assert "features.toml: exists already, so nothing was written; add --replace" in err
    assert [one.name for one in Path().iterdir()] == ["features.toml"]
    assert Path("features.toml").read_text() == "mine"
    _init(capsys, paths, "--replace")
    FeatureSpec.load(Path("features.toml"))


def test_a_shell_that_names_the_file_already(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECDISTILL_CONFIG", "recdistill.toml")  # from the folder before
    found = _init(capsys, tables.purchases(here))
    assert "recdistill.toml" in found["files"]
    assert Path("recdistill.toml").is_file()
    monkeypatch.setenv("RECDISTILL_CONFIG", "another.toml")
    _, err = _call(capsys, "init", "--replace", *map(str, tables.purchases(here)), code=2)
    assert "another.toml" in err


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("items.csv", "id,name\na,x\nb,y\n", "there is nothing to learn from in items.csv (items)"),
        ("users.csv", "user_id,age\nu,3\nv,4\n", "users.csv (it describes users; recdistill keeps no profile of users"),
        ("pairs.csv", "user_id,item_id\nu,a\nu,b\n", "it says who chose what, but not when"),
        ("lists.csv", "id,candidates\nr,a|b\ns,a|c\n", "its lists have no time"),
        (
            "log.csv",
            "user,item,time\nu,a,1\nu,b,2\n",
            "no list comes out of these tables: 2 events are among the first 3",
        ),
    ],
)
def test_nothing_to_learn_from(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, sentence: str
) -> None:
    (here / name).write_text(text)
    _, err = _call(capsys, "init", str(here / name), code=3)
    assert sentence in err
    assert not list(Path().iterdir())


def test_tables_of_one_name_and_a_table_named_twice(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, events = tables.purchases(here)
    (here / "b").mkdir()
    header, *rows = events.read_text().splitlines(keepends=True)
    (here / "b" / "purchases.csv").write_text(header + "".join(rows[250:]))
    events.write_text(header + "".join(rows[:250]))
    found = _init(capsys, (events, here / "b" / "purchases.csv"))
    assert [table["rows"] for table in found["tables"]] == [250, 250]
    assert found["joins"]["events"] == 500
    (line,) = [command for command in found["commands"] if "import" in command]
    assert shlex.split(line)[2:4] == [str(events), str(here / "b" / "purchases.csv")], "they are one table"
    _, err = _call(capsys, "init", str(events), str(here / "b" / ".." / "purchases.csv"), code=2)
    assert "is named twice" in err


def test_without_a_table_it_looks_at_the_log(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, err = _call(capsys, "init", code=3)
    assert "there is no feature specification, and no log to guess one from" in err
    assert not list(Path().iterdir())
    _call(capsys, "topics", "create")
    _, err = _call(capsys, "init", code=3)
    assert "the log holds 0 items and 0 impressions" in err
    _call(capsys, "simulate", "--impressions", "50", "--users", "10", "--items", "220", "--days", "20")
    Path("features.toml").unlink()
    out, _ = _call(capsys, "init")
    assert "features.toml was written from the records of the log" in out
    spec = FeatureSpec.load(Path("features.toml"))
    assert set(spec.history.actions) == {"click", "view"}
    assert spec.item
    assert spec.context
    _, err = _call(capsys, "init", code=2)
    assert "features.toml: exists already" in err


def test_records_of_our_own_form_need_no_mapping(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = world.impressions(40)
    for kind, records in (("items", world.items()), ("impressions", lists), ("feedback", world.feedback(lists))):
        (here / f"{kind}.jsonl").write_bytes(b"".join(to_json(record) + b"\n" for record in records))
    found = _init(capsys, (here / "feedback.jsonl", here / "items.jsonl", here / "impressions.jsonl"))
    assert found["files"] == ["features.toml", "recdistill.toml"]
    imports = [command for command in found["commands"] if "import" in command]
    assert [shlex.split(line)[-1] for line in imports] == ["items", "impressions", "feedback"]
    for command in found["commands"][1:5]:
        _type(capsys, monkeypatch, [command], last=shlex.split(command)[1])
    assert FeatureSpec.load(Path("features.toml")).history.actions == ("click", "hover")
