"""More than two hundred wrong inputs over the whole product: each gets one clear sentence that names the thing.

Whatever the command line is given runs in this process through `recdistill.cli.main`: a non-zero exit code, nothing on
stdout, one line on stderr. tests/e2e/test_wrong_requests.py does the same for the endpoint.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from recdistill.bundle import Bundle
from recdistill.cli import main
from recdistill.errors import DecodeError
from recdistill.records import Example, Feedback, Impression, Item, Ranking, Record, decode, encode
from references.students import Student, make_requests, make_student


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("RECDISTILL")]:
        monkeypatch.delenv(name)


def refused(capsys: pytest.CaptureFixture[str], argv: Sequence[str], code: int, *fragments: str) -> str:
    """Runs a command line that must fail, and holds what it says to the rules; returns the sentence."""
    capsys.readouterr()
    found = main(list(argv))
    out, errors = capsys.readouterr()
    assert "Traceback" not in out + errors
    assert out == "", "a failure prints no result"
    lines = errors.rstrip("\n").split("\n")
    assert len(lines) == 1, errors
    assert lines[0].startswith("error: ")
    for fragment in fragments:
        assert fragment in lines[0], lines[0]
    assert "should have explained" not in lines[0]
    assert len(lines[0]) < 1000, "a sentence, not a dump"
    assert found == code, lines[0]
    return lines[0]


def named(cases: Sequence[tuple[Any, ...]]) -> list[Any]:
    return [pytest.param(*case, id=f"{number:02}-{str(case[-1])[:40]}") for number, case in enumerate(cases)]


# Settings: 40 files, 12 environments, 12 --set

SETTINGS: list[tuple[str, str]] = [
    ("[student", "is not TOML"),
    ("student = 3", "student: expected `object`, got `int`"),
    ("[studnt]\ndim = 3", "unknown key 'studnt'; did you mean 'student'?"),
    ("[student]\ndimm = 3", "student: unknown key 'dimm'; did you mean 'dim'?"),
    ("[student]\nzzz = 3", "student: unknown key 'zzz'; known keys: "),
    ("[student]\ndim = 'x'", "student.dim: expected `int`, got `str`"),
    ("[student]\ndim = 1", "student.dim: expected `int` >= 2"),
    ("[student]\ndim = 2.5", "student.dim: expected `int`, got `float`"),
    ("[student]\nid_dropout = 1.0", "student.id_dropout: expected `float` < 1.0"),
    ("[student]\nlearning_rate = 0", "student.learning_rate: expected `float` > 0"),
    ("[student]\nhidden = 100000", "student.hidden: expected `int` <= 8192"),
    ("[log]\nkind = 'sqlite'", "log.kind: invalid enum value 'sqlite'; one of embedded, kafka"),
    ("[log]\npath = 7", "log.path: expected `str`, got `int`"),
    ("[log]\nprefix = 'a b'", "log.prefix: expected `str` matching"),
    ("[log]\nbrokres = 'x'", "log: unknown key 'brokres'; did you mean 'brokers'?"),
    ("[log.options]\nx = [1]", "log.options[...]: expected `bool | int | float | str`, got `array`"),
    ("[topics]\npartitions = 0", "topics.partitions: expected `int` >= 1"),
    ("[topics]\nlanes = 2000", "topics.lanes: expected `int` <= 1024"),
    ("[features]\nfile = true", "features.file: expected `str`, got `bool`"),
    ("[teacher]\nkind = 'onnx2'", "teacher.kind: invalid enum value 'onnx2'"),
    ("[teacher]\nscale = 'log'", "teacher.scale: invalid enum value 'log'"),
    ("[teacher_training]\ndim = 2", "teacher_training.dim: expected `int` >= 4"),
    ("[teacher_training]\nepochs = 0", "teacher_training.epochs: expected `int` >= 1"),
    ("[teacher_training]\ndropout = 1.5", "teacher_training.dropout: expected `float` < 1.0"),
    ("[score]\nbatch = 0", "score.batch: expected `int` >= 1"),
    ("[score]\nwait_s = 0", "score.wait_s: expected `float` > 0"),
    ("[score]\nworker = -1", "score.worker: expected `int` >= 0"),
    ("[join]\nwindow_s = -1", "join.window_s: expected `float` >= 0"),
    ("[join.labels]\nclick = 'much'", "join.labels[...]: expected `float`, got `str`"),
    ("[loss]\ntemperature = 0", "loss.temperature: expected `float` > 0"),
    ("[loss]\nsoft = -1", "loss.soft: expected `float` >= 0"),
    ("[distil]\nbatch = 0", "distil.batch: expected `int` >= 1"),
    ("[distil]\nkeep = 0", "distil.keep: expected `int` >= 1"),
    ("[gate]\nretention = -0.1", "gate.retention: expected `float` >= 0"),
    ("[gate]\nmin_lists = 0", "gate.min_lists: expected `int` >= 1"),
    ("[registry]\nname = ''", "registry.name: expected `str` matching"),
    ("[registry]\ntimeout_s = 0", "registry.timeout_s: expected `float` > 0"),
    ("[promote]\nautomatic = 'yes'", "promote.automatic: expected `bool`, got `str`"),
    ("[rank]\nport = 70000", "rank.port: expected `int` <= 65535"),
    ("[rank]\nwrite_back = 2", "rank.write_back: expected `float` <= 1.0"),
]


@pytest.mark.parametrize(("text", "fragment"), named(SETTINGS))
def test_settings_files(text: str, fragment: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("shop.toml").write_text(text)
    refused(capsys, ["topics", "list", "--config", "shop.toml"], 2, "shop.toml: ", fragment)
    assert not Path("recdistill-data").exists(), "nothing is touched before the settings are right"


def test_a_settings_file_that_is_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    Path("shop.toml").write_bytes(b"\xff\xfe")
    refused(capsys, ["topics", "list", "--config", "shop.toml"], 2, "shop.toml: is not UTF-8 text")


ENVIRONMENTS: list[tuple[dict[str, str], str]] = [
    ({"RECDISTILL_CONFIG": "nowhere.toml"}, "nowhere.toml: cannot be read (No such file or directory)"),
    ({"RECDISTILL_CONFIG": "."}, ".: is a folder; give an existing TOML file with --config"),
    ({"RECDISTILL__DIM": "3"}, "RECDISTILL__DIM: is not a setting; write RECDISTILL__SECTION__KEY"),
    ({"RECDISTILL__": "3"}, "RECDISTILL__: is not a setting"),
    ({"RECDISTILL__STUDNET__DIM": "3"}, "unknown key 'studnet'; did you mean 'student'?"),
    ({"RECDISTILL__STUDENT__DIMM": "3"}, "student: unknown key 'dimm'; did you mean 'dim'?"),
    ({"RECDISTILL__STUDENT__DIM": "many"}, "student.dim: expected `int`, got `str`"),
    ({"RECDISTILL__STUDENT__DIM": "-4"}, "student.dim: expected `int` >= 2"),
    ({"RECDISTILL__STUDENT__DIM": ""}, "student.dim: expected `int`, got `str`"),
    ({"RECDISTILL__STUDENT__DIM__DEEP": "1"}, "student.dim: expected `int`, got `object`"),
    ({"RECDISTILL__LOG__KIND": "Kafka"}, "log.kind: invalid enum value 'Kafka'; one of embedded, kafka"),
    ({"RECDISTILL__RANK__PORT": "80.5"}, "rank.port: expected `int`, got `float`"),
    ({"RECDISTILL__LOSS": "1"}, "RECDISTILL__LOSS: is not a setting"),
]


@pytest.mark.parametrize(("env", "fragment"), named(ENVIRONMENTS))
def test_environments(
    env: dict[str, str], fragment: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    refused(capsys, ["topics", "list"], 2, fragment)


CHANGES: list[tuple[str, str]] = [
    ("student.dim", "--set 'student.dim': must be SECTION.KEY=VALUE"),
    ("dim=3", "--set 'dim=3': must be SECTION.KEY=VALUE"),
    ("=3", "--set '=3': must be SECTION.KEY=VALUE"),
    (".dim=3", "--set '.dim=3': must be SECTION.KEY=VALUE"),
    ("student..dim=3", "--set 'student..dim=3': must be SECTION.KEY=VALUE"),
    ("join.labels.Click=3", "--set 'join.labels.Click=3': a key with capital letters"),
    ("studen.dim=3", "unknown key 'studen'; did you mean 'student'?"),
    ("student.dmi=3", "student: unknown key 'dmi'; did you mean 'dim'?"),
    ("student.dim=wide", "student.dim: expected `int`, got `str`"),
    ("student.dim=true", "student.dim: expected `int`, got `bool`"),
    ("gate.retention=[1]", "gate.retention: expected `float`, got `array`"),
    ("log.kind=redis", "log.kind: invalid enum value 'redis'; one of embedded, kafka"),
]


@pytest.mark.parametrize(("change", "fragment"), named(CHANGES))
def test_changes_of_settings(change: str, fragment: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, ["topics", "list", "--set", change], 2, fragment)


# Feature specifications

FEATURES: list[tuple[str, str]] = [
    ("[history", "is not TOML"),
    ("format = 2", "format: 2 is not known"),
    ("formt = 1", "formt: is not a known key; did you mean 'format'?"),
    ("[history]\nlength = 0", "history.length: must be 1 to 10000, not 0"),
    ("[history]\nlenght = 5", "history.lenght: is not a known key; did you mean 'length'?"),
    ("[history]\nlength = 'long'", "history.length: Expected `int`, got `str`"),
    ("[history]\nactions = ['a', 'a']", "history.actions: each action must be named once"),
    ("[history]\nactions = ['']", "history.actions: each action must be named once, and none may be empty"),
    ("[id]\ncapacity = 0", "id.capacity: must be 1 to"),
    ("[id]\nhashed = -1", "id.hashed: must be 0 to"),
    ("[item.genre]\nkind = 'colour'", "Invalid enum value 'colour'"),
    ("[item.genre]\ncapacity = 4", "missing required field `kind`"),
    (
        "[item.genre]\nkind = 'category'\ncapcity = 4",
        "item.genre.capcity: is not a known key; did you mean 'capacity'?",
    ),
    ("[item.genre]\nkind = 'category'\ncapacity = 0", "item.genre.capacity: must be 1 to"),
    ("[item.genre]\nkind = 'category'\nmax_values = 0", "item.genre.max_values: must be 1 to 1024, not 0"),
    ("[item.genre]\nkind = 'category'\nsize = 4", "item.genre.size: belongs to a vector, this is a category"),
    ("[item.year]\nkind = 'number'\nstd = 0", "item.year.std: must be finite and above 0, not 0.0"),
    ("[item.year]\nkind = 'number'\nmean = nan", "item.year.mean: must be finite, not nan"),
    ("[item.image]\nkind = 'vector'", "item.image.size: must be 1 to 4096, not 0"),
    ("[item.title]\nkind = 'text'\nngrams = [2, 1]", "item.title.ngrams: must be two numbers from 1 to 5"),
    ("[item.title]\nkind = 'text'\nngrams = [1]", "ngrams"),
    ("[item.'a b']\nkind = 'number'", "item.a b: a field name has 1 to 64 letters, digits, _ or -"),
    ("[context.device]\nkind = 'category'\nhashed = 4", "context.device.hashed: "),
    ("item = 3", "item: Expected `object`, got `int`"),
]


@pytest.mark.parametrize(("text", "fragment"), named(FEATURES))
def test_feature_specifications(text: str, fragment: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("features.toml").write_text(text)
    refused(capsys, ["distil", "--drain"], 2, "features.toml: ", fragment)


def test_a_feature_specification_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    refused(
        capsys,
        ["distil", "--drain"],
        3,
        "features.toml: there is no feature specification, and no log to guess one from",
    )


# Mapping files and tables

MAPPINGS: list[tuple[str, str]] = [
    ("[columns", "map.toml: is not TOML"),
    ("kind = 'films'", "map.toml: kind: invalid enum value 'films'; one of feedback, impressions, interactions, items"),
    ("colums = 1", "map.toml: top level: unknown key 'colums'; did you mean 'columns'?"),
    ("delimiter = ''", "map.toml: delimiter: must be one or more characters, without quotes and line ends, not ''"),
    ('delimiter = "\\n"', "map.toml: delimiter: must be one or more characters, without quotes and line ends"),
    ("encoding = 'klingon'", "map.toml: encoding: 'klingon' is no encoding of text that Python knows"),
    ("list_separator = ''", "map.toml: list_separator: must not be empty"),
    ("kind = 'items'\n[columns]\nidd = 'id'", "items have no field 'idd'; did you mean 'id'?"),
    ("kind = 'items'\n[columns]\nid = 'movie'", "columns.id: the table has no column 'movie'"),
    ("kind = 'items'\n[columns]\nid = 3", "map.toml: columns[...]: expected `str | object`, got `int`"),
    ("kind = 'items'\n[columns]\nid = { colum = 'id' }", "map.toml: columns[...]"),
    (
        "kind = 'items'\n[columns]\ntime = { column = 'year', unit = 'days' }",
        "columns.time.unit: must be s, ms, us, ns, iso or a form such as",
    ),
    ("kind = 'items'\n[columns]\nid = { column = 'id', type = 'text' }", "columns.id.type: the field's type is known"),
    ("kind = 'items'\n[columns]\nid = 'id'\n[constants]\nid = 'x'", "id has both a column and a constant"),
    (
        "kind = 'items'\n[attributes]\nyear = 'yaer'",
        "attributes.year: the table has no column 'yaer'; did you mean 'year'?",
    ),
    ("kind = 'feedback'", "t.csv: has no column 'impression_id', which feedback need"),
]


@pytest.mark.parametrize(("text", "fragment"), named(MAPPINGS))
def test_mapping_files(text: str, fragment: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("map.toml").write_text(text)
    Path("t.csv").write_text("id,year\na,1990\n")
    refused(capsys, ["import", "t.csv", "--mapping", "map.toml"], 2, fragment)


FEED = "impression_id,item,action,time\n"
LIST = "id,time,candidates,history,history_times,logged_scores,exclude\n"
TABLES: list[tuple[str, str, str, str]] = [
    ("items", "t.csv", "id,id\na,b\n", "the header names column 'id' twice"),
    ("items", "t.csv", "id,x\na\n", "line 2"),
    ("items", "t.csv", "id,x\na,1,2\n", "line 2"),
    ("items", "t.csv", 'id\n""\n', "line 2, column 'id': is empty"),
    ("items", "t.csv", "id,version\na,1.5\n", "line 2, column 'version'"),
    ("items", "t.csv", "id,version\na,first\n", "line 2, column 'version'"),
    ("items", "t.csv", "id,withdrawn\na,perhaps\n", "line 2, column 'withdrawn': must be true or false, not 'perhaps'"),
    ("items", "t.csv", "id,time\na,yesterday\n", "line 2, column 'time': must be a time in s since 1970"),
    ("items", "t.csv", "id,time\na,9\nb,9\nc,1700000000000\n", "set its unit (s, ms, us, ns or iso)"),
    ("items", "t.csv", "id,time\na,-1\n", "line 2, column 'time'"),
    ("items", "t.csv", "id\n" + "x" * 600 + "\n", "line 2: id has 600 characters, more than 512"),
    ("feedback", "t.csv", "item,action,time\na,click,1\n", "has no column 'impression_id', which feedback need"),
    ("feedback", "t.csv", FEED + "r,a,click,soon\n", "line 2, column 'time'"),
    ("feedback", "t.csv", FEED + "r,,click,1\n", "line 2"),
    ("feedback", "t.csv", "impression_id,item,action,time,value\nr,a,click,1,inf\n", "line 2, column 'value'"),
    ("impressions", "t.csv", LIST + "r,1,a|a,,,,\n", "line 2: candidates hold 'a' twice"),
    ("impressions", "t.csv", LIST + "r,1,a|b,,,1.5,\n", "logged_scores"),
    ("impressions", "t.csv", LIST + "r,1,a|b,x|y,5|6,,\n", "line 2: history has an event at"),
    ("impressions", "t.csv", LIST + "r,9,a|b,x|y,5,,\n", "has 1 values for 2 history; they must be as many"),
    ("impressions", "t.csv", LIST + "r,9,a|b,x|y,6|5,,\n", "line 2: history is not oldest first"),
    ("impressions", "t.csv", LIST + "r,9,a|b,,,,a\n", "'a' is both in exclude and in candidates"),
    ("items", "t.jsonl", "{", "t.jsonl, line 1: is not JSON"),
    ("items", "t.jsonl", "[1]\n", "t.jsonl, line 1: must be an object, {…}, not a list"),
    ("items", "t.jsonl", '{"id": ""}\n', "t.jsonl, line 1: not an item: id is empty"),
    ("items", "t.jsonl", '{"id": "a"}\n{"idd": "b"}\n', "t.jsonl, line 2"),
    ("items", "t.jsonl", '{"id": 7}\n', "t.jsonl, line 1"),
    ("items", "t.jsonl", '{"id": "a", "attributes": {"x": null}}\n', "t.jsonl, line 1"),
    ("rankings", "t.csv", "id\na\n", "t.csv: rankings can be imported from JSONL without a mapping only"),
    ("items", "t.parquet", "PAR1 not", "t.parquet, after row 0: is not Parquet"),
    ("items", "t.xlsx", "PK\x03\x04", "t.xlsx: is a zip archive or an Excel file; convert it to CSV"),
    ("interactions", "t.csv", "user,item,time\n", "t.csv: holds no interaction"),
    ("interactions", "t.csv", "user,item,time\nu,a,1\n", "no list can be made; 1 events are among the first 3"),
    ("interactions", "t.csv", "user,item\nu,a\n", "has no column 'time', which interactions need"),
    ("interactions", "t.csv", "user,item,time\nu,a,x\n", "line 2, column 'time'"),
]


@pytest.mark.parametrize(("kind", "name", "text", "fragment"), named(TABLES))
def test_tables(kind: str, name: str, text: str, fragment: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(name).write_text(text)
    code = 2 if "has no column" in fragment or "without a mapping only" in fragment else 3
    check = ["--check"] if kind != "interactions" else []  # what no list can be made of is only shown by --check
    assert check or main(["topics", "create"]) == 0
    refused(capsys, ["import", name, "--kind", kind, *check], code, name, fragment)


# Records as bytes

IMPRESSION: dict[str, Any] = {"id": "r", "time_us": 9, "candidates": [{"item": "a"}, {"item": "b"}]}
RANKING: dict[str, Any] = {
    "impression": IMPRESSION,
    "teacher_id": "t",
    "teacher_version": "1",
    "scale": "logit",
    "scores": [1.0, 2.0],
    "scored": [True, True],
}
FEEDBACK: dict[str, Any] = {"id": "f", "impression_id": "r", "item": "a", "action": "click", "time_us": 9}
NAN = float("nan")

RECORDS: list[tuple[type[Record], Any, str]] = [
    (Item, None, "there is no value (a tombstone)"),
    (Item, b"", "empty"),
    (Item, b"\x01\x02", "0x01"),
    (Item, b"\x00\x00\x00\x00\x09\x00\xff\xff", ""),
    (Item, encode(Item("a"))[:-1], ""),
    (Item, b"{", "truncated"),
    (Item, b"{\xff}", ""),
    (Item, {}, "id"),
    (Item, {"id": "a", "colour": 1}, "colour"),
    (Item, {"id": "a\0b"}, "id holds a NUL"),
    (Item, {"id": "a", "version": -1}, "version is -1"),
    (Item, {"id": "a", "version": 2**70}, ""),
    (Item, {"id": "a", "time_us": -5}, "time_us is -5"),
    (Item, {"id": "a", "attributes": {"": 1}}, "a field name of attributes is empty"),
    (Item, {"id": "a", "attributes": {"x": ["b", 1]}}, "attributes"),
    (Item, {"id": "a", "attributes": {"x": {"y": 1}}}, "attributes"),
    (Item, {"id": "a", "attributes": {"x": "y" * 70_000}}, "attributes.x has 70000 characters"),
    (Impression, {**IMPRESSION, "time_us": 2**60}, "time_us is"),
    (Impression, {**IMPRESSION, "candidates": [{"item": ""}]}, "candidates[0].item is empty"),
    (Impression, {**IMPRESSION, "candidates": [{"item": "a"}, {"item": "a"}]}, "candidates hold 'a' twice"),
    (Impression, {**IMPRESSION, "candidates": [{"item": "a", "propensity": 2}]}, "a propensity of candidates is 2.0"),
    (Impression, {**IMPRESSION, "exclude": ["b"]}, "'b' is both in exclude and in candidates"),
    (Impression, {**IMPRESSION, "history": [{"item": "x", "time_us": 10}]}, "later than its request at 9"),
    (Impression, {**IMPRESSION, "origin": "robot"}, "origin"),
    (Impression, {**IMPRESSION, "user": ""}, "user is empty"),
    (Ranking, {**RANKING, "scores": [1.0]}, "1 scores and 2 marks in scored for 2 candidates"),
    (Ranking, {**RANKING, "scores": [1.0, 1e300]}, "scores[1] is 1e+300"),
    (Ranking, {**RANKING, "scale": "stars"}, "scale"),
    (Ranking, {**RANKING, "teacher_id": ""}, "teacher_id is empty"),
    (Ranking, {**RANKING, "catalogue_as_of": -1}, "catalogue_as_of is -1"),
    (Feedback, {**FEEDBACK, "value": 1e60}, "value is 1e+60, not a number between"),
    (Feedback, {**FEEDBACK, "action": ""}, "action is empty"),
    (Feedback, encode(Impression("r", 9)), ""),
    (Example, {"ranking": RANKING, "labels": [1.0]}, "1 labels for 2 candidates"),
    (Example, {"ranking": RANKING, "labels": [-1.0, 0.0]}, "a label is -1.0, below 0"),
    (Example, {"ranking": RANKING, "labels": [0.0, 0.0], "label_state": "open"}, "label_state"),
]


@pytest.mark.parametrize(("kind", "value", "fragment"), named(RECORDS))
def test_records(kind: type[Record], value: Any, fragment: str) -> None:
    data = msgspec.json.encode(value) if isinstance(value, dict) else value
    with pytest.raises(DecodeError) as caught:
        decode(kind, data)
    sentence = str(caught.value)
    assert kind.__name__.lower() in sentence.lower()
    assert fragment in sentence
    assert "\n" not in sentence
    assert len(sentence) < 400


# Files that were made by the product, and damaged since


@pytest.fixture(scope="module")
def student() -> Student:
    return make_student(30)


@pytest.fixture(scope="module")
def bundle(student: Student, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return student.export(tmp_path_factory.mktemp("wrong") / "bundle", golden_requests=make_requests(student, 3))


@pytest.fixture(scope="module")
def device(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from recdistill.device import export_device

    path = tmp_path_factory.mktemp("wrong-device") / "device.onnx"
    export_device(bundle, path)
    return path


def _flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def _edit(name: str, *, at: int = -1) -> Any:
    return lambda folder: _flip(folder / name, at)


BUNDLES: list[tuple[Any, str]] = [
    (lambda b: (b / "manifest.json").unlink(), "holds no bundle (manifest.json)"),
    (lambda b: (b / "vectors.npy").unlink(), "vectors.npy"),
    (lambda b: (b / "extra.bin").write_bytes(b"x"), "extra.bin"),
    (lambda b: (b / "vectors.npy").write_bytes(b""), "vectors.npy"),
    (lambda b: (b / "manifest.json").write_text("{}"), "manifest.json"),
    (lambda b: (b / "manifest.json").write_bytes(b"\xff\x00"), "manifest.json"),
    (_edit("manifest.json", at=40), "manifest.json"),
    (_edit("items.bin"), "items.bin"),
    (_edit("vectors.npy"), "vectors.npy"),
    (_edit("vectors_int8.npy"), "vectors_int8.npy"),
    (_edit("scales.npy"), "scales.npy"),
    (_edit("user_tower.onnx"), "user_tower.onnx"),
    (_edit("item_tower.onnx"), "item_tower.onnx"),
    (_edit("features.json"), "features.json"),
    (_edit("vocabulary.json"), "vocabulary.json"),
    (_edit("popular.json"), "popular.json"),
    (_edit("golden.json"), "golden.json"),
]


@pytest.mark.parametrize(("damage", "fragment"), named(BUNDLES))
def test_bundles(damage: Any, fragment: str, bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(bundle.path, "b")
    damage(Path("b"))
    refused(capsys, ["inspect", "./b"], 3 if "holds no" in fragment else 6, fragment)
    refused(
        capsys, ["recommend", "--bundle", "b", "item-1"], 6, "manifest.json" if "holds no" in fragment else fragment
    )


DEVICES: list[tuple[Any, str]] = [
    (lambda p: p.unlink(), "device.onnx: cannot be read (No such file or directory)"),
    (lambda p: p.write_bytes(b""), "device.onnx: is not a whole device file"),
    (lambda p: p.write_bytes(p.read_bytes()[:-1]), "device.onnx: is not a whole device file"),
    (lambda p: _flip(p, 100), "device.onnx: is not a whole device file, or was changed after the export"),
]


@pytest.mark.parametrize(("damage", "fragment"), named(DEVICES))
def test_device_files(damage: Any, fragment: str, device: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(device, "device.onnx")
    damage(Path("device.onnx"))
    refused(capsys, ["recommend", "--device", "device.onnx", "item-1"], 6, fragment)


CHECKPOINTS: list[tuple[Any, str]] = [
    (lambda c: (c / "state.json").unlink(), "state.json: is missing"),
    (lambda c: (c / "manifest.json").unlink(), "manifest.json: is missing"),
    (lambda c: _flip(c / "tensors.safetensors"), "tensors.safetensors: is not the"),
    (lambda c: _flip(c / "state.json", 3), "state.json: is not the"),
    (lambda c: (c / "manifest.json").write_text("[]"), "manifest.json: is not a checkpoint's manifest"),
    (lambda c: c.rename("step-8"), "describes another checkpoint than step-8"),
    (lambda c: c.rename("last"), "last: is not named step-N"),
]


@pytest.mark.parametrize(("damage", "fragment"), named(CHECKPOINTS))
def test_checkpoints(damage: Any, fragment: str, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    from recdistill import checkpoint

    made = checkpoint.save(Path(), 7, {"w": np.ones(3, np.float32)}, {"turn": 0})
    damage(made)
    (place,) = [path for path in Path().iterdir() if path.is_dir()]
    refused(capsys, ["inspect", f"./{place}"], 6, fragment)


def _described(**changes: Any) -> Any:
    """Changes what `teacher.json` says."""

    def change(teacher: Path) -> None:
        told = json.loads((teacher / "teacher.json").read_text())
        (teacher / "teacher.json").write_text(json.dumps({**told, **changes}))

    return change


TEACHERS: list[tuple[Any, str]] = [
    (lambda t: (t / "weights.safetensors").unlink(), "weights.safetensors: is missing; `recdistill teach`"),
    (lambda t: (t / "weights.safetensors").write_bytes(b""), "weights.safetensors: is not the file that teacher.json"),
    (_edit("weights.safetensors"), "weights.safetensors: is not the file that teacher.json describes"),
    (lambda t: (t / "teacher.json").write_bytes(b"\xff"), "teacher.json: does not describe a teacher"),
    (lambda t: (t / "teacher.json").write_text("[]"), "teacher.json: does not describe a teacher"),
    (_described(format=2), "teacher.json: format 2 is not known"),
    (_described(version="0" * 12), "teacher.json: has been changed"),
    (_described(pickle="x"), "unknown field `pickle`"),
    (_described(spec={"histry": {}}), "histry: is not a known key; did you mean 'history'?"),
    (_described(towers=[]), "teacher.json: has been changed"),
]


@pytest.mark.parametrize(("damage", "fragment"), named(TEACHERS))
def test_teachers(damage: Any, fragment: str, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    from recdistill.features import FeatureSpec
    from recdistill.teachers.builtin import files as builtin_files

    towers = [builtin_files.Shape(dim=2, layers=0, hidden=1)]
    saved = builtin_files.Saved(spec=FeatureSpec(), vocabulary={"id": ["a"]}, towers=towers)
    builtin_files.write(Path("t"), saved, {"x": np.zeros(600, np.float32)})
    assert main(["inspect", "./t"]) == 0, "before it is damaged"
    damage(Path("t"))
    refused(capsys, ["inspect", "./t"], 5, fragment)


# The command line

LINES: list[tuple[str, int, str]] = [
    ("distl", 2, "there is no verb 'distl'; did you mean 'distil'?"),
    ("Serve", 2, "there is no verb 'Serve'; did you mean 'serve'?"),
    ("frobnicate", 2, "there is no verb 'frobnicate'; see `recdistill --help` for all"),
    ("help frobnicate", 2, "there is no verb 'frobnicate'"),
    ("--quiet distil", 2, "unknown option --quiet; options come after the verb"),
    ("distil --drian", 2, "unknown option --drian; did you mean --drain?"),
    ("distil --zzz", 2, "unknown option --zzz; see `recdistill distil --help`"),
    ("evaluate --bundel x", 2, "unknown option --bundel; BUNDLE is written without an option before it"),
    ("distil --drain=yes", 2, "--drain: ignored explicit argument 'yes'"),
    ("distil now", 2, "unexpected argument 'now'"),
    ("score --drain --config", 2, "--config: expected one argument"),
    ("score --drain --config none.toml", 2, "none.toml: cannot be read (No such file or directory)"),
    ("score --drain --set teacher.kind=callable", 2, "teacher.function: '' is not of the form"),
    ("score --drain --set teacher.kind=callable --set teacher.function=a.b", 2, "teacher.function: 'a.b' is not of"),
    ("score --drain --set teacher.kind=callable --set teacher.function=no.such:f", 2, "'no.such:f' cannot be imported"),
    ("score --drain --set teacher.kind=callable --set teacher.function=math:pi", 2, "is a float, not a function"),
    ("score --drain --set teacher.kind=logged", 4, "there is no topic 'impressions'; make the topics"),
    ("join --drain", 4, "there is no topic 'rankings'; make the topics"),
    ("teach", 3, "features.toml: there is no feature specification, and no log to guess one from"),
    ("teach --set teacher.kind=logged", 5, "teacher.kind is 'logged'"),
    ("teach --replace --set teacher.path=.", 5, ".: does not hold a trained teacher, so --replace leaves it alone"),
    ("topics", 2, "the following arguments are required: create|list|trim|mend"),
    (
        "topics creat",
        2,
        "create|list|trim|mend: must be create, list, trim or mend, not 'creat'; did you mean 'create'?",
    ),
    ("topics list --set log.path=/proc/none/log.sqlite", 4, "/proc/none"),
    ("topics list --set log.path=.", 4, "."),
    ("topics list --set log.options.colour=blue", 2, "log.options.colour"),
    (
        "topics list --set log.kind=kafka --set log.options.colour=blue",
        2,
        "log.options.colour: no option of kafka-python",
    ),
    (
        "topics list --set log.kind=kafka --set log.options.security_protocol=tls",
        2,
        "security_protocol: must be one of",
    ),
    ("simulate --impressions ten", 2, "--impressions: must be a whole number of at least 10, not 'ten'"),
    ("simulate --impressions 3", 2, "--impressions: must be a whole number of at least 10, not '3'"),
    ("simulate --items 5", 2, "--items: must be a whole number of at least 20, not '5'"),
    ("simulate --seed -1", 2, "--seed: must be a whole number from 0 to 2147483647, not '-1'"),
    ("simulate", 4, "the log has no topic 'bundles'; make the topics with `recdistill topics create`"),
    ("import", 2, "the following arguments are required: PATH"),
    ("import nothing.csv --kind items", 3, "nothing.csv: does not exist"),
    ("import nothing.csv", 3, "nothing.csv: does not exist"),
    ("import nothing.csv --kind item", 2, "--kind: must be items, impressions, feedback, interactions, rankings"),
    ("import nothing.csv --mapping none.toml", 2, "none.toml: cannot be read (No such file or directory)"),
    ("import . --check", 3, "holds neither u.data nor a file *.inter"),
    ("import . --kind items", 2, "a folder is MovieLens and takes no --kind, --mapping or --earlier"),
    ("inspect", 2, "the following arguments are required: TOPIC|PATH"),
    ("inspect rankins", 2, "'rankins' is neither a topic (did you mean rankings?) nor a path"),
    ("inspect items", 4, "topic 'items' does not exist in this log"),
    ("inspect items -n 0", 2, "-n: must be a whole number of at least 1, not '0'"),
    ("inspect items --partition x", 2, "--partition: must be a whole number of at least 0, not 'x'"),
    ("inspect no/such/bundle", 3, "no/such/bundle: there is no such file or folder"),
    ("inspect shop.impressions", 3, "the topic is called 'impressions' here, without log.prefix"),
    ("inspect .", 3, "holds no bundle (manifest.json), checkpoint"),
    ("evaluate", 6, "recdistill-data/student/bundles: holds no bundle yet"),
    ("evaluate --report no/folder/r.html", 2, "--report no/folder/r.html: there is no folder"),
    ("evaluate none --set teacher.kind=logged", 6, "none: there is no bundle here"),
    ("export none", 6, "none: there is no bundle here"),
    ("publish", 6, "recdistill-data/student/bundles: holds no bundle yet"),
    ("publish none --judgement none.json", 3, "none.json: cannot be read (No such file or directory)"),
    ("promote", 2, "promote: name a VERSION (see `recdistill versions`), or --loop for the promoter"),
    ("promote 3", 2, "promote: --why TEXT is needed"),
    ("promote 3 --loop", 2, "promote --loop: takes no VERSION and no --why"),
    ("promote 3 --why x --drain", 2, "promote --drain: is only for --loop"),
    ("promote 3 --why x --set registry.uri=ftp://models", 7, "ftp://models: not a registry URI"),
    ("rollback", 2, "the following arguments are required: --why"),
    ("versions --set registry.name=a.ledger.b", 7, "not a model name"),
    ("serve --bundle none --set rank.port=0", 6, "none: there is no bundle here"),
    (
        "serve --set rank.host=no-such-host.invalid",
        2,
        "rank.host: 'no-such-host.invalid' is not an address of this machine",
    ),
    ("recommend -k 0 --bundle b", 2, "-k: must be a whole number from 1 to 1000, not '0'"),
    ("recommend --bundle b --device d", 2, "--device: not allowed with argument --bundle"),
    ("recommend --bundle b --context phone", 2, "--context 'phone': must be NAME=VALUE"),
    ("recommend --bundle b --where =x", 2, "--where '=x': must be NAME=VALUE"),
    ("recommend --request none.json", 3, "none.json: cannot be read (No such file or directory)"),
    ("recommend --request none.json item-1", 2, "--request: holds the whole request"),
    ("recommend --url ftp://x", 2, "--url 'ftp://x': must be http://HOST:PORT"),
    ("recommend --url http://x:y", 2, "--url 'http://x:y': is not an address"),
    ("recommend --url http://127.0.0.1:1 a", 1, "http://127.0.0.1:1: does not answer"),
    ("demo --dataset ml-10m", 2, "--dataset: must be simulated or ml-100k, not 'ml-10m'; did you mean 'ml-100k'?"),
    ("demo --output .", 2, "--output .: exists already and was not made by a demo"),
    ("demo --data .", 2, "--data: is only for --dataset ml-100k"),
    ("demo --dataset ml-100k", 2, "--dataset ml-100k: needs --data DIR; download ml-100k"),
    ("demo --dataset ml-100k --impressions 500", 2, "--impressions: is only for --dataset simulated"),
    ("demo --seed one", 2, "--seed: must be a whole number from 0"),
    ("demo --impressions 5", 2, "--impressions: must be a whole number of at least 100, not '5'"),
    ("doctor --role gardener", 2, "--role: must be demo, scorer, joiner, distiller, promoter, ranker or device"),
]


# These import torch, or wait for a server.
SLOW_LINES: list[tuple[str, int, str]] = [
    ("score --drain", 5, "recdistill-data/teacher/teacher.json: is missing; `recdistill teach`"),
    ("versions --set registry.uri=http://127.0.0.1:1 --set registry.timeout_s=1", 7, "http://127.0.0.1:1"),
    (
        "topics list --set log.kind=kafka --set log.brokers=127.0.0.1:1 --set log.options.bootstrap_timeout_ms=2000",
        4,
        "cannot reach Kafka at 127.0.0.1:1",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("line", "code", "fragment"), named(SLOW_LINES))
def test_slow_command_lines(line: str, code: int, fragment: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, line.split(), code, fragment)


@pytest.mark.parametrize(("line", "code", "fragment"), named(LINES))
def test_command_lines(line: str, code: int, fragment: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("something").write_text("so that this folder is not empty")
    refused(capsys, line.split(), code, fragment)
    assert Path("something").exists()


def test_a_request_of_the_terminal_is_held_to_the_rules_of_the_endpoint(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    for body, fragment in (("{", "not JSON"), ('{"kk": 3}', "kk: is not known here"), ('{"k": -1}', "k: must be 1 to")):
        Path("r.json").write_text(body)
        refused(capsys, ["recommend", "--bundle", str(bundle.path), "--request", "r.json"], 3, fragment)


def test_there_are_two_hundred_of_them() -> None:
    tables = (SETTINGS, ENVIRONMENTS, CHANGES, FEATURES, MAPPINGS, TABLES, RECORDS)
    files = (BUNDLES, DEVICES, CHECKPOINTS, TEACHERS, LINES)
    assert sum(map(len, (*tables, *files))) >= 265
