"""Recipes of tables: each that lies there is whole, and one sentence for what does not fit."""

from pathlib import Path

import pytest

from benchmarks.tables.recipes import load_method, names, parse_method, table_recipe
from recdistill import losses, recipes
from recdistill.errors import ConfigError


@pytest.mark.parametrize("name", names())
def test_each_recipe_says_what_it_is_and_names_losses_that_there_are(name: str) -> None:
    recipe = load_method(name)
    assert all((recipe.title, recipe.source, recipe.take, recipe.leave))
    for term in recipe.table.soft:
        losses.by_name(term.loss)
    losses.by_name(recipe.table.label.loss)


def test_the_default_comes_first_and_both_worlds_have_one() -> None:
    assert names()[0] == recipes.names()[0] == "default"
    assert table_recipe("default").soft


def test_the_published_methods_are_here_and_not_in_the_product() -> None:
    published = {"bpr", "cd", "dcd", "de", "de-rrd", "fitnet", "ftd", "hetcomp", "htd", "ir-rrd", "rce", "rd", "rrd"}
    assert published | {"unkd", "listnet", "default"} == set(names())
    assert not (published | {"unkd"}) & set(recipes.names())


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
    (WHOLE, "missing required field `table`"),
    (WHOLE + "[tabel]", "did you mean 'table'"),
    (WHOLE + '[table.student]\nform = "row"', "table.student.form: invalid enum value 'row'; one of"),
    (WHOLE + "[table.fit]\nbatch = 0", "table.fit.batch: expected `int` >= 1"),
    (WHOLE + '[[table.soft]]\nloss = "rrd"\npick = { kind = "rank" }', "invalid enum value 'rank'"),
    (WHOLE + "[table]\n[stream]", "stream"),
    ("title =", "is not TOML"),
]


@pytest.mark.parametrize(("text", "says"), WRONG)
def test_what_does_not_fit_is_named(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_method(text, source="mine.toml")
    assert says in str(caught.value)
    assert str(caught.value).startswith("mine.toml: ")


def test_an_unknown_name_is_told_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'default'"):
        table_recipe("defualt")
    with pytest.raises(ConfigError, match="'margin-mse': is not known for tables; there are default"):
        table_recipe("margin-mse")
    with pytest.raises(ConfigError, match="cannot be read"):
        table_recipe(str(tmp_path / "none.toml"))


def test_the_fit_of_a_dimension_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    text = 'title = "t"\nsource = "s"\ntake = "t"\nleave = "l"\n[table.by_dim.32]\nepochs = 7\n'
    file.write_text(text, encoding="utf-8")
    table = table_recipe(str(file))
    assert (table.fit_of(31).epochs, table.fit_of(32).epochs) == (50, 7)
    for wrong in ("0", "wide"):
        file.write_text(text.replace("by_dim.32", f"by_dim.{wrong}"), encoding="utf-8")
        with pytest.raises(ConfigError, match="by_dim"):
            table_recipe(str(file))
