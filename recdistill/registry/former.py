"""The ledger of older versions, which stood in MLflow: it is read, and brought over to the log's.

Step N of model NAME was a registered model of its own, `NAME.ledger.N`, with the entry in a tag. Nobody writes them any
more. They are left where they are.

It knows nothing of evidence, or of the ledger of today.

Example:
    >>> step_name("shop", 7)
    'shop.ledger.7'
"""

from __future__ import annotations

import msgspec

from recdistill.registry.client import Connection, if_there
from recdistill.registry.structs import FormerEntry

# Tag of the model: the last step when somebody last looked. An entry before it may have been deleted by hand.
_NOTED = "ledger_step"


def step_name(model: str, step: int) -> str:
    """The registered model that is step `step` of a model's former ledger."""
    return f"{model}.ledger.{step}"


class FormerLedger:
    """The former ledger of one model. Methods raise what MLflow raises: callers stand inside `Connection.talk`."""

    def __init__(self, connection: Connection, model: str) -> None:
        self._client, self._model = connection.client, model

    def entries(self) -> tuple[list[FormerEntry], list[str]]:
        """Every step that can be read, oldest first, and a sentence for each one that cannot.

        A step that is missing in the middle hides none behind it: the model's tag says how many there were, and a few
        steps behind it are looked for too.
        """
        model = if_there(self._client.get_registered_model, self._model)
        noted = str(model.tags.get(_NOTED, "")) if model else ""
        most = int(noted) if noted.isascii() and noted.isdecimal() and len(noted) < 7 else 0
        found: list[FormerEntry] = []
        troubles: list[str] = []
        step = missing = 0
        while step < most or missing < 3:
            step += 1
            name = step_name(self._model, step)
            one = if_there(self._client.get_registered_model, name)
            if one is None:
                missing += 1
                continue
            troubles += [f"{step_name(self._model, gone)} is missing" for gone in range(step - missing, step)]
            missing = 0
            try:
                found.append(msgspec.json.decode(str(one.tags.get("entry", "")), type=FormerEntry))
            except msgspec.MsgspecError as e:
                troubles.append(f"{name} is not a ledger entry ({e})")
        return found, troubles
