"""Carries out what the policy decides: it promotes a version, and frees the space of old bundles.

It knows nothing of how a version was judged.

Example:
    >>> GRACE_S
    3600.0
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from recdistill.bundle import Bundle
from recdistill.errors import Refused
from recdistill.registry import CHAMPION, Evidence, LedgerEntry, Registry
from recdistill.release.policy import may_promote, to_drop

log_ = logging.getLogger(__name__)

GRACE_S: Final = 3600.0
"""A file that no bundle names is kept this long. It is longer than any upload or fetch."""


def promote(
    registry: Registry, number: str, *, expect: str | None, who: str, why: str, evidence: Evidence | None = None
) -> LedgerEntry:
    """Makes a version the champion, if its evidence allows it and the champion is still the expected one.

    Args:
        registry: Where the version is.
        number: The version.
        expect: Number of the champion when the decision was made. None: there was none.
        who: Who promotes, for the ledger.
        why: The reason, for the ledger and the version.
        evidence: The evidence to use. None: the evidence that was published with the version.

    Raises:
        Refused: The policy does not allow it, or the champion is another one by now; `reasons` says why.
        RegistryError: The registry does not answer, or there is no such version.
    """
    content_hash = registry.resolve(number).content_hash
    verdict = may_promote(evidence or registry.evidence(number), content_hash, number)
    if not verdict.allowed:
        raise Refused(verdict.reasons)
    return registry.promote(number, expect=expect, who=who, why=why)


def take_champion(registry: Registry, into: Path, *, but: str) -> Bundle | None:
    """The bundle that serves now, to judge another one beside it.

    Args:
        registry: The registry that holds it.
        into: The folder for its files.
        but: Content hash of the bundle that is judged.

    Returns:
        None where nothing serves, where it is the judged bundle itself, or where its files were given back.

    Raises:
        RegistryError: The registry does not answer.
        BundleError: Its files are damaged.
    """
    found = registry.find(CHAMPION)
    if found is None or found.content_hash == but or not registry.holds(found.content_hash):
        return None
    return registry.take(found.content_hash, into)


def give_back(registry: Registry, keep: int, *, grace_s: float = GRACE_S) -> int:
    """Drops the bundles that the rule does not keep, and deletes the files of bundles that were dropped a while ago.

    Only one process at a time may do this: the promoter.

    Args:
        registry: The registry that holds the bundles.
        keep: See `policy.to_drop`.
        grace_s: How long the files of a dropped bundle stay.

    Returns:
        Bytes of the store that were freed now.

    Raises:
        RegistryError: The registry does not answer.
    """
    dropped = to_drop(registry.held(), keep)
    for content_hash in dropped:
        log_.info("bundle %s is not kept any longer (registry.keep = %d)", content_hash[:12], keep)
    freed = registry.give_back(dropped, grace_s=grace_s)
    if freed:
        log_.info("%d bytes of old bundles were freed", freed)
    return freed
