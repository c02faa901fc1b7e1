"""A sentence encoder as the teacher: it ranks items by their text.

Example:
    >>> placeholders("{title} ({genre})")
    ['title', 'genre']
"""

from recdistill.teachers.language.templates import placeholders, render

__all__ = ["placeholders", "render"]
