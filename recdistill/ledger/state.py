"""What the entries of one model say together: who is champion, who served before, what was judged, what is waived.

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
from typing import Any, Literal, NamedTuple

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

    `n` is the entry that says it. `after` is None where somebody took the alias away.
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
    """That a content was judged: in which entry, when, whether it passed, and by which policy (its digest).

    `allotted`, `looks` and `began_at` say what it has spent of the error that is allowed for a year. `verdict`: passed,
    refused, or not enough evidence. `figures`: mean, and the ends of its interval where they are known.
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
    figures: Mapping[str, tuple[float, ...]] = MappingProxyType({})


class Waiver(NamedTuple):
    """That a version may pass in spite of its verdict."""

    n: int
    content_hash: str
    until: str
    who: str
    why: str


class State:
    """What the entries of one model say together.

    Attributes:
        champion: Number of the version that the ledger made champion; None: nobody.
        champion_hash: Its content hash.
        decided: Number and content hash of the last version that a promotion or a rollback made champion: what serves
            where nobody follows an alias that was moved by hand.
        open: The last change, while its alias may not be set yet; None: it is settled.
        changes: Every change of champion, oldest first.
        withdrawn: Versions that were rolled back from, and by which change. They never come back by a rollback.
        judged: Every judgement, oldest first.
        waivers: Every waiver, oldest first.
        policy: What the judge asks for since the last judgement; None: not known.
        lost: What was noted elsewhere and is not here, as `lost` entries say it.
        steps: Steps of an older version's ledger that were brought over.
    """

    def __init__(self) -> None:
        self.champion: str | None = None
        self.champion_hash = ""
        self.decided: tuple[str, str] | None = None
        self.open: Entry | None = None
        self.changes: list[Change] = []
        self.withdrawn: dict[str, Change] = {}
        self.judged: list[Judged] = []
        self.waivers: list[Waiver] = []
        self.policy: dict[str, Any] | None = None
        self.lost: set[str] = set()
        self.steps: set[int] = set()
        self._former: list[Change] = []
        self._reached: dict[int, str] = {}  # by waiver: the latest time of an entry since; clocks may go back

    def apply(self, offset: int, entry: Entry) -> None:
        """Takes in an entry that may be believed."""
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
                    allotted=float(said.get("allotted", 0.0)),
                    looks=int(said.get("looks", 1)),
                    began_at=str(said.get("began_at") or entry.at),
                    verdict=str(said.get("verdict") or ("passed" if facts.get("passed") is True else "refused")),
                    figures=_figures(facts.get("figures"), said.get("metrics")),
                )
            )
        elif entry.kind == "policy" and isinstance(found := entry.facts.get("after"), dict):
            self.policy = found
        elif entry.kind == "waived":
            until = str(entry.facts.get("until", ""))
            self.waivers.append(
                Waiver(n=entry.n, content_hash=entry.content_hash, until=until, who=entry.who, why=entry.why)
            )
            self._reached[entry.n] = entry.at
        elif entry.kind == "lost":
            self.lost.add(str(entry.facts.get("head", "")))

    def last(self, content_hash: str) -> Judged | None:
        """The newest judgement of a content."""
        return next((one for one in reversed(self.judged) if one.content_hash == content_hash), None)

    def tries(self, since: str = "", *, content_hash: str = "") -> int:
        """How many judgements there were: what an error that is allowed for a year is spent on.

        Args:
            since: From this moment on, in ISO 8601 with the zone of the entries (UTC).
            content_hash: Only those of this content: how often it was looked at.
        """
        return sum(one.at >= since and content_hash in ("", one.content_hash) for one in self.judged)

    def waiver(self, content_hash: str, now: str) -> Waiver | None:
        """The waiver of a content that holds at a moment.

        One that was over for a later entry stays over, also where the clock goes back.
        """
        held = (
            one
            for one in reversed(self.waivers)
            if one.content_hash == content_hash and one.until > max(now, self._reached.get(one.n, ""))
        )
        return next(held, None)

    def backwards(self) -> list[str]:
        """Versions that were champion before the present one, newest first, without those that were withdrawn."""
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
            self.withdrawn.pop(change.after, None)  # a person, or the gate, has decided anew

    def _imported(self, entry: Entry) -> None:
        """A step of an older version's ledger. It came before all changes that are here, whenever it was brought."""
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
    """The figures of a judgement; of one that an older version wrote, the mean of what was kept."""
    found = said if isinstance(said, dict) else {}
    if not found and isinstance(means, dict) and "retention" in means:
        found = {"kept": [means["retention"]]}
    return {
        str(name): tuple(float(value) for value in values)
        for name, values in found.items()
        if isinstance(values, list) and len(values) in (1, 3) and all(_is_number(value) for value in values)
    }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
