"""The aliases of a model: what serves now, what served before, and what is new.

Who may set them, and why they were set, is not asked here: the ledger of the log says that (`recdistill.ledger`).

It knows nothing of evidence, logs, or bundles.

Example:
    >>> CANDIDATE, CHAMPION, PREVIOUS
    ('candidate', 'champion', 'previous')
"""

from __future__ import annotations

from recdistill.registry.client import Connection, if_there, put

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
CANARY = "canary"


class Aliases:
    """The aliases of one model. Methods raise what MLflow raises: their callers stand inside `Connection.talk`."""

    def __init__(self, connection: Connection, model: str) -> None:
        self._client, self._model = connection.client, model

    def all(self) -> dict[str, str]:
        """Alias to version number, as the registry has them now."""
        model = if_there(self._client.get_registered_model, self._model)
        return {str(alias): str(number) for alias, number in model.aliases.items()} if model else {}

    def nominate(self, number: str) -> None:
        """Makes a version the candidate. A candidate changes nothing of what serves."""
        put(self._client.set_registered_model_alias, self._model, CANDIDATE, number)

    def send_ahead(self, number: str | None) -> None:
        """Makes a version the canary, or ends it. The champion stays."""
        if number is not None:
            put(self._client.set_registered_model_alias, self._model, CANARY, number)
        elif CANARY in self.all():
            put(self._client.delete_registered_model_alias, self._model, CANARY)

    def crown(self, number: str, previous: str | None) -> None:
        """Makes a version the champion, and says which one a rollback leads to. It is no candidate any more."""
        now = self.all()
        if previous is None:
            if PREVIOUS in now:
                put(self._client.delete_registered_model_alias, self._model, PREVIOUS)
        elif now.get(PREVIOUS) != previous:
            put(self._client.set_registered_model_alias, self._model, PREVIOUS, previous)
        put(self._client.set_registered_model_alias, self._model, CHAMPION, number)
        if now.get(CANDIDATE) == number:
            put(self._client.delete_registered_model_alias, self._model, CANDIDATE)

    def dethrone(self) -> None:
        """Takes the champion's alias away; nothing where there is none."""
        if CHAMPION in self.all():
            put(self._client.delete_registered_model_alias, self._model, CHAMPION)
