"""Which candidates the teacher is asked about when it is not asked about all of them.

`Chooser` chooses for the scorer, and `restore` brings one up to date from the log. The drawing itself (`head_and_rest`,
`systematic`, `unit`) also serves others who draw.

It knows nothing of teachers or of students.
"""

from recdistill.budget.blocks import groups, offset_header
from recdistill.budget.chances import head_and_rest, systematic, unit
from recdistill.budget.choose import Choice, Chooser, restore

__all__ = ["Choice", "Chooser", "groups", "head_and_rest", "offset_header", "restore", "systematic", "unit"]
