r"""The distiller of the live demo: how much it has learnt, and how it goes on when it is killed.

It knows nothing of pages or registries.

Example:
    >>> learnt_of("recdistill_distiller_steps_total 3\nrecdistill_distiller_examples_total 48\n")
    48
"""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from recdistill import checkpoint
from recdistill.demo.live.acts import Doing
from recdistill.demo.live.family import Family
from recdistill.errors import CheckpointError

NAME: Final = "distiller"

_COUNT: Final = "recdistill_distiller_examples_total"


def learnt_of(metrics: str) -> int | None:
    """How many examples a process has learnt, from what it tells Prometheus; None: it does not say."""
    for line in metrics.splitlines():
        name, _, value = line.partition(" ")
        if name == _COUNT:
            return int(value)
    return None


class Distiller:
    """The process that learns.

    Args:
        family: The processes of the demo.
        directory: The folder of its student.
        port: Where it answers `/metrics`.
        name: What it is called among them.
        env: What its environment has besides theirs.
    """

    def __init__(
        self, family: Family, directory: Path, port: int, *, name: str = NAME, env: Mapping[str, str] | None = None
    ) -> None:
        self._family, self._directory, self._port = family, directory, port
        self._name, self._env = name, env or {}
        self._before = 0  # examples that killed ones had learnt, up to the last checkpoint

    def start(self) -> None:
        """Starts it."""
        env = {**self._env, "RECDISTILL_HEALTH_PORT": str(self._port)}
        self._family.start(self._name, "services.distiller", env=env)

    def ready(self) -> bool:
        """Whether its loop has begun; before that it loads its libraries."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def learnt(self) -> int | None:
        """How many examples are learnt; None where it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=1) as answer:
                return self._before + (learnt_of(answer.read().decode()) or 0)
        except (OSError, ValueError):
            return None

    def kill(self) -> Doing:
        """Kills it with SIGKILL, and starts another one."""
        learnt, pid = self.learnt() or 0, self._family.pid(self._name)
        self._family.kill(self._name)
        with suppress(CheckpointError):
            found = checkpoint.latest(self._directory / "checkpoints")
            self._before = 0 if found is None else int(found.state["stream"]["examples"])
        self.start()
        began = time.monotonic()

        def over() -> str | None:
            now = self.learnt()
            if now is None or now <= learnt:
                return None
            took = time.monotonic() - began
            return f"After {took:.0f} s a new distiller has learnt each of them once, and goes on."

        return f"The distiller (process {pid}) was killed with SIGKILL; it had learnt {learnt:,} examples.", over
