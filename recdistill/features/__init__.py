"""Feature specification, vocabulary and catalogue: they turn records into masked numpy batches.

Training and serving run the same code.

It does not know weights, torch or where records come from.

Example:
    >>> from recdistill.records import Item
    >>> spec = FeatureSpec(item={"genres": Field("category", capacity=8, hashed=0, max_values=2)})
    >>> catalogue = Catalogue(spec, Vocabulary(spec))
    >>> slot = catalogue.apply(Item("a", attributes={"genres": ["war", "drama"]}), admit=True)
    >>> catalogue.encoded().fields["genres"].tolist()
    [[1, 2]]
"""

from recdistill.features.catalogue import Catalogue, EncodedItems
from recdistill.features.encode import (
    AGE_BUCKETS,
    Asker,
    Lists,
    Places,
    Requests,
    age_buckets,
    encode_examples,
    encode_requests,
)
from recdistill.features.flat import encode_columns
from recdistill.features.lookup import Lookup
from recdistill.features.rows import Changes, Mark, Rows
from recdistill.features.spec import FeatureError, FeatureSpec, Field, HistorySpec, IdSpec, VocabularySpec
from recdistill.features.tenure import AsOf, Moved, Tenure
from recdistill.features.values import CLIP, encode_column
from recdistill.features.vocabulary import Vocabulary

__all__ = [
    "AGE_BUCKETS",
    "CLIP",
    "AsOf",
    "Asker",
    "Catalogue",
    "Changes",
    "EncodedItems",
    "FeatureError",
    "FeatureSpec",
    "Field",
    "HistorySpec",
    "IdSpec",
    "Lists",
    "Lookup",
    "Mark",
    "Moved",
    "Places",
    "Requests",
    "Rows",
    "Tenure",
    "Vocabulary",
    "VocabularySpec",
    "age_buckets",
    "encode_column",
    "encode_columns",
    "encode_examples",
    "encode_requests",
]
