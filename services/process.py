"""Runs one loop as a process: settings from the environment, logs as JSON, signals, and health over HTTP.

`python -m services.scorer` and the other processes call `main`. SIGTERM and SIGINT set the stop signal. The loop then
finishes its present work, and the process exits with 0. An error that a person can correct is logged as one sentence,
and the process exits with the error's own code. The port `RECDISTILL_HEALTH_PORT` (8081; empty turns it off) answers
`/livez`, `/readyz` and `/metrics`. It listens on `RECDISTILL_HEALTH_HOST` (127.0.0.1; the images say 0.0.0.0, because
the probes of Kubernetes and Prometheus come from outside).

`/readyz` is true only while the loop lives: not before it has begun, nor when it has ended, nor when it has been silent
for longer than `RECDISTILL_HEALTH_SILENT_S` (300). A loop that waits for its next round is not silent.

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
from functools import partial

from recdistill.config import load_settings
from recdistill.errors import ConfigError, RecdistillError
from recdistill.hops import Counts
from recdistill.loops import wire
from recdistill.text import without_credentials
from services.health import Health
from services.pulse import Pulse

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
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    counts, ended = Counts(), list[str]()
    logging.captureWarnings(True)

    def thread_ended(what: threading.ExceptHookArgs) -> None:
        """Python would write a traceback that is no JSON line, and nobody else would hear of it."""
        thread = what.thread.name if what.thread else "?"
        ended.append(f"the thread {thread!r} has ended; restart the process")
        error = what.exc_value or what.exc_type()
        log_.error("%s: the thread %r has ended on an error", name, thread, exc_info=error)

    threading.excepthook = thread_ended
    health: Health | None = None
    pulse: Pulse | None = None
    try:
        logging.getLogger().setLevel(_level())
        pulse = Pulse(_silent_s())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, partial(_told_to_stop, pulse))
        settings = load_settings()
        if name != "ranker":  # The ranker answers these paths on its own port.
            health = _health(name, counts, ended, pulse)
        log_.info("%s starts", name)
        wire.JOBS[name](settings, pulse, False, counts, pulse)
        log_.info("%s stops: %s", name, json.dumps(counts))
        return 0
    except RecdistillError as e:
        log_.error("%s: %s", name, e)  # noqa: TRY400 - one sentence for a person, without a traceback
        return e.exit_code
    except Exception:
        log_.exception("%s: an error that recdistill should have explained", name)
        return 1
    finally:
        if pulse is not None:
            pulse.end("the loop has ended")
        if health is not None:
            health.close()


def _told_to_stop(pulse: Pulse, _number: int, _frame: object) -> None:
    pulse.ask()


def _level() -> str:
    text = os.environ.get("RECDISTILL_LOG_LEVEL", "INFO").upper()
    if text not in logging.getLevelNamesMapping():
        raise ConfigError(f"RECDISTILL_LOG_LEVEL: must be DEBUG, INFO, WARNING, ERROR or CRITICAL, not {text!r}")
    return text


def _silent_s() -> float:
    text = os.environ.get("RECDISTILL_HEALTH_SILENT_S", "300")
    try:
        if (seconds := float(text)) > 0:
            return seconds
    except ValueError:
        pass
    raise ConfigError(f"RECDISTILL_HEALTH_SILENT_S: must be a number of seconds above 0, not {text!r}")


def _health(name: str, counts: Counts, ended: list[str], pulse: Pulse) -> Health | None:
    port = os.environ.get("RECDISTILL_HEALTH_PORT", "8081")
    if not port:
        return None
    if not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ConfigError(f"RECDISTILL_HEALTH_PORT: must be a port from 0 to 65535, or empty, not {port!r}")

    def live() -> tuple[int, str]:
        return 200, "ok\n"

    def ready() -> tuple[int, str]:
        troubles = [*ended, *filter(None, [pulse.trouble()])]
        return (503, "\n".join(troubles) + "\n") if troubles else (200, "ok\n")

    def metrics() -> tuple[int, str]:
        lines = [f"recdistill_{name}_{key}_total {value}" for key, value in sorted(dict(counts).items())]
        lines += counts.lines()
        lines.append(f"recdistill_ready {int(ready()[0] == 200)}")
        return 200, "\n".join(lines) + "\n"

    # Whoever wants to be asked from another machine says so: what a worker counts is nobody else's business.
    host = os.environ.get("RECDISTILL_HEALTH_HOST", "127.0.0.1")
    return Health(host, int(port), {"/livez": live, "/readyz": ready, "/metrics": metrics})
