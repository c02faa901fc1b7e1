"""Every verb from tables to a champion, one after the other, as a person would type them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from support import world
from support.small_shop import EASY_GATE, FEATURES, HOUR, SETTINGS, TITLE, Terminal, prepare

from recdistill.features import FeatureSpec
from recdistill.records import Record, to_json

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    prepare(tmp_path, monkeypatch, SETTINGS + EASY_GATE + "[rank]\nport = 0\n", FEATURES + TITLE + HOUR)
    return Terminal(capsys)


def _table(path: str, records: list[Any]) -> str:
    Path(path).write_bytes(b"".join(to_json(record) + b"\n" for record in records))
    return path


@pytest.mark.slow
def test_from_tables_to_a_champion(terminal: Terminal) -> None:
    lists = world.impressions(240)
    clicks = world.feedback(lists)
    cut = lists[160].time_us
    assert terminal.json("topics create")["made"]
    assert terminal.json("topics create")["made"] == []
    items: list[Record] = list(world.items())
    assert terminal.json(f"import {_table('items.jsonl', items)} --kind items") == {
        "items": 20,
        "before": 0,
        "stopped": False,
    }
    for name, part in (("early", lambda at: at < cut), ("late", lambda at: at >= cut)):
        for kind, records in (("impressions", lists), ("feedback", clicks)):
            _table(f"{name}-{kind}.jsonl", [one for one in records if part(one.time_us)])
    for kind in ("impressions", "feedback"):
        terminal(f"import early-{kind}.jsonl --kind {kind}")
    assert terminal.json("score --drain")["rankings"] == 160
    joined = terminal.json("join --drain")
    assert 150 <= joined["examples"] < 160, "the newest window is still open"
    learnt = terminal.json("distil --drain")
    assert learnt["examples"] == joined["examples"]
    assert learnt["bundles"] == 1

    terminal("evaluate", code=3)
    assert "there is no labelled example after those" in terminal.errors
    for kind in ("impressions", "feedback"):
        terminal(f"import late-{kind}.jsonl --kind {kind}")
    terminal("score --drain --quiet")
    terminal("join --drain --quiet")
    text = terminal("evaluate --report report.html")
    assert "popularity" in text
    assert "the gate lets it through" in text
    assert "<html" in Path("report.html").read_text()[:500].lower()
    Path("judgement.json").write_text(terminal("evaluate --json"))
    terminal("evaluate --gate --set gate.retention=99", code=7)
    assert "99.000 is asked" in terminal.errors

    published = terminal.json("publish --judgement judgement.json")
    assert published["version"] == "1"
    assert published["passed"]
    assert "candidate" in terminal("versions")
    promoted = terminal.json("promote candidate --why better")
    assert promoted == {"version": "1", "before": None, "content_hash": published["content_hash"], "entry": 3}
    terminal("promote 1 --why again", code=7)
    assert "champion already" in terminal.errors
    terminal("rollback --why regret", code=7)
    assert "no previous champion" in terminal.errors
    assert terminal.json("promote --loop --drain").get("registered", 0) == 0, "this content is registered"
    listed = terminal.json("versions")
    assert [entry["why"] for entry in listed["ledger"]] == ["better"]
    assert listed["versions"][0]["aliases"] == ["champion"], "it is no candidate any more"

    _asks_everybody(terminal, published["content_hash"])
    _looks_at_everything(terminal)


def _asks_everybody(terminal: Terminal, content_hash: str) -> None:
    (bundle,) = Path("recdistill-data/student/bundles").glob("step-*")
    question = "recommend item-1 item-2 -k 5 --context hour=7"
    champion = terminal.json(question)
    assert champion["bundle"] == content_hash
    assert len(champion["items"]) == 5
    assert not {"item-1", "item-2"} & set(champion["items"]), "what the user did is not answered again"
    assert terminal.json(f"{question} --bundle {bundle}") == champion
    assert f"bundle {content_hash[:12]}" in terminal(question)
    genre_b = terminal.json(f"{question} --where genre=b")["items"]
    assert all(int(item.split("-")[1]) % 3 == 1 for item in genre_b)
    assert terminal.json("export --out device.onnx")["content_hash"] == content_hash
    device = terminal.json(f"{question} --device device.onnx")
    assert len(set(device["items"]) & set(champion["items"])) >= 4
    terminal(f"{question} --device device.onnx --where genre=b", code=3)
    assert "where: a device file cannot filter" in terminal.errors
    with _Serve(bundle) as url:
        asked = terminal.json(f"{question} --url {url}")
        assert asked["items"] == champion["items"]
        Path("request.json").write_text('{"k": 0}')
        terminal(f"recommend --url {url} --request request.json", code=3)
        assert "k: must be 1 to 1000, not 0" in terminal.errors


class _Serve:
    """`recdistill serve --bundle`, without torch in sight, stopped by SIGTERM."""

    def __init__(self, bundle: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVE_WITHOUT_TORCH, "serve", "--bundle", str(bundle)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> str:
        watch = threading.Timer(60, self._process.kill)
        watch.start()
        assert self._process.stderr is not None
        said = self._process.stderr.readline()
        watch.cancel()
        assert said.startswith("serving at http://127.0.0.1:"), said + self._process.stderr.read()
        url = said.split()[2]
        for _ in range(100):
            try:
                with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
                    assert answer.status == 200
                    return url
            except OSError:
                time.sleep(0.1)
        raise AssertionError("never ready")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        out, errors = self._process.communicate(timeout=30)
        assert self._process.returncode == 0, errors
        assert "torch: False" in out


_SERVE_WITHOUT_TORCH = """
import sys
from recdistill.cli import main
code = main(sys.argv[1:])
print("torch:", "torch" in sys.modules)
sys.exit(code)
"""


def _looks_at_everything(terminal: Terminal) -> None:
    lines = [json.loads(line) for line in terminal("inspect rankings --json -n 1000").splitlines()]
    assert len(lines) == 240
    assert [line["record"]["impression"]["id"] for line in lines[:2]] == ["imp-0", "imp-1"]
    newest = terminal("inspect impressions -n 1 --from-end --partition 0")
    assert "'imp-239'" in newest
    (bundle,) = Path("recdistill-data/student/bundles").glob("step-*")
    shown = terminal.json(f"inspect {bundle}")
    assert shown["items"] == 20
    assert shown["features"]["item"] == {"genre": "category", "title": "text"}
    checkpoint = max(Path("recdistill-data/student/checkpoints").glob("step-*"), key=lambda p: int(p.name[5:]))
    assert terminal.json(f"inspect {checkpoint}")["step"] == int(checkpoint.name[5:])
    assert terminal.json("inspect device.onnx")["items"] == 20
    assert "at least" not in terminal("inspect dead-letters")


def test_dead_letters_are_shown_with_their_reason(terminal: Terminal) -> None:
    from contextlib import closing

    from recdistill.config import load_settings
    from recdistill.stream import open_log

    terminal("topics create")
    with closing(open_log(load_settings().log)) as log, closing(log.stage("test")) as stage, stage.transaction() as t:
        t.send("impressions", b"\x1b[2Jnonsense", key=b"k")
    assert json.loads(terminal("score --drain --json", code=8))["dead_letters"] == 1
    text = terminal("inspect dead-letters")
    assert "from impressions/0 offset 0" in text
    assert "given up by  score" in text
    assert "DecodeError" in text
    assert "\x1b" not in text
    (line,) = terminal("inspect dead-letters --json").splitlines()
    assert json.loads(line)["from_topic"] == "impressions"
    assert "cannot be read" in terminal("inspect impressions")


def test_an_import_is_whole_or_nothing(terminal: Terminal) -> None:
    terminal("topics create")
    Path("items.csv").write_text("id,attributes.year\na,1990\nb,many\n")
    Path("map.toml").write_text(
        'kind = "items"\n[attributes]\nyear = { column = "attributes.year", type = "number" }\n'
    )
    terminal("import items.csv --mapping map.toml", code=3)
    assert "items.csv, line 3" in terminal.errors
    assert "holds nothing yet" in terminal("inspect items")
    Path("items.csv").write_text("id,attributes.year\na,1990\nb,2001\n")
    assert "nothing was written" in terminal("import items.csv --mapping map.toml --check")
    assert "holds nothing yet" in terminal("inspect items")
    assert terminal("import items.csv --mapping map.toml").startswith("2 items")


def test_simulate_writes_a_stream_and_its_specification(terminal: Terminal) -> None:
    Path("features.toml").unlink()
    terminal("topics create --set topics.partitions=2")
    first = terminal.json("simulate --impressions 50 --users 10 --items 220 --days 20")
    assert first["impressions"] == 50
    assert first["features_written"]
    assert FeatureSpec.load(Path("features.toml")).history.actions == ("click", "view")
    ends = {row["topic"]: row for row in terminal.json("topics list")["topics"]}
    assert ends["impressions"]["partitions"] == 2
    assert ends["examples"]["end"] == 0


@pytest.mark.slow
def test_a_folder_of_movielens(terminal: Terminal, shared_data: Path) -> None:
    terminal("topics create")
    found = terminal.json(f"import {shared_data / 'ml-100k'} --check")["checked"]
    assert found["items"] == 1682
