"""A small schema registry: a real HTTP server that speaks the documented protocol, and can misbehave.

It knows nothing of what asks it.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

Misbehave = Callable[[BaseHTTPRequestHandler], bool]
"""Answers in a way of its own; False leaves it to the registry."""


class Schemas:
    """What the registry holds, and what it was asked.

    Attributes:
        asked: Paths, in their order.
        misbehave: Is asked first.
        login: What `Authorization` must be; empty: anything.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.misbehave: Misbehave = lambda _: False
        self.login = ""
        self.url = ""
        self._ids: dict[int, dict[str, Any]] = {}
        self._subjects: dict[tuple[str, int], int] = {}

    def add(
        self,
        text: str | dict[str, Any],
        kind: str = "AVRO",
        *,
        serialized: bytes | None = None,
        subject: str = "views-value",
        references: list[dict[str, Any]] | None = None,
    ) -> int:
        """Adds a schema. Returns its id."""
        number = len(self._ids) + 1
        version = 1 + sum(name == subject for name, _ in self._subjects)
        schema: dict[str, Any] = {"schema": text if isinstance(text, str) else json.dumps(text)}
        if kind != "AVRO":
            schema["schemaType"] = kind
        if references:
            schema["references"] = references
        if serialized is not None:
            schema["serialized"] = base64.b64encode(serialized).decode()
        self._ids[number] = schema
        self._subjects[subject, version] = number
        return number

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        """The answer to a path."""
        parts = urlsplit(path)
        words = [unquote(word) for word in parts.path.strip("/").split("/")]
        number = None
        if words[:2] == ["schemas", "ids"] and len(words) == 3:
            number = int(words[2])
        elif words[0] == "subjects" and words[2] == "versions" and len(words) == 4:
            number = self._subjects.get((words[1], int(words[3])))
        if number not in self._ids:
            return 404, {"error_code": 40403, "message": "Schema not found"}
        found = dict(self._ids[cast(int, number)])
        serialized = found.pop("serialized", None)
        if parse_qs(parts.query).get("format") == ["serialized"] and serialized is not None:
            found["schema"] = serialized
        return 200, found


@contextmanager
def schema_registry() -> Iterator[Schemas]:
    """Runs a registry until the end of the block."""
    schemas = Schemas()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            schemas.asked.append(self.path)
            if schemas.misbehave(self):
                return
            if schemas.login and self.headers.get("Authorization") != schemas.login:
                status, found = 401, {"error_code": 401, "message": "Unauthorized"}
            else:
                status, found = schemas.answer(self.path)
            body = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    schemas.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield schemas
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
