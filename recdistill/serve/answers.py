"""The answers of a recommender, in the form that the client gets.

When an answer is written to the log, its id is put into `impression`. Nothing else is added to an answer.

It does not know how an answer is found.

Example:
    >>> import msgspec
    >>> answer = SimilarAnswer(items=["b"], scores=[0.5], bundle="09f5", overlay=7)
    >>> msgspec.json.encode(answer)
    b'{"items":["b"],"scores":[0.5],"bundle":"09f5","overlay":7}'
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Source = Literal["personal", "popular", "mixed", "general"]


class Answer(Struct, frozen=True, kw_only=True):
    """The fields that all answers have."""

    items: Annotated[
        list[str],
        Meta(description="Ids of the items, best first. With `rank.explore_share`, one item may be at another place."),
    ]
    scores: Annotated[
        list[float],
        Meta(
            description="The score of each item, in the order of `items`. Higher is better. Popular items come "
            "first even where their scores are lower. For similar items, the score is the cosine, from -1 to 1."
        ),
    ]
    bundle: Annotated[str, Meta(description="Content hash of the bundle that answered: 64 hex digits.")]
    overlay: Annotated[
        int, Meta(description="Next offset of the topic `items` to read: the catalogue has all records before it.")
    ]


class RecommendAnswer(Answer, frozen=True, kw_only=True):
    """Answer to a recommend request."""

    source: Annotated[
        Source,
        Meta(
            description="How the items were found. personal: for this user. popular: the model knows nothing of this "
            "request, so these are popular items. mixed: popular items first, then other ones, because there were "
            "too few popular ones. general: the model knows nothing of this request either, and no popular item may be "
            "in the answer, or the items were given: they are in the order of the model for anybody."
        ),
    ]
    unknown_history: Annotated[
        int,
        Meta(description="How many events of the history were ignored: the catalogue does not have their items."),
    ]
    impression: Annotated[
        str | UnsetType,
        Meta(
            description="Id of this answer in the topic `impressions`. Send it with the feedback. It is left out where "
            "the answer was not written there."
        ),
    ] = UNSET


class RankAnswer(RecommendAnswer, frozen=True, kw_only=True):
    """Answer to a rank request."""

    unknown: Annotated[
        list[str],
        Meta(
            description="Ids of candidates that are not in `items`: the catalogue does not have them, or they are "
            "withdrawn."
        ),
    ]


class SimilarAnswer(Answer, frozen=True, kw_only=True):
    """Answer to a similar request."""
