"""A registry of each kind, with a name of its own for each test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.registries import judged, make_bundle

from recdistill.registry import Registry


@pytest.fixture(name="uri", params=["sqlite", "server"], scope="session")
def _uri(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("mlflow", reason="mlflow is not installed (extra: registry)")
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('registry')}/mlflow.sqlite"
    return str(request.getfixturevalue("mlflow_server"))


@pytest.fixture(name="registry")
def _registry(uri: str, request: pytest.FixtureRequest) -> Registry:
    return Registry(uri, f"r.{re.sub('[^a-z0-9]', '-', request.node.name.lower())}")


@pytest.fixture(name="two")
def _two(registry: Registry, tmp_path: Path) -> list[str]:
    """Two published versions that passed, and their numbers."""
    bundles = [make_bundle(tmp_path / name, name) for name in ("one", "two")]
    return [registry.publish(b, judged(b)).number for b in bundles]
