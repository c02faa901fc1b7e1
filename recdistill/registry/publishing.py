"""Publishing: a bundle becomes a version with its run, and the version becomes the candidate.

It knows nothing of how a champion changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from recdistill.bundle import Bundle
from recdistill.errors import RegistryError
from recdistill.registry.aliases import CHAMPION, Aliases
from recdistill.registry.runs import BUNDLE, Runs
from recdistill.registry.store import MANIFEST, Store
from recdistill.registry.structs import Evidence, Version
from recdistill.registry.versions import STORE, WHERE, Versions, as_version


def check(bundle: Bundle, evidence: Evidence | None, files: Sequence[Path]) -> None:
    """What must hold before anything is sent.

    Raises:
        RegistryError: A file is missing, or the evidence is about other content.
    """
    if evidence is not None and evidence.content_hash != bundle.content_hash:
        about = evidence.content_hash[:12]
        raise RegistryError(
            f"{bundle.path}: the evidence is about {about}, the bundle is {bundle.content_hash[:12]}; judge it"
        )
    for path in files:
        if not path.is_file():
            raise RegistryError(f"{path}: no such file to publish with the bundle")


class Publishing:
    """Makes versions. Methods raise what MLflow raises: their callers stand inside `Connection.talk`."""

    def __init__(self, versions: Versions, runs: Runs, store: Store, aliases: Aliases) -> None:
        self._versions, self._runs, self._store, self._aliases = versions, runs, store, aliases

    def publish(
        self,
        bundle: Bundle,
        evidence: Evidence | None,
        *,
        report: Path | None,
        extra_files: Sequence[Path],
        parameters: Mapping[str, object],
        metrics: Mapping[str, float],
    ) -> Version:
        """Makes the bundle's version, or brings the one that is there up to date; see `Registry.publish`."""
        content_hash = bundle.content_hash
        tags = {"content_hash": content_hash, WHERE: STORE}
        if evidence is not None:
            tags |= {"evidence": msgspec.json.encode(evidence).decode(), "passed": str(evidence.passed).lower()}
        known = self._versions.of(content_hash)
        self._store.put(bundle, again=known is not None)
        run_id = str(known.run_id) if known else self._runs.new(content_hash)
        self._runs.log_figures(run_id, parameters, {**(evidence.metrics if evidence else {}), **metrics})
        self._runs.log_files(run_id, bundle.path / MANIFEST, evidence, report, extra_files)
        self._runs.end(run_id)
        if known is None:
            number = self._versions.make(run_id, f"runs:/{run_id}/{BUNDLE}", tags)  # MLflow wants a source in the run
        else:
            number = str(known.version)
            self._versions.tag(number, tags)
        # A champion that is judged again stays champion, with the reason that it was promoted for.
        if number != self._aliases.all().get(CHAMPION):
            if evidence is not None:
                verdict = "passed the gate: " if evidence.passed else "did not pass the gate: "
                judged = f"; judged on {evidence.lists}" if evidence.lists else ""
                links = self._runs.links(run_id, report, extra_files)
                self._versions.say(number, verdict + "; ".join(evidence.reasons) + judged, links)
            self._aliases.nominate(number)
        # Who gives space back may have dropped this very bundle just before the alias was set.
        if not self._store.has(content_hash) or self._versions.get(number).tags.get(WHERE) != STORE:
            self._store.put(bundle)
            self._runs.log_files(run_id, bundle.path / MANIFEST, evidence, report, extra_files)
            self._versions.tag(number, {WHERE: STORE})
        return as_version(self._versions.get(number), self._aliases.all())

    def show(self, number: str, path: Path) -> None:
        """Shows a file beside a version; see `Registry.show`."""
        run_id = str(self._versions.get(number).run_id)
        self._versions.link(number, self._runs.show(run_id, path))
