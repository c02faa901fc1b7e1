"""What MLflow's pages show of a version: its run, with parameters, figures, report, evidence and other files.

It knows nothing of aliases, the ledger or the store of bundles.

Example:
    >>> FILES
    'files'
"""

from __future__ import annotations

import datetime as dt
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from recdistill.errors import RegistryError
from recdistill.registry.client import Connection, metric_key
from recdistill.registry.structs import Evidence

FILES: Final = "files"
BUNDLE: Final = "bundle"
"""Folder of a run: the bundle's manifest; in versions that older versions of recdistill made, the whole bundle."""


class Runs:
    """The runs of one registered model. Methods raise what MLflow raises: callers stand inside `Connection.talk`."""

    def __init__(self, connection: Connection, model: str) -> None:
        self._connection, self._client, self._model = connection, connection.client, model

    def new(self, content_hash: str) -> str:
        """Makes the run of a new version; returns its id."""
        experiment_id = experiment(self._connection, self._model, self._connection.artifacts)
        run = self._client.create_run(experiment_id, run_name=content_hash[:12], tags={"content_hash": content_hash})
        return str(run.info.run_id)

    def log_figures(self, run_id: str, parameters: Mapping[str, object], metrics: Mapping[str, float]) -> None:
        """Logs settings and figures."""
        from mlflow.entities import Metric, Param

        # A logged parameter cannot change. A long one is cut; the bundle itself holds all of it.
        logged = self._client.get_run(run_id).data.params
        params = [Param(metric_key(k), str(v)[:5000]) for k, v in parameters.items() if metric_key(k) not in logged]
        now = int(dt.datetime.now(dt.UTC).timestamp() * 1000)
        figures = [Metric(metric_key(k), float(v), now, 0) for k, v in metrics.items()]
        for start in range(0, max(len(params), len(figures)), 100):
            part = slice(start, start + 100)
            self._client.log_batch(run_id, metrics=figures[part], params=params[part])

    def log_files(
        self, run_id: str, manifest: Path, evidence: Evidence | None, report: Path | None, extra: Sequence[Path]
    ) -> None:
        """Logs the manifest, the report, the evidence, and other files under `files/`."""
        with tempfile.TemporaryDirectory() as scratch:
            if report is not None:
                shutil.copyfile(report, Path(scratch, "report.html"))
            if evidence is not None:
                Path(scratch, "evidence.json").write_bytes(msgspec.json.encode(evidence))
            if report is not None or evidence is not None:
                self._client.log_artifacts(run_id, scratch)
        self._client.log_artifact(run_id, str(manifest), BUNDLE)
        for path in extra:
            self._client.log_artifact(run_id, str(path), FILES)

    def links(self, run_id: str, report: Path | None, extra: Sequence[Path]) -> dict[str, str]:
        """Where MLflow's pages show a run, its report and its other files: name -> address on the same server."""
        base = f"#/experiments/{self._client.get_run(run_id).info.experiment_id}/runs/{run_id}"
        found = {"run": base}
        if report is not None:
            found["report"] = f"{base}/artifacts/report.html"
        return found | {path.name: f"{base}/artifacts/{FILES}/{quote(path.name)}" for path in extra}

    def show(self, run_id: str, path: Path) -> dict[str, str]:
        """Logs a file of a run, and says where MLflow's pages show the run and the file: name -> address."""
        self._client.log_artifact(run_id, str(path))
        found = self.links(run_id, None, ())
        return found | {path.stem: f"{found['run']}/artifacts/{quote(path.name)}"}

    def end(self, run_id: str) -> None:
        """Says that the run is complete."""
        self._client.set_terminated(run_id)

    def place(self, run_id: str) -> str:
        """Where the run's files lie."""
        return str(self._client.get_run(run_id).info.artifact_uri)


def experiment(connection: Connection, name: str, location: str | None) -> str:
    """The id of an experiment, which is made if there is none.

    Args:
        connection: The registry.
        name: Its name.
        location: Where its files go if it is made now; None: the server decides.

    Raises:
        RegistryError: It was made but cannot be found.
    """
    from mlflow.exceptions import MlflowException

    client = connection.client
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            client.create_experiment(name, artifact_location=location)
        except MlflowException as e:
            # Another process may have made it since.
            if e.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = client.get_experiment_by_name(name)
    if found is None:
        raise RegistryError(f"{connection.shown}: experiment {name!r} was made but cannot be found")
    return str(found.experiment_id)
