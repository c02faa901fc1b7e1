"""The connection: what cannot be opened is one sentence, and what clashed is put again."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from recdistill.errors import RegistryError
from recdistill.registry import Registry
from recdistill.registry.client import put

pytestmark = pytest.mark.mlflow


@pytest.fixture(scope="module", autouse=True)
def _mlflow():
    """Here, and not on top: it takes two seconds, which runs without these tests need not spend."""
    pytest.importorskip("mlflow", reason="mlflow is not installed (extra: registry)")


@pytest.mark.parametrize(
    "uri",
    [
        "ftp://models",
        "models",
        "",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "http://",
        "http://a:b:c",
        "file:///x",
    ],
)
def test_what_cannot_be_a_uri_is_refused_before_anything_is_opened(uri):
    with pytest.raises(RegistryError, match="not a registry URI"):
        Registry(uri, "shop")


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(RegistryError, match="is a folder"):
        Registry(f"sqlite:///{tmp_path}", "shop")


def test_a_server_that_is_down_is_one_sentence_soon_and_shows_no_password():
    registry = Registry("http://ada:secret@127.0.0.1:9", "shop", timeout_s=2)
    started = time.monotonic()
    with pytest.raises(RegistryError) as error:
        registry.find("champion")
    assert time.monotonic() - started < 15
    assert str(error.value) == (
        "http://127.0.0.1:9: cannot resolve: the server does not answer; is it running, and is the address right?"
    )


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path):
    (tmp_path / "r.sqlite").write_text("this is text, and long enough to be looked at as a header of a database")
    with pytest.raises(RegistryError, match="cannot"):
        Registry(f"sqlite:///{tmp_path}/r.sqlite", "shop").versions()


def test_what_clashed_with_the_same_by_another_process_is_put_again() -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import BAD_REQUEST, TEMPORARILY_UNAVAILABLE

    def database(*errors: int) -> tuple[list[tuple[str, ...]], Callable[..., None]]:
        calls: list[tuple[str, ...]] = []

        def call(*args: str) -> None:
            calls.append(args)
            if len(calls) <= len(errors):
                raise MlflowException("UNIQUE constraint failed", error_code=errors[len(calls) - 1])

        return calls, call

    calls, call = database(BAD_REQUEST)
    put(call, "shop", "done", "true")
    assert calls == [("shop", "done", "true")] * 2
    for errors, times in (((BAD_REQUEST, BAD_REQUEST), 2), ((TEMPORARILY_UNAVAILABLE,), 1)):
        calls, call = database(*errors)
        with pytest.raises(MlflowException):
            put(call, "shop", "done", "true")
        assert len(calls) == times
