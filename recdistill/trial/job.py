"""What the process of a trial is told, and how it says what it found.

It knows nothing of bundles or of processes.

Example:
    >>> import msgspec
    >>> job = Job(bundle="b", content_hash="0" * 64, device="", bounds=Bounds())
    >>> msgspec.json.decode(msgspec.json.encode(job), type=Job) == job
    True
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

REFUSED: Final = 3
"""Exit code of the process when the artefact is wrong. The last line of its errors says how."""

STEP: Final = "step "
"""Begins the lines of its output that say what it does now."""


class Bounds(Struct, frozen=True, kw_only=True):
    """How much a trial may use.

    Attributes:
        cpu_s: Seconds of processor time. So a busy machine refuses nobody.
        wall_s: Seconds of the clock, for a file that sleeps.
        memory_mb: Megabytes of memory.
        rows: So many item vectors are computed again and compared; all, where there are no more.
    """

    cpu_s: float = 60.0
    wall_s: float = 900.0
    memory_mb: int = 4096
    rows: int = 20_000


class Job(Struct, frozen=True, kw_only=True):
    """One trial.

    Attributes:
        bundle: The bundle's folder.
        content_hash: The content hash that it must have.
        device: Path of the device file; empty: there is none.
        bounds: How much it may use.
    """

    bundle: str
    content_hash: str
    device: str
    bounds: Bounds
