"""An entry of the ledger: one thing that was found or decided, chained to the entry before it.

| kind | says |
| --- | --- |
| `judged` | what the judge measured: content hash, lists, policy, figures, verdict |
| `policy` | the judge asks for something else from now on, and where it asks for less |
| `waived` | a person lets a version pass in spite of its verdict: why, and until when |
| `refused` | somebody asked for a promotion, and did not get it |
| `promoted`, `rolled-back` | the champion changes; the alias is set after this entry |
| `returned` | the champion of the ledger is set again, after somebody moved the alias by hand |
| `settled` | the alias says now what the last change says |
| `moved` | the alias says something else than the ledger, and the ledger did not do it |
| `imported` | a step of the ledger of an older version, as it stood there |
| `lost` | entries that were noted elsewhere are not in this ledger |

It knows nothing of logs, keys, or MLflow.

Example:
    >>> entry = Entry(n=1, prev=START, at="2026-01-02T03:04:05+00:00", kind="moved", model="shop", who="promoter")
    >>> read_entry(write_entry(entry)) == entry
    True
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from recdistill.errors import DecodeError

START: Final = "0" * 64
"""What the first entry names as the one before it."""

CLAIMS: Final = ("promoted", "rolled-back", "returned")
"""Kinds after which the alias is set."""


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry.

    Attributes:
        n: Its number; the first is 1.
        prev: Digest of the whole entry before it.
        at: When, in ISO 8601.
        kind: See the table of this module.
        model: Name of the registered model.
        who: Who did it.
        why: The reason.
        version: Number of the version that it is about; empty: none, or not known yet.
        content_hash: Content hash of that version.
        before: Number of the version that was champion before; empty: none was.
        facts: What else the kind needs.
    """

    n: Annotated[int, Meta(ge=1)]
    prev: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    at: str
    kind: str
    model: str
    who: str
    why: str = ""
    version: str = ""
    content_hash: str = ""
    before: str = ""
    facts: dict[str, Any] = {}


def write_entry(entry: Entry) -> bytes:
    """The one line of an entry."""
    return msgspec.json.encode(entry)


def read_entry(payload: bytes) -> Entry:
    """Reads an entry.

    Raises:
        DecodeError: It is none.
    """
    try:
        return msgspec.json.decode(payload, type=Entry)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as e:
        raise DecodeError(f"it is no entry of a ledger: {e}") from e
