"""`recdistill translate` on the embedded log: looking first, then translating, and what is said of mistakes."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from recdistill.cli import main
from recdistill.config import LogSettings
from recdistill.records import Impression, decode
from recdistill.stream import open_log
from recdistill.stream.testing import everything

VIEWS = """
kind = "impressions"
[only]
event.type = "view"
[columns]
id = "request.id"
time = { column = "ts", also = ["timestamp"] }
candidates = "slots.sku"
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECDISTILL__LOG__PREFIX", "shop.")
    Path("views.map.toml").write_text(VIEWS)
    with closing(open_log(LogSettings())) as theirs:  # somebody else's: it has no prefix of ours
        theirs.create_topics({"web.views": 1})
        with closing(theirs.stage("web")) as stage, stage.transaction() as transaction:
            for n in range(4):
                name = "ts" if n < 2 else "timestamp"
                slots = [{"sku": "a"}, {"sku": "b"}]
                event = {"event": {"type": "view"}, "request": {"id": f"r{n}"}, name: 1_767_600_000 + n, "slots": slots}
                transaction.send("web.views", json.dumps(event).encode())
            transaction.send("web.views", b'{"event": {"type": "scroll"}}')
            transaction.send("web.views", b'{"event": {"type": "view"}, "request": {}}')
    assert main(["topics", "create", "--quiet"]) == 0


def typed(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([*argv, "--quiet"])
    said = capsys.readouterr()
    return code, said.out, said.err


ONE = ("--topic", "web.views", "--mapping", "views.map.toml")


def test_check_shows_what_messages_mean_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = typed(capsys, "translate", "--check", *ONE)
    assert code == 0
    assert "web.views: 5 of the first 6 messages are understood" in out
    assert "1 of them are passed over: no mapping means them" in out
    assert "4 impression" in out
    assert "2026-01-05" in out
    assert "not understood: web.views/0 at 5, column 'request.id' (id): is empty; every row needs a value" in out
    code, out, _ = typed(capsys, "translate", "--check", *ONE, "--json")
    found: dict[str, Any] = json.loads(out)["topics"]["web.views"]
    assert json.loads(out)["minds"][0].startswith("mind: views.map.toml says nowhere what the user did before")
    Path("views.map.toml").write_text(VIEWS + 'history = "seen.sku"\n')
    assert json.loads(typed(capsys, "translate", "--check", *ONE, "--json")[1])["minds"] == []
    assert [one["id"] for one in found["records"]["impression"]] == ["r0", "r1", "r2", "r3"]
    with closing(open_log(LogSettings(prefix="shop."))) as log:
        assert everything(log, "impressions") == []


def test_a_topic_of_ours_is_refused_before_anything_is_made(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a prefix, `topics create` would take a company's own `impressions` for ours, and say nothing."""
    Path("shop.toml").write_text('[[translate.topics]]\ntopic = "impressions"\nmappings = ["views.map.toml"]\n')
    monkeypatch.setenv("RECDISTILL__LOG__PREFIX", "")
    for argv in (("topics", "create"), ("translate", "--check")):
        code, _, err = typed(capsys, *argv, "--config", "shop.toml")
        assert code == 2, err
        assert "'impressions' is a topic of recdistill itself" in err
        assert "set log.prefix" in err
    with closing(open_log(LogSettings())) as log:
        assert "rankings" not in log.topics()
    monkeypatch.setenv("RECDISTILL__LOG__PREFIX", "new.")
    assert typed(capsys, "topics", "create", "--config", "shop.toml")[0] == 0


def test_it_translates_once_also_where_a_field_has_got_another_name(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = typed(capsys, "translate", "--drain", *ONE)
    assert (code, out.strip()) == (0, "6 messages, 4 impressions, 1 passed_over, 1 dead_letters, 1 batches")
    code, out, _ = typed(capsys, "translate", "--drain", *ONE)
    assert (code, out.strip()) == (0, "nothing to do")
    with closing(open_log(LogSettings(prefix="shop."))) as log:
        lists = [decode(Impression, message.value) for message in everything(log, "impressions")]
    assert [one.time_us for one in lists] == [(1_767_600_000 + n) * 1_000_000 for n in range(4)]
    code, out, _ = typed(capsys, "translate", "--drain", *ONE, "--from", "/web.views/0:3")
    assert (code, out.split(",")[0]) == (0, "3 messages")


@pytest.mark.parametrize(
    ("argv", "code", "sentence"),
    [
        ((), 2, "there is no topic to translate; write a [[translate.topics]]"),
        (("--topic", "web.views"), 2, "--topic: needs a mapping"),
        (("--mapping", "views.map.toml"), 2, "--mapping: goes with --topic"),
        (("--topic", "web.view", "--mapping", "views.map.toml"), 4, "did you mean /web.views?"),
        (("--topic", "shop.items", "--mapping", "views.map.toml"), 2, "'shop.items' is a topic of recdistill itself"),
        (("--topic", "web.views", "--mapping", "nowhere.toml"), 2, "nowhere.toml"),
        ((*ONE, "--format", "avro"), 2, "a topic of Avro or protobuf needs its schema"),
        (("--topic", "web.views", "--mapping", "half.toml"), 2, "has no column 'time', which impressions need"),
        (("--topic", "web.views", "--mapping", "events.toml"), 2, "lists cannot be made of interactions as they come"),
        (("--topic", "web.views", "--mapping", "strange.toml"), 2, "there is no '@offset'; a message has @key, @time"),
    ],
)
def test_a_mistake_is_one_sentence(
    capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], code: int, sentence: str
) -> None:
    Path("half.toml").write_text('kind = "impressions"\n[columns]\nid = "a"\ncandidates = "b"\n')
    Path("events.toml").write_text('kind = "interactions"\n[columns]\nuser = "a"\nitem = "b"\ntime = "c"\n')
    Path("strange.toml").write_text('kind = "items"\n[columns]\nid = "@offset"\n')
    found, _, err = typed(capsys, "translate", "--drain", *argv)
    assert found == code, err
    assert sentence in err
    assert err.count("\n") == 1


def test_what_a_message_has_beside_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bare.toml").write_text(
        'kind = "impressions"\n[only]\nevent.type = "view"\n[columns]\nid = "@place"\ntime = "@time"\n'
        'candidates = "slots.sku"\n[context]\nwho = "@headers.agent"\n'
    )
    code, out, _ = typed(capsys, "translate", "--check", "--topic", "web.views", "--mapping", "bare.toml", "--json")
    assert code == 0
    found = json.loads(out)["topics"]["web.views"]
    assert [one["id"] for one in found["records"]["impression"]] == [f"web.views/0:{n}" for n in range(4)]


def test_without_its_library_avro_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "fastavro", None)
    Path("view.avsc").write_text('{"type": "record", "name": "V", "fields": []}')
    topics = '[{topic = "web.views", mappings = ["views.map.toml"], format = "avro", schema = "view.avsc"}]'
    code, _, err = typed(capsys, "translate", "--drain", "--set", f"translate.topics={topics}")
    assert code == 1
    assert "this needs fastavro, which is not installed" in err
    assert "schemas]" in err
