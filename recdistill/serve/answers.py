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

Source = Literal["personal", "popular", "mixed", "similar"]


class Answer(Struct, frozen=True, kw_only=True):
    """The fields that all answers have."""

    items: Annotated[
        list[str], Meta(description="Ids, best first. With `rank.explore_share` one item may be elsewhere.")
    ]
    scores: Annotated[list[float], Meta(description="The score of each item. For similar items it is the cosine.")]
    bundle: Annotated[str, Meta(description="Content hash of the bundle that answered.")]
    overlay: Annotated[int, Meta(description="Next offset of `items` that the catalogue has not seen.")]


class RecommendAnswer(Answer, frozen=True, kw_only=True):
    """Answer to a recommend request."""

    source: Annotated[Source, Meta(description="Where the order comes from. mixed: popular items, then personal ones.")]
    unknown_history: Annotated[
        int, Meta(description="Number of events that were ignored, because their items are not in the catalogue.")
    ]
    impression: Annotated[
        str | UnsetType, Meta(description="Id of this answer in `impressions`, if it was written there.")
    ] = UNSET


class RankAnswer(RecommendAnswer, frozen=True, kw_only=True):
    """Answer to a rank request."""

    unknown: Annotated[
        list[str], Meta(description="Candidates that were left out: they are not in the catalogue, or withdrawn.")
    ]


class SimilarAnswer(Answer, frozen=True, kw_only=True):
    """Answer to a similar request."""
