"""Does what the policy decides: promotes a version, and frees the space of old bundles.

It knows nothing of how a version was judged.

Example:
    >>> GRACE_S
    3600.0
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final, NamedTuple

from recdistill.bundle import Bundle
from recdistill.errors import BundleError, Refused, RegistryError
from recdistill.ledger import Change, Entry, Ledger
from recdistill.registry import CHAMPION, Registry
from recdistill.release.champion import as_writer, change
from recdistill.release.evidence import Policy, why_not
from recdistill.release.policy import to_drop

log_ = logging.getLogger(__name__)

GRACE_S: Final = 3600.0
"""A file that no bundle names any more is kept for so many seconds. Every upload or fetch takes less."""


def promote(
    registry: Registry,
    ledger: Ledger,
    number: str,
    *,
    expect: str | None,
    who: str,
    why: str,
    policy: Policy | None = None,
) -> Change:
    """Makes a version the champion, if its evidence allows it and the champion is still the expected one.

    Args:
        registry: Where the version is.
        ledger: Where its evidence is, and where the change is written.
        number: The version.
        expect: Number of the champion when the decision was made. None: there was none.
        who: Who promotes, for the ledger.
        why: The reason, for the ledger and the version.
        policy: What the gate asks for. Evidence by another policy does not count. None: evidence by any policy counts.

    Raises:
        Refused: The evidence does not allow it, or the champion is another one by now; `reasons` says why.
        RegistryError: The registry does not answer, or there is no such version.
        StreamError: The log does not answer.
    """
    content_hash = registry.resolve(number).content_hash
    reasons, _ = why_not(registry, ledger, number, content_hash, policy=policy)
    if reasons:
        said = {"who": who, "why": "; ".join(reasons)[:4000], "version": number, "content_hash": content_hash}
        as_writer(ledger, lambda writer: writer.append("refused", **said, facts={"asked_for": why}))
        raise Refused(reasons)
    return change(registry, ledger, number, content_hash, expect=expect, who=who, why=why)


def waive(registry: Registry, ledger: Ledger, number: str, *, until: str, who: str, why: str) -> Entry:
    """Allows a version to be promoted in spite of its verdict, until a moment.

    Args:
        registry: Where the version is.
        ledger: Where the permission is written.
        number: The version.
        until: The moment, in ISO 8601 and UTC.
        who: Who takes the responsibility.
        why: The reason.

    Raises:
        RegistryError: The registry does not answer, or there is no such version.
        StreamError: The log does not answer.
    """
    content_hash = registry.resolve(number).content_hash
    said = {"who": who, "why": why, "version": number, "content_hash": content_hash}
    return as_writer(ledger, lambda writer: writer.append("waived", **said, facts={"until": until}))


def take_champion(registry: Registry, into: Path, *, but: str) -> Bundle | None:
    """The bundle that serves now. Another bundle is compared with it.

    Args:
        registry: The registry that holds it.
        into: The folder for its files.
        but: Content hash of the bundle that is judged.

    Returns:
        The bundle. None: there is no champion, or it is the judged bundle itself, or its files were deleted.

    Raises:
        RegistryError: The registry does not answer, or the champion's files there are damaged. That is no fault of the
            judged bundle, which must not be given up for it, nor be judged as if there were no champion.
    """
    number = registry.aliases().get(CHAMPION)
    if number is None or not registry.has_bundle(number):  # somebody may have set the alias to anything
        return None
    content_hash = registry.resolve(number).content_hash
    if content_hash == but or not registry.holds(content_hash):
        return None
    try:
        return registry.take(content_hash, into)
    except BundleError as e:
        raise RegistryError(
            f"nothing can be judged beside the champion, version {number}, whose files in the store are damaged: {e}; "
            "go back to another version with `recdistill rollback`, or send its bundle again with `recdistill publish`"
        ) from e


class Pinned(NamedTuple):
    """A version that the policy names for comparison.

    Args:
        name: Its number, or an alias.
        bundle: The bundle of this version. None: it cannot be compared.
        why: Why it cannot be compared.
    """

    name: str
    bundle: Bundle | None
    why: str = ""


def take_pinned(registry: Registry, name: str, into: Path, *, but: str) -> Pinned | None:
    """The version that the policy names. Another bundle is compared with it.

    Args:
        registry: The registry that holds it.
        name: Its number, or an alias. Empty: the policy names none.
        into: The folder for its files.
        but: Content hash of the bundle that is judged.

    Raises:
        RegistryError: The registry does not answer.
    """
    if not name:
        return None
    found = registry.find(name)
    if found is None:
        return Pinned(name, None, "the registry has no such version; correct gate.pinned")
    if found.content_hash == but:
        return Pinned(name, None, "it is this very bundle")
    if not registry.holds(found.content_hash):
        return Pinned(name, None, "its files were given back (registry.keep); give it an alias, and they stay")
    try:
        return Pinned(name, registry.take(found.content_hash, into))
    except BundleError as e:
        return Pinned(name, None, str(e))


def give_back(registry: Registry, ledger: Ledger, keep: int, *, grace_s: float = GRACE_S) -> int:
    """Drops the bundles that the rule does not keep, and deletes the files of bundles that were dropped a while ago.

    Only one process at a time may do this: the promoter.

    Args:
        registry: The registry that holds the bundles.
        ledger: Which versions were promoted, and when.
        keep: See `policy.to_drop`.
        grace_s: For how many seconds the files of a dropped bundle stay.

    Returns:
        Bytes of the store that were freed now.

    Raises:
        RegistryError: The registry does not answer.
    """
    dropped = to_drop(registry.held(ledger.look().promoted()), keep)
    for content_hash in dropped:
        log_.info("bundle %s is not kept any longer (registry.keep = %d)", content_hash[:12], keep)
    freed = registry.give_back(dropped, grace_s=grace_s)
    if freed:
        log_.info("%d bytes of old bundles were freed", freed)
    return freed
