"""Recipes: each that ships is whole, and one sentence for what does not fit."""

from pathlib import Path

import pytest

from recdistill import losses
from recdistill.errors import ConfigError
from recdistill.recipes import load_recipe, names, parse_recipe, stream_recipe, table_recipe


@pytest.mark.parametrize("name", names())
def test_each_recipe_says_what_it_is_and_names_losses_that_there_are(name: str) -> None:
    recipe = load_recipe(name)
    assert all((recipe.title, recipe.source, recipe.take, recipe.leave))
    assert recipe.stream or recipe.table
    for term in [*(recipe.stream.soft if recipe.stream else []), *(recipe.table.soft if recipe.table else [])]:
        losses.by_name(term.loss)
    if recipe.table:
        losses.by_name(recipe.table.label.loss)


def test_the_default_comes_first_and_is_for_both() -> None:
    assert names()[0] == "default"
    assert stream_recipe("default").soft
    assert table_recipe("default").soft


def test_without_a_teacher_labels_are_left_with_a_fit_of_their_own() -> None:
    recipe = table_recipe("default")
    control = recipe.without_teacher()
    assert recipe.soft
    assert not control.soft
    assert control.label == recipe.label
    assert control.fit == recipe.alone != recipe.fit
    assert table_recipe("rrd").without_teacher() == table_recipe("de").without_teacher()


WHOLE = 'title = "t"\nsource = "s"\ntake = "a"\nleave = "b"\n'
WRONG = [
    ("title = 3", "title: expected `str`, got `int`"),
    ('title = "t"', "missing required field `source`"),
    (WHOLE + "[tabel]", "did you mean 'table'"),
    (WHOLE + '[table.student]\nform = "row"', "table.student.form: invalid enum value 'row'; one of"),
    (WHOLE + "[table.fit]\nbatch = 0", "table.fit.batch: expected `int` >= 1"),
    (WHOLE + '[[table.soft]]\nloss = "rrd"\npick = { kind = "rank" }', "invalid enum value 'rank'"),
    ("title =", "is not TOML"),
]


@pytest.mark.parametrize(("text", "says"), WRONG)
def test_what_does_not_fit_is_named(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_recipe(text, source="mine.toml")
    assert says in str(caught.value)
    assert str(caught.value).startswith("mine.toml: ")


def test_an_unknown_name_is_told_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'default'"):
        load_recipe("defualt")
    with pytest.raises(ConfigError, match="there are default"):
        load_recipe("zzz")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match="for tables alone"):
        stream_recipe("bpr")


def test_the_fit_of_a_dimension_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    text = 'title = "t"\nsource = "s"\ntake = "t"\nleave = "l"\n[table.by_dim.32]\nepochs = 7\n'
    file.write_text(text, encoding="utf-8")
    table = load_recipe(str(file)).table
    assert table is not None
    assert (table.fit_of(31).epochs, table.fit_of(32).epochs) == (50, 7)
    for wrong in ("0", "wide"):
        file.write_text(text.replace("by_dim.32", f"by_dim.{wrong}"), encoding="utf-8")
        with pytest.raises(ConfigError, match="by_dim"):
            load_recipe(str(file))
