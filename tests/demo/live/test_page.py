"""The server of the page: two addresses, a policy that loads nothing from elsewhere, and a port that is given back."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

import pytest

from recdistill.demo.live.page import Page
from recdistill.errors import UsageError


def test_it_serves_the_page_and_the_newest_figures() -> None:
    page = Page(0)
    with urllib.request.urlopen(page.url) as answer:
        html = answer.read().decode()
        policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "<svg" in html
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in html
    for count in (1, 2):
        page.show({"lists": count})
        with urllib.request.urlopen(page.url + "live.json") as answer:
            assert answer.read() == b'{"lists":%d}' % count
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(page.url + "etc/passwd")
    port = int(page.url.rstrip("/").rpartition(":")[2])
    with pytest.raises(UsageError, match=f"--port {port}: cannot be used .*; choose another port"):
        Page(port)
    page.close()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
