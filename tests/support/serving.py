"""A ranker in a thread of the test, and a registry in memory that it follows.

It knows nothing of MLflow.

Example:
    >>> Shop().find("champion") is None
    True
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from recdistill.bundle import Bundle, open_bundle
from recdistill.config import Settings
from recdistill.errors import RegistryError
from recdistill.hops import Counts
from recdistill.loops import endpoint
from recdistill.registry import BundleRef


class Shop:
    """A registry in memory, as a ranker sees one."""

    def __init__(self) -> None:
        self.away = False
        self.champion: BundleRef | None = None
        self.previous: BundleRef | None = None
        self.canary: BundleRef | None = None
        self.folders: dict[str, Path] = {}
        self.fetched: list[str] = []
        self.looks = 0

    def ref(self, number: str, bundle: Bundle) -> BundleRef:
        """What an alias would stand for."""
        self.folders[bundle.content_hash] = bundle.path
        return BundleRef(number=number, content_hash=bundle.content_hash, uri="")

    def promote(self, number: str, bundle: Bundle) -> None:
        """From now on this bundle is the champion."""
        self.champion = self.ref(number, bundle)

    def find(self, alias: str) -> BundleRef | None:
        """What an alias stands for.

        Raises:
            RegistryError: It is away.
        """
        if self.away:
            raise RegistryError("the server does not answer")
        self.looks += alias == "champion"
        return {"champion": self.champion, "previous": self.previous, "canary": self.canary}[alias]

    def fetch(self, ref: BundleRef, _into: Path) -> Bundle:
        """The bundle of a version."""
        self.fetched.append(ref.content_hash)
        return open_bundle(self.folders[ref.content_hash])


@contextmanager
def running(settings: Settings, **more: Any) -> Iterator[tuple[httpx.Client, Counter[str]]]:
    """A ranker that serves: a client of it, and its counts."""
    stop, found, failed, counts = threading.Event(), threading.Event(), list[Exception](), Counts()
    where: list[str] = []

    def started(host: str, port: int) -> None:
        where.append(f"http://{host}:{port}")
        found.set()

    def work() -> None:
        try:
            endpoint.serve(settings, stop, counts, started=started, **more)
        except Exception as e:  # noqa: BLE001 - raised again in the test
            failed.append(e)
            found.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert found.wait(60)
    if failed:
        raise failed[0]
    try:
        with httpx.Client(base_url=where[0], timeout=30) as client:
            yield client, counts
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()
    assert not failed


def wait_for(what: Callable[[], bool], limit_s: float = 30.0) -> None:
    """Waits until something holds."""
    deadline = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def asked(client: httpx.Client, **body: Any) -> tuple[str, str]:
    """Version and bundle of an answer, as its headers say them."""
    answer = client.post("/v1/recommend", json=body)
    if answer.status_code != 200:
        return "", ""
    assert answer.headers["recdistill-bundle"] == answer.json()["bundle"]
    return answer.headers["recdistill-version"], answer.headers["recdistill-bundle"]
