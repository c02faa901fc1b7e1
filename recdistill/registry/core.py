"""The registry itself: versions, promotion, resolving and fetching. See the package's docstring.

Example:
    >>> Registry("sqlite:///models.sqlite", "a/b")
    Traceback (most recent call last):
    recdistill.errors.RegistryError: 'a/b': not a model name; use up to 200 letters, digits, '.', '_', '-' and spaces
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import logging
import re
import shutil
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from recdistill.bundle import Bundle, open_bundle
from recdistill.errors import BundleError, Refused, RegistryError
from recdistill.registry.client import Connection, if_there, metric_key, put
from recdistill.registry.ledger import CANDIDATE, CHAMPION, PREVIOUS, Ledger
from recdistill.registry.structs import BundleRef, Evidence, LedgerEntry, Version

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_log = logging.getLogger(__name__)

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

        Content that is registered already keeps its version, which then gets the newer
        evidence, report and metrics.

        Args:
            bundle: The opened bundle.
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
        tags = {"content_hash": content_hash}
        if evidence is not None:
            tags |= {"evidence": msgspec.json.encode(evidence).decode(), "passed": str(evidence.passed).lower()}
        with self._connection.talk("publish"):
            known = next((v for v in self._search() if v.tags.get("content_hash") == content_hash), None)
            run_id = str(known.run_id) if known else self._new_run(content_hash)
            if known is None:
                self._client.log_artifacts(run_id, str(bundle.path), "bundle")
            self._log_figures(run_id, parameters or {}, {**(evidence.metrics if evidence else {}), **(metrics or {})})
            self._log_files(run_id, evidence, report, extra_files)
            self._client.set_terminated(run_id)
            if known is None:
                self._connection.make_model(self.name, {}, "Students distilled by recdistill.")
                source = f"runs:/{run_id}/bundle"
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

    def promote(
        self, number: str, *, expect: str | None, who: str, why: str, evidence: Evidence | None = None
    ) -> LedgerEntry:
        """Makes a version the champion, when its evidence passes and the champion is still the expected one.

        1. The evidence must have passed and be about the version's content hash.
        2. A step that an earlier promoter left unfinished is finished.
        3. The champion must be `expect`.
        4. The next step of the ledger is made; only one caller can.
        5. The aliases follow the ledger's last step, and the reason is written on the version.

        Args:
            number: The version to promote.
            expect: Number of the champion that the decision was made against; None when there was none.
            who: Whom the ledger names.
            why: The reason, for the ledger and the version.
            evidence: Findings to rely on; those that were published with the version when None.

        Raises:
            Refused: The gate or the fence did not let it through; `reasons` says why.
            RegistryError: The registry does not answer, or there is no such version.
        """
        with self._connection.talk("promote"):
            version = self._get(number)
            content_hash = _content_hash(version)
            if reasons := _objections(evidence or _recorded(version), content_hash, number):
                raise Refused(reasons)
            return self._change("promote", number, content_hash, expect, who, why)

    def rollback(self, *, expect: str | None, who: str, why: str) -> LedgerEntry:
        """Makes the previous champion the champion again, fenced as in `promote`.

        It asks for no evidence: that version has served, and the fewer conditions stand in the way the better.

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
        uri = f"runs:/{version.run_id}/bundle"
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
        """The bundle, opened, in `into/CONTENT_HASH`: downloaded, or the copy that is there. It is verified once.

        Raises:
            BundleError: What the registry holds does not verify, or is other content than it says.
            RegistryError: The registry does not answer, or `into` cannot be written.
        """
        # The hash becomes a folder's name, and it comes from a server.
        if not _HASH.fullmatch(ref.content_hash):
            raise RegistryError(f"{ref.content_hash!r}: not a content hash")
        place = into / ref.content_hash
        if place.exists():
            try:
                bundle = open_bundle(place)
                if bundle.content_hash == ref.content_hash:
                    return bundle
            except BundleError as e:
                _log.warning("cached bundle %s does not verify (%s): fetching it again", ref.content_hash[:12], e)
            shutil.rmtree(place, ignore_errors=True)
        with self._connection.talk("fetch a bundle"):
            into.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=into) as scratch:
                run_id, _, folder = ref.uri.removeprefix("runs:/").partition("/")
                got = Path(self._client.download_artifacts(run_id, folder, scratch))
                bundle = open_bundle(got)
                if (found := bundle.content_hash) != ref.content_hash:
                    raise BundleError(
                        f"version {ref.number} of {self.name}: the registry says {ref.content_hash[:12]}, "
                        f"the files are {found[:12]}; publish the bundle again"
                    )
                # Another process may have been faster: its copy is the same content.
                with contextlib.suppress(FileExistsError, OSError):
                    got.rename(place)
        if not place.is_dir():
            raise RegistryError(f"{place}: the fetched bundle cannot be put there; is the folder writable?")
        return dataclasses.replace(bundle, path=place)  # its arrays are mapped already

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

    def _new_run(self, content_hash: str) -> str:
        from mlflow.exceptions import MlflowException

        experiment = self._client.get_experiment_by_name(self.name)
        if experiment is None:
            try:
                self._client.create_experiment(self.name, artifact_location=self._connection.artifacts)
            except MlflowException as e:
                # Another process that publishes for the first time may have made it in between.
                if e.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            experiment = self._client.get_experiment_by_name(self.name)
        if experiment is None:
            raise RegistryError(f"{self._connection.shown}: experiment {self.name!r} was made but cannot be found")
        tags = {"content_hash": content_hash}
        run = self._client.create_run(experiment.experiment_id, run_name=content_hash[:12], tags=tags)
        return str(run.info.run_id)

    def _log_figures(self, run_id: str, parameters: Mapping[str, object], metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric, Param

        # A logged parameter cannot change. One that is too long is cut: the bundle itself holds what made it.
        logged = self._client.get_run(run_id).data.params
        params = [Param(metric_key(k), str(v)[:5000]) for k, v in parameters.items() if metric_key(k) not in logged]
        now = int(dt.datetime.now(dt.UTC).timestamp() * 1000)
        figures = [Metric(metric_key(k), float(v), now, 0) for k, v in metrics.items()]
        for start in range(0, max(len(params), len(figures)), 100):
            part = slice(start, start + 100)
            self._client.log_batch(run_id, metrics=figures[part], params=params[part])

    def _log_files(self, run_id: str, evidence: Evidence | None, report: Path | None, extra: Sequence[Path]) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            if report is not None:
                shutil.copyfile(report, Path(scratch, "report.html"))
            if evidence is not None:
                Path(scratch, "evidence.json").write_bytes(msgspec.json.encode(evidence))
            if report is not None or evidence is not None:
                self._client.log_artifacts(run_id, scratch)
        for path in extra:
            self._client.log_artifact(run_id, str(path), "files")

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


def _objections(evidence: Evidence | None, content_hash: str, number: str) -> list[str]:
    """Why evidence does not let a version through; empty when it does."""
    if evidence is None:
        return [f"version {number} has no evidence; judge it first (`recdistill evaluate`)"]
    reasons = []
    if evidence.content_hash != content_hash:
        reasons.append(f"the evidence is about {evidence.content_hash[:12]}, version {number} is {content_hash[:12]}")
    if not evidence.passed:
        reasons += evidence.reasons or ["the gate did not pass"]
    return reasons


def _as_version(version: ModelVersion, aliases: Mapping[str, str]) -> Version:
    made = dt.datetime.fromtimestamp((version.creation_timestamp or 0) / 1000, dt.UTC)
    return Version(
        number=str(version.version),
        content_hash=str(version.tags.get("content_hash", "")),
        aliases=sorted(a for a, n in aliases.items() if n == str(version.version)),
        reason=version.description or "",
        created_at=made.isoformat(timespec="seconds"),
        run_id=version.run_id or "",
        passed={"true": True, "false": False}.get(str(version.tags.get("passed"))),
    )
