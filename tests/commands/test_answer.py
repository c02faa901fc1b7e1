"""`recommend --url`: what is behind an address may be anything."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from recdistill.cli import main


@contextmanager
def answering(body: object) -> Iterator[str]:
    """A server that gives everybody the same JSON."""

    class Same(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Same) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "body",
    [
        {"items": ["a"], "scores": ["much"]},
        {"items": ["a"], "scores": [None]},
        {"items": None, "scores": [1.0]},
        {"items": ["a"], "scores": 1.0},
        {"items": 7},
    ],
)
def test_an_answer_that_is_none_is_one_sentence(body: object, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(body) as url:
        assert main(["recommend", "--url", url, "item-1"]) == 1
    err = capsys.readouterr().err
    assert "answered 200 with something that is not a ranker's JSON" in err
    assert err.count("\n") == 1
    with answering({"items": ["a"], "scores": [1], "bundle": "x"}) as url:
        assert main(["recommend", "--url", url]) == 0
    assert "1.0000  'a'" in capsys.readouterr().out


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/ä", "http://shop..example:1"])
def test_an_address_that_cannot_be_asked_is_one_sentence(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", "--url", url, "item-1"]) == 2
    assert f"--url {url!r}: is not an address" in capsys.readouterr().err
