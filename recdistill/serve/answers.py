"""What a recommender answers, in the form in which it leaves the process.

Whoever writes an answer to the log notes its id in `impression`; nothing else is added on the way out.

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
    """What all answers have."""

    items: Annotated[list[str], Meta(description="Ids, best first.")]
    scores: Annotated[list[float], Meta(description="The score of each; of a similar item, the cosine.")]
    bundle: Annotated[str, Meta(description="Content hash of the bundle that answered.")]
    overlay: Annotated[int, Meta(description="Next offset of `items` that the catalogue has not seen.")]


class RecommendAnswer(Answer, frozen=True, kw_only=True):
    """Answer to a recommend request."""

    source: Annotated[Source, Meta(description="Where the order comes from; mixed: popular items, then personal ones.")]
    unknown_history: Annotated[int, Meta(description="Events left out: their items are not in the catalogue.")]
    impression: Annotated[
        str | UnsetType, Meta(description="Id under which this answer was written to `impressions`, if it was.")
    ] = UNSET


class RankAnswer(RecommendAnswer, frozen=True, kw_only=True):
    """Answer to a rank request."""

    unknown: Annotated[list[str], Meta(description="Candidates left out: not in the catalogue, or withdrawn.")]


class SimilarAnswer(Answer, frozen=True, kw_only=True):
    """Answer to a similar request."""
