"""Linear rankers: `closed` has the mathematics, `likes` makes its matrix from examples, `tally` counts a stream.

Example:
    >>> from scipy import sparse
    >>> ease(sparse.eye(3, format="csr"), l2=1.0).weights.shape
    (3, 3)
"""

from recdistill.linear.closed import (
    MOST_INVERTED,
    Scorer,
    ThroughItems,
    ThroughUsers,
    blend,
    ease,
    graph_filter,
    itemknn,
    standardise,
)
from recdistill.linear.likes import Interactions, collect, read_interactions
from recdistill.linear.tally import EVENTS, HALF_LIFE, TALLY, Asked, Tally

__all__ = [
    "EVENTS",
    "HALF_LIFE",
    "MOST_INVERTED",
    "TALLY",
    "Asked",
    "Interactions",
    "Scorer",
    "Tally",
    "ThroughItems",
    "ThroughUsers",
    "blend",
    "collect",
    "ease",
    "graph_filter",
    "itemknn",
    "read_interactions",
    "standardise",
]
