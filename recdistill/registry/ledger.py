"""The ledger: who changed the champion, when and why. It also lets only one of several promoters through.

Step N of model NAME is a registered model of its own, `NAME.ledger.N`, with the entry in a tag. MLflow cannot change
an alias only if it still has an expected value. But it can make a registered model, and it refuses a name that is
taken. So of several callers who make step N, exactly one succeeds, and that one has won the step. The aliases follow
the last step. A winner may be killed before it sets the aliases; then the next who looks sets them.

It knows nothing of evidence.

Example:
    >>> step_name("shop", 7)
    'shop.ledger.7'
"""

from __future__ import annotations

import msgspec

from recdistill.errors import Refused, RegistryError
from recdistill.registry.client import Connection, if_there, put
from recdistill.registry.structs import LedgerEntry

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
CANARY = "canary"

# Tag of the model: the last step when somebody last looked. It is only a hint of where to begin.
_NOTED = "ledger_step"
# Tag of a step whose aliases have been set.
_DONE = "done"


def step_name(model: str, step: int) -> str:
    """The registered model that is step `step` of a model's ledger."""
    return f"{model}.ledger.{step}"


class Ledger:
    """The ledger of one model. Methods raise what MLflow raises: their callers stand inside `Connection.talk`."""

    def __init__(self, connection: Connection, model: str) -> None:
        self._connection = connection
        self._client = connection.client
        self._model = model

    def aliases(self) -> dict[str, str]:
        """Alias to version number, as the registry has them now."""
        model = if_there(self._client.get_registered_model, self._model)
        return {str(alias): str(number) for alias, number in model.aliases.items()} if model else {}

    def nominate(self, number: str) -> None:
        """Makes a version the candidate. That is no step: a candidate changes nothing of what serves."""
        put(self._client.set_registered_model_alias, self._model, CANDIDATE, number)

    def send_ahead(self, number: str | None) -> None:
        """Makes a version the canary, or ends it. That is no step either: the champion stays."""
        if number is not None:
            put(self._client.set_registered_model_alias, self._model, CANARY, number)
        elif CANARY in self.aliases():
            put(self._client.delete_registered_model_alias, self._model, CANARY)

    def entry(self, step: int) -> LedgerEntry | None:
        """One step, None when it has not been made.

        Raises:
            RegistryError: It cannot be read.
        """
        model = if_there(self._client.get_registered_model, step_name(self._model, step))
        if model is None:
            return None
        try:
            return msgspec.json.decode(str(model.tags.get("entry", "")), type=LedgerEntry)
        except msgspec.DecodeError as e:
            raise RegistryError(f"{step_name(self._model, step)}: is not a ledger entry ({e})") from e

    def entries(self) -> list[LedgerEntry]:
        """Every step, oldest first."""
        found: list[LedgerEntry] = []
        while (entry := self.entry(len(found) + 1)) is not None:
            found.append(entry)
        return found

    def last(self) -> LedgerEntry | None:
        """The newest step: from the noted one upwards until there is no next."""
        model = if_there(self._client.get_registered_model, self._model)
        noted = str(model.tags.get(_NOTED, "")) if model else ""
        step = int(noted) if noted.isdecimal() else 0
        last = self.entry(step) if step else None
        step = last.step if last else 0
        while (following := self.entry(step + 1)) is not None:
            step, last = step + 1, following
        if last is not None and noted != str(step):
            put(self._client.set_registered_model_tag, self._model, _NOTED, str(step))
        return last

    def settle(self) -> LedgerEntry | None:
        """The newest step. Its aliases are set now if its maker did not do that.

        Once they have been set, an alias that a person then changes by hand is left alone.
        """
        last = self.last()
        if last is not None:
            step = self._client.get_registered_model(step_name(self._model, last.step))
            if step.tags.get(_DONE) != "true":
                self._follow(last)
        return last

    def add(self, entry: LedgerEntry) -> None:
        """Makes the entry's step, then lets the aliases follow.

        Raises:
            Refused: Somebody else has made that step.
        """
        text = msgspec.json.encode(entry).decode()
        told = f"{entry.kind} {entry.after}: {entry.why}"[:500]
        if not self._connection.make_model(step_name(self._model, entry.step), {"entry": text}, told):
            # A call that was tried again may find the step that its own first try made. The token tells.
            winner = self.entry(entry.step)
            if winner is None or winner.token != entry.token:
                who = winner.who if winner else "somebody"
                raise Refused([f"{who} changed the champion at the same moment; look again and decide"])
        # A slow promoter may set its aliases after a later step has set its own. So each one looks again after it has
        # set them. If there is a later step, it sets what that step says.
        self._follow(entry)
        while (newest := self.last()) is not None and newest.step > entry.step:
            entry = newest
            self._follow(entry)

    def _follow(self, entry: LedgerEntry) -> None:
        """Sets the aliases to what an entry says."""
        if entry.before is not None:
            put(self._client.set_registered_model_alias, self._model, PREVIOUS, entry.before)
        put(self._client.set_registered_model_alias, self._model, CHAMPION, entry.after)
        if self.aliases().get(CANDIDATE) == entry.after:
            put(self._client.delete_registered_model_alias, self._model, CANDIDATE)
        put(self._client.set_registered_model_tag, step_name(self._model, entry.step), _DONE, "true")
