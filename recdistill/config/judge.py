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
            description="EASE is made from so many of the newest examples that the bundle learnt from. "
            "Popularity and ItemKNN are made from them too, if the bundle has no counts of its own.",
        ),
    ] = 100_000
    ease: Annotated[
        bool,
        Meta(
            description="Whether EASE is compared, too. It is made from the log, so the judge reads `judge.learnt` "
            "examples. Where `gate.beats` names it, it is compared in any case."
        ),
    ] = False
    teacher_scores: Annotated[
        int,
        Meta(
            ge=0,
            description="Most scores that the teacher gives in one judgement. If the whole catalogue needs "
            "more, it scores only a pool of items for each list: what was liked, the first ten of each model, "
            "and 200 items drawn at random. 0: no limit.",
        ),
    ] = 20_000_000
    control: Annotated[
        str,
        Meta(
            pattern="^[A-Za-z0-9_-]{0,60}$",
            description="Name of the control in the registry: a student without a teacher (`recdistill distil "
            "--control`). Its newest bundle is judged beside every candidate, and the report says what distillation "
            "adds. Empty: nobody looks for one.",
        ),
    ] = "control"
    slices: Annotated[
        list[str],
        Meta(
            description="More slices (parts of the lists that are judged by themselves), by a field. "
            "context.NAME: a field of the context. item.NAME: an attribute of the liked item. time: quarters "
            "of the day, UTC."
        ),
    ] = []


class GateRule(Struct, frozen=True, forbid_unknown_fields=True):
    """A rule of `gate.rules` about the items in first tens."""

    attribute: Annotated[str, Meta(min_length=1, description="Name of an item's attribute.")]
    value: Annotated[str, Meta(description="A value of it; of several values, one.")]
    least: Annotated[float, Meta(ge=0, le=1, description="Least share of the items that have it.")] = 0.0
    most: Annotated[float, Meta(ge=0, le=1, description="Most share of the items that have it.")] = 1.0


class GateSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[gate]`: what a candidate must show before it is promoted. docs/promotion.md says how each verdict is found."""

    retention: Annotated[
        float,
        Meta(
            ge=0,
            description="The student must keep at least this share of the teacher's NDCG@10, both above "
            "chance: (student − chance) / (teacher − chance). The lower end of the interval must reach it. 0: "
            "not asked for.",
        ),
    ] = 0.95
    champion: Annotated[
        float,
        Meta(
            ge=0,
            description="The student must keep at least this share of the champion's NDCG@10, both above "
            "chance, on the same lists. The lower end of the interval must reach it. If labels do not decide "
            "it, agreement with the teacher does. 0: not asked for. Only the promoter compares with the "
            "champion.",
        ),
    ] = 0.95
    not_below_champion: Annotated[
        bool,
        Meta(
            description="true: a bundle that is surely worse than the champion is refused: the whole "
            "interval of the difference is below 0. Only the promoter compares with the champion."
        ),
    ] = True
    error_a_year: Annotated[
        float,
        Meta(
            gt=0,
            lt=1,
            description="Chance that at least one wrong version is promoted in a year. 0.05: in one of 20 "
            "years. Each candidate gets a part of it. Each further look at the same candidate uses some of "
            "that part.",
        ),
    ] = 0.05
    tries_a_year: Annotated[
        int,
        Meta(
            ge=1,
            description="`error_a_year` is divided among so many candidates a year. If more come, it is "
            "divided among as many as came in the last four weeks, times 13.",
        ),
    ] = 50
    beats_popularity: Annotated[bool, Meta(description="The student must be shown to be better than popularity.")] = (
        True
    )
    beats: Annotated[
        list[str], Meta(description="Other models that the student must be shown to be better than: itemknn, ease.")
    ] = []
    slice_loss: Annotated[
        float,
        Meta(
            ge=0,
            lt=1,
            description="A slice is a part of the lists, such as new users. The student is refused if in one "
            "slice it is surely worse than the champion, and loses this share or more of its NDCG@10. 0: "
            "slices are not looked at.",
        ),
    ] = 0.05
    slices: Annotated[
        list[str],
        Meta(description="Names of slices in which the student must be shown to lose less than that share."),
    ] = []
    parity: Annotated[
        float,
        Meta(
            ge=0,
            description="Largest allowed difference between the numbers of the exported towers (ONNX) and "
            "those of the trained ones.",
        ),
    ] = 1e-4
    device: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="The first ten items of the device file must have at least this share of the scores "
            "of the bundle's first ten. Scores count from the mean score of items drawn at random. The lower "
            "end of the interval must reach it. 0: not asked for.",
        ),
    ] = 0.9
    size_ratio: Annotated[
        float,
        Meta(
            ge=0,
            description="Most bytes of the student, as a share of the teacher's. A teacher of unknown size does not "
            "pass. 0: no limit.",
        ),
    ] = 0.0
    most_bytes: Annotated[int, Meta(ge=0, description="Most bytes of the device file. 0: no limit.")] = 0
    processor_ms: Annotated[
        float, Meta(ge=0, description="Most processor time of one answer at one thread. 0: no limit.")
    ] = 0.0
    fresh_s: Annotated[
        float,
        Meta(
            ge=0,
            description="Seconds. The newest event that the student has learnt may be at most so much older "
            "than the newest judged list. 0: no limit.",
        ),
    ] = 0.0
    blocked: Annotated[list[str], Meta(description="Items that no answer may hold, by id.")] = []
    rules: Annotated[
        list[GateRule],
        Meta(
            description="Rules about the first ten items of the answers. Each is a table: attribute, value, "
            "and the least and most items with it."
        ),
    ] = []
    pinned: Annotated[
        str,
        Meta(
            pattern="^([1-9][0-9]*|[A-Za-z][A-Za-z0-9_-]{0,99}|)$",
            description="A version, by its number or an alias, that the promoter and `publish` judge beside each "
            "candidate, such as the first one that served. It is a line of the report; nothing is asked of it. Its "
            "files stay while it has an alias. Empty: none.",
        ),
    ] = ""
    min_lists: Annotated[int, Meta(ge=1, description="Fewest held-out lists for a verdict.")] = 200


class PromoteSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[promote]`: the promoter. It judges new bundles, registers them, and promotes what passes the gate."""

    wait_s: Annotated[
        float, Meta(gt=0, description="Seconds between two looks for new bundles and held-out examples.")
    ] = 5.0
    held_out: Annotated[
        int,
        Meta(
            ge=1,
            description="Most held-out lists judged: the newest; see `judge.lists`. With fewer than 20,000 many "
            "students that are as good as their teacher do not pass.",
        ),
    ] = 20_000
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
            description="After so many more held-out lists, the version that was refused last is judged "
            "again, if no newer bundle was judged since. 0: their number does not matter.",
        ),
    ] = 0
    again_s: Annotated[
        float, Meta(ge=0, description="It is judged again after so many seconds. 0: time does not matter.")
    ] = 0.0
    again_most: Annotated[int, Meta(ge=0, description="How often a version is judged again at most.")] = 3
