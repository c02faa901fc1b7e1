"""The registry itself: one door to the versions, the champion and the bundles of a model. See the package's docstring.

It knows nothing of how each part works. It checks names, and it makes one sentence of each failure.

Example:
    >>> Registry("sqlite:///models.sqlite", "a/b")
    Traceback (most recent call last):
    recdistill.errors.RegistryError: 'a/b': not a model name; use up to 200 letters, digits, '.', '_', '-' and spaces
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from recdistill.bundle import Bundle, BundleFolder
from recdistill.errors import RegistryError
from recdistill.registry.aliases import CANARY, Aliases
from recdistill.registry.artifacts import Artifacts
from recdistill.registry.client import Connection
from recdistill.registry.former import FormerLedger
from recdistill.registry.holding import Holding
from recdistill.registry.publishing import Publishing, check
from recdistill.registry.runs import Runs, experiment
from recdistill.registry.store import Store
from recdistill.registry.structs import BundleRef, Evidence, FormerEntry, Held, Version
from recdistill.registry.versions import Versions, as_version, content_hash_of, evidence_of, is_hash, is_number

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,199}")
_ALIAS: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,99}")


class Registry:
    """One named model in an MLflow registry. Every method raises RegistryError when the registry does not answer.

    Args:
        uri: `sqlite:///FILE` (artefacts go to `artifacts/` beside the file), or the address of an MLflow server.
        name: Name of the registered model: letters, digits and `._ -`.
        timeout_s: Longest wait for one answer of a server; a call is tried three times at most.

    Raises:
        RegistryError: The URI or the name cannot be one, or mlflow is not installed.
    """

    def __init__(self, uri: str, name: str, *, timeout_s: float = 20.0) -> None:
        if not _NAME.fullmatch(name) or ".ledger." in name:
            raise RegistryError(f"{name!r}: not a model name; use up to 200 letters, digits, '.', '_', '-' and spaces")
        self.name = name
        self._connection = Connection(uri, timeout_s)
        self._aliases = Aliases(self._connection, name)
        self._former = FormerLedger(self._connection, name)
        self._versions = Versions(self._connection, name)
        self._store = Store(lambda: open_store(self._connection, name))
        runs = Runs(self._connection, name)
        self._publishing = Publishing(self._versions, runs, self._store, self._aliases)
        self._holding = Holding(
            self._connection, name, versions=self._versions, runs=runs, store=self._store, aliases=self._aliases
        )

    # Versions

    def publish(
        self,
        bundle: Bundle,
        evidence: Evidence | None,
        *,
        report: Path | None = None,
        extra_files: Sequence[Path] = (),
        parameters: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> Version:
        """Registers a bundle as a version and makes it the candidate.

        Content that is registered already keeps its version. That version then gets the newer evidence, report and
        metrics. Its files are sent again, in case those in the store were damaged.

        Args:
            bundle: The bundle.
            evidence: The judge's findings about this very content, or None when nobody has judged it.
            report: A file to show beside it, kept as `report.html`.
            extra_files: More files of this version, for example the device file; kept under `files/`.
            parameters: Settings to log with the run.
            metrics: Figures to log with the run.

        Raises:
            RegistryError: A file is missing, or the evidence is about other content.
        """
        check(bundle, evidence, [*extra_files, *([report] if report else [])])
        with self._connection.talk("publish"):
            return self._publishing.publish(
                bundle,
                evidence,
                report=report,
                extra_files=extra_files,
                parameters=parameters or {},
                metrics=metrics or {},
            )

    def check(self, bundle: Bundle, evidence: Evidence | None) -> None:
        """What `publish` asks for before it sends anything.

        Raises:
            RegistryError: The evidence is about other content.
        """
        check(bundle, evidence, ())

    def versions(self) -> list[Version]:
        """All versions, newest first."""
        with self._connection.talk("list versions"):
            aliases = self._aliases.all()
            return [as_version(v, aliases) for v in sorted(self._versions.all(), key=lambda v: -int(v.version))]

    def evidence(self, number: str) -> Evidence | None:
        """What was published about a version; None when nobody has judged it.

        Raises:
            RegistryError: There is no such version, or its evidence cannot be read.
        """
        with self._connection.talk("read the evidence"):
            return evidence_of(self._versions.get(number))

    def judged(self) -> list[Evidence]:
        """What was published about each judged version, in no order. What cannot be read is left out."""
        with self._connection.talk("read the evidence"):
            found = []
            for version in self._versions.all():
                with suppress(RegistryError):
                    found.append(evidence_of(version))
            return [one for one in found if one is not None]

    def find(self, alias_or_number: str) -> BundleRef | None:
        """What an alias or a version number stands for; None when there is no such thing yet.

        Raises:
            RegistryError: It can be neither, or what the registry says cannot be right.
        """
        wanted = _asked(alias_or_number)
        with self._connection.talk("resolve"):
            number = wanted if is_number(wanted) else self._aliases.all().get(wanted)
            version = None if number is None else self._versions.find(number)
        if version is None:
            return None
        return BundleRef(
            number=str(version.version), content_hash=content_hash_of(version), uri=self._holding.uri_of(version)
        )

    def resolve(self, alias_or_number: str) -> BundleRef:
        """As `find`, but what is missing is an error.

        Raises:
            RegistryError: There is no such alias or version.
        """
        if (found := self.find(alias_or_number)) is None:
            raise RegistryError(self._versions.missing(alias_or_number))
        return found

    # The champion

    def aliases(self) -> dict[str, str]:
        """Every alias, and the number of the version that it names."""
        with self._connection.talk("read the aliases"):
            return self._aliases.all()

    def crown(self, number: str, *, previous: str | None = None) -> None:
        """Makes a version the champion. Whether it may, and who says so, is asked elsewhere.

        Args:
            number: The version.
            previous: The version that a rollback leads to; None: there is none.
        """
        with self._connection.talk("set the champion"):
            self._aliases.crown(number, previous)

    def dethrone(self) -> None:
        """Takes the champion's alias away."""
        with self._connection.talk("set the champion"):
            self._aliases.dethrone()

    def exists(self, number: str) -> bool:
        """Whether there is such a version, whoever made it."""
        with self._connection.talk("look for a version"):
            return self._versions.find(number) is not None

    def has_bundle(self, number: str) -> bool:
        """Whether there is such a version, with its bundle and a content hash."""
        with self._connection.talk("look for a bundle"):
            version = self._versions.find(number)
            return version is not None and is_hash(version) and self._holding.has(version)

    def say(self, number: str, text: str, tags: Mapping[str, str] | None = None) -> None:
        """Writes the last decision about a version where MLflow's pages show it, and tags beside it.

        Args:
            number: The version; nothing is written where it is gone.
            text: The decision; empty leaves the one that is there.
            tags: Tags to set.
        """
        with self._connection.talk("write the decision"):
            if self._versions.find(number) is None:
                return
            if text:
                self._versions.say(number, text)
            self._versions.tag(number, tags or {})

    def show(self, number: str, path: Path) -> None:
        """Shows a file beside a version: it is kept with the version's run, and its description has a link to it.

        Args:
            number: The version.
            path: The file. A file of the same name that is there is replaced.

        Raises:
            RegistryError: There is no such version.
        """
        with self._connection.talk("show a file beside a version"):
            self._publishing.show(number, path)

    def tags(self, key: str) -> dict[str, str]:
        """A tag of every version that has it, by the number of the version."""
        with self._connection.talk("read the versions"):
            return {str(v.version): str(v.tags[key]) for v in self._versions.all() if key in v.tags}

    def tag(self, number: str, key: str) -> str | None:
        """A tag of a version, as it stands there; None when the version or the tag is not there."""
        with self._connection.talk("read a version"):
            version = self._versions.find(number)
            return None if version is None or key not in version.tags else str(version.tags[key])

    def begin_canary(self, number: str, note: str) -> None:
        """Makes a version the canary, with a note of how it began. The champion stays.

        The note comes last: who finds a canary without one lets it begin again. So nothing is lost between the two.

        Raises:
            RegistryError: There is no such version.
        """
        with self._connection.talk("begin a canary"):
            if self._versions.get(number).tags.get(CANARY):  # it was one before
                self._versions.tag(number, {CANARY: ""})
            self._aliases.send_ahead(number)
            self._versions.tag(number, {CANARY: note})

    def end_canary(self) -> None:
        """From now on there is no canary."""
        with self._connection.talk("end a canary"):
            self._aliases.send_ahead(None)

    def canary(self) -> tuple[BundleRef, str] | None:
        """The canary and its note, empty where it has none; None: there is no canary."""
        if (found := self.find(CANARY)) is None:
            return None
        with self._connection.talk("read the canary's note"):
            return found, str(self._versions.get(found.number).tags.get(CANARY, ""))

    def former(self) -> tuple[list[FormerEntry], list[str]]:
        """The ledger of an older version, oldest first, and a sentence for each step that cannot be read."""
        with self._connection.talk("read the former ledger"):
            return self._former.entries()

    # Bundles

    def put(self, bundle: BundleFolder) -> int:
        """Sends what the store does not have of a bundle; makes no version. Returns the bytes that were sent."""
        with self._connection.talk("put a bundle into the store"):
            return self._store.put(bundle)

    def make_store(self) -> None:
        """Makes the store, if there is none. It stays empty."""
        with self._connection.talk("make the store"):
            open_store(self._connection, self.name)

    def store_since(self) -> float | None:
        """When the store was made, in seconds since 1970; None: there is none."""
        with self._connection.talk("look for the store"):
            found = self._connection.client.get_experiment_by_name(store_name(self.name))
            return None if found is None else float(found.creation_time or 0) / 1000

    def holds(self, content_hash: str) -> bool:
        """Whether the store has a bundle, whole."""
        with self._connection.talk("look for a bundle"):
            return self._store.has(content_hash)

    def fetch(self, ref: BundleRef, into: Path) -> Bundle:
        """A version's bundle, in `into/CONTENT_HASH`: downloaded and verified, or the verified copy that is there.

        Raises:
            BundleError: What the registry holds does not verify, or is other content than it says.
            RegistryError: The registry does not hold it any more, or `into` cannot be written.
        """
        with self._connection.talk("fetch a bundle"):
            return self._holding.fetch(ref.content_hash, ref.uri, into)

    def take(self, content_hash: str, into: Path) -> Bundle:
        """As `fetch`, for a bundle in the store that need not be a version."""
        with self._connection.talk("fetch a bundle"):
            return self._holding.fetch(content_hash, self._holding.in_store(), into)

    def held(self, promoted: Mapping[str, int] | None = None) -> list[Held]:
        """Every bundle that the registry holds, in no order: what a rule of keeping decides about.

        Args:
            promoted: The last step at which each version became the champion, by its number.
        """
        with self._connection.talk("list bundles"):
            return self._holding.all(promoted or {})

    def give_back(self, content_hashes: Iterable[str], *, grace_s: float) -> int:
        """Drops bundles, and deletes the files that no bundle has named for a while. For one process at a time.

        A dropped version stays, with its number, evidence and report. Its bundle and its other files go. A version that
        has got an alias in the meantime is left alone.

        Args:
            content_hashes: The bundles to drop.
            grace_s: Seconds that a file without a name is kept, for those who are fetching or sending it.

        Returns:
            Bytes of the store that were given back now.
        """
        with self._connection.talk("give space back"):
            return self._holding.give_back(content_hashes, grace_s)


def _asked(alias_or_number: str) -> str:
    """What is asked for: digits, or an alias without its `@`."""
    wanted = alias_or_number.removeprefix("@")
    if not is_number(wanted) and not _ALIAS.fullmatch(wanted):
        raise RegistryError(f"{alias_or_number!r}: neither a version number nor an alias")
    return wanted


def store_name(model: str) -> str:
    """Name of the experiment whose place holds a model's bundles."""
    return f"{model}/bundles"  # a slash cannot stand in a model's name, so no model's own experiment has this name


def open_store(connection: Connection, model: str) -> Artifacts:
    """The place of a model's bundles."""
    name, location = store_name(model), connection.artifacts
    here = None if location is None else f"{location}/bundles/{quote(model)}"
    place = connection.client.get_experiment(experiment(connection, name, here)).artifact_location
    return Artifacts(place, connection.uri)
