"""The chain: takes the entries one after the other, and says of each what is wrong with it.

Each entry names the digest of the whole entry before it. So if an entry was changed, removed, moved or added, the next
entry shows it. The chain alone cannot show that entries were cut off at its end. For that, a head of the chain must be
noted in another place (`verify.py`).

A fault does not stop the work. The next entry names the digest of what is before it, even if that is damaged. So one
damaged entry does not make later entries bad.

It knows nothing of logs, or of what entries mean.

Example:
    >>> chain = Chain(NO_KEYS)
    >>> chain.take(0, b"garbage").trouble
    'it is no signed text: one line, its digest, and at most one signature'
"""

from __future__ import annotations

from typing import NamedTuple

from recdistill.errors import DecodeError
from recdistill.ledger.entry import START, Entry, read_entry
from recdistill.ledger.keys import NO_KEYS, Keys
from recdistill.ledger.note import digest, read

ENTRY = "entry"
"""The kind of text of an entry. It goes into the signature."""

__all__ = ["ENTRY", "NO_KEYS", "Chain", "Link"]


class Link(NamedTuple):
    """What the topic has at one offset.

    Attributes:
        offset: The offset.
        digest: Digest of its bytes.
        entry: The entry. None: it cannot be read.
        key: Id of the key that signed it. Empty: it is not signed.
        trouble: What is wrong with it. Empty: nothing.
        counts: Whether it may be believed: it is as its writer wrote it, and its number is higher than all before it.
    """

    offset: int
    digest: str
    entry: Entry | None
    key: str
    trouble: str
    counts: bool


class Chain:
    """Takes entries in their order.

    Args:
        keys: The trusted keys.

    Attributes:
        n: Number of the newest entry that counts; 0: there is none.
        head: Digest of the last message, even if it cannot be read.
        digests: The digest of each entry that counts, by its number.
        signed: Whether a trusted key has signed an entry. After that, every entry needs a signature.
        unsigned: How many entries that count have no signature.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.n, self.head = 0, START
        self.digests: dict[int, str] = {}
        self.signed, self.unsigned = False, 0

    def noted(self) -> str:
        """The head in the form in which others note it: number and digest. Empty: there is no entry."""
        return f"{self.n}:{self.digests[self.n]}" if self.n else ""

    def take(self, offset: int, value: bytes | None) -> Link:
        """Takes the next message, and checks it."""
        own, before = digest(value), self.head
        self.head = own
        try:
            note = read(ENTRY, value, self._keys.verify)
            entry = read_entry(note.payload)
        except DecodeError as e:
            return Link(offset=offset, digest=own, entry=None, key="", trouble=str(e), counts=False)
        trouble, counts = self._place(entry, before)
        if not note.key and (self._keys.always or self.signed):
            trouble = "it has no signature, and entries are signed here: somebody without a key wrote it"
            counts = False
        if counts:
            self.n, self.digests[entry.n] = entry.n, own
            self.signed |= bool(note.key) and note.key in self._keys.names
            self.unsigned += not note.key
        return Link(offset=offset, digest=own, entry=entry, key=note.key, trouble=trouble, counts=counts)

    def _place(self, entry: Entry, before: str) -> tuple[str, bool]:
        """What is wrong with the place of an entry, and whether the entry may still be believed."""
        if entry.n <= self.n:
            return f"entry {entry.n} comes after entry {self.n}: it was put there again, or is out of its order", False
        if entry.n != self.n + 1:
            gone = f"entry {self.n + 1} is" if entry.n == self.n + 2 else f"entries {self.n + 1} to {entry.n - 1} are"
            return f"{gone} missing before entry {entry.n}", True
        if entry.prev != before:
            what = f"entry {entry.n - 1}" if entry.n > 1 else "what stands"
            return f"entry {entry.n} does not follow {what} before it: one of the two was changed", True
        return "", True
