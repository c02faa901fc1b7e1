"""The joiner's process."""
