"""Runs an artefact in a separate process before it may serve. An artefact is a bundle, with or without its device file.

A file from outside may hold a graph that never ends, takes all the memory, or answers with garbage. So no process that
must go on working may be the first to run it. The trial starts another process, with a limit on processor time and on
memory. This process asks the artefact as a ranker and a phone would (`towers`, `answers`, `device`). `tried` waits for
its end, and says what was wrong. The promoter does this before a bundle is judged, and a ranker before a champion
serves.

It knows nothing of torch, of logs or of registries.

Example:
    >>> from pathlib import Path
    >>> tried(Path("no/such/folder"), content_hash="0" * 64)
    Traceback (most recent call last):
    recdistill.errors.BundleError: no/such/folder: there is no bundle here; give the folder that holds manifest.json
"""

from recdistill.trial.job import Bounds
from recdistill.trial.outside import tried

__all__ = ["Bounds", "tried"]
