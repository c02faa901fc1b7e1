"""Tells a web address what happened: one JSON message by POST, sent by a thread of its own, so that nothing waits.

A message is tried several times, with pauses that double. One that is refused for good (a status from 400 to 499, but
for 408 and 429) is not tried again. At most `MOST` messages wait; when there are more, the oldest is dropped. What was
not told is logged and counted. The address itself may hold a secret, so it is never logged: its host is. What goes out
has no credentials in it. A redirect is not followed.

It knows nothing of what is told.

Example:
    >>> shown("https://hooks.example/services/T0/SECRET?token=x")
    'https://hooks.example'
"""

from __future__ import annotations

import http.client
import json
import logging
import queue
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from recdistill.text import cut, without_credentials

log_ = logging.getLogger(__name__)

MOST: Final = 100
"""Messages that wait."""

LONGEST: Final = 2000
"""Characters of a text in a message."""

PAUSE_S: Final = 1.0
"""First pause before a message is sent again."""

_CLOSE_S: Final = 20.0
"""Longest wait for what is left when the process ends."""

_AGAIN: Final = {408, 429}

Tell = Callable[[str, Mapping[str, Any]], None]
"""Takes the kind of what happened, and facts."""


def nobody(_kind: str, _facts: Mapping[str, Any]) -> None:
    """Tells nobody."""


class Teller:
    """Tells one address; see the header of this module.

    Args:
        url: The address.
        on: The kinds that are told; others are passed over.
        timeout_s: Longest wait for one answer.
        tries: How often a message is sent.
        counts: Counts to add to: told, untold.
        pause_s: First pause.
    """

    def __init__(
        self,
        url: str,
        on: Collection[str],
        *,
        timeout_s: float,
        tries: int,
        counts: Counter[str],
        pause_s: float = PAUSE_S,
    ) -> None:
        self._url, self._on, self._timeout_s, self._tries = url, frozenset(on), timeout_s, tries
        self._counts, self._pause_s = counts, pause_s
        self._waiting: queue.Queue[bytes | None] = queue.Queue(MOST)
        self._ending = threading.Event()
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._thread = threading.Thread(target=self._send, daemon=True, name="tell")
        self._thread.start()

    def __call__(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Something happened. It returns at once."""
        if kind not in self._on:
            return
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        message = json.dumps({"kind": kind, "at": at, **_clean(dict(facts))}, ensure_ascii=False).encode()
        while True:
            try:
                self._waiting.put_nowait(message)
                return
            except queue.Full:
                self._drop()

    def close(self) -> None:
        """Sends what waits, for a while; the rest is untold."""
        self._waiting.put(None) if not self._waiting.full() else self._drop_for_the_end()
        self._thread.join(_CLOSE_S / 2)
        self._ending.set()
        self._thread.join(_CLOSE_S / 2)

    def _drop(self) -> None:
        try:
            self._waiting.get_nowait()
        except queue.Empty:
            return
        self._fail("too many messages wait")

    def _drop_for_the_end(self) -> None:
        self._drop()
        self._waiting.put(None)

    def _send(self) -> None:
        while (message := self._waiting.get()) is not None:
            self._send_one(message)

    def _send_one(self, message: bytes) -> None:
        why, pause_s = "", self._pause_s
        for number in range(self._tries):
            if number and self._ending.wait(pause_s):
                break
            pause_s *= 2 if number else 1
            request = urllib.request.Request(  # noqa: S310 - the settings take http and https alone
                self._url, message, {"Content-Type": "application/json", "User-Agent": "recdistill"}, method="POST"
            )
            try:
                with self._opener.open(request, timeout=self._timeout_s) as answer:
                    if answer.status < 300:
                        self._counts["told"] += 1
                        return
                    why = f"it answered {answer.status}"
            except urllib.error.HTTPError as e:
                why = f"it answered {e.code}"
                e.close()
                if 300 <= e.code < 500 and e.code not in _AGAIN:
                    break
            except http.client.HTTPException as e:
                why = f"it does not answer as a web server does ({type(e).__name__})"
            except (OSError, ValueError) as e:
                why = str(getattr(e, "reason", "")) or type(e).__name__
        self._fail(why)

    def _fail(self, why: str) -> None:
        self._counts["untold"] += 1
        log_.warning("%s was not told: %s; see tell.webhook", shown(self._url), why)


def shown(url: str) -> str:
    """What of an address may stand in a log: neither path nor query, which may hold a secret, nor a password."""
    parts = urlsplit(url)
    host = parts.hostname or "?"
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _clean(value: Any) -> Any:
    """Facts without credentials, and no text longer than `LONGEST`."""
    if isinstance(value, str):
        return cut(without_credentials(value), LONGEST)
    if isinstance(value, Mapping):
        return {str(name): _clean(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(part) for part in value[:MOST]]
    return value
