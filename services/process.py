"""Runs one loop as a process: settings from the environment, logs as JSON, signals, and health over HTTP.

`python -m services.scorer` and the other processes call `main`. SIGTERM and SIGINT set the stop signal. The loop then
finishes its present work, and the process exits with 0. An error that a person can correct is logged as one sentence,
and the process exits with the error's own code. The port `RECDISTILL_HEALTH_PORT` (8081; empty turns it off) answers
`/livez`, `/readyz` and `/metrics`.

It knows nothing of what the loops do.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from recdistill.config import load_settings
from recdistill.errors import RecdistillError
from recdistill.loops import wire
from recdistill.text import without_credentials

log_ = logging.getLogger("services")


class JsonLines(logging.Formatter):
    """Writes each log record as one JSON object on a line, for log collectors."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats a record. The text of an exception goes into one field."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            # Messages of libraries may hold an address with its password.
            "message": without_credentials(record.getMessage()),
        }
        if record.exc_info:
            line["exception"] = without_credentials(self.formatException(record.exc_info))
        return json.dumps(line)


def main(name: str) -> int:
    """Runs one process until it is told to stop, and returns its exit code."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    # fbgemm writes many lines about its tables through the root logger. Nobody needs them.
    handler.addFilter(lambda record: record.name != "root" or record.levelno >= logging.WARNING)
    logging.basicConfig(level=os.environ.get("RECDISTILL_LOG_LEVEL", "INFO").upper(), handlers=[handler], force=True)
    stop, counts = threading.Event(), Counter[str]()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    health: ThreadingHTTPServer | None = None
    try:
        settings = load_settings()
        if name != "ranker":  # The ranker answers these paths on its own port.
            health = _health(name, counts)
        log_.info("%s starts", name)
        wire.JOBS[name](settings, stop, False, counts, None)
        log_.info("%s stops: %s", name, json.dumps(counts))
        return 0
    except RecdistillError as e:
        log_.error("%s: %s", name, e)  # noqa: TRY400 - one sentence for a person, without a traceback
        return e.exit_code
    except Exception:
        log_.exception("%s: an error that recdistill should have explained", name)
        return 1
    finally:
        if health is not None:
            health.shutdown()


def _health(name: str, counts: Counter[str]) -> ThreadingHTTPServer | None:
    port = os.environ.get("RECDISTILL_HEALTH_PORT", "8081")
    if not port:
        return None

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name is the standard library's
            if self.path in ("/livez", "/readyz"):
                self._answer(200, "ok\n")
            elif self.path == "/metrics":
                lines = [f"recdistill_{name}_{key}_total {value}" for key, value in sorted(dict(counts).items())]
                self._answer(200, "\n".join(lines) + "\n")
            else:
                self._answer(404, "there are /livez, /readyz and /metrics\n")

        def _answer(self, status: int, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Logs nothing, because probes come every few seconds."""

    server = ThreadingHTTPServer((os.environ.get("RECDISTILL_HEALTH_HOST", ""), int(port)), Handler)
    threading.Thread(target=server.serve_forever, daemon=True, name="health").start()
    return server
