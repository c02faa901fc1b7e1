"""A missing feature specification: it is written from the log and said aloud, or the way to one is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import world

from recdistill.cli import main
from recdistill.features import FeatureSpec
from recdistill.records import Record, to_json


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
