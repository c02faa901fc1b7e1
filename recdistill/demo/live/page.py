"""The page of the live demo: one file, and one address with the newest figures as JSON.

It knows nothing of what the figures mean.

Example:
    >>> from urllib.request import urlopen
    >>> page = Page(0, name="live")
    >>> page.show({"lists": 3})
    >>> with urlopen(page.url + "live.json") as answer:
    ...     print(answer.read())
    b'{"lists":3}'
    >>> page.close()
"""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any, Final

import msgspec

from recdistill.errors import UsageError

POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Page:
    """Serves the page on a local port, in a thread.

    Args:
        port: The port; 0 takes a free one.
        name: Of the page, NAME.html, and of the address with the figures, NAME.json.

    Raises:
        UsageError: The port cannot be used.
    """

    def __init__(self, port: int, *, name: str = "live") -> None:
        self._figures = b"{}"
        html = resources.files("recdistill.demo.live").joinpath(f"{name}.html").read_bytes()
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/":
                    self._answer(200, "text/html; charset=utf-8", html)
                elif path == f"/{name}.json":
                    self._answer(200, "application/json", page._figures)
                else:
                    self._answer(404, "text/plain", f"there are / and /{name}.json\n".encode())

            def _answer(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.send_header("Content-Security-Policy", POLICY)
                self.send_header("X-Content-Type-Options", "nosniff")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Says nothing: the demo has the terminal."""

        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        except (OSError, OverflowError) as e:
            raise UsageError(f"--port {port}: cannot be used ({e}); choose another port") from e
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True, name="page")
        self._thread.start()

    def show(self, figures: Any) -> None:
        """The figures from now on."""
        self._figures = msgspec.json.encode(figures)

    def close(self) -> None:
        """Gives the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
