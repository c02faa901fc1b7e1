"""The connection: what cannot be opened is one sentence, and what clashed is put again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from recdistill.cli import main
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


@contextmanager
def answering(status: int, body: bytes, *, each_s: float = 0) -> Iterator[int]:
    """A server that gives one answer to everybody, byte by byte if it is slow. Yields its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            try:
                for at in range(len(body)) if each_s else [slice(None)]:
                    self.wfile.write(body[at : at + 1] if each_s else body)
                    time.sleep(each_s)
            except OSError:
                pass  # the client has gone

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (500, b"<html>boom</html>", "cannot"),
        (401, b"", "the server refuses this user; set MLFLOW_TRACKING_USERNAME"),
        (403, b"no", "the server refuses this user; set MLFLOW_TRACKING_USERNAME"),
        (403, b"{}", "answered only {}; check the address, and set MLFLOW_TRACKING_USERNAME"),
        (200, b"[" * 100, "cannot"),
    ],
)
def test_a_server_that_refuses_gets_one_sentence_without_the_password(
    status: int, body: bytes, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with answering(status, body) as port:
        uri = f"http://bob:hunter2@127.0.0.1:{port}"
        for more in ([], ["--verbose"]):
            assert main(["versions", "--set", f"registry.uri={uri}", "--set", "registry.timeout_s=2", *more]) == 7
            error = capfd.readouterr().err
            assert "hunter2" not in error
            assert "should have explained" not in error
            assert says in error.splitlines()[-1]


def test_a_server_that_sends_a_byte_now_and_then_is_not_waited_for_for_ever() -> None:
    started = time.monotonic()
    with answering(200, b" " * 500 + b"{}", each_s=0.3) as port:
        registry = Registry(f"http://127.0.0.1:{port}", "shop", timeout_s=1)
        with pytest.raises(RegistryError, match="the server did not answer in time"):
            registry.find("champion")
    assert 3 < time.monotonic() - started < 60  # its answer takes 150 s
