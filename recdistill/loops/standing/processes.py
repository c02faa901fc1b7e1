r"""Asks processes how they are: `/readyz` and `/metrics` of the addresses that somebody has named.

It knows nothing of what a process does.

Example:
    >>> counts_of("# HELP x y\nrecdistill_scorer_rankings_total 7\nrecdistill_ready 1\n")
    {'recdistill_scorer_rankings_total': 7.0, 'recdistill_ready': 1.0}
    >>> hops_of({'recdistill_newest_event_seconds{hop="scored"}': 5.0, 'recdistill_passed_at_seconds{hop="scored"}': 7})
    {'scored': (5000000, 7000000)}
"""

from __future__ import annotations

import http.client
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from msgspec import Struct

from recdistill.errors import ConfigError
from recdistill.hops import HOPS, NEWEST, PASSED, Hop

MOST: Final = 1 << 20
"""Bytes of an answer that are read."""


class ProcessAt(Struct, frozen=True, kw_only=True):
    """What a process says of itself.

    Attributes:
        name: As the settings name it.
        address: Host and port.
        ready: Whether it is ready; None: it does not answer.
        says: Why it is not ready, or why there is no answer.
        counts: Its counts and gauges, by name.
        hops: Time of the newest event that passed each of its hops, and when that passed, in microseconds.
    """

    name: str
    address: str
    ready: bool | None = None
    says: str = ""
    counts: dict[str, float] = {}
    hops: dict[Hop, tuple[int, int]] = {}


def asked(addresses: Mapping[str, str], timeout_s: float = 2.0) -> list[ProcessAt]:
    """Asks processes, all at once.

    Args:
        addresses: `host:port` by name.
        timeout_s: Longest wait for each answer.

    Raises:
        ConfigError: An address is none.
    """
    parts = {name: _parts(name, address) for name, address in addresses.items()}
    if not parts:
        return []
    with ThreadPoolExecutor(min(16, len(parts))) as pool:
        return list(pool.map(lambda name: _asked(name, *parts[name], timeout_s), parts))


def counts_of(text: str) -> dict[str, float]:
    """Counts and gauges of a process, without its buckets."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if not name or line.startswith("#") or "_bucket{" in name:
            continue
        try:
            number = float(value)
        except ValueError:
            continue
        if math.isfinite(number):  # JSON has no others
            found[name] = number
    return found


def hops_of(counts: Mapping[str, float]) -> dict[Hop, tuple[int, int]]:
    """What the counts say of the hops."""
    found: dict[Hop, tuple[int, int]] = {}
    for hop in HOPS:
        newest, at = (counts.get(f'{name}{{hop="{hop}"}}') for name in (NEWEST, PASSED))
        if newest is not None and at is not None and math.isfinite(newest) and math.isfinite(at):
            found[hop] = (round(newest * 1e6), round(at * 1e6))
    return found


def _parts(name: str, address: str) -> tuple[str, int]:
    host, colon, port = address.removeprefix("http://").rstrip("/").rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ConfigError(f"status.processes.{name}: must be host:port, as in scorer:8081, not {address!r}")
    return host, int(port)


def _asked(name: str, host: str, port: int, timeout_s: float) -> ProcessAt:
    address = f"{host}:{port}"
    try:
        status, text = _get(host, port, "/readyz", timeout_s)
        metrics, shown = _get(host, port, "/metrics", timeout_s)
    except (OSError, UnicodeError, http.client.HTTPException) as e:  # UnicodeError: the host is no name
        return ProcessAt(name=name, address=address, says=f"does not answer ({str(e) or type(e).__name__})")
    counts = counts_of(shown) if metrics == 200 else {}
    says = "" if status == 200 else " ".join(text.split())[:300]
    return ProcessAt(name=name, address=address, ready=status == 200, says=says, counts=counts, hops=hops_of(counts))


def _get(host: str, port: int, path: str, timeout_s: float) -> tuple[int, str]:
    connection = http.client.HTTPConnection(host.strip("[]"), port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(MOST).decode("utf-8", errors="replace")
    finally:
        connection.close()
