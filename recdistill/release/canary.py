"""Compares the users of a canary with those of the champion, and says what to do: promote, withdraw or wait.

The hash of a user decides the side, whoever gave the answer. If the canary fails, the champion answers its user. Such a
user still belongs to the canary and counts as a failure: without a click, and bad in every guard figure. The canary's
share of the users is known. So the trial also sees when users of the canary do not come at all.

It knows nothing of logs, nor of how a user is put on a side.

Example:
    >>> trial = CanaryTrial(share=0.5, alpha=0.05, margin=0.2, most_users=500)
    >>> for turn in range(1600):
    ...     trial.add(f"user-{turn}", on_canary=turn % 2 == 1, answered=True, clicked=turn % 4 > 1, short=False)
    >>> trial.verdict().say
    'promote'
"""

from __future__ import annotations

import hashlib
from typing import Final, Literal

from msgspec import Struct

from recdistill.judge import CanaryTold, GuardAt, Moment, Reason
from recdistill.release.betting import Bet, Compared, Figure
from recdistill.release.course import Course

MISSED: Final = 0.1
"""The canary's side may be smaller than its share by this part. If it is smaller still, users are missing."""

GUARD_MARGIN: Final = 0.02

MISSING: Final = "users are missing"

Do = Literal["promote", "withdraw", "wait"]


class CanaryVerdict(Struct, frozen=True):
    """What to do, and why: one sentence for each figure."""

    say: Do
    reasons: list[str]


class CanaryTrial:
    """Compares two sides. It may be read after each user.

    Args:
        share: Share of the users on the canary's side.
        alpha: The chance to promote a canary that is worse by the margin. It is also the chance to withdraw one that is
            as good as the champion.
        margin: The canary may have so many clicks fewer for each list.
        most_users: If there is no decision after so many users of the canary, it is withdrawn.
    """

    def __init__(self, *, share: float, alpha: float, margin: float, most_users: int) -> None:
        self._share, self._most, self._alpha = share, most_users, alpha
        clicks = Figure(name="clicks", margin=margin)
        short = Figure(name="short lists", margin=GUARD_MARGIN, more=False, guard=True)
        # Three tests may withdraw the canary, and each gets a third of alpha. To promote it, every figure must be good.
        self._figures = [Compared(figure, alpha=alpha / 3) for figure in (clicks, short)]
        fewest = share * (1 - MISSED)
        self._missing = Bet(alpha=alpha / 3, low=fewest - 1, high=fewest)
        self._fewest = fewest
        self._seen: set[bytes] = set()
        self.users = {"champion": 0, "canary": 0}
        self.failed = 0
        self._course = Course(self._moment)

    def add(self, user: str, *, on_canary: bool, answered: bool, clicked: bool, short: bool, at_us: int = 0) -> None:
        """Takes a list of a user. Only the first list of each user counts.

        Args:
            user: The user.
            on_canary: Whether the user is on the canary's side.
            answered: Whether the user's own side gave the answer.
            clicked: Whether the user liked an item of the list.
            short: Whether the list is shorter than usual.
            at_us: When the list was shown, in microseconds; 0: it is not known.
        """
        digest = hashlib.blake2b(user.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        if digest in self._seen:
            return
        self._seen.add(digest)
        self._missing.add(self._fewest - float(on_canary))
        self.users["canary" if on_canary else "champion"] += 1
        failed = on_canary and not answered
        self.failed += failed
        values = (float(clicked and not failed), float(short or failed))
        for figure, value in zip(self._figures, values, strict=True):
            if on_canary:
                figure.candidate(value)
            else:
                figure.champion(value)
        self._course.add(at_us)

    def told(self) -> CanaryTold:
        """What the test says by now, and its course so far."""
        say, reasons = self._found()
        return CanaryTold(
            share=self._share,
            margin=self._figures[0].figure.margin,
            alpha=self._alpha,
            most_users=self._most,
            say=say,
            reasons=reasons,
            users=dict(self.users),
            failed=self.failed,
            figures=[
                GuardAt(
                    name=one.figure.name,
                    champion=one.mean("champion"),
                    canary=one.mean("candidate"),
                    margin=one.figure.margin,
                    pairs=one.pairs,
                    says=one.says,
                    guard=one.figure.guard,
                )
                for one in self._figures
            ],
            wanted=[f"{one.figure.name}: well enough" for one in self._figures],
            feared=[*(f"{one.figure.name}: worse" for one in self._figures), MISSING],
            limit=self._missing.limit,
            missing=self._missing.sure,
            course=self._course.moments(),
        )

    def _moment(self, at_us: int) -> Moment:
        capital = {MISSING: self._missing.capital}
        for one in self._figures:
            capital[f"{one.figure.name}: well enough"] = one.better.capital
            capital[f"{one.figure.name}: worse"] = one.worse.capital
        clicks = self._figures[0]
        return Moment(
            users=sum(self.users.values()),
            at_us=at_us,
            capital=capital,
            clicks=(clicks.mean("champion"), clicks.mean("candidate")),
        )

    def verdict(self) -> CanaryVerdict:
        """What to do now, with reasons."""
        say, reasons = self._found()
        return CanaryVerdict(say, [reason.sentence for reason in reasons])

    def _found(self) -> tuple[Do, list[Reason]]:
        reasons = [Reason(_sentence(figure), figure.says) for figure in self._figures]
        came = self.users["canary"]
        total = max(1, sum(self.users.values()))
        reasons.append(
            Reason(
                f"users: {came:,} of {total:,} were on the canary's side ({came / total:.2%}, share "
                f"{self._share:.2%}); for {self.failed:,} of them the canary did not answer"
            )
        )
        if self._missing.sure:
            few = Reason("fewer users of the canary came than should: figures are missing", "failed")
            return "withdraw", [*reasons, few]
        says = [figure.says for figure in self._figures]
        if "worse" in says:
            return "withdraw", reasons
        if all(one == "better" for one in says):
            return "promote", reasons
        if came >= self._most:
            late = Reason(f"nothing is sure after {came:,} users (canary.most_users)", "failed")
            return "withdraw", [*reasons, late]
        return "wait", reasons


def _sentence(compared: Compared) -> str:
    champion, canary = compared.mean("champion"), compared.mean("candidate")
    if champion is None or canary is None:
        return f"{compared.figure.name}: one of the sides has no users yet"
    said = {"worse": "worse for sure", "better": "well enough for sure", "open": "nothing is sure yet"}[compared.says]
    return (
        f"{compared.figure.name}: {canary:.4f} a user with the canary, {champion:.4f} with the champion; {said} "
        f"(margin {compared.figure.margin:g}, {compared.pairs:,} pairs)"
    )
