"""Ready mappings of public tables: MIND's news and behaviours, MovieLens' films and ratings.

`recdistill import behaviors.tsv --mapping mind-behaviors` takes one by its name. `recdistill init` takes it where a
table has its shape. A shape that is not here is guessed.

It knows nothing of logs.

Example:
    >>> ready_names()
    ['mind-behaviors', 'mind-news', 'movielens-movies', 'movielens-ratings']
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import resources

from recdistill.data.shape import Shape
from recdistill.errors import ConfigError
from recdistill.text import did_you_mean

_LABELLED = re.compile(r"[^\s-]+-[01](\s|$)")


def ready_names() -> list[str]:
    """The names of all ready mappings."""
    found = resources.files("recdistill.data.ready").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in found if file.name.endswith(".toml"))


def ready_text(name: str) -> str:
    """A ready mapping as a file would hold it.

    Raises:
        ConfigError: There is none of that name.
    """
    names = ready_names()
    if name not in names:
        hint = did_you_mean(name, names, otherwise=f"ready ones are {', '.join(names)}")
        raise ConfigError(f"mapping {name!r}: there is no such file, and no ready mapping of that name; {hint}")
    return (resources.files("recdistill.data.ready") / f"{name}.toml").read_text(encoding="utf-8")


def ready_for(shape: Shape) -> str:
    """The ready mapping whose table has this shape; empty if none has."""
    return next((name for name, fits in _SHAPES.items() if fits(shape)), "")


def _examples(shape: Shape, number: int) -> tuple[str, ...]:
    return shape.columns[number].examples


def _behaviors(shape: Shape) -> bool:
    if shape.header or len(shape.columns) != 5 or shape.delimiter != "\t":
        return False
    return shape.columns[2].unit == "%m/%d/%Y %I:%M:%S %p" and all(_LABELLED.match(one) for one in _examples(shape, 4))


def _news(shape: Shape) -> bool:
    if shape.header or len(shape.columns) != 8 or shape.delimiter != "\t":
        return False
    return all(one.startswith("N") for one in _examples(shape, 0)) and all(
        one.startswith("[") for number in (6, 7) for one in _examples(shape, number)
    )


def _named(*names: str) -> Callable[[Shape], bool]:
    return lambda shape: (
        shape.kind == "text"
        and shape.header
        and shape.delimiter == ","
        and tuple(one.name for one in shape.columns) == names
    )


_SHAPES: dict[str, Callable[[Shape], bool]] = {
    "mind-behaviors": _behaviors,
    "mind-news": _news,
    "movielens-movies": _named("movieId", "title", "genres"),
    "movielens-ratings": _named("userId", "movieId", "rating", "timestamp"),
}
