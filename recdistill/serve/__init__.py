"""Island 2: what turns a bundle into answers, with numpy, onnxruntime and faiss and without torch.

`Recommender` answers from one bundle and the live changes to its catalogue; `Ranker` holds what serves now. The
endpoint over HTTP is `recdistill.serve.http`.

It does not know training or teachers.

Example:
    >>> Filters(exclude=frozenset(["item-1"])).allow is None
    True
"""

from recdistill.serve.answers import Answer, RankAnswer, RecommendAnswer, SimilarAnswer, Source
from recdistill.serve.ranker import Ranker, Variant
from recdistill.serve.recommender import Recommender
from recdistill.serve.requests import Filters, Request

__all__ = [
    "Answer",
    "Filters",
    "RankAnswer",
    "Ranker",
    "RecommendAnswer",
    "Recommender",
    "Request",
    "SimilarAnswer",
    "Source",
    "Variant",
]
