"""Recipes: how a student learns, as small TOML files that a person can read, compare and copy.

A recipe says which losses it takes at which weights, what they are asked about, and when to take it and when not. Its
`[stream]` part is for the product, whose lists come with the impressions; its `[table]` part is for a table of
users × items that is known as a whole, the setting of the papers and of the benchmarks. `default` has both and is what
the product takes unless told otherwise. A recipe of your own is a file of this form, given by its path.

This package knows the form of a recipe and which ones there are, nothing of torch or of how a loss is computed; a loss
is a name of `recdistill.losses`.

Example:
    >>> load_recipe("default").stream.soft[0].loss
    'softmax_distillation'
    >>> "rrd" in names()
    True
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from recdistill.config import convert
from recdistill.errors import ConfigError
from recdistill.text import did_you_mean

Option = bool | int | float | str
Positive = Annotated[float, Meta(gt=0)]
Weight = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]


class Term(Struct, frozen=True, forbid_unknown_fields=True):
    """A loss on a list, and what it weighs. `options` are the loss's own."""

    loss: str
    weight: Weight = 1.0
    options: dict[str, Option] = {}


class Pick(Struct, frozen=True, forbid_unknown_fields=True):
    """What a term of a table is asked about: which items stand in each user's list.

    - `catalogue`: the teacher's best `count`, against the softmax over all items; the temperature is the teacher's
      alone, the student's softmax is the one that the labels are learnt by;
    - `top`: the teacher's best `count`;
    - `compared`: the same, with the rank that the student gives each, estimated from `others` drawn items (0: exact);
    - `ranked`: `count` of the teacher's best, drawn by rank at `temperature` (0: the first ones), to be ordered, above
      `others` unseen items;
    - `hard`: the teacher's best `count`, to be ordered, above `others` that the student wrongly ranks high: drawn from
      its best `pool` unseen items, all alike;
    - `student`: `count` drawn by the student's own rank from its best `pool`;
    - `disagreement`: what the student ranks too low, above what it ranks too high, `count` each of the best `pool`;
    - `groups`: `count` pairs of equal popularity in `groups` groups, drawn by the teacher's rank;
    - `tops`: the student's best `count`, the teacher's best `count`, and `others` of the student's best `pool`;
    - `positives`: positives and the teacher's best `count` over everything else.
    """

    kind: Literal[
        "catalogue", "top", "compared", "ranked", "hard", "student", "disagreement", "groups", "tops", "positives"
    ] = "catalogue"
    count: Count = 300
    others: Count = 0
    pool: Count = 1000
    groups: Count = 4
    temperature: Annotated[float, Meta(ge=0)] = 0.0
    side: Literal["users", "items"] = "users"
    """Whose lists: items for each user, or users for each item."""


class TableTerm(Struct, frozen=True, forbid_unknown_fields=True):
    """A term of a table; its list is drawn anew each epoch where chance takes part.

    In `options`, `spread` stands for the temperature at which the teacher's softmax over the median list has a
    perplexity of that share of its length, so that one recipe fits teachers of any scale.
    """

    loss: str
    weight: Weight = 1.0
    pick: Pick = Pick()
    options: dict[str, Option] = {}
    after: Count = 0
    """The epoch from which on it takes part."""


class HintTerm(Struct, frozen=True, forbid_unknown_fields=True):
    """Vectors towards the teacher's vectors, where it has some."""

    loss: Literal["fitnet", "de", "ftd", "htd"]
    weight: Weight = 1.0
    options: dict[str, Option] = {}


class StreamRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """For lists that come with impressions: the soft terms learn from the scores, the label term from choices."""

    soft: list[Term]
    label: Weight = 0.3
    """Weight of the softmax over the labels."""


class TableStudent(Struct, frozen=True, forbid_unknown_fields=True):
    """`rows`: a row for each user, as in the papers. `history`: the sum of the history's own rows, through one matrix.

    `tied`: the same with the items' vectors in place of rows of their own, each weighed.
    """

    form: Literal["rows", "history", "tied"] = "rows"
    bias: bool = False
    init: Positive = 0.01
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Of the events of a history, in training."""


class Fit(Struct, frozen=True, forbid_unknown_fields=True):
    """The optimizer is Adam; `weight_decay` is L2 in the gradient, as the papers have it, not decoupled."""

    unit: Literal["pairs", "lists"] = "lists"
    """What a batch holds: positives with a drawn negative each, or users with all they had."""
    batch: Annotated[int, Meta(ge=1)] = 256
    epochs: Annotated[int, Meta(ge=1)] = 50
    learning_rate: Positive = 1e-3
    weight_decay: Annotated[float, Meta(ge=0)] = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    total: Literal["mean", "sum"] = "mean"
    """Whether a batch's losses are averaged over its lists or summed, as the papers do."""
    patience: Count = 0
    """Epochs without a better validation figure after which it stops; 0: all of them. The best epoch is kept."""


class TableRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """For a table of users × items that is known as a whole."""

    soft: list[TableTerm] = []
    hints: list[HintTerm] = []
    label: Term = Term("softmax_labels")
    student: TableStudent = TableStudent()
    fit: Fit = Fit()
    compare: Literal["as they are", "standard"] = "as they are"
    """The teacher's scores as they are, or each user's over the unseen items at mean 0 and deviation 1."""
    by_dim: dict[Annotated[int, Meta(ge=1)], Fit] = {}
    """The fit from a dimension on, where it differs: `[table.by_dim.64]`."""
    alone: Fit | None = None
    """The fit without a teacher, where another suits labels alone: the control is to be as good as it can be."""

    def fit_of(self, dim: int) -> Fit:
        """The fit for a dimension: that of the largest one in `by_dim` that is not above it, or `fit`.

        Example:
            >>> recipe = TableRecipe(fit=Fit(epochs=9), by_dim={64: Fit(epochs=5)})
            >>> [recipe.fit_of(dim).epochs for dim in (20, 64, 100)]
            [9, 5, 5]
        """
        below = [start for start in self.by_dim if start <= dim]
        return self.by_dim[max(below)] if below else self.fit

    def without_teacher(self) -> TableRecipe:
        """The recipe's own label loss, and nothing of a teacher."""
        if self.alone is None:
            return msgspec.structs.replace(self, soft=[], hints=[])
        return msgspec.structs.replace(self, soft=[], hints=[], fit=self.alone, by_dim={})


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """One way to distil."""

    title: str
    source: str
    take: str
    """When to take it."""
    leave: str
    """When not."""
    stream: StreamRecipe | None = None
    table: TableRecipe | None = None


def names() -> list[str]:
    """Names of the recipes that come with recdistill, `default` first."""
    found = sorted(file.name.removesuffix(".toml") for file in _folder() if file.name.endswith(".toml"))
    return sorted(found, key=lambda name: name != "default")


def load_recipe(name: str) -> Recipe:
    """A recipe by its name, or from a file by its path (`./mine.toml`).

    Raises:
        ConfigError: There is none of that name, or the file does not fit.
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
    try:
        return Path(name).read_text(encoding="utf-8")
    except OSError as e:
        raise ConfigError(f"recipe {name}: cannot be read ({e.strerror}); give an existing file, or a name") from e
    except UnicodeDecodeError as e:
        raise ConfigError(f"recipe {name}: is not UTF-8 text; a recipe is a TOML file") from e


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
        tree: Mapping[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{source}: is not TOML: {e}") from e
    return convert(tree, Recipe, source=source)


def stream_recipe(name: str) -> StreamRecipe:
    """The part of a recipe that is for the stream.

    Raises:
        ConfigError: It has none.
    """
    part = load_recipe(name).stream
    if part is None:
        raise ConfigError(f"recipe {name!r}: is for tables alone; for the stream there are {_able('stream')}")
    return part


def table_recipe(name: str) -> TableRecipe:
    """The part of a recipe that is for tables.

    Raises:
        ConfigError: It has none.
    """
    part = load_recipe(name).table
    if part is None:
        raise ConfigError(f"recipe {name!r}: is for the stream alone; for tables there are {_able('table')}")
    return part


def _able(part: Literal["stream", "table"]) -> str:
    return ", ".join(name for name in names() if getattr(load_recipe(name), part) is not None)


def _folder() -> list[resources.abc.Traversable]:
    return list(resources.files("recdistill.recipes").iterdir())
