"""Linear teachers in closed form, and their folder."""
