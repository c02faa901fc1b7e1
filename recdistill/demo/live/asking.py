"""Asks the ranker over HTTP to order lists, as a product does, and counts answers, failures and times.

It knows nothing of logs or of how students are made.

Example:
    >>> nobody = Asking("127.0.0.1", 9, lambda content_hash: 0.0)
    >>> nobody(Impression("i", 5, candidates=())) is None, nobody.requests, nobody.failures
    (True, 0, 0)
"""

from __future__ import annotations

import http.client
import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from recdistill.records import Impression

_KEPT: Final = 2000  # the newest times of answers that p50 and p99 are made from


class Asking:
    """The champion as it is served.

    Args:
        host: Where the ranker listens.
        port: Its port.
        made_s: When the bundle with a content hash was made, in seconds since 1970; infinite where it is not known.
    """

    def __init__(self, host: str, port: int, made_s: Callable[[str], float]) -> None:
        self._address = (host, port)
        self._made_s = made_s
        self._connection: http.client.HTTPConnection | None = None
        self._times_ms: deque[float] = deque(maxlen=_KEPT)
        self.ready = False
        self.requests = self.failures = self.knew = 0
        self.bundle = ""
        self.latest: dict[str, Any] | None = None

    def __call__(self, impression: Impression) -> NDArray[Any] | None:
        """Scores of the candidates; None where there is no champion yet, or no honest answer.

        An answer is left out when its bundle was made after the list came: then it may have learnt from the list.
        """
        if not self.ready and not self._is_ready():
            return None
        body = json.dumps(
            {
                "candidates": [candidate.item for candidate in impression.candidates],
                "history": [msgspec.to_builtins(event) for event in impression.history],
                "context": impression.context,
                "time_us": impression.time_us,
            }
        )
        self.latest = {
            "history": [event.item for event in impression.history],
            "times_us": [event.time_us for event in impression.history],
            "time_us": impression.time_us,
            "context": impression.context,
        }
        self.requests += 1
        began = time.perf_counter()
        status, answer = self._send("POST", "/v1/rank", body)
        if status != 200:
            self.failures += 1
            return None
        self._times_ms.append(1000 * (time.perf_counter() - began))
        self.bundle = str(answer["bundle"])
        if self._made_s(self.bundle) > impression.time_us / 1e6:
            self.knew += 1
            return None
        given = dict(zip(answer["items"], answer["scores"], strict=True))
        return np.array([given.get(candidate.item, np.nan) for candidate in impression.candidates], np.float64)

    def percentiles(self) -> tuple[float, float] | None:
        """p50 and p99 of the newest answers, in milliseconds."""
        if not self._times_ms:
            return None
        p50, p99 = np.percentile(list(self._times_ms), [50, 99])
        return float(p50), float(p99)

    def close(self) -> None:
        """Gives back the connection."""
        if self._connection is not None:
            self._connection.close()

    def _is_ready(self) -> bool:
        self.ready = self._send("GET", "/readyz", None)[0] == 200
        return self.ready

    def _send(self, method: str, path: str, body: str | None) -> tuple[int, Any]:
        """The status and the answer; 0 where nobody answers."""
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(*self._address, timeout=10)
            headers = {"Content-Type": "application/json"} if body else {}
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            data = response.read()
            return response.status, json.loads(data) if body and response.status == 200 else None
        except (OSError, http.client.HTTPException, ValueError):
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            return 0, None
