"""The numbers that make a student: its widths, and how fast it learns.

The wiring makes these numbers from a person's settings. It knows nothing of settings, torch or losses.

Example:
    >>> Shape(dim=4, hidden=8, context_dim=2, init=0.05).sizes()
    {'dim': 4, 'hidden': 8, 'context_dim': 2}
"""

from __future__ import annotations

from msgspec import Struct


class Shape(Struct, frozen=True, kw_only=True):
    """What a student's arrays look like at the start.

    Attributes:
        dim: Length of the vector of a user or an item.
        hidden: Width of the user tower's hidden layer.
        context_dim: Width of the embedding of each context field.
        init: Standard deviation of the rows' first values.
    """

    dim: int
    hidden: int
    context_dim: int
    init: float

    def sizes(self) -> dict[str, int]:
        """The widths that a checkpoint must have too."""
        return {"dim": self.dim, "hidden": self.hidden, "context_dim": self.context_dim}


class Rates(Struct, frozen=True, kw_only=True):
    """How fast a student learns, and how much of its input a step leaves out.

    Attributes:
        dense: Learning rate of the dense parameters (Adam).
        rows: Learning rate of the rows of the tables (row-wise Adagrad).
        id_dropout: How often a step uses an item without its own row.
        dropout: Share of the user tower's inputs that a step leaves out.
        warmup: In the first so many steps the rates rise from nearly 0 to what they are; 0: at once.
        forget: After so many steps the sums of the rows' optimizer have lost a half, so the rates of rows do not fall
            without end; 0: the sums only grow.
        average: After so many steps the average of the weights, which goes out, has lost a half of what it held; 0: the
            weights go out as they are.
    """

    dense: float
    rows: float
    id_dropout: float
    dropout: float
    warmup: int = 0
    forget: int = 0
    average: int = 0
