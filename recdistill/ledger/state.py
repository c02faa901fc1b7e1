"""The state of one model, from all its entries: the champion, earlier champions, judgements and waivers.

It knows nothing of logs, keys, or MLflow.

Example:
    >>> state = State()
    >>> say = dict(prev="0" * 64, at="2026-01-02T03:04:05+00:00", model="shop", who="ada")
    >>> state.apply(0, Entry(n=1, kind="promoted", version="1", **say))
    >>> state.apply(1, Entry(n=2, kind="promoted", version="2", before="1", **say))
    >>> state.apply(2, Entry(n=3, kind="rolled-back", version="1", before="2", **say))
    >>> state.champion, list(state.withdrawn), [one.kind for one in state.changes]
    ('1', ['2'], ['promote', 'promote', 'rollback'])
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeGuard

from msgspec import Struct

from recdistill.ledger.entry import CLAIMS, Entry

_KINDS: dict[str, Literal["promote", "rollback", "return", "by hand"]] = {
    "promoted": "promote",
    "rolled-back": "rollback",
    "returned": "return",
    "moved": "by hand",
}


class Change(Struct, frozen=True, kw_only=True):
    """One change of champion: from `before` (None: there was none) to `after`, both version numbers.

    `n` is the number of its entry. `after` is None where somebody removed the alias.
    """

    step: int
    kind: Literal["promote", "rollback", "return", "by hand"]
    before: str | None
    after: str | None
    content_hash: str
    who: str
    why: str
    at: str
    n: int


class Judged(NamedTuple):
    """A judgement of a content: its entry, when it was made, whether it passed, and the digest of its policy.

    `allotted`, `looks` and `began_at` say how much of the yearly error it has used. `verdict`: passed, refused, or not
    enough evidence. `promotes`: whether its maker promotes what passes. `figures`: a mean, and the two ends of its
    interval if they are known.
    """

    n: int
    offset: int
    at: str
    content_hash: str
    passed: bool
    policy: str
    allotted: float
    looks: int
    began_at: str
    verdict: str = ""
    promotes: bool = False
    figures: Mapping[str, tuple[float, ...]] = MappingProxyType({})


class Waiver(NamedTuple):
    """A waiver: a version may be promoted in spite of its verdict, until a moment. `offset`: that of its entry."""

    n: int
    content_hash: str
    until: str
    who: str
    why: str
    offset: int


class State:
    """The state of one model, from all its entries.

    Attributes:
        champion: Number of the version that is champion by the ledger; None: there is none.
        champion_hash: Its content hash.
        decided: Number and content hash of the last version that became champion by a promotion or a rollback. It
            serves where an alias that somebody moved in MLflow is not followed.
        open: The last change, if its alias is perhaps not set yet. None: the alias is set.
        changes: Every change of champion, the oldest first.
        withdrawn: Versions that a rollback replaced, each with that change. A rollback never brings them back.
        judged: Every judgement, the oldest first.
        refused: The number of the last entry that refused a promotion, by content hash.
        waivers: Every waiver, the oldest first.
        policy: The policy of the last judgement; None: not known.
        lost: Heads that were noted in another place and are not in this ledger, from the `lost` entries.
        steps: The steps that were copied from the ledger of an older version of recdistill.
    """

    def __init__(self) -> None:
        self.champion: str | None = None
        self.champion_hash = ""
        self.decided: tuple[str, str] | None = None
        self.open: Entry | None = None
        self.changes: list[Change] = []
        self.withdrawn: dict[str, Change] = {}
        self.judged: list[Judged] = []
        self.refused: dict[str, int] = {}
        self.waivers: list[Waiver] = []
        self.policy: dict[str, Any] | None = None
        self.lost: set[str] = set()
        self.steps: set[int] = set()
        self._former: list[Change] = []
        self._reached: dict[int, str] = {}  # by waiver: the latest time of an entry after it; a clock may be set back

    def apply(self, offset: int, entry: Entry) -> None:
        """Takes in an entry. It must be one that counts (`Link.counts`)."""
        for n, at in self._reached.items():
            self._reached[n] = max(at, entry.at)
        if entry.kind in _KINDS:
            self._changes(entry)
        elif entry.kind == "settled":
            self.open = None
        elif entry.kind == "imported":
            self._imported(entry)
        elif entry.kind == "judged":
            facts = entry.facts
            evidence = facts.get("evidence")
            said: dict[str, Any] = evidence if isinstance(evidence, dict) else {}
            self.judged.append(
                Judged(
                    n=entry.n,
                    offset=offset,
                    at=entry.at,
                    content_hash=entry.content_hash,
                    passed=facts.get("passed") is True,
                    policy=str(facts.get("policy_digest", "")),
                    allotted=_number(said.get("allotted"), least=0.0),
                    looks=int(_number(said.get("looks"), least=1.0)),
                    began_at=str(said.get("began_at") or entry.at),
                    verdict=str(said.get("verdict") or ("passed" if facts.get("passed") is True else "refused")),
                    promotes=facts.get("promotes") is True,
                    figures=_figures(facts.get("figures"), said.get("metrics")),
                )
            )
        elif entry.kind == "policy" and isinstance(found := entry.facts.get("after"), dict):
            self.policy = found
        elif entry.kind == "refused":
            self.refused[entry.content_hash] = entry.n
        elif entry.kind == "waived":
            until = str(entry.facts.get("until", ""))
            self.waivers.append(
                Waiver(
                    n=entry.n,
                    content_hash=entry.content_hash,
                    until=until,
                    who=entry.who,
                    why=entry.why,
                    offset=offset,
                )
            )
            self._reached[entry.n] = entry.at
        elif entry.kind == "lost":
            self.lost.add(str(entry.facts.get("head", "")))

    def last(self, content_hash: str) -> Judged | None:
        """The newest judgement of a content."""
        return next((one for one in reversed(self.judged) if one.content_hash == content_hash), None)

    def undecided(self, content_hash: str) -> bool:
        """Whether a content passed, was to be promoted, and nothing came of it: its promoter ended before."""
        judged = self.last(content_hash)
        if judged is None or not (judged.passed and judged.promotes):
            return False
        return self.refused.get(content_hash, 0) < judged.n and all(one.n < judged.n for one in self.changes)

    def tries(self, since: str = "", *, content_hash: str = "") -> int:
        """How many judgements there were. Each uses a part of the yearly error.

        Args:
            since: Count from this moment, in ISO 8601 and UTC.
            content_hash: Count only judgements of this content. Empty: of all.
        """
        return sum(one.at >= since and content_hash in ("", one.content_hash) for one in self.judged)

    def waiver(self, content_hash: str, now: str) -> Waiver | None:
        """The waiver of a content that is valid at a moment.

        A waiver that was over at the time of a later entry stays over, even if a clock is set back.
        """
        held = (
            one
            for one in reversed(self.waivers)
            if one.content_hash == content_hash and one.until > max(now, self._reached.get(one.n, ""))
        )
        return next(held, None)

    def backwards(self) -> list[str]:
        """Versions that were champion before the present one, the newest first. Withdrawn versions are left out."""
        served = [self.champion, *(one.after for one in reversed(self.changes))]
        served += [one.before for one in reversed(self.changes)]
        found = dict.fromkeys(number for number in served if number)
        return [number for number in found if number != self.champion and number not in self.withdrawn]

    def promoted(self) -> dict[str, int]:
        """The last step at which each version became the champion, by its number."""
        return {one.after: one.step for one in self.changes if one.after}

    def _changes(self, entry: Entry) -> None:
        change = Change(
            step=len(self.changes) + 1,
            kind=_KINDS[entry.kind],
            before=entry.before or None,
            after=entry.version or None,
            content_hash=entry.content_hash,
            who=entry.who,
            why=entry.why,
            at=entry.at,
            n=entry.n,
        )
        self.changes.append(change)
        self.champion, self.champion_hash = change.after, change.content_hash
        self.open = None
        if entry.kind in CLAIMS:
            self.open = entry
            self.decided = entry.version, entry.content_hash
        if change.kind == "rollback" and change.before:
            self.withdrawn[change.before] = change
        elif change.kind == "promote" and change.after:
            self.withdrawn.pop(change.after, None)  # a person or the gate has decided again

    def _imported(self, entry: Entry) -> None:
        """Takes a step from an older version's ledger. It comes before all changes of this ledger, whenever copied."""
        step = entry.facts.get("step")
        if not isinstance(step, int) or step in self.steps:
            return
        self.steps.add(step)
        change = Change(
            step=step,
            kind="rollback" if entry.facts.get("kind") == "rollback" else "promote",
            before=entry.before or None,
            after=entry.version or None,
            content_hash=entry.content_hash,
            who=str(entry.facts.get("who", "")),
            why=entry.why,
            at=str(entry.facts.get("at", "")),
            n=entry.n,
        )
        here = self.changes[len(self._former) :]
        self._former = sorted([*self._former, change], key=lambda one: one.step)
        both = [*self._former, *here]
        self.changes = [_at(one, place) for place, one in enumerate(both, 1)]
        if not here:
            self.champion, self.champion_hash = change.after, change.content_hash
            self.decided = (change.after, change.content_hash) if change.after else None
        if change.kind == "rollback" and change.before and not any(one.after == change.before for one in here):
            self.withdrawn.setdefault(change.before, change)
        elif change.kind == "promote" and change.after and not here:
            self.withdrawn.pop(change.after, None)


def _at(change: Change, step: int) -> Change:
    return Change(**{name: getattr(change, name) for name in Change.__struct_fields__} | {"step": step})


def _figures(said: object, means: object) -> dict[str, tuple[float, ...]]:
    """The figures of a judgement. If an older version wrote it, only the mean of what was kept is known."""
    found = said if isinstance(said, dict) else {}
    if not found and isinstance(means, dict) and "retention" in means:
        found = {"kept": [means["retention"]]}
    return {
        str(name): tuple(float(value) for value in values)
        for name, values in found.items()
        if isinstance(values, list) and len(values) in (1, 3) and all(_is_number(value) for value in values)
    }


def _is_number(value: object) -> TypeGuard[float]:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # JSON has whole numbers of any length
        return False


def _number(value: object, *, least: float) -> float:
    """A number of an entry. Somebody may have written anything there: what is no number, or is less, is the least."""
    return max(least, float(value)) if _is_number(value) else least
