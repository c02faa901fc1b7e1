"""The versions of one model as MLflow keeps them: made, tagged, found, and read as recdistill's own types.

It knows nothing of aliases, or of where a bundle's files lie.

Example:
    >>> [is_number(text) for text in ("7", "champion", "-1", "٣")]
    [True, False, False, False]
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from recdistill.errors import RegistryError
from recdistill.registry.client import Connection, if_there
from recdistill.registry.structs import Evidence, Version

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

HASH: Final = re.compile(r"[0-9a-f]{64}")
"""A content hash."""

WHERE: Final = "bundle"
"""Tag of a version that says where its bundle is. A version without it has its bundle in its run: older ones did that.
"""

STORE: Final = "store"
GONE: Final = "gone"
_LINKS: Final = "\n\n[run]("


class Versions:
    """The versions of one model. Methods raise what MLflow raises: their callers stand inside `Connection.talk`."""

    def __init__(self, connection: Connection, model: str) -> None:
        self._connection, self._client, self._model = connection, connection.client, model

    def all(self) -> list[ModelVersion]:
        """Every version, in no order."""
        found: list[ModelVersion] = []
        token = None
        while True:
            page = self._client.search_model_versions(f"name = '{self._model}'", max_results=1000, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def of(self, content_hash: str) -> ModelVersion | None:
        """The version of this content; None when it is not registered."""
        return next((v for v in self.all() if v.tags.get("content_hash") == content_hash), None)

    def get(self, number: str) -> ModelVersion:
        """The version with this number.

        Raises:
            RegistryError: There is none.
        """
        if (found := self.find(number)) is None:
            raise RegistryError(self.missing(number))
        return found

    def find(self, number: str) -> ModelVersion | None:
        """The version with this number; None when there is none."""
        return if_there(self._client.get_model_version, self._model, number) if is_number(number) else None

    def missing(self, wanted: str) -> str:
        """The sentence that says that a version is not there."""
        return f"{self._connection.shown}: {self._model} has no version {wanted!r}; see `recdistill versions`"

    def make(self, run_id: str, source: str, tags: Mapping[str, str]) -> str:
        """Makes the next version, and the model before the first one; returns the version's number."""
        self._connection.make_model(self._model, {}, "Students distilled by recdistill.")
        made = self._client.create_model_version(
            self._model, source, run_id=run_id, tags=dict(tags), await_creation_for=0
        )
        return str(made.version)

    def tag(self, number: str, tags: Mapping[str, str]) -> None:
        """Sets tags of a version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(self._model, number, key, value)

    def say(self, number: str, text: str, links: Mapping[str, str] | None = None) -> None:
        """Writes the last decision about a version where MLflow's pages show it.

        Args:
            number: The version.
            text: The decision.
            links: Name -> address, shown below the text. None: those that are there stay.
        """
        if links is None:
            below = "".join((self.get(number).description or "").partition(_LINKS)[1:])
        else:
            below = "\n\n" + " · ".join(f"[{name}]({address})" for name, address in links.items()) if links else ""
        self._client.update_model_version(self._model, number, description=text[: 5000 - len(below)] + below)

    def link(self, number: str, links: Mapping[str, str]) -> None:
        """Adds links below the last decision about a version."""
        said = self.get(number).description or ""
        self.say(number, said.partition(_LINKS)[0], linked(said) | dict(links))


def linked(description: str) -> dict[str, str]:
    r"""The links below a description: name -> address.

    Example:
        >>> linked("passed the gate\n\n[run](#/a) · [report](#/b)")
        {'run': '#/a', 'report': '#/b'}
    """
    _, mark, rest = description.partition(_LINKS)
    return dict(re.findall(r"\[([^\]]+)\]\(([^)]*)\)", mark + rest))


def is_number(text: str) -> bool:
    """Whether a text can be the number of a version."""
    return text.isascii() and text.isdecimal() and len(text) < 10


def is_hash(version: ModelVersion) -> bool:
    """Whether a version is tagged with a content hash: whether recdistill made it."""
    return HASH.fullmatch(str(version.tags.get("content_hash", ""))) is not None


def content_hash_of(version: ModelVersion) -> str:
    """The content hash that a version is tagged with.

    Raises:
        RegistryError: It has none, or one that cannot be one.
    """
    found = str(version.tags.get("content_hash", ""))
    if not HASH.fullmatch(found):
        raise RegistryError(
            f"version {version.version} of {version.name} has no content hash: recdistill did not publish it"
        )
    return found


def evidence_of(version: ModelVersion) -> Evidence | None:
    """What a judge found about a version; None when nobody has judged it.

    Raises:
        RegistryError: It cannot be read.
    """
    text = version.tags.get("evidence")
    if text is None:
        return None
    try:
        return msgspec.json.decode(str(text), type=Evidence)
    except msgspec.DecodeError as e:
        raise RegistryError(f"version {version.version} of {version.name}: its evidence cannot be read ({e})") from e


def created_at(version: ModelVersion) -> str:
    """When a version was made, as text."""
    made = dt.datetime.fromtimestamp((version.creation_timestamp or 0) / 1000, dt.UTC)
    return made.isoformat(timespec="seconds")


def as_version(version: ModelVersion, aliases: Mapping[str, str]) -> Version:
    """A version as recdistill's own type, with those of the model's aliases that name it."""
    return Version(
        number=str(version.version),
        content_hash=str(version.tags.get("content_hash", "")),
        aliases=sorted(a for a, n in aliases.items() if n == str(version.version)),
        reason=(version.description or "").partition(_LINKS)[0],
        created_at=created_at(version),
        run_id=version.run_id or "",
        passed={"true": True, "false": False}.get(str(version.tags.get("passed"))),
    )
