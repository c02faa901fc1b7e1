"""Teachers: the contract, and a module for each kind. Importing this room does not import torch.

The kinds `builtin` and `language` import torch when they are opened. It knows nothing of settings:
`loops.teachers` opens the teacher that they name.

Example:
    >>> TAUGHT
    ('builtin', 'linear')
"""

from __future__ import annotations

from recdistill.teachers.cached import CachedTeacher
from recdistill.teachers.contract import Scores, Teacher, asked_again, masked, misfit

__all__ = ["TAUGHT", "CachedTeacher", "Scores", "Teacher", "asked_again", "masked", "misfit"]

TAUGHT = ("builtin", "linear")
"""The kinds that `recdistill teach` makes; `teacher.path` is their folder."""
