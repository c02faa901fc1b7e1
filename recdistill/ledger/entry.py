"""An entry of the ledger: one thing that was found or decided, chained to the entry before it.

| kind | says |
| --- | --- |
| `judged` | what the judge measured: content hash, lists, policy, figures, verdict |
| `policy` | the policy of the judge has changed, and where it asks for less |
| `waived` | a person allows a version in spite of its verdict: why, and until when |
| `refused` | somebody asked for a promotion, and it was refused |
| `promoted`, `rolled-back` | the champion changes; the alias is set after this entry |
| `returned` | the champion of the ledger is set again, after somebody moved the alias in MLflow |
| `settled` | the alias now names the version of the last change |
| `moved` | the alias names another version than the ledger, because somebody moved it in MLflow |
| `imported` | a step from the ledger of an older version of recdistill, unchanged |
| `lost` | an entry that was noted in another place is not in this ledger |

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
"""The digest that the first entry names, because there is no entry before it."""

CLAIMS: Final = ("promoted", "rolled-back", "returned")
"""The kinds of entries that change the champion. The alias is set after such an entry."""


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
        version: Number of the version that it is about. Empty: it is about none, or the number is not known yet.
        content_hash: Content hash of that version.
        before: Number of the version that was champion before. Empty: there was no champion.
        facts: More values; which ones depends on the kind.
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
    """Writes an entry as one line of JSON."""
    return msgspec.json.encode(entry)


def read_entry(payload: bytes) -> Entry:
    """Reads an entry.

    Raises:
        DecodeError: It is not an entry.
    """
    try:
        return msgspec.json.decode(payload, type=Entry)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as e:
        raise DecodeError(f"it is no entry of a ledger: {e}") from e
