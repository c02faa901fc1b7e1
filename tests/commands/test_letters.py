"""`recdistill dead-letters`, as a person uses it after a join."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import world

from recdistill.cli import main
from recdistill.commands.letters import changed
from recdistill.config import LogSettings
from recdistill.loops import score
from recdistill.loops.feed import feed
from recdistill.records import Feedback, codec, decode
from recdistill.stream import open_log, standard_topics
from recdistill.stream.testing import everything
from recdistill.teachers.function import FunctionTeacher

LISTS = world.impressions(4)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Three clicks of a careless producer: one without its item, one with an item that is empty, and noise."""
    monkeypatch.chdir(tmp_path)
    with closing(open_log(LogSettings())) as log:
        log.create_topics(standard_topics())
        feed(log, LISTS)
        teacher = FunctionTeacher(world.by_hash, "hash", "1", "logit")
        score.run(log, teacher, wait_s=0.05, stop=threading.Event(), drain=True)
        click = {"id": "f0", "impression_id": LISTS[0].id, "action": "click", "time_us": LISTS[0].time_us + 1}
        with closing(log.stage("careless")) as stage, stage.transaction() as transaction:
            transaction.send("feedback", json.dumps(click).encode(), key=b"r")
            transaction.send("feedback", codec.write(Feedback("f1", LISTS[1].id, "", "click", time_us=7)), key=b"r")
            transaction.send("feedback", b"\x00\x01\x02", key=b"r")
    main(["join", "--drain", "--quiet"])  # the lists stay open, which it says
    capsys.readouterr()


def typed(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["dead-letters", *argv, "--quiet"])
    said = capsys.readouterr()
    return code, said.out, said.err


def numbers(capsys: pytest.CaptureFixture[str], *argv: str) -> list[int]:
    code, out, _ = typed(capsys, *argv, "--json")
    assert code == 0
    return [one["number"] for one in json.loads(out)["letters"]]


def clicks() -> list[Feedback]:
    with closing(open_log(LogSettings())) as log:
        return [decode(Feedback, message.value) for message in everything(log, "feedback")[3:]]


def test_it_lists_by_stage_reason_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = typed(capsys)
    assert code == 0
    assert out.startswith("3 letters\n")
    assert "1  join: DecodeError: not a feedback: Object missing required field `item`" in out
    assert len(numbers(capsys)) == 3
    assert len(numbers(capsys, "--reason", "required field")) == 1
    assert numbers(capsys, "--stage", "score") == []
    assert numbers(capsys, "--since", "2199-01-01") == []
    assert len(numbers(capsys, "--until", "2199-01-01", "--since", "2020-01-01")) == 3


def test_a_letter_of_a_wrong_clock_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """A client of Kafka may write nanoseconds where milliseconds are meant; its letter has the log's time of it."""
    with closing(open_log(LogSettings())) as log, closing(log.stage("join")) as stage, stage.transaction() as opened:
        headers = (("topic", b"feedback"), ("stage", b"join"), ("error", b"of a wrong clock"))
        opened.send("dead-letters", b"x", headers=headers, time_us=1_767_225_600 * 10**9)
    code, out, err = typed(capsys)
    assert (code, err) == (0, "")
    assert "@1767225600000  join" in out


def test_it_explains_one(capsys: pytest.CaptureFixture[str]) -> None:
    [first, second, third] = numbers(capsys)
    code, out, _ = typed(capsys, "explain", str(first))
    assert code == 0
    assert "because      DecodeError: not a feedback: Object missing required field `item`" in out
    assert f"way on       `recdistill dead-letters send {first} --change FIELD=VALUE`" in out
    assert '"impression_id"' in out
    code, out, _ = typed(capsys, "explain", str(third), "--json")
    found: dict[str, Any] = json.loads(out)
    assert (found["record"], found["bytes"], found["whole"]) == (None, 3, True)
    assert typed(capsys, "explain")[0] == typed(capsys, "explain", str(first), str(second))[0] == 2


def test_a_change_mends_a_letter_and_it_is_sent_once(capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = numbers(capsys)
    code, out, _ = typed(capsys, "send", str(first), "--change", "item=17")
    assert (code, out.strip()) == (0, "1 letters were sent again: 1 feedback")
    assert [(one.id, one.item) for one in clicks()] == [("f0", "17")], "an id is a text"
    code, out, _ = typed(capsys, "send", str(first), "--change", "item=18")
    assert "0 letters were sent again\n1 had been sent before, and were not sent again" in out
    assert len(clicks()) == 1
    assert numbers(capsys) == [second, third]
    assert numbers(capsys, "--all") == [first, second, third]
    capsys.readouterr()
    assert main(["inspect", "dead-letters", "--from-end", "-n", "1"]) == 0
    assert f"letter {first} was sent again" in capsys.readouterr().out


def test_letters_are_mended_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = typed(capsys, "mend", "--stage", "join", "--out", "letters.jsonl")
    assert (code, out.startswith("3 letters are in letters.jsonl")) == (0, True)
    rows = [json.loads(line) for line in Path("letters.jsonl").read_text().splitlines()]
    assert [set(row) & {"record", "bytes"} for row in rows] == [{"record"}, {"bytes"}, {"bytes"}]
    assert typed(capsys, "mend", "--all", "--out", "letters.jsonl")[0] == 1, "a file is never written over"
    rows[0]["record"]["item"] = LISTS[0].candidates[0].item
    rows[1] = {"letter": rows[1]["letter"], "record": {**rows[0]["record"], "id": "f1"}}
    Path("letters.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:2]))
    code, out, _ = typed(capsys, "send", "letters.jsonl")
    assert (code, out.strip()) == (0, "2 letters were sent again: 2 feedback")
    assert [one.id for one in clicks()] == ["f0", "f1"]
    assert typed(capsys, "send", "letters.jsonl")[1].startswith("0 letters were sent again")
    capsys.readouterr()
    assert main(["join", "--flush", "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["feedback"] == 2


@pytest.mark.parametrize("odd", ["a\u2028b", "a\x85b", "a\u2029b\x0bc", "\ud83d", "ä\U0001f600"])
def test_a_letter_with_odd_characters_is_mended_in_a_file(capsys: pytest.CaptureFixture[str], odd: str) -> None:
    """Some characters end a line in Python and in no other program, and a half of a pair is in no UTF-8 file."""
    click = {"id": "f9", "impression_id": LISTS[2].id, "action": odd, "time_us": LISTS[2].time_us + 1}
    with (
        closing(open_log(LogSettings())) as log,
        closing(log.stage("careless")) as stage,
        stage.transaction() as transaction,
    ):
        transaction.send("feedback", json.dumps(click).encode(), key=b"r")
    main(["join", "--drain", "--quiet"])
    number = numbers(capsys)[-1]
    code, _, err = typed(capsys, "mend", str(number), "--out", "odd.jsonl")
    assert code == 0, err
    text = Path("odd.jsonl").read_text(encoding="utf-8")
    assert ("ä" in text) == ("ä" in odd), "a person reads it"
    row = json.loads(text)
    if "record" not in row:  # JSON of a half of a pair is no record: its bytes are kept
        assert odd == "\ud83d"
        row = {"letter": number, "record": {**click, "action": "click"}}
    row["record"]["item"] = LISTS[2].candidates[0].item
    Path("odd.jsonl").write_text(json.dumps(row, ensure_ascii=odd == "\ud83d") + "\n", encoding="utf-8")
    code, out, err = typed(capsys, "send", "odd.jsonl")
    assert (code, out.strip()) == (0, "1 letters were sent again: 1 feedback"), err
    with closing(open_log(LogSettings())) as log:
        sent = decode(Feedback, everything(log, "feedback")[-1].value)
    assert (sent.id, sent.action) == ("f9", odd if odd != "\ud83d" else "click")


@pytest.mark.parametrize(
    ("argv", "code", "sentence"),
    [
        (("send",), 2, "send: say which: numbers, --stage"),
        (("mend", "--all"), 2, "mend: needs a file, --out FILE"),
        (("send", "99999"), 3, "there is no letter 99999"),
        (("list", "x"), 2, "'x' is no number of a letter"),
        (("send", "--stage", "score"), 3, "no letter is meant"),
        (("send", "--stage", "join"), 3, "is still wrong"),
        (("send", "--reason", "required", "--change", "item"), 2, "must be FIELD=VALUE"),
        (("send", "--reason", "required", "--change", "id.x=1"), 2, "there is no place 'id.x'"),
        (("send", "nowhere.jsonl"), 3, "nowhere.jsonl"),
        (("send", "half.jsonl"), 3, "half.jsonl, line 1: must be an object with letter"),
        (("--since", "12"), 2, "--since: must be a time"),
    ],
)
def test_a_mistake_is_one_sentence(
    capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], code: int, sentence: str
) -> None:
    Path("half.jsonl").write_text('{"letter": 0}\n')
    found, _, err = typed(capsys, *argv)
    assert found == code, err
    assert (sentence in err) or (sentence == "is still wrong" and "letter " in err), err
    assert err.count("\n") == 1
    assert clicks() == []


def test_values_of_changes() -> None:
    fields = {"id": "7", "slots": [{"sku": "a", "score": 0.5}], "n": 1}
    made = changed(fields, ["id=8", "slots.0.score=1", "n=null", "user.id=9", "slots.0.sku=null"], {})
    assert made == {"id": "8", "slots": [{"sku": "null", "score": 1}], "n": None, "user": {"id": 9}}
    assert fields["id"] == "7"
