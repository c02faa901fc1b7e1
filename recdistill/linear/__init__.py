"""Linear rankers: `closed` has the mathematics, and `likes` makes its matrix from examples.

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

__all__ = [
    "MOST_INVERTED",
    "Interactions",
    "Scorer",
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
