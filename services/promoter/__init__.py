"""The promoter's process."""
