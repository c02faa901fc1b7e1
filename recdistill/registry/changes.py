"""Changes of champion: a version is promoted, or the champion before is taken back, when the fence lets it through.

It knows nothing of evidence, of runs, or of files.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from recdistill.errors import Refused
from recdistill.registry.ledger import CHAMPION, PREVIOUS, Ledger
from recdistill.registry.structs import LedgerEntry
from recdistill.registry.versions import Versions, content_hash_of

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


class Changes:
    """Changes one model's champion. Methods raise what MLflow raises: their callers stand inside `Connection.talk`.

    Args:
        model: Its name.
        versions: Its versions.
        ledger: Its ledger.
        there: Whether the bundle of a version is there.
    """

    def __init__(
        self, model: str, versions: Versions, ledger: Ledger, *, there: Callable[[ModelVersion], bool]
    ) -> None:
        self._model, self._versions, self._ledger = model, versions, ledger
        self._there = there

    def promote(self, number: str, *, expect: str | None, who: str, why: str) -> LedgerEntry:
        """Makes a version the champion; see `Registry.promote`.

        Raises:
            Refused: Its bundle is not there, or the fence did not let it through.
        """
        version = self._versions.get(number)
        content_hash = content_hash_of(version)
        if not self._there(version):
            gone = f"the bundle of version {number} is not in the registry any more (registry.keep)"
            raise Refused([f"{gone}; publish it again"])
        return self._change("promote", number, content_hash, expect, who, why)

    def rollback(self, *, expect: str | None, who: str, why: str) -> LedgerEntry:
        """Makes the champion before the champion again; see `Registry.rollback`.

        Raises:
            Refused: There is no champion before, or the fence did not let it through.
        """
        self._ledger.settle()
        number = self._ledger.aliases().get(PREVIOUS)
        if number is None:
            raise Refused([f"{self._model} has no previous champion to go back to"])
        return self._change("rollback", number, content_hash_of(self._versions.get(number)), expect, who, why)

    def _change(
        self,
        kind: Literal["promote", "rollback"],
        number: str,
        content_hash: str,
        expect: str | None,
        who: str,
        why: str,
    ) -> LedgerEntry:
        last = self._ledger.settle()
        champion = self._ledger.aliases().get(CHAMPION)
        if champion != expect:
            is_now, was = (f"version {n}" if n else "none" for n in (champion, expect))
            raise Refused([f"the champion is {is_now}, not {was} as expected; look again and decide"])
        if champion == number:
            raise Refused([f"version {number} is the champion already"])
        entry = LedgerEntry(
            step=(last.step if last else 0) + 1,
            kind=kind,
            before=champion,
            after=number,
            content_hash=content_hash,
            who=who,
            why=why,
            at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            token=uuid.uuid4().hex,
        )
        self._ledger.add(entry)
        done = "promoted" if kind == "promote" else "rolled back to"
        self._versions.say(number, f"{done} by {who} at {entry.at}: {why}")
        return entry
