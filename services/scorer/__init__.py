"""The scorer's process."""
