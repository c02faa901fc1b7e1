"""Fixtures for every test: real servers, a finished demo, the shared data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.demo import DemoRun, run_demo
from support.shared import data_folder

from tools import browser as browser_support
from tools import kafka_broker
from tools.kafka_broker import KafkaBroker
from tools.mlflow_server import MlflowServer


@pytest.fixture(scope="session", autouse=True)
def _quiet_clients() -> None:
    """Keeps clients that tests and their child processes use from calling home."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")


@pytest.fixture(scope="session")
def kafka_broker_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., KafkaBroker]]:
    """Starts brokers of a test's own, for those that restart or kill one; the keywords are KafkaBroker's."""
    if (why := kafka_broker.missing_parts()) is not None:
        pytest.skip(why)
    started: list[KafkaBroker] = []

    def start(**options: Any) -> KafkaBroker:
        broker = KafkaBroker(tmp_path_factory.mktemp("kafka"), **options).start()
        started.append(broker)
        return broker

    yield start
    for broker in started:
        broker.kill()  # the data goes away: closing the logs first would only cost time


@pytest.fixture(scope="session")
def kafka_brokers(kafka_broker_factory: Callable[..., KafkaBroker]) -> str:
    """The bootstrap address of the one broker that the tests of a session share: name your topics uniquely."""
    return kafka_broker_factory().bootstrap


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of the one MLflow server that the tests of a session share: name your models uniquely."""
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as server:
        yield server.uri


@pytest.fixture(scope="session")
def browser() -> Callable[..., Any]:
    """Runs a script with a page of a real browser: see `tools.browser.run_script`."""
    if (why := browser_support.missing_parts()) is not None:
        pytest.skip(why)
    return browser_support.run_script


@pytest.fixture(scope="session")
def finished_demo(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    """A small finished demo. All workers of a run share it."""
    base = tmp_path_factory.getbasetemp()
    return run_demo((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "demo")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The public data sets, which do not ship: see `support.shared`."""
    return data_folder()
