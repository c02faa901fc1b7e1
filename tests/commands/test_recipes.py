"""`recdistill recipes`: what is listed is there, and what is printed can be used as it is."""

import json
from pathlib import Path

import pytest

from recdistill.cli import main
from recdistill.recipes import load_recipe, names


def test_every_recipe_is_listed_with_its_when(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["recipes"]
    assert [row["name"] for row in rows] == names()
    assert all(row["take"] and row["leave"] for row in rows)
    assert main(["recipes"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line for line in shown if not line.startswith(" ")] == names()


def test_a_printed_recipe_is_a_recipe(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["recipes", "default"]) == 0
    file = tmp_path / "mine.toml"
    file.write_text(capsys.readouterr().out, encoding="utf-8")
    assert load_recipe(str(file)) == load_recipe("default")


def test_an_unknown_one_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "defualt"]) == 2
    assert "did you mean 'default'" in capsys.readouterr().err
