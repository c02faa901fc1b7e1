"""The prober's process."""
