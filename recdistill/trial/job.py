"""The messages of a trial: the job that its process gets, and the marks in what it writes.

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
"""Exit code of the process when the artefact is wrong. The last line of its errors says what is wrong."""

STEP: Final = "step "
"""A line of its output that begins with this names the step that begins now."""


class Bounds(Struct, frozen=True, kw_only=True):
    """How much a trial may use.

    Attributes:
        cpu_s: Seconds of processor time. They do not pass more quickly on a busy machine.
        wall_s: Seconds of the clock. They end a process that only waits.
        memory_mb: Megabytes of memory.
        rows: At most so many item vectors are computed again and compared.
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
        device: Path of the device file. Empty: there is none.
        bounds: How much it may use.
    """

    bundle: str
    content_hash: str
    device: str
    bounds: Bounds
