"""The records in memory: one struct for each kind. They are data only.

They do not know their wire form, or the rules in `checks`.

Example:
    >>> Impression("r1", 5, candidates=(Candidate("a"),)).candidates[0].item
    'a'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec

if TYPE_CHECKING:
    Value = str | float | bool | list[str] | list[float]
else:
    # msgspec reads one kind of list in a union only; `check_values` refuses lists that mix the two.
    Value = str | float | bool | list[str | float]

Scale = Literal["unbounded", "logit", "probability", "rank"]
Origin = Literal["product", "student", "sweep", "served"]
"""`product`: the product showed the list. `served`: a student answered, and a person saw it. The others saw nobody."""
LabelState = Literal["none", "closed", "labels"]


# gc=False: these structs hold strings, numbers and containers of them, so they have no cycles. There are
# millions of them.
class Event(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Something the user did before the impression. `time_us` 0: unknown."""

    item: str
    time_us: int = 0
    action: str = ""


class Candidate(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One item of the list. Where known: the product's own score, and the probability that it is in that place."""

    item: str
    logged_score: float | None = None
    propensity: float | None = None


class Impression(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One request as the product saw it. `history` is oldest first; `user` is for joins and slices, never a feature."""

    id: str
    time_us: int
    user: str | None = None
    history: tuple[Event, ...] = ()
    context: dict[str, Value] = {}
    candidates: tuple[Candidate, ...] = ()
    exclude: tuple[str, ...] = ()
    origin: Origin = "product"
    served_by: str = ""


class Ranking(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """An impression with the teacher's scores, one for each candidate: 0.0 where `scored` is false.

    With a teacher budget, `sampled` is the probability that the list was put to the teacher, also if it was not.
    `candidates_sampled` is the probability of each candidate, given that the list was put to the teacher. Empty means 1
    for each.

    `self_agreement` is how well the teacher agreed with its own first answers when it was last asked again: a rank
    correlation. None: it was not asked again.
    """

    impression: Impression
    teacher_id: str
    teacher_version: str
    scale: Scale
    scores: tuple[float, ...]
    scored: tuple[bool, ...]
    scored_at_us: int = 0
    catalogue_as_of: int = 0
    sampled: float = 1.0
    candidates_sampled: tuple[float, ...] = ()
    self_agreement: float | None = None


class Feedback(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What the user did with an item of an impression."""

    id: str
    impression_id: str
    item: str
    action: str
    value: float = 1.0
    time_us: int = 0


class Example(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A ranking with its labels.

    `label_state` "none": the label window was not waited for, so labels are unknown. "closed": the window is over, and
    a label of 0 means that nothing came. "labels": the window is over too, and this example has the labels alone. Its
    scores were an example of their own before, of state "none", so they are not learnt again.
    """

    ranking: Ranking
    labels: tuple[float, ...]
    label_state: LabelState = "none"


class Item(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One thing that can be recommended, with its attributes. The record with the highest `version` holds."""

    id: str
    version: int = 0
    withdrawn: bool = False
    attributes: dict[str, Value] = {}
    time_us: int = 0


Record = Item | Impression | Ranking | Feedback | Example
R = TypeVar("R", bound=Record)
