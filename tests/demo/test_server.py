"""The process that serves in a demo: what it writes must not stop it, and is there to be read."""

from __future__ import annotations

import http.client
import sys
from pathlib import Path

import pytest

from recdistill.config import FeatureSettings, RankSettings, Settings
from recdistill.demo import server
from recdistill.demo.server import Server
from recdistill.errors import RecdistillError
from tools import processes

WRITES_MUCH = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        for _ in range(3000):
            sys.stderr.write("clients were refused or cut off: " + 70 * "x" + "\\n")
        sys.stderr.flush()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
"""


def stand_in(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a demo in a folder whose server runs this code."""
    (port,) = processes.free_ports(1)
    (folder / "code.py").write_text(code.replace("PORT", str(port)), encoding="utf-8")
    python = folder / "python"
    python.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{folder / 'code.py'}'\n", encoding="utf-8")
    python.chmod(0o755)
    monkeypatch.setattr(server.sys, "executable", str(python))
    return Settings(features=FeatureSettings(file=str(folder / "features.toml")), rank=RankSettings(port=port))


def test_it_answers_however_much_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that nobody reads holds 64 kB; then whoever writes into it stands still."""
    settings = stand_in(tmp_path, WRITES_MUCH, monkeypatch)
    one = Server(settings)
    try:
        for _ in range(3):
            connection = http.client.HTTPConnection(*one.address, timeout=10)
            connection.request("GET", "/")
            assert connection.getresponse().status == 200
            connection.close()
    finally:
        one.end(keep=False)
    assert (tmp_path / "serve.log").stat().st_size > 1_000_000


def test_it_says_why_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = stand_in(tmp_path, "import sys; sys.exit('a line\\nerror: rank.port is taken')", monkeypatch)
    with pytest.raises(RecdistillError, match=r"the ranker ended: error: rank\.port is taken"):
        Server(settings)
