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
    handle, advice = _open(path, error, advice, most), f"; {advice}" if advice else ""
    with os.fdopen(handle, "rb") as file:
        try:
            data = file.read(most + 1)
        except OSError as e:
            raise error(f"{path}: cannot be read ({e.strerror}){advice}") from e
    if len(data) > most:  # files of /proc have a size of 0, and some files grow
        raise error(f"{path}: is larger than {most:,} bytes{advice}")
    return data


def check_file(path: Path, error: type[RecdistillError] = ConfigError, *, advice: str = "", most: int = MOST) -> None:
    """Refuses what `read_bytes` would refuse, before a library opens it that would wait for a pipe, or read for ever.

    Args:
        path: What the person named.
        error: Class of the errors.
        advice: What to do instead.
        most: Largest size in bytes.

    Raises:
        error: As `read_bytes`.
    """
    os.close(_open(path, error, advice, most))


def _open(path: Path, error: type[RecdistillError], advice: str, most: int) -> int:
    """A handle of a regular file that is not too large."""
    advice = f"; {advice}" if advice else ""
    try:
        # Without O_NONBLOCK, opening a pipe waits for somebody who writes to it.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except (OSError, ValueError) as e:
        raise error(f"{path}: cannot be read ({getattr(e, 'strerror', None) or e}){advice}") from e
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise error(f"{path}: is {'a folder' if stat.S_ISDIR(found.st_mode) else 'not a regular file'}{advice}")
    if found.st_size > most:  # it is not read first: it may be a film, or a file that is all holes
        os.close(handle)
        raise error(f"{path}: has {found.st_size:,} bytes, more than the {most:,} that it may have{advice}")
    return handle


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
