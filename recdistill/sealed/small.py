"""One small file that is written whole or not at all, and is on the disk when `put` returns.

It knows nothing of what is in the file.

Example:
    >>> import tempfile
    >>> from pathlib import Path
    >>> from recdistill.errors import DataError
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     put(Path(folder) / "note.json", b"{}", DataError)
    ...     (Path(folder) / "note.json").read_bytes()
    b'{}'
"""

from __future__ import annotations

import os
from pathlib import Path

from recdistill.errors import RecdistillError
from recdistill.sealed.full import disk_is_full
from recdistill.sealed.hidden import flush


def put(path: Path, data: bytes, error: type[RecdistillError]) -> None:
    """Writes the file, in place of one that is there.

    Args:
        path: The file. Its folder exists.
        data: What it will hold.
        error: What is raised when the disk refuses it.

    Raises:
        RecdistillError: `error`. The file is as it was.
    """
    new = path.with_name(f".{path.name}.new")
    try:
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
        flush(path.parent)
    except OSError as e:
        advice = "free some disk space" if disk_is_full(e) else "make the folder writable, or repair the disk"
        raise error(f"{path}: cannot be written ({e.strerror or e}); {advice}, and start again") from e
