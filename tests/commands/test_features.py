"""A missing feature specification: it is written from the log and said aloud, or the way to one is named."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from support import world

from recdistill.cli import main
from recdistill.commands.features import specification_of_log
from recdistill.config import Settings
from recdistill.features import FeatureSpec
from recdistill.records import Feedback, Record, to_json


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _import(kind: str, records: list[Record]) -> None:
    Path(f"{kind}.jsonl").write_bytes(b"".join(to_json(record) + b"\n" for record in records))
    assert main(["import", f"{kind}.jsonl", "--kind", kind]) == 0


@pytest.mark.parametrize("verb", ["distil", "teach"])
def test_it_is_written_from_the_log(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topics", "create"]) == 0
    _import("items", list(world.items()))
    _import("impressions", list(world.impressions(40)))
    capsys.readouterr()
    main([verb, "--drain", "--set", "distil.publish=false"] if verb == "distil" else [verb])
    err = capsys.readouterr().err
    assert "features.toml was not there; it was written from the records of the log. Look at it" in err
    spec = FeatureSpec.load(Path("features.toml"))
    assert {name: field.kind for name, field in spec.item.items()} == {"genre": "category", "title": "text"}
    assert spec.history.actions == ("click",)
    assert set(spec.context) == {"hour"}


@pytest.mark.parametrize(("action", "found"), [("", ()), ("buy", ("buy", "click")), (None, ("click",))])
def test_histories_that_never_say_what_was_done_get_no_rows_for_it(action: str | None, found: tuple[str, ...]) -> None:
    """A row for what only feedback has would never be used: a model reads histories. None: no list has a history."""
    assert main(["topics", "create"]) == 0
    lists = [
        msgspec.structs.replace(
            one,
            history=()
            if action is None
            else tuple(msgspec.structs.replace(each, action=action) for each in one.history),
        )
        for one in world.impressions(40)
    ]
    _import("items", list(world.items()))
    _import("impressions", lists)
    _import("feedback", [Feedback(id="f", impression_id=lists[0].id, item="item-1", action="click", time_us=1)])
    Path("features.toml").write_text(specification_of_log(Settings()))
    assert FeatureSpec.load(Path("features.toml")).history.actions == found


@pytest.mark.parametrize("verb", ["distil", "teach"])
def test_without_a_log_the_way_is_named(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--drain"] if verb == "distil" else [verb]) == 3
    err = capsys.readouterr().err
    assert "features.toml: there is no feature specification, and no log to guess one from" in err
    assert "`recdistill init TABLE...` writes one from tables" in err
    assert not list(Path().iterdir())


def test_with_too_little_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topics", "create"]) == 0
    _import("items", list(world.items()))
    assert main(["distil", "--drain"]) == 3
    err = capsys.readouterr().err
    assert "the log holds 20 items and 0 impressions, too little to guess one" in err
    assert not Path("features.toml").exists()


def test_an_action_that_is_not_named_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topics", "create"]) == 0
    _import("impressions", list(world.impressions(40)))
    Path("features.toml").write_text('[history]\nactions = ["buy"]\n')
    capsys.readouterr()
    main(["distil", "--drain", "--set", "distil.publish=false"])
    assert "does not name the action 'click'" in capsys.readouterr().err
