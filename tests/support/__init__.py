"""Code that several test modules share. It is imported as `support` (see pythonpath in pyproject.toml)."""
