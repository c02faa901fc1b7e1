"""The serving side: turns a bundle into answers. It uses numpy, onnxruntime and faiss, but not torch.

`Recommender` answers from one bundle and from the live changes to its catalogue. `Ranker` holds the recommender that
serves now. The HTTP endpoint is `recdistill.serve.http`.

It does not know training or teachers.

Example:
    >>> Filters(exclude=frozenset(["item-1"])).allow is None
    True
"""

from recdistill.serve.answers import Answer, RankAnswer, RecommendAnswer, SimilarAnswer, Source
from recdistill.serve.explore import Explore, chance_at, shown
from recdistill.serve.ranker import Ranker, Sides, Variant, place_of
from recdistill.serve.recommender import Recommender
from recdistill.serve.requests import Filters, Request

__all__ = [
    "Answer",
    "Explore",
    "Filters",
    "RankAnswer",
    "Ranker",
    "RecommendAnswer",
    "Recommender",
    "Request",
    "Sides",
    "SimilarAnswer",
    "Source",
    "Variant",
    "chance_at",
    "place_of",
    "shown",
]
