"""Linear teachers in closed form, and their folder.

Example:
    >>> Blend(l2=10.0).popularity
    0.1
"""

from recdistill.teachers.linear.files import Blend

__all__ = ["Blend"]
