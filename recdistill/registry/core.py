"""The registry itself: versions, promotion, resolving and fetching. See the package's docstring.

Example:
    >>> Registry("sqlite:///models.sqlite", "a/b")
    Traceback (most recent call last):
    recdistill.errors.RegistryError: 'a/b': not a model name; use up to 200 letters, digits, '.', '_', '-' and spaces
"""

from __future__ import annotations

import datetime as dt
import logging
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote

import msgspec

from recdistill.bundle import Bundle
from recdistill.errors import Refused, RegistryError
from recdistill.registry.artifacts import Artifacts
from recdistill.registry.cache import cached
from recdistill.registry.client import Connection, if_there, put
from recdistill.registry.ledger import CANDIDATE, CHAMPION, PREVIOUS, Ledger
from recdistill.registry.runs import BUNDLE, FILES, Runs, experiment
from recdistill.registry.store import MANIFEST, Store, download, made_at
from recdistill.registry.structs import BundleRef, Evidence, Held, LedgerEntry, Version

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

log_ = logging.getLogger(__name__)

# Tag of a version that says where its bundle is. One without it has it in its run: older versions did that.
_WHERE: Final = "bundle"
_STORE: Final = "store"
_GONE: Final = "gone"
_HASH = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,199}")
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,99}")


class Registry:
    """One named model in an MLflow registry.

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
        self._client = self._connection.client
        self._ledger = Ledger(self._connection, name)
        self._runs = Runs(self._connection, name)
        self._store = Store(self._open_store)

    def put(self, bundle: Bundle) -> int:
        """Sends what the store does not have of a bundle; makes no version. Returns the bytes that were sent.

        Raises:
            RegistryError: The registry does not answer.
        """
        with self._connection.talk("put a bundle into the store"):
            return self._store.put(bundle)

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

        Content that is registered already keeps its version, which then gets the newer evidence, report and metrics;
        its files are sent again, whatever has become of those in the store.

        Args:
            bundle: The bundle.
            evidence: The judge's findings about this very content, or None when nobody has judged it.
            report: A file to show beside it, kept as `report.html`.
            extra_files: More files of this version, for example the device file; kept under `files/`.
            parameters: Settings to log with the run.
            metrics: Figures to log with the run.

        Raises:
            RegistryError: The registry does not answer, a file is missing, or the evidence is about other content.
        """
        content_hash = bundle.content_hash
        if evidence is not None and evidence.content_hash != content_hash:
            about = evidence.content_hash[:12]
            raise RegistryError(
                f"{bundle.path}: the evidence is about {about}, the bundle is {content_hash[:12]}; judge it"
            )
        for path in [*extra_files, *([report] if report else [])]:
            if not path.is_file():
                raise RegistryError(f"{path}: no such file to publish with the bundle")
        tags = {"content_hash": content_hash, _WHERE: _STORE}
        if evidence is not None:
            tags |= {"evidence": msgspec.json.encode(evidence).decode(), "passed": str(evidence.passed).lower()}
        with self._connection.talk("publish"):
            known = self._of(content_hash)
            self._store.put(bundle, again=known is not None)
            run_id = str(known.run_id) if known else self._runs.new(content_hash)
            figures = {**(evidence.metrics if evidence else {}), **(metrics or {})}
            self._runs.log_figures(run_id, parameters or {}, figures)
            self._runs.log_files(run_id, bundle.path / MANIFEST, evidence, report, extra_files)
            self._runs.end(run_id)
            if known is None:
                self._connection.make_model(self.name, {}, "Students distilled by recdistill.")
                # MLflow wants a source within the run.
                source = f"runs:/{run_id}/{BUNDLE}"
                made = self._client.create_model_version(
                    self.name, source, run_id=run_id, tags=tags, await_creation_for=0
                )
                number = str(made.version)
            else:
                number = str(known.version)
                for key, value in tags.items():
                    self._client.set_model_version_tag(self.name, number, key, value)
            champion = self._ledger.aliases().get(CHAMPION)
            if evidence is not None and number != champion:
                verdict = "passed the gate: " if evidence.passed else "did not pass the gate: "
                self._say(number, verdict + "; ".join(evidence.reasons))
            if number != champion:
                put(self._client.set_registered_model_alias, self.name, CANDIDATE, number)
            return _as_version(self._get(number), self._ledger.aliases())

    def promote(self, number: str, *, expect: str | None, who: str, why: str) -> LedgerEntry:
        """Makes a version the champion, when the champion is still the expected one. Whether it may is not asked here.

        1. The version's bundle must be there.
        2. A step that an earlier promoter left unfinished is finished.
        3. The champion must be `expect`.
        4. The next step of the ledger is made; only one caller can.
        5. The aliases follow the ledger's last step, and the reason is written on the version.

        Args:
            number: The version to promote.
            expect: Number of the champion that the decision was made against; None when there was none.
            who: Whom the ledger names.
            why: The reason, for the ledger and the version.

        Raises:
            Refused: The bundle is not there, or the fence did not let it through; `reasons` says why.
            RegistryError: The registry does not answer, or there is no such version.
        """
        with self._connection.talk("promote"):
            version = self._get(number)
            content_hash = _content_hash(version)
            where = version.tags.get(_WHERE)
            if where == _GONE or (where == _STORE and not self._store.has(content_hash)):
                gone = f"the bundle of version {number} is not in the registry any more (registry.keep)"
                raise Refused([f"{gone}; publish it again"])
            return self._change("promote", number, content_hash, expect, who, why)

    def evidence(self, number: str) -> Evidence | None:
        """What was published about a version; None when nobody has judged it.

        Raises:
            RegistryError: The registry does not answer, there is no such version, or its evidence cannot be read.
        """
        with self._connection.talk("read the evidence"):
            return _recorded(self._get(number))

    def rollback(self, *, expect: str | None, who: str, why: str) -> LedgerEntry:
        """Makes the previous champion the champion again, fenced as in `promote`.

        It asks for no evidence: that version has served, and in trouble a rollback must not be stopped by a condition.

        Raises:
            Refused: There is no previous champion, or the fence did not let it through.
            RegistryError: The registry does not answer.
        """
        with self._connection.talk("roll back"):
            self._ledger.settle()
            number = self._ledger.aliases().get(PREVIOUS)
            if number is None:
                raise Refused([f"{self.name} has no previous champion to go back to"])
            return self._change("rollback", number, _content_hash(self._get(number)), expect, who, why)

    def find(self, alias_or_number: str) -> BundleRef | None:
        """What an alias or a version number stands for; None when there is no such thing yet.

        Raises:
            RegistryError: The registry does not answer, or what it says cannot be right.
        """
        wanted = alias_or_number.removeprefix("@")
        if not _is_number(wanted) and not _ALIAS.fullmatch(wanted):
            raise RegistryError(f"{alias_or_number!r}: neither a version number nor an alias")
        with self._connection.talk("resolve"):
            number = wanted if _is_number(wanted) else self._ledger.aliases().get(wanted)
            version = None if number is None else self._get_or_none(number)
        if version is None:
            return None
        stored = version.tags.get(_WHERE) in (_STORE, _GONE)
        uri = f"store:/{self.name}" if stored else f"runs:/{version.run_id}/{BUNDLE}"
        return BundleRef(number=str(version.version), content_hash=_content_hash(version), uri=uri)

    def resolve(self, alias_or_number: str) -> BundleRef:
        """As `find`, but what is missing is an error.

        Raises:
            RegistryError: There is no such alias or version, or the registry does not answer.
        """
        if (found := self.find(alias_or_number)) is None:
            raise RegistryError(self._missing(alias_or_number))
        return found

    def fetch(self, ref: BundleRef, into: Path) -> Bundle:
        """A version's bundle, in `into/CONTENT_HASH`: downloaded and verified, or the verified copy that is there.

        Raises:
            BundleError: What the registry holds does not verify, or is other content than it says.
            RegistryError: The registry does not answer or does not hold it any more, or `into` cannot be written.
        """
        return self._fetch(ref.content_hash, ref.uri, into)

    def take(self, content_hash: str, into: Path) -> Bundle:
        """As `fetch`, for a bundle in the store that need not be a version.

        Raises:
            BundleError: What the registry holds does not verify, or is other content than it says.
            RegistryError: The registry does not answer or does not hold it any more, or `into` cannot be written.
        """
        return self._fetch(content_hash, f"store:/{self.name}", into)

    def _fetch(self, content_hash: str, uri: str, into: Path) -> Bundle:
        # The hash becomes a folder's name, and it comes from a server.
        if not _HASH.fullmatch(content_hash):
            raise RegistryError(f"{content_hash!r}: not a content hash")
        with self._connection.talk("fetch a bundle"):
            return cached(into, content_hash, lambda folder: self._download(content_hash, uri, folder))

    def _download(self, content_hash: str, uri: str, into: Path) -> None:
        if not uri.startswith("runs:/"):
            self._store.fetch(content_hash, into)
            return
        run_id, _, folder = uri.removeprefix("runs:/").partition("/")
        artifacts = Artifacts(self._runs.place(run_id), self._connection.uri)
        download(artifacts, content_hash, f"{folder}/{MANIFEST}", lambda name, _: f"{folder}/{name}", into)

    def holds(self, content_hash: str) -> bool:
        """Whether the store has a bundle, whole.

        Raises:
            RegistryError: The registry does not answer.
        """
        with self._connection.talk("look for a bundle"):
            return self._store.has(content_hash)

    def held(self) -> list[Held]:
        """Every bundle that the registry holds, in no order: what a rule of keeping decides about.

        Raises:
            RegistryError: The registry does not answer.
        """
        with self._connection.talk("list bundles"):
            aliases = self._ledger.aliases()
            promoted = {entry.after: entry.step for entry in self._ledger.entries()}
            versions = {str(v.tags.get("content_hash")): v for v in self._search()}
            made = {content_hash: made_at(manifest) for content_hash, manifest in self._store.bundles().items()}
            # Versions of older kinds have their bundle in their run.
            plain = {h: _created_at(v) for h, v in versions.items() if _HASH.fullmatch(h) and _WHERE not in v.tags}
            found = []
            for content_hash, when in (plain | made).items():
                version = versions.get(content_hash)
                number = None if version is None else str(version.version)
                found.append(
                    Held(
                        content_hash=content_hash,
                        made_at=when or ("" if version is None else _created_at(version)),
                        number=number,
                        aliases=sorted(a for a, n in aliases.items() if n == number),
                        promoted=promoted.get(number or ""),
                    )
                )
            return found

    def give_back(self, content_hashes: Iterable[str], *, grace_s: float) -> int:
        """Drops bundles, and deletes the files that no bundle has named for a while. For one process at a time.

        A dropped version stays, with its number, evidence and report; its bundle and its other files go. A version that
        has got an alias in the meantime is left alone.

        Args:
            content_hashes: The bundles to drop.
            grace_s: Seconds that a file without a name is kept, for those who are fetching or sending it.

        Returns:
            Bytes of the store that were given back now.

        Raises:
            RegistryError: The registry does not answer.
        """
        with self._connection.talk("give space back"):
            for content_hash in content_hashes:
                version = self._of(content_hash)
                if version is not None and str(version.version) in self._ledger.aliases().values():
                    continue
                self._store.drop(content_hash)
                if version is not None:
                    files = Artifacts(self._runs.place(str(version.run_id)), self._connection.uri)
                    for folder in (FILES,) if _WHERE in version.tags else (FILES, BUNDLE):
                        files.delete(folder)
                    self._client.set_model_version_tag(self.name, str(version.version), _WHERE, _GONE)
            return self._store.sweep(grace_s)

    def versions(self) -> list[Version]:
        """All versions, newest first.

        Raises:
            RegistryError: The registry does not answer.
        """
        with self._connection.talk("list versions"):
            aliases = self._ledger.aliases()
            found = sorted(self._search(), key=lambda v: -int(v.version))
            return [_as_version(v, aliases) for v in found]

    def ledger(self) -> list[LedgerEntry]:
        """Every change of champion, oldest first.

        Raises:
            RegistryError: The registry does not answer, or an entry cannot be read.
        """
        with self._connection.talk("read the ledger"):
            return self._ledger.entries()

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
        self._say(number, f"{done} by {who} at {entry.at}: {why}")
        return entry

    def _open_store(self) -> Artifacts:
        # A slash cannot stand in a model's name, so no model's own experiment has this name.
        name, location = f"{self.name}/bundles", self._connection.artifacts
        here = None if location is None else f"{location}/bundles/{quote(self.name)}"
        place = self._client.get_experiment(experiment(self._connection, name, here)).artifact_location
        return Artifacts(place, self._connection.uri)

    def _of(self, content_hash: str) -> ModelVersion | None:
        """The version of this content."""
        return next((v for v in self._search() if v.tags.get("content_hash") == content_hash), None)

    def _say(self, number: str, text: str) -> None:
        self._client.update_model_version(self.name, number, description=text[:5000])

    def _search(self) -> list[ModelVersion]:
        found: list[ModelVersion] = []
        token = None
        while True:
            page = self._client.search_model_versions(f"name = '{self.name}'", max_results=1000, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _get_or_none(self, number: str) -> ModelVersion | None:
        return if_there(self._client.get_model_version, self.name, number) if _is_number(number) else None

    def _get(self, number: str) -> ModelVersion:
        if (found := self._get_or_none(number)) is None:
            raise RegistryError(self._missing(number))
        return found

    def _missing(self, wanted: str) -> str:
        return f"{self._connection.shown}: {self.name} has no version {wanted!r}; see `recdistill versions`"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def _content_hash(version: ModelVersion) -> str:
    found = str(version.tags.get("content_hash", ""))
    if not _HASH.fullmatch(found):
        raise RegistryError(
            f"version {version.version} of {version.name} has no content hash: recdistill did not publish it"
        )
    return found


def _recorded(version: ModelVersion) -> Evidence | None:
    text = version.tags.get("evidence")
    if text is None:
        return None
    try:
        return msgspec.json.decode(str(text), type=Evidence)
    except msgspec.DecodeError as e:
        raise RegistryError(f"version {version.version} of {version.name}: its evidence cannot be read ({e})") from e


def _created_at(version: ModelVersion) -> str:
    made = dt.datetime.fromtimestamp((version.creation_timestamp or 0) / 1000, dt.UTC)
    return made.isoformat(timespec="seconds")


def _as_version(version: ModelVersion, aliases: Mapping[str, str]) -> Version:
    return Version(
        number=str(version.version),
        content_hash=str(version.tags.get("content_hash", "")),
        aliases=sorted(a for a, n in aliases.items() if n == str(version.version)),
        reason=version.description or "",
        created_at=_created_at(version),
        run_id=version.run_id or "",
        passed={"true": True, "false": False}.get(str(version.tags.get("passed"))),
    )
