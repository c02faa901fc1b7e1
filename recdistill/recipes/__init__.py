"""Recipes: how a student learns, as small TOML files that a person can read, compare and copy.

A recipe names losses with their weights. It also says when to use it and when not. The product uses `default` if no
other recipe is named. Your own recipe is a file of this form, given by its path.

A loss is a name of `recdistill.losses`.

It knows nothing of torch or of how a loss is computed.

Example:
    >>> load_recipe("default").stream.soft[0].loss
    'softmax_distillation'
    >>> "listnet" in names()
    True
"""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from recdistill.config import convert
from recdistill.errors import ConfigError
from recdistill.given import read_text
from recdistill.text import did_you_mean

Option = bool | int | float | str
"""Value of an option of a loss."""
Weight = Annotated[float, Meta(ge=0)]


class Term(Struct, frozen=True, forbid_unknown_fields=True):
    """A loss on a list, with its weight. `options` are options of the loss."""

    loss: str
    weight: Weight = 1.0
    options: dict[str, Option] = {}


class StreamRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """For lists that come with impressions. The soft terms learn from scores, and the label term from choices."""

    soft: list[Term]
    label: Weight = 0.3
    """Weight of the softmax over the labels."""


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """One way to distil."""

    title: str
    source: str
    take: str
    """When to take it."""
    leave: str
    """When not."""
    stream: StreamRecipe
    """The losses and their weights."""


def names() -> list[str]:
    """Names of the recipes that come with recdistill, `default` first."""
    found = sorted(file.name.removesuffix(".toml") for file in _folder() if file.name.endswith(".toml"))
    return sorted(found, key=lambda name: name != "default")


def load_recipe(name: str) -> Recipe:
    """A recipe by its name, or from a file by its path (`./mine.toml`).

    Raises:
        ConfigError: There is no recipe of that name, or the file does not fit.
    """
    if name.endswith(".toml"):
        return parse_recipe(text_of(name), source=name)
    known = names()
    if name not in known:
        hint = did_you_mean(name, known, otherwise=f"there are {', '.join(known)}")
        raise ConfigError(f"recipe {name!r}: is not known; {hint}; a file of your own ends in .toml")
    return parse_recipe(text_of(name), source=f"recipe {name}")


def text_of(name: str) -> str:
    """The text of a recipe that `load_recipe` finds.

    Raises:
        ConfigError: The file cannot be read.
    """
    if not name.endswith(".toml"):
        return (resources.files("recdistill.recipes") / f"{name}.toml").read_text(encoding="utf-8")
    return read_text(Path(name), ConfigError, what="recipes", advice="give an existing recipe file, or a name")


def as_data(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain data, with every default filled in."""
    data: dict[str, Any] = msgspec.to_builtins(recipe)
    return data


def parse_recipe(text: str, *, source: str) -> Recipe:
    """Reads a recipe from TOML.

    Raises:
        ConfigError: Something in it does not fit.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{source}: is not TOML: {e}") from e
    if "table" in tree:
        # Files of earlier versions have a [table] part. Refuse it: a person who changes it could think that the product
        # uses it.
        raise ConfigError(
            f"{source}: has a [table] part, which only the benchmarks read; move it to a file of its own, for "
            "`python -m benchmarks.bench_distillation --recipe FILE`"
        )
    return convert(tree, Recipe, source=source)


def stream_recipe(name: str) -> StreamRecipe:
    """The losses of a recipe, by its name or path.

    Raises:
        ConfigError: As `load_recipe`.
    """
    return load_recipe(name).stream


def _folder() -> list[resources.abc.Traversable]:
    return list(resources.files("recdistill.recipes").iterdir())
