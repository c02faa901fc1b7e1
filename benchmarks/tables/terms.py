"""Whether the terms of a table's recipe fit together: each loss, what it is asked about, and what a batch holds.

A term that cannot do what it says is refused before anything is learnt. Nothing in a recipe is ignored in silence.

It knows nothing of scores, students or how a list is drawn.

Example:
    >>> check(TableRecipe(soft=[TableTerm("margin_mse")]))
    Traceback (most recent call last):
    recdistill.errors.ConfigError: table.soft[0]: pick "catalogue" is for softmax_distillation alone, not for ...
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

from torch import Tensor

from benchmarks.tables.recipes import HintTerm, TableRecipe, TableTerm
from recdistill import losses
from recdistill.errors import ConfigError

MARKS: dict[str, tuple[str, ...]] = {
    "catalogue": (),
    "top": (),
    "compared": ("student_ranks",),
    "ranked": ("ranked",),
    "hard": ("ranked",),
    "positives": ("ranked",),
    "student": (),
    "disagreement": ("ranked",),
    "groups": ("groups",),
    "tops": ("student_top", "teacher_top", "sampled"),
}
"""What each kind of pick tells a loss beside scores, by the name of the loss's argument."""

ITEM_SIDE = ("top", "ranked")
"""Kinds that there are for lists of users, too."""

CATALOGUE_LOSS = "softmax_distillation"
CATALOGUE_OPTIONS = ("temperature", "spread")
LIST_LABEL = "softmax_labels"
HINT_OPTIONS: dict[str, tuple[str, ...]] = {"de": ("experts",), "htd": ("experts", "share")}


def check(recipe: TableRecipe) -> None:
    """Whether all of a recipe can be done.

    Raises:
        ConfigError: A term cannot do what it says; which one, and why.
    """
    units: set[str] = {fit.unit for fit in (recipe.fit, recipe.alone, *recipe.by_dim.values()) if fit is not None}
    for unit in sorted(units):
        _check_label(recipe, unit)
    taught: set[str] = {fit.unit for fit in (recipe.fit, *recipe.by_dim.values())}
    for number, term in enumerate(recipe.soft):
        name = f"table.soft[{number}]"
        if term.pick.kind == "catalogue":
            _check_catalogue(term, name, taught)
        else:
            _check_listed(term, name)
    for number, hint in enumerate(recipe.hints):
        _check_hint(hint, f"table.hints[{number}]", taught)


def _check_label(recipe: TableRecipe, unit: str) -> None:
    label = recipe.label
    loss = losses.by_name(label.loss)
    if unit == "lists":
        if label.loss != LIST_LABEL or label.options:
            raise ConfigError(
                f'table.label: in batches of lists it is {LIST_LABEL} without options; see unit = "pairs"'
            )
        return
    known = inspect.signature(loss).parameters
    if "labels" not in known or _needed(loss):
        raise ConfigError(f"table.label: {label.loss} does not learn from a pair; bpr and binary_labels do")
    _check_options(label.options, _options_of(loss), "table.label", label.loss)


def _check_catalogue(term: TableTerm, name: str, units: set[str]) -> None:
    if term.loss != CATALOGUE_LOSS:
        raise ConfigError(f'{name}: pick "catalogue" is for {CATALOGUE_LOSS} alone, not for {term.loss}; pick "top" is')
    if units != {"lists"}:
        raise ConfigError(f'{name}: pick "catalogue" needs batches of lists; set unit = "lists" in table.fit')
    if term.pick.side != "users":
        raise ConfigError(f'{name}: pick "catalogue" is for side = "users"')
    _check_options(term.options, CATALOGUE_OPTIONS, name, term.loss)


def _check_listed(term: TableTerm, name: str) -> None:
    loss, pick = losses.by_name(term.loss), term.pick
    known = inspect.signature(loss).parameters
    if "teacher_scores" not in known:
        raise ConfigError(f"{name}: {term.loss} does not learn from a teacher's scores")
    given = (*MARKS[pick.kind], "generator", *term.options)
    if missing := [needed for needed in _needed(loss) if needed not in given]:
        able = [kind for kind, marks in MARKS.items() if set(missing) <= set(marks)]
        hint = f"; a pick that gives it: {', '.join(able)}" if able else ""
        raise ConfigError(f'{name}: {term.loss} needs {missing[0]}, which pick "{pick.kind}" does not give{hint}')
    if unwanted := [mark for mark in MARKS[pick.kind] if mark not in known]:
        raise ConfigError(f'{name}: {term.loss} makes nothing of {unwanted[0]}, which pick "{pick.kind}" is there for')
    options = tuple(option for option in _options_of(loss) if option not in MARKS[pick.kind])
    _check_options(term.options, (*options, "spread") if "temperature" in known else options, name, term.loss)
    if pick.side == "items" and pick.kind not in ITEM_SIDE:
        raise ConfigError(f'{name}: for side = "items" there are the picks {" and ".join(ITEM_SIDE)}')


def _check_hint(term: HintTerm, name: str, units: set[str]) -> None:
    if units != {"pairs"}:
        raise ConfigError(f'{name}: hints need batches of pairs; set unit = "pairs" in table.fit')
    _check_options(term.options, HINT_OPTIONS.get(term.loss, ()), name, term.loss)


def _check_options(options: dict[str, bool | int | float | str], known: tuple[str, ...], name: str, loss: str) -> None:
    if unknown := sorted(set(options) - set(known)):
        there = ", ".join(known)
        raise ConfigError(f"{name}: {loss} has no option {unknown[0]!r}" + (f"; it has {there}" if there else ""))


_GIVEN = ("student_scores", "teacher_scores", "labels", "where", "weights", "log_normaliser", "generator")
"""Arguments that the trainer gives."""


def _options_of(loss: Callable[..., Tensor]) -> tuple[str, ...]:
    return tuple(name for name in inspect.signature(loss).parameters if name not in _GIVEN)


def _needed(loss: Callable[..., Tensor]) -> list[str]:
    """Arguments without a default, beside those that every loss gets."""
    return [
        name
        for name, parameter in inspect.signature(loss).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty and name != "where"
    ]


def draws(loss: Callable[..., Tensor]) -> bool:
    """Whether a loss draws something itself, so that it has to be given what to draw with."""
    return "generator" in inspect.signature(loss).parameters
