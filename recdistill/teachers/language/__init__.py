"""A sentence encoder as the teacher: it ranks items by their text."""
