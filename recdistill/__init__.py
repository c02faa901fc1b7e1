"""recdistill makes a small, quick ranking model (the student) from a large one (the teacher).

Importing the package loads nothing heavy: each room is imported by whoever needs it.

Example:
    >>> import recdistill
    >>> recdistill.__version__
    '0.1.0'
"""

__version__ = "0.1.0"
