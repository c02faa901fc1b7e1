"""The settings of the student: its size and rates, and what it learns from.

They know nothing of files, the environment, or how a student learns.

Example:
    >>> StudentSettings(dim=32).dim
    32
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class StudentSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[student]`: the small model. One half (tower) makes a vector of the user, the other one of each item."""

    dim: Annotated[int, Meta(ge=2, le=1024, description="Dimension of user and item vectors.")] = 24
    hidden: Annotated[int, Meta(ge=1, le=8192, description="Hidden width of the user tower.")] = 128
    context_dim: Annotated[int, Meta(ge=1, le=512, description="Width of each context field's embedding.")] = 8
    id_dropout: Annotated[
        float,
        Meta(
            ge=0.0,
            lt=1.0,
            description="How often an item is trained without its own row. So the student can also score new items.",
        ),
    ] = 0.1
    dropout: Annotated[float, Meta(ge=0.0, lt=1.0, description="Dropout of the user tower's inputs, in training.")] = (
        0.1
    )
    learning_rate: Annotated[float, Meta(gt=0, description="Learning rate of the dense parameters (Adam).")] = 3e-3
    embedding_learning_rate: Annotated[
        float, Meta(gt=0, description="Learning rate of the embedding rows (Adagrad).")
    ] = 0.07
    init: Annotated[float, Meta(gt=0, description="Standard deviation of the rows' first values.")] = 0.05
    warmup_lists: Annotated[
        int,
        Meta(
            ge=0,
            description="The learning rates rise from 0 to their values over so many first lists. 0: they "
            "have their values at once.",
        ),
    ] = 0
    forget_lists: Annotated[
        int,
        Meta(
            ge=0,
            description="After so many lists, half of what Adagrad has summed is forgotten. So the learning "
            "rates of the rows do not fall without end. 0: nothing is forgotten.",
        ),
    ] = 0
    average_lists: Annotated[
        int,
        Meta(
            ge=0,
            description="A bundle gets an average of the weights of late. In it, weights count half after so "
            "many lists. 0: a bundle gets the newest weights.",
        ),
    ] = 0


class LossSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[loss]`: what the student learns from a list."""

    recipe: Annotated[str, Meta(description="Name of a recipe (`recdistill recipes`), or the path of a file.")] = (
        "default"
    )
    soft: (
        Annotated[
            float,
            Meta(
                ge=0,
                description="Weight of what the teacher says. Left out: what the recipe says. 0: training "
                "without a teacher.",
            ),
        ]
        | None
    ) = None
    label: Annotated[float, Meta(ge=0, description="Weight of the labels. Left out: what the recipe says.")] | None = (
        None
    )
    temperature: (
        Annotated[
            float,
            Meta(
                gt=0,
                description="Temperature of the terms of the teacher that have one: higher makes its scores more "
                "alike. Left out: what the recipe says.",
            ),
        ]
        | None
    ) = None
    previous: Annotated[
        float,
        Meta(ge=0, description="Weight of a term that keeps the student near an earlier copy of itself; 0: no term."),
    ] = 0.0
    previous_every: Annotated[int, Meta(ge=1, description="A new copy is made after so many steps.")] = 500
    full_softmax_items: Annotated[
        int,
        Meta(
            ge=0,
            description="Up to so many live items, the label loss is a softmax over all of them. With more items it is "
            "a softmax over a sample, with a correction for the sampling.",
        ),
    ] = 100_000
    sampled_items: Annotated[
        int,
        Meta(ge=1, description="Live items in that sample, drawn again in each step. The shown items are added to it."),
    ] = 2048
    sampled_power: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="How much more often a frequent item is drawn: its chance grows with its count to "
            "this power. 0: all have the same chance. 1: the chance grows as the count does.",
        ),
    ] = 0.75
    replay_lists: Annotated[
        int,
        Meta(
            ge=0,
            description="So many of the newest lists are kept. Each step learns from the teacher's scores of "
            "one batch of them once more. 0: none.",
        ),
    ] = 0
    position_cap: Annotated[
        float,
        Meta(
            ge=1,
            le=1_000_000,
            description="Used with `rank.explore_share`. If an item was shown at its place with chance p, "
            "its label counts 1 / p times, at most so many times. 1: each label counts once.",
        ),
    ] = 10.0
    soft_head: Annotated[
        bool,
        Meta(
            description="true: the teacher's scores train an extra small layer (a head), and through it the "
            "towers. The score that is served learns only from labels. The head is in the checkpoint, and in "
            "no bundle."
        ),
    ] = False
