"""Writes the judge's evidence into the ledger when a version is published, and checks it before a promotion.

MLflow shows the evidence, too, but everybody who may write to MLflow can change it there. So a promotion needs the
entry of the ledger. The entry must be about this content and this policy, and signed where signatures are demanded.

It knows nothing of how anything was measured.

Example:
    >>> weaker({"retention": 0.95, "parity": 1e-4}, {"retention": 0.9, "parity": 1e-5})
    ['retention: 0.9 is asked, 0.95 was asked before']
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from recdistill.errors import DataError
from recdistill.judge import Judgement, to_json
from recdistill.ledger import Ledger, Writer, now
from recdistill.registry import Evidence, Registry
from recdistill.release.history import figures_of
from recdistill.release.policy import may_promote

Policy = Mapping[str, Any]
"""What the gate asks for, by the names of its settings."""

NONE: Final[Policy] = {}

LESS_IS_WEAKER: Final = frozenset(
    {"retention", "champion", "not_below_champion", "tries_a_year", "beats_popularity", "device", "min_lists"}
)
MORE_IS_WEAKER: Final = frozenset({"error_a_year", "parity"})
NONE_OR_MORE_IS_WEAKER: Final = frozenset({"slice_loss", "size_ratio", "most_bytes", "processor_ms", "fresh_s"})
"""Limits that 0 turns off."""


def policy_of(asked: object) -> dict[str, Any]:
    """What a gate asks for, as plain values."""
    found = msgspec.to_builtins(asked)
    if not isinstance(found, dict):
        raise DataError(f"a policy has names and values, not {type(asked).__name__}")
    return found


def policy_digest(policy: Policy) -> str:
    """SHA-256 of a policy: of its names and values, sorted by name."""
    return hashlib.sha256(msgspec.json.encode(dict(policy), order="sorted")).hexdigest()


def weaker(before: Policy, after: Policy) -> list[str]:
    """Where a policy asks for less than the one before: one sentence for each setting."""
    found = []
    for name, value in after.items():
        was = before.get(name, value)
        less = name in LESS_IS_WEAKER and value < was
        more = name in MORE_IS_WEAKER and value > was
        limit = name in NONE_OR_MORE_IS_WEAKER and bool(was) and (not value or value > was)
        fewer = isinstance(was, list) and isinstance(value, list) and any(one not in value for one in was)
        if less or more or limit or fewer:
            found.append(f"{name}: {value} is asked, {was} was asked before")
    return found


def note_judged(
    writer: Writer,
    ledger: Ledger,
    judgement: Judgement,
    evidence: Evidence,
    *,
    policy: Policy,
    who: str,
    promotes: bool = False,
) -> None:
    """Writes what the judge found. If the policy has changed, an entry about that comes first.

    Args:
        writer: Of the ledger.
        ledger: Where it is written.
        judgement: The results of the judge.
        evidence: The verdict on them.
        policy: What the gate asked for.
        who: Who judged.
        promotes: Whether who judged promotes what passes.

    Raises:
        Fenced: Another process is the writer now. If all is written again, nothing counts twice.
        StreamError: The log cannot be written.
    """
    before = ledger.state.policy
    if before != dict(policy):
        less = [] if before is None else weaker(before, policy)
        why = "the policy asks for less: " + "; ".join(less) if less else "the policy is another one"
        facts = {"after": dict(policy), **({} if before is None else {"before": before}), "weaker": less}
        writer.append("policy", who=who, why="the first policy" if before is None else why, facts=facts)
    writer.append(
        "judged",
        who=who,
        why="; ".join(evidence.reasons)[:4000],
        content_hash=evidence.content_hash,
        facts={
            "passed": evidence.passed,
            "policy_digest": policy_digest(policy),
            "part": msgspec.to_builtins(judgement.part),
            "evidence": msgspec.to_builtins(evidence),
            "figures": figures_of(judgement),
            "judgement": hashlib.sha256(to_json(judgement)).hexdigest(),
            **({"promotes": True} if promotes else {}),
        },
    )


def why_not(
    registry: Registry, ledger: Ledger, number: str, content_hash: str, *, policy: Policy | None
) -> tuple[list[str], str]:
    """Why a version may not be promoted, or what allows it.

    Args:
        registry: Where the version is.
        ledger: Where the judge's entry about it is. It is brought up to date.
        number: The version.
        content_hash: Its content hash.
        policy: What the gate asks for now. None: the policy by which it was judged is good enough.

    Returns:
        The reasons against it, and a sentence about what allows it. There are no reasons where it may be promoted.

    Raises:
        RegistryError: The registry does not answer.
        StreamError: The log cannot be read.
    """
    state = ledger.look()
    reasons, allowed = _found(registry, ledger, number, content_hash, policy)
    if reasons and (waiver := state.waiver(content_hash, now())) is not None:
        if not ledger.keys.demanded or _signed(ledger, waiver.offset):
            return [], f"entry {waiver.n} of the ledger lets it pass until {waiver.until}: {waiver.why} ({waiver.who})"
        let = f"entry {waiver.n} of the ledger, which lets version {number} pass"
        reasons = [*reasons, f"{let}, is not signed; write it again"]
    return reasons, allowed


def _signed(ledger: Ledger, offset: int) -> bool:
    link = ledger.read(offset)
    return link is not None and bool(link.key)


def _found(
    registry: Registry, ledger: Ledger, number: str, content_hash: str, policy: Policy | None
) -> tuple[list[str], str]:
    again = "judge it again (`recdistill publish`)"
    shown = registry.tag(number, "evidence")
    judged = ledger.state.last(content_hash)
    if judged is None:
        if shown is None:
            return may_promote(None, content_hash, number).reasons, ""
        return [f"the ledger does not say that version {number} was judged, whatever MLflow shows; {again}"], ""
    entry = ledger.read(judged.offset)
    if entry is None or entry.entry is None:
        return [f"entry {judged.n} of the ledger, which judges version {number}, cannot be read now; {again}"], ""
    try:
        evidence = msgspec.convert(entry.entry.facts.get("evidence"), Evidence)
    except msgspec.ValidationError:
        who = f"entry {judged.n} of the ledger, which judges version {number}"
        return [f"{who}, holds no evidence that can be read; {again}"], ""
    reasons = []
    if ledger.keys.demanded and not entry.key:
        reasons.append(f"entry {judged.n} of the ledger, which judges version {number}, is not signed; {again}")
    if shown is not None and not _same(shown, evidence):
        reasons.append(
            f"the evidence that MLflow shows for version {number} is not what the judge wrote in entry {judged.n} of "
            f"the ledger: one of the two was changed; {again}"
        )
    if policy is not None and judged.policy != policy_digest(policy):
        reasons.append(f"version {number} was judged by another policy (entry {judged.n} of the ledger); {again}")
    verdict = may_promote(evidence, content_hash, number)
    reasons += [] if verdict.allowed else verdict.reasons
    return reasons, f"judged in entry {judged.n} of the ledger"


def _same(shown: str, evidence: Evidence) -> bool:
    try:
        return msgspec.json.decode(shown, type=Evidence) == evidence
    except msgspec.MsgspecError:
        return False
