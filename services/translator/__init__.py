"""The translator's process."""
