"""The ranker's process."""
