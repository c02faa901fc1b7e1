"""The page of the live demo: one file, the newest figures as JSON, acts, and the device file of the champion.

Another page in the same browser must not act here. So an act needs a header that a foreign page cannot send without
asking, and every request must name this machine.

It knows nothing of what the figures mean or what an act does.

Example:
    >>> from urllib.request import urlopen
    >>> page = Page(0)
    >>> page.show({"lists": 3})
    >>> with urlopen(page.url + "live.json") as answer:
    ...     print(answer.read())
    b'{"lists":3}'
    >>> page.close()
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import msgspec

from recdistill.errors import RecdistillError, UsageError

POLICY: Final = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

ACT_HEADER: Final = "X-Recdistill-Act"
"""Its value is the name of the act. A browser asks first before it sends such a header from another page."""

RUNTIME: Final = {
    "ort.wasm.min.mjs": "text/javascript",
    "ort-wasm-simd-threaded.mjs": "text/javascript",
    "ort-wasm-simd-threaded.wasm": "application/wasm",
}
"""What a browser needs of onnxruntime-web, and of which kind each file is."""

_TEXT: Final = "text/plain; charset=utf-8"
_LOOK_S: Final = 0.05  # how often the server looks whether it is to end
_ELSEWHERE: Final = (403, _TEXT, b"this page is for its own machine\n")


_Answer = tuple[int, str, bytes]
"""Status, kind and body."""


class Page:
    """Serves the page on a local port, in a thread.

    Args:
        port: The port; 0 takes a free one.
        act: Called with the name of an act; False: there is none, or it cannot be now.
        device: Gives the device file of what serves now.
        runtime: The folder with onnxruntime-web. None: it is not installed.
        name: Of the page, NAME.html, and of the address with the figures, NAME.json.

    Raises:
        UsageError: The port cannot be used.
    """

    def __init__(
        self,
        port: int,
        *,
        act: Callable[[str], bool] = lambda _: False,
        device: Callable[[], bytes | None] = lambda: None,
        runtime: Path | None = None,
        name: str = "live",
    ) -> None:
        self._name = name
        self._act, self._device, self._runtime = act, device, runtime
        self._figures = b"{}"
        self._html = resources.files("recdistill.demo.live").joinpath(f"{name}.html").read_bytes()
        handler = type("Handler", (_Handler,), {"page": self, "timeout": 30.0})
        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        except (OSError, OverflowError) as e:
            raise UsageError(f"--port {port}: cannot be used ({e}); choose another port") from e
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_LOOK_S,), daemon=True, name="page")
        self._thread.start()

    def show(self, figures: Mapping[str, Any]) -> None:
        """The figures from now on."""
        self._figures = msgspec.json.encode(figures)

    def close(self) -> None:
        """Gives the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def get(self, path: str) -> _Answer:
        """The answer to a GET."""
        if path == "/":
            return 200, "text/html; charset=utf-8", self._html
        if path == f"/{self._name}.json":
            return 200, "application/json", self._figures
        if path == "/device.onnx":
            return self._device_file()
        if path.startswith("/ort/") and self._runtime is not None and path[5:] in RUNTIME:
            return 200, RUNTIME[path[5:]], (self._runtime / path[5:]).read_bytes()
        return self._nothing()

    def post(self, path: str, act: str) -> _Answer:
        """The answer to a POST that asks for an act."""
        if path != "/act":
            return self._nothing()
        if not self._act(act):
            return 409, _TEXT, b"there is no such act, or too many wait\n"
        return 202, _TEXT, b"it will be done\n"

    def _nothing(self) -> _Answer:
        return 404, _TEXT, f"there are / and /{self._name}.json\n".encode()

    def _device_file(self) -> _Answer:
        try:
            made = self._device()
        except RecdistillError as e:
            return 503, _TEXT, f"{e}\n".encode()
        return (404, _TEXT, b"nothing serves yet\n") if made is None else (200, "application/octet-stream", made)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    page: Page

    def do_GET(self) -> None:
        self._answer(self.page.get(self.path.partition("?")[0]) if self._is_here() else _ELSEWHERE)

    def do_POST(self) -> None:
        if not self._is_here():
            self._answer(_ELSEWHERE)
        elif (act := self.headers.get(ACT_HEADER)) is None:
            self._answer((403, _TEXT, f"an act needs the header {ACT_HEADER}\n".encode()))
        else:
            self._answer(self.page.post(self.path, act))

    def _is_here(self) -> bool:
        """Whether the request names this machine; a name of somebody else may point here too."""
        return self.headers.get("Host", "").rpartition(":")[0] in ("127.0.0.1", "localhost")

    def _answer(self, answer: _Answer) -> None:
        status, kind, body = answer
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


def ask_live(port: int, name: str) -> None:
    """Asks a running demo for an act.

    Args:
        port: The port of its page.
        name: The act.

    Raises:
        UsageError: No demo answers there, or it cannot do this now.
    """
    request = Request(f"http://127.0.0.1:{port}/act", b"", {ACT_HEADER: name}, method="POST")
    try:
        with urlopen(request, timeout=10):  # noqa: S310 - always http
            return
    except HTTPError as e:
        with e:
            raise UsageError(f"--act {name}: the demo says: {e.read(200).decode(errors='replace').strip()}") from e
    except OSError as e:
        raise UsageError(
            f"--act {name}: no demo answers on port {port}; start one with `recdistill demo --live --port {port}`"
        ) from e
