"""A person asks for a student to be made anew: the request lies in the student's folder until its distiller takes it.

The distiller notes the request in the list of its settings' changes, with its step, before it does anything. Then it
writes a checkpoint, and only then the request is gone. So a process that is killed anywhere makes the student anew at
the same step, and once.

It knows nothing of how a student is made anew.

Example:
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> one, two = ask(Path(folder.name), "beginning"), ask(Path(folder.name), "latest")
    >>> one == two == waiting(Path(folder.name))  # the first one waits still, so there is no second one
    True
    >>> done(Path(folder.name)); waiting(Path(folder.name)) is None
    True
    >>> folder.cleanup()
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Final

import msgspec

from recdistill.errors import CheckpointError
from recdistill.loops.distil.rebuilds import Mark
from recdistill.sealed import flush, put

NAME: Final = "rebuild.json"


class Request(msgspec.Struct, frozen=True):
    """A request.

    Attributes:
        id: Its own name.
        place: From which place of the examples on, as it was typed.
        at_us: When it was made.
    """

    id: str
    place: str
    at_us: int


class Anew(msgspec.Struct, frozen=True):
    """A request that was taken.

    Attributes:
        request: Its id.
        start: From where on the student learns again.
    """

    request: str
    start: Mark


def ask(folder: Path, place: str) -> Request:
    """Leaves a request. One that waits already stays, and is returned.

    Raises:
        CheckpointError: The folder cannot be written.
    """
    if (before := waiting(folder)) is not None:
        return before
    request = Request(secrets.token_hex(8), place, time.time_ns() // 1000)
    put(folder / NAME, msgspec.json.encode(request) + b"\n", CheckpointError)
    return request


def waiting(folder: Path) -> Request | None:
    """The request that nobody has taken yet.

    Raises:
        CheckpointError: There is something else.
    """
    path = folder / NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Request)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as e:
        way = "delete it, and ask again: recdistill distil --rebuild"
        raise CheckpointError(f"{path}: is no request ({e}); {way}") from e


def done(folder: Path) -> None:
    """Takes the request away."""
    (folder / NAME).unlink(missing_ok=True)
    flush(folder)
