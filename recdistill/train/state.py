"""What a checkpoint holds of a trainer: which arrays, and what is said beside them.

The arrays are the weights, the sums of the rows' optimizer (`adagrad/…`) and what Adam remembers (`adam.NAME/…`). Of a
table only the rows that can be in use are saved.

It knows nothing of files or of how a step learns.

Example:
    >>> said = TrainerState(1, step=3, seed=0, spec="c0ffee", threads=1, sizes={"dim": 4}, vocabulary={})
    >>> TrainerState.read(said.plain()) == said, "watch" in said.plain()
    (True, False)
    >>> said.check(spec="c0ffee", sizes={"dim": 8}, seed=0)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    recdistill.errors.CheckpointError: checkpoint: sizes is {'dim': 4}, these settings say {'dim': 8}; resume with ...
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
import torch
from torch import Tensor

from recdistill.errors import CheckpointError
from recdistill.train.copying import Take, at_once, rows_of
from recdistill.train.student import Student

log_ = logging.getLogger(__name__)

FORMAT: Final = 1
FORMAT_WITH_HOLES: Final = 2
"""Of a state in which a row or a slot was given back. Versions that cannot give rows back refuse it."""

ADAM: Final = ("exp_avg", "exp_avg_sq", "step")
"""torch's names for what Adam remembers of one parameter."""


class TrainerState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a checkpoint says of a trainer beside its arrays.

    Attributes:
        format: `FORMAT`, or `FORMAT_WITH_HOLES`.
        step: Steps made.
        seed: Of every initial value.
        spec: Hash of the feature specification.
        threads: Of torch.
        sizes: The widths of the student.
        vocabulary: The snapshot of the vocabulary.
        watch: The state of the watch; None without one.
        previous: Items that the copy of the earlier student knows; None without a copy.
        previous_unknown: Slots among them that were given back.
        averaged: How often the average of the weights was renewed; None without one.
        average_level: Logarithm of what is left of the first weights in that average.
        replay: The teachers of each batch that is kept to be looked at again.
        tenure: The state of the tenure; None in a checkpoint that was made before rows were counted.
    """

    format: int
    step: int
    seed: int
    spec: str
    threads: int
    sizes: dict[str, int]
    vocabulary: dict[str, list[str | None]]
    watch: dict[str, Any] | None = None
    previous: int | None = None
    previous_unknown: list[int] = []
    averaged: int | None = None
    average_level: float = 0.0
    replay: list[list[str]] = []
    tenure: dict[str, Any] | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON says it."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> TrainerState:
        """The state that `plain()` was taken of.

        Raises:
            KeyError: A field is missing.
            CheckpointError: A field has another type.
        """
        for name in cls.__struct_fields__[: -len(cls.__struct_defaults__)]:
            plain[name]
        try:
            return msgspec.convert(plain, cls)
        except msgspec.ValidationError as e:
            raise CheckpointError(f"checkpoint: {e}; it was written by another version") from e

    def check(self, *, spec: str, sizes: dict[str, int], seed: int) -> None:
        """Holds this state against the settings of now; warns where torch has another number of threads.

        Raises:
            CheckpointError: It is the state of another student.
        """
        wanted = {"format": self.format if self.format == FORMAT_WITH_HOLES else FORMAT, "spec": spec, "sizes": sizes}
        for name, mine in (wanted | {"seed": seed}).items():
            if (saved := getattr(self, name)) != mine:
                raise CheckpointError(
                    f"checkpoint: {name} is {saved!r}, these settings say {mine!r}; "
                    "resume with the settings it was written with, or start in an empty folder"
                )
        if self.threads != torch.get_num_threads():
            log_.warning(
                "resumed with %d torch threads a run that had %d: the last bits of its sums will differ",
                torch.get_num_threads(),
                self.threads,
            )


def tensors_of(
    student: Student, adam: torch.optim.Adam, heights: Mapping[str, int], take: Take = at_once
) -> dict[str, np.ndarray]:
    """Weights and optimizer state by name.

    Args:
        student: Whose weights.
        adam: The optimizer of its dense parameters.
        heights: Rows of each table that can be in use.
        take: Copies the rows of a table, see `copying`.
    """
    tensors = {f"weights/{key}": value for key, value in student.weights(heights, take=take).items()}
    for key, value in student.sparse_state.items():
        shape = (heights[key], *value.shape[1:])
        tensors[f"adagrad/{key}"] = take(key, rows_of(value), shape, shape[-1], kind="adagrad/")
    for key, parameter in student.dense.items():
        for name, value in adam.state.get(parameter, {}).items():
            tensors[f"adam.{name}/{key}"] = value.numpy().copy()
    return tensors


@torch.no_grad()
def fill(student: Student, adam: torch.optim.Adam, heights: Mapping[str, int], tensors: dict[str, np.ndarray]) -> None:
    """Copies a checkpoint's arrays into the parameters and the optimizers. Rows not in use become zero."""
    tables, sums = student.tables, student.sparse_state
    for key in tables:
        if (saved := len(tensors[f"weights/{key}"])) != heights[key]:
            raise CheckpointError(f"checkpoint: table {key} has {saved} rows, its vocabulary {heights[key]}")
        for name, target in ((f"weights/{key}", tables[key]), (f"adagrad/{key}", sums[key])):
            target.zero_()
            source = tensors.pop(name)
            part = target[: len(source)] if target.ndim == 1 else target[: len(source), : source.shape[-1]]
            _copy(name, source, part)
    for key, parameter in student.dense.items():
        _copy(f"weights/{key}", tensors.pop(f"weights/{key}"), parameter)
        adam.state.pop(parameter, None)
        if any(f"adam.{name}/{key}" in tensors for name in ADAM):  # there is none before the first step
            held = {name: torch.empty(()) if name == "step" else torch.empty_like(parameter) for name in ADAM}
            for name, target in held.items():
                _copy(f"adam.{name}/{key}", tensors.pop(f"adam.{name}/{key}"), target)
            adam.state[parameter] = held
    if tensors:
        more = ", ".join(sorted(tensors)[:3])
        raise CheckpointError(f"checkpoint: holds arrays that this student does not have: {more}")


def _copy(name: str, source: np.ndarray, target: Tensor) -> None:
    if tuple(source.shape) != tuple(target.shape) or source.dtype != np.float32:
        raise CheckpointError(
            f"checkpoint: {name} is {source.dtype}{list(source.shape)}, this student has {list(target.shape)}"
        )
    target.copy_(torch.from_numpy(np.array(source)))  # a copy, because an array from a file may be read-only
