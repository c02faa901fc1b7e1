"""What several test modules share: real servers to start. Imported as `support` (see pythonpath in pyproject.toml)."""
