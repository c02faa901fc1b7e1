"""The soft terms of a stream's recipe as one loss.

The function of each name is found once, with its weight and options.

The loss of a term must need only scores. Lists come with the impressions, so a method cannot choose how a list is
drawn. In a softmax loss a candidate that was scored with probability p counts 1 / p times. Other losses take the
candidates as they are.

It knows nothing of students, records or recipes' files.

Example:
    >>> terms = SoftTerms(temperature=1.0)
    >>> terms.total, terms.label
    (0.7, 0.3)
    >>> one = torch.tensor([[1.0, 0.0]])
    >>> round(float(terms(one, one, where=one >= 0)), 4)  # the entropy of softmax(1, 0)
    0.5822
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recdistill import losses
from recdistill.errors import ConfigError
from recdistill.recipes import stream_recipe
from recdistill.train.options import check_options

SOFTMAX = ("softmax_distillation", "kl_distillation")
"""Losses in which a candidate can count 1 / p times: log 1 / p is added to both scores."""


class _Term(NamedTuple):
    name: str
    loss: Callable[..., Tensor]
    share: float
    options: dict[str, Any]


class SoftTerms:
    """The terms of a recipe, with their functions.

    Args:
        recipe: Name of a recipe, or the path of a file.
        soft: Total weight of the soft terms; None takes the recipe's.
        label: Weight of the labels; None takes the recipe's.
        temperature: Temperature of the terms that have one; None takes the recipe's.

    Raises:
        ConfigError: The recipe or one of its losses is not known, or is not for streams.
    """

    def __init__(
        self,
        recipe: str = "default",
        *,
        soft: float | None = None,
        label: float | None = None,
        temperature: float | None = None,
    ) -> None:
        found = stream_recipe(recipe)
        weights = sum(term.weight for term in found.soft)
        self.total = weights if soft is None else soft
        self.label = found.label if label is None else label
        if not weights and self.total:
            raise ConfigError(
                f"loss.soft = {soft}: recipe {recipe!r} has no soft term with a weight, so nothing would be learnt "
                "from the teacher; set loss.soft = 0 or give the recipe a term"
            )
        self._terms: list[_Term] = []
        for term in found.soft:
            loss = losses.by_name(term.loss)
            parameters = inspect.signature(loss).parameters
            missing = [
                name
                for name, parameter in parameters.items()
                if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty and name != "where"
            ]
            if missing or "teacher_scores" not in parameters:
                raise ConfigError(
                    f"recipe {recipe!r}: {term.loss} needs {', '.join(missing) or 'no teacher'}, so it is not "
                    "for lists that come with impressions"
                )
            options = dict(term.options)
            if temperature is not None and "temperature" in parameters:
                options["temperature"] = temperature
            try:
                check_options(term.loss, loss, options)
            except ConfigError as e:
                raise ConfigError(f"recipe {recipe!r}: {e}") from e
            self._terms.append(_Term(term.loss, loss, term.weight / weights if weights else 0.0, options))

    def warning_of_units(self, comparable: str) -> str | None:
        """A warning when a loss cannot use scores after `watch.comparable`; None when all can."""
        if comparable == "scale" or all(term.name != "margin_mse" for term in self._terms):
            return None
        return (
            f"margin_mse fits the teacher's differences, but watch.comparable = {comparable!r} first brings every list "
            'to one spread: set watch.comparable = "scale"'
        )

    def warning_of_parts(self) -> str | None:
        """A warning when a loss cannot use lists of which only some candidates were scored; None when all can."""
        named = [term.name for term in self._terms if term.name not in SOFTMAX]
        if not named:
            return None
        return (
            f"a teacher budget left out candidates, and {' and '.join(named)} takes the scored ones for the whole "
            'list: take a softmax loss, or score.budget_by = "lists"'
        )

    def resolved(self) -> dict[str, Any]:
        """All that decides the loss, as plain data for a checkpoint."""
        terms = [{"loss": term.name, "share": term.share, "options": term.options} for term in self._terms]
        return {"soft": self.total, "label": self.label, "terms": terms}

    def __call__(
        self,
        student_scores: Tensor,
        teacher_scores: Tensor,
        *,
        where: Tensor,
        weights: Tensor | None = None,
        offsets: Tensor | None = None,
    ) -> Tensor:
        """The soft loss before its total weight.

        Args:
            student_scores: `[B, L]`.
            teacher_scores: `[B, L]`.
            where: bool `[B, L]`.
            weights: `[B]`.
            offsets: `[B, L]`, log 1 / p of each candidate; None is 0.
        """
        loss = torch.zeros((), dtype=student_scores.dtype)
        for term in self._terms:
            student, teacher = student_scores, teacher_scores
            if offsets is not None and term.name in SOFTMAX:
                # Losses divide scores by their temperature; the shift is multiplied by it, so log 1 / p remains.
                shift = float(term.options.get("temperature", 1.0)) * offsets
                student, teacher = student + shift, teacher + shift
            loss = loss + term.share * term.loss(student, teacher, where=where, weights=weights, **term.options)
        return loss
