"""Runs an artefact before it may serve: a bundle, and its device file, in a process of their own.

A file from outside may hold a graph that never ends, takes all the memory, or answers with garbage. So nobody who must
go on working runs it first. A process is started that may use so much processor time and memory, and no more. It asks
the artefact as a ranker and a phone would (`towers`, `answers`, `device`). `tried` waits for it, and says what was
wrong. The promoter does this before a bundle is judged, and a ranker before a champion serves.

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
