"""Settings of what happens to a bundle: `[judge]`, `[gate]` and `[promote]`, with the meaning of every key.

They know nothing of files, the environment, or what the parts do with them.

Example:
    >>> GateSettings().min_lists
    200
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct


class JudgeSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[judge]`: how a bundle is measured."""

    protocol: Annotated[
        Literal["auto", "catalogue", "shown"],
        Meta(
            description="catalogue: each contender ranks the whole catalogue. shown: each orders the candidates that "
            "were shown. auto: shown where the lists are small parts of the catalogue with clicks among them; the "
            "choice is said."
        ),
    ] = "auto"
    lists: Annotated[
        Literal["auto", "held-out", "behind"],
        Meta(
            description="held-out: lists of users from whom no student learns. behind: examples behind the place where "
            "the bundle stopped learning. auto: held-out where there are `gate.min_lists` of them from which the "
            "teacher has not learnt either; the choice is said."
        ),
    ] = "auto"
    learnt: Annotated[
        int,
        Meta(
            ge=1,
            description="Popularity, ItemKNN and EASE are made from so many of the newest examples that the bundle "
            "learnt from.",
        ),
    ] = 100_000


class GateSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[gate]`: what a candidate must show before it is promoted."""

    retention: Annotated[
        float,
        Meta(
            ge=0,
            description="Least share of the teacher's NDCG@10 that the student keeps. Both are counted above chance: "
            "(student − chance) / (teacher − chance). 0 asks for nothing.",
        ),
    ] = 0.95
    beats_popularity: Annotated[
        bool, Meta(description="The paired interval against popularity must lie above zero.")
    ] = True
    not_below_champion: Annotated[
        bool,
        Meta(
            description="A bundle is refused when its whole paired interval against the champion lies below zero. The "
            "promoter compares with the champion."
        ),
    ] = True
    parity: Annotated[
        float, Meta(ge=0, description="Largest difference allowed between the float towers in ONNX and the training.")
    ] = 1e-4
    size_ratio: Annotated[float, Meta(gt=0, description="Most bytes of the student, as a share of the teacher's.")] = (
        0.1
    )
    min_lists: Annotated[int, Meta(ge=1, description="Fewest held-out lists for a verdict.")] = 200


class PromoteSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[promote]`: bundles -> judged, registered, promoted versions."""

    wait_s: Annotated[float, Meta(gt=0, description="How often new bundles and held-out examples are looked for.")] = (
        5.0
    )
    held_out: Annotated[int, Meta(ge=1, description="Most held-out lists judged: the newest; see `judge.lists`.")] = (
        10_000
    )
    by: Annotated[str, Meta(description="Name that the ledger gives for who promoted.")] = "promoter"
    automatic: Annotated[
        bool,
        Meta(
            description="Whether a bundle that passes the gate is promoted. If not, it is only judged and registered."
        ),
    ] = True
    patience_s: Annotated[
        float,
        Meta(
            ge=0,
            description="How long a registry that does not answer is waited for. Then the promoter ends. Nothing is "
            "lost.",
        ),
    ] = 3600.0
    again_lists: Annotated[
        int,
        Meta(
            ge=0,
            description="The version that was refused last is judged again when so many more held-out lists have come, "
            "if no newer bundle was judged meanwhile. 0: their number does not matter.",
        ),
    ] = 0
    again_s: Annotated[
        float, Meta(ge=0, description="It is judged again after so many seconds. 0: time does not matter.")
    ] = 0.0
    again_most: Annotated[int, Meta(ge=0, description="How often a version is judged again at most.")] = 3
