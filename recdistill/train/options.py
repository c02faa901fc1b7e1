"""Whether a loss can take the options that a recipe gives it: their names, their types, and a trial on one list.

A wrong option would end the first step with a traceback, make every weight NaN, or teach nothing without a word. So it
is refused before anything is learnt.

It knows nothing of recipes' files, students or records.

Example:
    >>> from recdistill.losses import list_mle
    >>> check_options("list_mle", list_mle, {"k": 3})
    >>> check_options("list_mle", list_mle, {"k": 0})
    Traceback (most recent call last):
    recdistill.errors.ConfigError: list_mle: option k: must be at least 1, not 0
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import torch
from torch import Tensor

from recdistill.errors import ConfigError

OF_THE_LIST: Final = frozenset({"student_scores", "teacher_scores", "where", "weights"})
"""What a step gives; no recipe can."""

_ABOVE_0: Final = frozenset({"temperature", "smoothing", "decay", "sharpness"})


def check_options(name: str, loss: Callable[..., Tensor], options: Mapping[str, Any]) -> None:
    """Refuses options that a loss cannot take.

    Args:
        name: What the recipe calls the loss.
        loss: It needs no more than the options and what a step gives.
        options: Its options.

    Raises:
        ConfigError: One is not known, or has a wrong type or value, or the loss fails with them.
    """
    known = set(inspect.signature(loss).parameters) - OF_THE_LIST
    hints = _hints_of(loss)
    for option, value in options.items():
        if option not in known:
            raise ConfigError(f"{name} has no option {option!r}")
        try:
            msgspec.convert(value, hints.get(option, Any))
        except (msgspec.ValidationError, TypeError) as e:  # TypeError: a type that nothing is converted to
            raise ConfigError(f"{name}: option {option}: {e}") from None
        if option in _ABOVE_0 and value is not None and not value > 0:
            raise ConfigError(f"{name}: option {option}: must be above 0, not {value}")
        if option == "k" and value is not None and value < 1:
            raise ConfigError(f"{name}: option k: must be at least 1, not {value}")
    _try(name, loss, options)


def _hints_of(loss: Callable[..., Tensor]) -> dict[str, Any]:
    """The types that a loss names; none where they cannot be found, as in a function of somebody else."""
    try:
        return typing.get_type_hints(loss)
    except Exception:  # noqa: BLE001 - the names in it are not ours, and may be anything
        return {}


def _try(name: str, loss: Callable[..., Tensor], options: Mapping[str, Any]) -> None:
    student = torch.tensor([[0.5, -1.0, 0.25]], requires_grad=True)
    teacher, where = torch.tensor([[1.0, 0.0, 2.0]]), torch.ones(1, 3, dtype=torch.bool)
    try:
        found = loss(student, teacher, where=where, weights=torch.ones(1), **options)
        found.backward()
    except Exception as e:
        raise ConfigError(f"{name} fails on a list of three: {type(e).__name__}: {e}") from e
    if not bool(torch.isfinite(found)) or student.grad is None or not bool(torch.isfinite(student.grad).all()):
        raise ConfigError(f"{name} gives no finite number for a list of three; look at its options")
