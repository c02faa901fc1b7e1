"""The tracking server fixture is a real server: what is logged over HTTP comes back over HTTP."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

pytestmark = [pytest.mark.mlflow, pytest.mark.slow]


def test_an_artifact_and_an_alias_come_back(mlflow_server: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=mlflow_server)
    name = f"model-{uuid.uuid4().hex}"
    run = client.create_run(client.create_experiment(name))
    source = tmp_path / "manifest.json"
    source.write_text("{}")
    client.log_artifact(run.info.run_id, str(source), "bundle")
    client.create_registered_model(name)
    version = client.create_model_version(name, source=f"{run.info.artifact_uri}/bundle", run_id=run.info.run_id)
    client.set_registered_model_alias(name, "champion", version.version)

    assert client.get_model_version_by_alias(name, "champion").version == version.version
    fetched = Path(client.download_artifacts(run.info.run_id, "bundle/manifest.json", str(tmp_path / "back")))
    assert fetched.read_text() == "{}"
