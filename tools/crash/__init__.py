"""Kills the product's own processes, and compares what they made with an undisturbed run: `make soak-crash`.

Real processes of every stage run on a log while a producer writes into it. They are killed with SIGKILL while they
work, paused while a successor takes over, and cut from power. At the end all is drained and compared, byte by byte.

It knows nothing of how a stage works: it starts processes, reads their metrics, types verbs and reads the log.
"""
