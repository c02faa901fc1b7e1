"""Carries out what the policy decides: promote a version, give the space of old bundles back.

It knows nothing of how a version was judged.

Example:
    >>> GRACE_S
    3600.0
"""

from __future__ import annotations

import logging
from typing import Final

from recdistill.errors import Refused
from recdistill.registry import Evidence, LedgerEntry, Registry
from recdistill.release.policy import may_promote, to_drop

log_ = logging.getLogger(__name__)

GRACE_S: Final = 3600.0
"""A file that no bundle names stays so long: longer than any upload or fetch takes."""


def promote(
    registry: Registry, number: str, *, expect: str | None, who: str, why: str, evidence: Evidence | None = None
) -> LedgerEntry:
    """Makes a version the champion, when its evidence lets it through and the champion is still the expected one.

    Args:
        registry: Where the version is.
        number: The version.
        expect: Number of the champion that the decision was made against; None when there was none.
        who: Whom the ledger names.
        why: The reason, for the ledger and the version.
        evidence: Findings to rely on; those that were published with the version when None.

    Raises:
        Refused: The policy or the fence did not let it through; `reasons` says why.
        RegistryError: The registry does not answer, or there is no such version.
    """
    content_hash = registry.resolve(number).content_hash
    verdict = may_promote(evidence or registry.evidence(number), content_hash, number)
    if not verdict.allowed:
        raise Refused(verdict.reasons)
    return registry.promote(number, expect=expect, who=who, why=why)


def give_back(registry: Registry, keep: int, *, grace_s: float = GRACE_S) -> int:
    """Drops the bundles that the rule does not keep, and gives back the space of what was dropped a while ago.

    One process at a time may do this: the promoter.

    Args:
        registry: Whose bundles.
        keep: See `policy.to_drop`.
        grace_s: How long the files of a dropped bundle stay.

    Returns:
        Bytes of the store that were given back now.

    Raises:
        RegistryError: The registry does not answer.
    """
    dropped = to_drop(registry.held(), keep)
    for content_hash in dropped:
        log_.info("bundle %s is not kept any longer (registry.keep = %d)", content_hash[:12], keep)
    freed = registry.give_back(dropped, grace_s=grace_s)
    if freed:
        log_.info("%d bytes of bundles were given back", freed)
    return freed
