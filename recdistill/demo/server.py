"""Runs `recdistill serve` in its own process, and sends it real requests.

It knows nothing of models.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from recdistill.config import Settings
from recdistill.errors import RecdistillError
from recdistill.records import Impression


class Server:
    """`recdistill serve` in its own process."""

    def __init__(self, settings: Settings) -> None:
        self.address = (settings.rank.host, settings.rank.port)
        config = Path(settings.features.file).with_name("settings.toml")
        self.command = ["recdistill", "serve", "--config", str(config)]
        self._log = config.with_name("serve.log")
        # Not a pipe: nobody would read it, and a process that writes into a full one stands still.
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self.command], stdout=subprocess.DEVNULL, stderr=log
            )
        self._wait_until_ready()

    @property
    def url(self) -> str:
        """The address at which it answers."""
        return f"http://{self.address[0]}:{self.address[1]}"

    def ask(self, requests: Sequence[Impression]) -> tuple[list[list[str]], dict[str, float]]:
        """Sends the requests one by one on one connection. Returns the top tens and the latency in milliseconds."""
        connection = http.client.HTTPConnection(*self.address, timeout=10)
        answers, times_ms = [], []
        for impression in requests:
            body = json.dumps(body_of(impression)).encode()
            started = time.perf_counter()
            connection.request("POST", "/v1/recommend", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            data = response.read()
            times_ms.append(1000 * (time.perf_counter() - started))
            if response.status != 200:
                raise RecdistillError(f"the ranker answered {response.status}: {data.decode(errors='replace')[:300]}")
            answers.append(json.loads(data)["items"])
        connection.close()
        p50, p99 = np.percentile(times_ms, [50, 99])
        return answers, {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}

    def end(self, *, keep: bool) -> None:
        """Stops the process. With `keep`, it waits for Ctrl-C first."""
        try:
            if keep:
                print(f"\nServing at {self.url} until Ctrl-C.", file=sys.stderr)
                self._process.wait()
        except KeyboardInterrupt:
            pass
        finally:
            self._process.terminate()
            self._process.wait(timeout=20)

    def _wait_until_ready(self, limit_s: float = 60.0) -> None:
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                errors = self._log.read_text(encoding="utf-8", errors="replace")
                raise RecdistillError(
                    f"the ranker ended: {errors.strip().splitlines()[-1] if errors.strip() else 'no message'}"
                )
            try:
                connection = http.client.HTTPConnection(*self.address, timeout=2)
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        self._process.terminate()
        raise RecdistillError(f"the ranker was not ready after {limit_s:.0f} s")


def body_of(impression: Impression) -> dict[str, Any]:
    """The request of an impression, in the form that `/v1/recommend` takes."""
    return {
        "history": [msgspec.to_builtins(event) for event in impression.history],
        "context": impression.context,
        "exclude": list(impression.exclude),
        "time_us": impression.time_us,
        "k": 10,
    }
