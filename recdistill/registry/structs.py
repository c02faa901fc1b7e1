"""What the registry hands out and takes in: evidence, versions, references and former ledger entries.

It knows nothing of MLflow.

Example:
    >>> BundleRef(number="3", content_hash="0" * 64, uri="runs:/r/bundle").number
    '3'
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Evidence(Struct, frozen=True, kw_only=True):
    """What a judge found about one content hash.

    `judged` is the number of held-out lists. `lists` says in words which lists they were; empty where nobody said.
    `verdict`: passed, refused, or not enough evidence; empty in evidence of older versions. `allotted`: the error that
    this content was given, of what the policy allows in a year. `looks`: how often it was looked at. `began_at`: when
    it was looked at first; empty: at `made_at`.
    """

    content_hash: str
    passed: bool
    reasons: list[str]
    metrics: dict[str, float]
    made_at: str
    judged: int
    lists: str = ""
    verdict: str = ""
    allotted: float = 0.0
    looks: int = 1
    began_at: str = ""


class Version(Struct, frozen=True, kw_only=True):
    """One registered version. `passed` is None when it was never judged; `reason` is the last decision about it."""

    number: str
    content_hash: str
    aliases: list[str]
    reason: str
    created_at: str
    run_id: str
    passed: bool | None = None


class BundleRef(Struct, frozen=True, kw_only=True):
    """Where the bundle of a version lies."""

    number: str
    content_hash: str
    uri: str


class Held(Struct, frozen=True, kw_only=True):
    """A bundle that the registry holds. `number` is None until it is judged; `promoted` is its last step."""

    content_hash: str
    made_at: str
    number: str | None = None
    aliases: list[str] = []
    promoted: int | None = None


class FormerEntry(Struct, frozen=True, kw_only=True):
    """One step of an older version's ledger: from `before` (None: there was none) to `after`, both version numbers."""

    step: int
    kind: Literal["promote", "rollback"]
    before: str | None
    after: str
    content_hash: str
    who: str
    why: str
    at: str
    token: str = ""
