"""The bundles that a registry holds: where each lies, how one is fetched, which there are, and how space is given back.

A version of today has its bundle in the store. A version that an older recdistill made has it among the files of its
run. Both kinds are known here.

It knows nothing of which bundles are worth keeping.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from recdistill.bundle import Bundle
from recdistill.errors import RegistryError
from recdistill.registry.aliases import Aliases
from recdistill.registry.artifacts import Artifacts
from recdistill.registry.cache import cached
from recdistill.registry.client import Connection
from recdistill.registry.runs import BUNDLE, FILES, Runs
from recdistill.registry.store import MANIFEST, Store, download, made_at
from recdistill.registry.structs import Held
from recdistill.registry.versions import GONE, HASH, STORE, WHERE, Versions, content_hash_of, created_at

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

IN_RUN = "runs:/"


class Holding:
    """The bundles of one model. Methods raise what MLflow raises: their callers stand inside `Connection.talk`."""

    def __init__(
        self, connection: Connection, model: str, *, versions: Versions, runs: Runs, store: Store, aliases: Aliases
    ) -> None:
        self._connection, self._model = connection, model
        self._versions, self._runs, self._store, self._aliases = versions, runs, store, aliases

    def in_store(self) -> str:
        """Where a bundle of the store lies, as a URI."""
        return f"store:/{self._model}"

    def uri_of(self, version: ModelVersion) -> str:
        """Where the bundle of a version lies, as a URI."""
        if version.tags.get(WHERE) in (STORE, GONE):
            return self.in_store()
        return f"{IN_RUN}{version.run_id}/{BUNDLE}"

    def has(self, version: ModelVersion) -> bool:
        """Whether the bundle of a version is there."""
        where = version.tags.get(WHERE)
        return where != GONE and (where != STORE or self._store.has(content_hash_of(version)))

    def fetch(self, content_hash: str, uri: str, into: Path) -> Bundle:
        """A bundle, in `into/CONTENT_HASH`: downloaded and verified, or the verified copy that is there.

        Raises:
            BundleError: What the registry holds does not verify, or is other content than it says.
            RegistryError: The registry does not hold it any more, or `into` cannot be written.
        """
        # The hash becomes a folder's name, and it comes from a server.
        if not HASH.fullmatch(content_hash):
            raise RegistryError(f"{content_hash!r}: not a content hash")
        return cached(into, content_hash, lambda folder: self._download(content_hash, uri, folder))

    def all(self, promoted: Mapping[str, int]) -> list[Held]:
        """Every bundle that the registry holds, in no order.

        Args:
            promoted: The last step at which each version became the champion, by its number.
        """
        aliases = self._aliases.all()
        versions = {str(v.tags.get("content_hash")): v for v in self._versions.all()}
        made = {content_hash: made_at(manifest) for content_hash, manifest in self._store.bundles().items()}
        # Versions of older kinds have their bundle in their run.
        plain = {h: created_at(v) for h, v in versions.items() if HASH.fullmatch(h) and WHERE not in v.tags}
        found = []
        for content_hash, when in (plain | made).items():
            version = versions.get(content_hash)
            number = None if version is None else str(version.version)
            found.append(
                Held(
                    content_hash=content_hash,
                    made_at=when or ("" if version is None else created_at(version)),
                    number=number,
                    aliases=sorted(a for a, n in aliases.items() if n == number),
                    promoted=promoted.get(number or ""),
                )
            )
        return found

    def give_back(self, content_hashes: Iterable[str], grace_s: float) -> int:
        """Drops bundles, and deletes files that no bundle has named for a while; returns the bytes given back."""
        for content_hash in content_hashes:
            version = self._versions.of(content_hash)
            if version is not None and self._aliased(version):
                continue
            back = self._store.drop(content_hash)
            version = self._versions.of(content_hash)
            if version is None:
                continue
            self._versions.tag(str(version.version), {WHERE: GONE})
            # Somebody may have published this very bundle meanwhile. Who publishes looks at the store once more after
            # the alias is set, and here the alias is looked at after the bundle is dropped: one of the two sees it.
            if self._aliased(version):
                back()
                here = STORE if self._store.has(content_hash) else ""
                self._versions.tag(str(version.version), {WHERE: here})
                continue
            files = Artifacts(self._runs.place(str(version.run_id)), self._connection.uri)
            for folder in (FILES,) if WHERE in version.tags else (FILES, BUNDLE):
                files.delete(folder)
        return self._store.sweep(grace_s)

    def _aliased(self, version: ModelVersion) -> bool:
        return str(version.version) in self._aliases.all().values()

    def _download(self, content_hash: str, uri: str, into: Path) -> None:
        if not uri.startswith(IN_RUN):
            self._store.fetch(content_hash, into)
            return
        run_id, _, folder = uri.removeprefix(IN_RUN).partition("/")
        artifacts = Artifacts(self._runs.place(run_id), self._connection.uri)
        download(artifacts, content_hash, f"{folder}/{MANIFEST}", lambda name, _: [f"{folder}/{name}"], into)
