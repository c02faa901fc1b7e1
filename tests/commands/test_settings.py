"""The verb that shows settings: the values of a run, and which of four sources each came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from recdistill.cli import main
from recdistill.commands.settings import flat
from recdistill.config import Settings


@pytest.fixture(autouse=True)
def _a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shop.toml").write_text('[student]\ndim = 16\nhidden = 64\n[join.labels]\nbuy = 3\n[log]\nprefix = "a-"\n')
    monkeypatch.setenv("RECDISTILL__STUDENT__HIDDEN", "32")
    monkeypatch.setenv("RECDISTILL__LOG__PREFIX", "b-")


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, tuple[Any, str]]:
    assert main(["settings", "--json", *words]) == 0
    return {row["key"]: (row["value"], row["from"]) for row in json.loads(capsys.readouterr().out)["settings"]}


def test_each_value_says_where_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(capsys, "--config", "shop.toml", "--set", "log.prefix=c-")
    assert found["student.dim"] == (16, "shop.toml")
    assert found["student.hidden"] == (32, "environment, RECDISTILL__STUDENT__HIDDEN")
    assert found["log.prefix"] == ("c-", "--set")
    assert found["join.labels.buy"] == (3.0, "shop.toml")
    assert found["watch.act"] == ("notice", "default")
    assert found.keys() >= flat(msgspec.to_builtins(Settings())).keys() - {"join.labels.click"}


def test_a_part_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "student.dim") == {"student.dim": (24, "default")}
    assert set(shown(capsys, "watch")) == {key for key in flat(msgspec.to_builtins(Settings())) if key[:6] == "watch."}
    assert set(shown(capsys, "--changed")) == {"student.hidden", "log.prefix"}
    assert main(["settings", "studnet"]) == 2
    assert "there is no setting 'studnet'; did you mean 'student'?" in capsys.readouterr().err


def test_the_text_can_be_put_into_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    """`key = value` with a comment is TOML."""
    import tomllib

    assert main(["settings", "--config", "shop.toml"]) == 0
    tree = tomllib.loads(capsys.readouterr().out)
    assert msgspec.convert(tree, Settings).student.dim == 16


def test_secrets_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "log.options.sasl_plain_password=hunter2",
        "registry.uri=http://bob:hunter2@host/x",
        "teacher.http.headers.authorization=Bearer hunter2",
    ]
    options = [part for word in words for part in ("--set", word)]
    for form in ([], ["--json"]):
        assert main(["settings", *form, *options]) == 0
        out = capsys.readouterr().out
        assert "hunter2" not in out
        assert "http://host/x" in out


def test_a_file_that_a_windows_editor_wrote_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    """With a byte order mark, and with line ends of two characters."""
    Path("shop.toml").write_bytes(b"\xef\xbb\xbf[student]\r\ndim = 16\r\n")
    assert shown(capsys, "--config", "shop.toml", "student.dim") == {"student.dim": (16, "shop.toml")}
