r"""Reads a small file that a person named: settings, a specification, a figure.

A path from outside may name anything: a device that never ends, a pipe that nobody writes to, a film. So only a regular
file is read, and only up to a limit.

It knows nothing of what the files hold.

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "settings.toml")
    ...     _ = path.write_text("[student]\ndim = 32\n")
    ...     read_text(path, ConfigError, what="settings", advice="give a TOML file")
    '[student]\ndim = 32\n'
    >>> read_bytes(Path("/dev/zero"), ConfigError, advice="give a TOML file")
    Traceback (most recent call last):
    ...
    recdistill.errors.ConfigError: /dev/zero: is not a regular file; give a TOML file
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from recdistill.errors import ConfigError, RecdistillError

MOST: Final = 4 << 20
"""Bytes of the largest file that is read. The largest honest settings file has some kB."""


def read_bytes(path: Path, error: type[RecdistillError] = ConfigError, *, advice: str = "", most: int = MOST) -> bytes:
    """The bytes of a regular file.

    Args:
        path: What the person named. A link is followed.
        error: Class of the errors.
        advice: What to do instead; the end of each sentence.
        most: Largest size in bytes.

    Raises:
        error: It is not there, is not a regular file, cannot be read, or is larger than `most`.
    """
    advice = f"; {advice}" if advice else ""
    try:
        # Without O_NONBLOCK, opening a pipe waits for somebody who writes to it.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except (OSError, ValueError) as e:
        raise error(f"{path}: cannot be read ({getattr(e, 'strerror', None) or e}){advice}") from e
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise error(f"{path}: is {'a folder' if stat.S_ISDIR(mode) else 'not a regular file'}{advice}")
    with os.fdopen(handle, "rb") as file:
        try:
            data = file.read(most + 1)
        except OSError as e:
            raise error(f"{path}: cannot be read ({e.strerror}){advice}") from e
    if len(data) > most:
        raise error(f"{path}: is larger than {most:,} bytes{advice}")
    return data


def read_text(
    path: Path, error: type[RecdistillError] = ConfigError, *, what: str, advice: str = "", most: int = MOST
) -> str:
    """The text of a regular UTF-8 file; a byte order mark at its beginning is taken off.

    Args:
        path: What the person named.
        error: Class of the errors.
        what: What the file holds, in the plural: "settings".
        advice: What to do instead.
        most: Largest size in bytes.

    Raises:
        error: As `read_bytes`, and when it is not UTF-8.
    """
    data = read_bytes(path, error, advice=advice, most=most)
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as e:
        raise error(f"{path}: is not UTF-8 text; {what} are a UTF-8 text file") from e
