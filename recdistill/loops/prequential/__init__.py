"""First predict, then learn: how well a student, the champion and others order lists before anybody learns from them.

`Prequential` scores a share of the lists that arrive, and waits for their labels. `Following` is the champion: it finds
the bundle that serves, and says from which step on. `HeldAhead` is the champion on
lists that nobody learns. `in_words` and `lines_of` tell what was found.

Example:
    >>> sorted(name for name in __all__ if name.islower())
    ['held_in_words', 'in_turn', 'in_words', 'lines_of', 'ndcg', 'served_since']
"""

from recdistill.loops.prequential.champion import Following, Found
from recdistill.loops.prequential.held import HeldAhead, Served, in_turn, served_since
from recdistill.loops.prequential.lines import ndcg
from recdistill.loops.prequential.text import held_in_words, in_words, lines_of
from recdistill.loops.prequential.whole import FILE, Champion, Prequential

__all__ = [
    "FILE",
    "Champion",
    "Following",
    "Found",
    "HeldAhead",
    "Prequential",
    "Served",
    "held_in_words",
    "in_turn",
    "in_words",
    "lines_of",
    "ndcg",
    "served_since",
]
