"""Recipes: each that ships is whole, and one sentence for what does not fit."""

from pathlib import Path

import pytest

from recdistill.config import LossSettings
from recdistill.errors import ConfigError
from recdistill.recipes import load_recipe, names, parse_recipe, stream_recipe
from recdistill.train.terms import SoftTerms


@pytest.mark.parametrize("name", names())
def test_each_recipe_says_what_it_is_and_can_be_taken(name: str) -> None:
    recipe = load_recipe(name)
    assert all((recipe.title, recipe.source, recipe.take, recipe.leave))
    assert recipe.stream.soft
    SoftTerms(name)


def test_the_default_comes_first() -> None:
    assert names()[0] == LossSettings().recipe == "default"
    assert stream_recipe("default") == load_recipe("default").stream


WHOLE = 'title = "t"\nsource = "s"\ntake = "a"\nleave = "b"\n'
STREAM = '[stream]\n[[stream.soft]]\nloss = "ranknet"\n'
WRONG = [
    ("title = 3", "title: expected `str`, got `int`"),
    ('title = "t"', "missing required field `source`"),
    (WHOLE, "missing required field `stream`"),
    (WHOLE + "[straem]", "did you mean 'stream'"),
    (WHOLE + STREAM + "weight = -1", "weight: expected `float` >= 0"),
    (WHOLE + STREAM + "wieght = 1", "wieght"),
    (WHOLE + STREAM + "[table]", "has a [table] part, which only the benchmarks read; move it to a file of its own"),
    ("title =", "is not TOML"),
]


@pytest.mark.parametrize(("text", "says"), WRONG)
def test_what_does_not_fit_is_named(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_recipe(text, source="mine.toml")
    assert says in str(caught.value)
    assert str(caught.value).startswith("mine.toml: ")


def test_what_fits_is_read() -> None:
    soft = parse_recipe(WHOLE + STREAM, source="mine.toml").stream.soft
    assert [(term.loss, term.weight) for term in soft] == [("ranknet", 1.0)]


def test_an_unknown_name_is_told_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'default'"):
        load_recipe("defualt")
    with pytest.raises(ConfigError, match="there are default"):
        load_recipe("zzz")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(str(tmp_path / "none.toml"))
    (tmp_path / "other.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_recipe(str(tmp_path / "other.toml"))
