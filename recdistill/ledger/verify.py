"""Checks a whole ledger: no entry was changed, moved or added, and none is missing.

The chain itself shows entries that were changed, removed, moved or added. It cannot show that entries were cut off at
its end, or that somebody wrote a new chain. For that, heads are noted in other places: in tags of versions, and in
announcements of bundles.

It knows nothing of MLflow, nor of where heads are noted.

Example:
    >>> check_head("version 3", "2:" + "ab" * 32, n=1, digests={})
    'version 3 notes entry 2, and the ledger ends at entry 1: entries were cut off, or this is another log'
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from recdistill.ledger.topic import Ledger


class Verified(Struct, frozen=True, kw_only=True):
    """The result of a check.

    Attributes:
        entries: How many entries count.
        unsigned: How many of them have no signature.
        heads: How many noted heads were compared.
        troubles: What is wrong: one sentence for each fault.
        open: What this ledger cannot show: one sentence for each gap.
    """

    entries: int
    unsigned: int
    heads: int
    troubles: list[str]
    open: list[str]


def verify(ledger: Ledger, noted: Iterable[tuple[str, str]]) -> Verified:
    """Checks a whole ledger.

    Args:
        ledger: The ledger. It is brought up to date.
        noted: Heads that were noted in other places: the place, and the head.

    Raises:
        StreamError: The log cannot be read.
    """
    ledger.look()
    chain, troubles = ledger.chain, [f"ledger/0 offset {at}: {why}" for at, why in ledger.troubles]
    heads = [(where, head) for where, head in noted if head]
    found = (check_head(where, head, n=chain.n, digests=chain.digests) for where, head in heads)
    troubles += dict.fromkeys(sentence for sentence in found if sentence)
    return Verified(
        entries=len(chain.digests),
        unsigned=chain.unsigned,
        heads=len(heads),
        troubles=troubles,
        open=unprotected(ledger, heads=len(heads)),
    )


def check_head(where: str, head: str, *, n: int, digests: Mapping[int, str]) -> str:
    """What is wrong with a head that was noted. Empty: nothing."""
    number, _, digest = head.partition(":")
    if not (number.isascii() and number.isdecimal() and len(number) < 12):
        return f"{where} notes {head[:80]!r}, which is not a head of a ledger"
    if int(number) > n:
        return (
            f"{where} notes entry {number}, and the ledger ends at entry {n}: entries were cut off, or this is another "
            "log"
        )
    if digests.get(int(number)) != digest:
        return f"{where} notes another entry {number} than the one in the ledger: one of the two was changed"
    return ""


def unprotected(ledger: Ledger, *, heads: int) -> list[str]:
    """The kinds of changes that this ledger cannot show, and why: one sentence for each."""
    found = []
    if not ledger.keys.demanded:
        found.append(
            "no key is trusted here: anybody who can write to the log can write an entry, or figures, in another's "
            "name; `recdistill keys make NAME` makes a key, and later entries are signed"
        )
    elif not ledger.keys.signs:
        found.append("no key signs here: what this machine writes will not be believed where signatures are demanded")
    if not heads and ledger.chain.n:
        found.append("no head of this ledger is noted anywhere yet: nobody would see if its last entries were cut off")
    return found
