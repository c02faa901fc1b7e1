"""Which candidates the teacher scores, when a budget does not allow all of them.

`Chooser` chooses for the scorer, and `restore` rebuilds its state from the log. Other code also draws with
`head_and_rest`, `systematic` and `unit`.

It knows nothing of teachers or of students.
"""

from recdistill.budget.blocks import block_of, groups, offset_header
from recdistill.budget.chances import head_and_rest, systematic, unit
from recdistill.budget.choose import Choice, Chooser, restore

__all__ = ["Choice", "Chooser", "block_of", "groups", "head_and_rest", "offset_header", "restore", "systematic", "unit"]
